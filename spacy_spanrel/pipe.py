"""What all components share: settings, weights and how both are saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import srsly
import torch
from spacy.pipeline import TrainablePipe
from thinc.api import Model, Optimizer

from .encoding.shim import torch_shims
from .encoding.step import current_rates, step
from .errors import Errors, warn_of


class TorchPipe(TrainablePipe):
    """A trainable component over torch modules.

    Its settings live in `cfg`, are saved with the pipeline, and may be changed there after
    training: what was changed in `cfg` comes back on loading, but a setting that the config of the
    load gives another value than the config of the saved pipeline did was meant, and wins.

    What training did since the component was made is there for loggers, and is not saved:
    loss_totals (dict[str, float]): All losses of `update`, added up by their names.
    skipped (Counter[str]): What training had to leave out, and how often; each pass over the data
        counts again.
    """

    cfg: dict[str, Any]
    loss_totals: dict[str, float]
    skipped: Counter[str]

    def set_settings(self, settings: dict[str, Any], **learned: Any) -> None:
        """Put settings into `cfg`, and what initialization will learn beside them.

        settings (dict[str, Any]): From the config.
        **learned (Any): Keys of `cfg` that are not in the config, with their first values.
        """
        self._settings = dict(settings)
        self.cfg = {**settings, **learned}
        self.loss_totals = {}
        self.skipped = Counter()
        self._warned: set[str] = set()

    def warn_once(
        self,
        message: str,
        found: Sequence[str],
        *,
        n: int | None = None,
        stacklevel: int = 1,
        **fields: Any,
    ) -> None:
        """Warn of things that were found, if there are any, the first time that there are.

        Arguments as in `errors.warn_of`; the message may have {name}, the component's. It can be
        given again after initialization.
        """
        if (len(found) if n is None else n) and message not in self._warned:
            self._warned.add(message)
            warn_of(message, found, n=n, stacklevel=stacklevel + 1, name=self.name, **fields)

    @property
    def is_initialized(self) -> bool:
        """Whether the network has weights."""
        return all(shim.is_initialized for shim in torch_shims(self.model))

    def check_trainable(self) -> None:
        """Refuse to train in float16. RAISES (ValueError): If a network computes in it."""
        if any(shim.dtype == torch.float16 for shim in torch_shims(self.model)):
            raise ValueError(Errors.E307.format(name=self.name))

    def check_loaded(self) -> None:
        """Check settings against what was loaded. RAISES (ValueError): If they contradict it."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What `update` calls its losses: first the one that is trained, by the component's name, as
        spaCy wants it; then its parts, if it has any."""
        return (self.name,)

    def start_losses(self, losses: dict[str, float] | None) -> dict[str, float]:
        """Make sure that a table of losses has all of the component's. losses (dict | None): It."""
        losses = {} if losses is None else losses
        for name in self.loss_names:
            losses.setdefault(name, 0.0)
        return losses

    def add_losses(self, losses: dict[str, float], *values: float) -> None:
        """Count the losses of a batch.

        losses (dict[str, float]): Is added to.
        *values (float): In the order of `loss_names`.
        """
        for name, value in zip(self.loss_names, values, strict=True):
            losses[name] += value
            self.loss_totals[name] = self.loss_totals.get(name, 0.0) + value

    def finish_update(self, sgd: Optimizer) -> None:
        """Step all weights together, with one norm of the gradient; those of a transformer of another
        package (`TransformerEncoder`) as it steps them."""
        step(torch_shims(self.model), sgd)
        for encoder in self._transformer_encoders():
            encoder.finish_update(sgd)

    def _transformer_encoders(self) -> list[Model[Any, Any]]:
        return [node for node in self.model.walk() if node.name == "transformer_encoder"]

    @property
    def learn_rates(self) -> dict[str, float]:
        """Learning rates of the last step, of "encoder" and "head"; empty before the first one."""
        return current_rates(torch_shims(self.model))

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Save to bytes. exclude (Iterable[str]): Fields to leave out."""
        with self._configured():
            data: bytes = super().to_bytes(exclude=exclude)
        return data

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> TorchPipe:
        """Load from bytes. exclude (Iterable[str]): Fields to leave out."""
        with self._config_wins():
            super().from_bytes(data, exclude=exclude)
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save to a folder. exclude (Iterable[str]): Fields to leave out."""
        with self._configured():
            super().to_disk(path, exclude=exclude)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> TorchPipe:
        """Load from a folder. exclude (Iterable[str]): Fields to leave out."""
        with self._config_wins():
            super().from_disk(path, exclude=exclude)
        return self

    @contextmanager
    def _configured(self) -> Iterator[None]:
        """Keep the settings from the config beside the present ones while saving."""
        self.cfg["configured"] = self._settings
        try:
            yield
        finally:
            self.cfg.pop("configured", None)

    @contextmanager
    def _config_wins(self) -> Iterator[None]:
        """Keep the settings of this load where they differ from those of the saved pipeline."""
        # thinc restores the attrs of a model with its weights; ours are settings of the config. Those in
        # a transformer of another package are more than that (a vocabulary, say).
        foreign = {
            node.id
            for encoder in self._transformer_encoders()
            for layer in encoder.layers
            for node in layer.walk()
        }
        attrs = [{} if node.id in foreign else dict(node.attrs) for node in self.model.walk()]
        yield
        for node, own in zip(self.model.walk(), attrs, strict=True):
            node.attrs.update(own)
        saved = self.cfg.pop("configured", {})
        for key, value in self._settings.items():
            if key in saved and srsly.json_dumps(value) != srsly.json_dumps(saved[key]):
                self.cfg[key] = value
        self.check_loaded()
