"""The frame of a trainable component over torch modules: settings, training step, saving."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import srsly
import torch
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer

from .annotations import register_report_extension
from .arrays import AnyArray
from .encoding.export import apply_runtime, runtimes
from .encoding.shim import read_model, torch_shims, write_model
from .encoding.step import current_rates, step
from .errors import Errors, warn_of
from .settings import Rule, check_settings

Scorer = Callable[..., dict[str, Any]]


class TorchPipe(TrainablePipe):
    """A trainable component over torch modules.

    A subclass names its settings, labels and extensions in class variables, predicts, annotates, and
    computes the loss of a batch and its gradient (`learn`). The rest is the same for all components
    and stands here.

    All settings live in `cfg`, are saved with the pipeline, and may be changed there after training.
    On loading, the saved value of a setting counts, unless the config that is loaded gives the
    setting another value than the config of the saved pipeline did.

    vocab (Vocab): The vocabulary of the pipeline.
    model (Model): The thinc model.
    name (str): Name of the component.
    scorer (Callable | None): The scoring method.
    **settings (Any): The settings of the config; `make_*` of the component describes them.
    RAISES (ValueError): If a setting breaks its rule, or an extension belongs to other code.

    Loggers read two attributes, which are not saved:
    loss_totals (dict[str, float]): Sum of each loss of `update` since the component was made.
    skipped (Counter[str]): What training left out, and how often; each pass over the data counts.
    """

    # The values that each setting may have.
    rules: ClassVar[Mapping[str, Rule]]
    # What initialization adds to `cfg`, with its value before that.
    learned: ClassVar[Mapping[str, Any]] = {}
    # Registers the extensions, given their prefix and a span group; and the setting that names it.
    extensions: ClassVar[tuple[Callable[[str, str], None], str]]
    # The keys of `cfg` that hold labels, by the kinds that `add_label` takes, the default kind first.
    label_kinds: ClassVar[Mapping[str, str]] = {}

    # Settings that a teacher must share (`training.teacher`).
    same_as_teacher: ClassVar[tuple[str, ...]] = ()

    cfg: dict[str, Any]
    loss_totals: dict[str, float]
    skipped: Counter[str]

    def __init__(
        self,
        vocab: Vocab,
        model: Model[Any, Any],
        name: str,
        *,
        scorer: Scorer | None = None,
        **settings: Any,
    ):
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        check_settings(f"component '{name}'", settings, self.rules)
        register, key = self.extensions
        register(settings["extension_prefix"], settings[key])
        register_report_extension(settings["extension_prefix"])
        self._settings = settings
        self.cfg = {**settings, **deepcopy(self.learned)}
        self.loss_totals = {}
        self.skipped = Counter()
        self._warned: set[str] = set()

    @property
    def is_initialized(self) -> bool:
        """Whether the network has weights."""
        return all(shim.is_initialized for shim in torch_shims(self.model))

    def check_loaded(self) -> None:
        """Check the settings against the labels and the network that were loaded.

        RAISES (ValueError): If they contradict each other.
        """

    def read_examples(
        self, get_examples: Callable[[], Iterable[Example]] | None
    ) -> Iterator[Example]:
        """Read the training examples for an initialization, after which the warnings of `warn_once` are
        given anew.

        get_examples (Callable | None): Returns them; None if there are none.
        YIELDS (Example): The examples.
        RAISES (TypeError): If one is no Example.
        """
        # `validate_get_examples` would read all of them once more, and refuse an empty list, although
        # labels may come from elsewhere.
        self._warned = set()
        for example in get_examples() if get_examples is not None else ():
            validate_examples([example], f"{type(self).__name__}.initialize")
            yield example

    def warn_once(
        self, message: str, examples: Sequence[str], *, n: int | None = None, **fields: Any
    ) -> None:
        """Warn of a number of things, if there are any, once until the next initialization.

        message (str): One of `Warnings`; {name} in it is the component's name.
        examples, n, **fields: As in `errors.warn_of`.
        """
        if (len(examples) if n is None else n) and message not in self._warned:
            self._warned.add(message)
            warn_of(message, examples, n=n, name=self.name, **fields)

    def add_label(self, label: str, kind: str | None = None) -> int:
        """Add a label before initialization.

        label (str): The label.
        kind (str | None): One of `label_kinds`; None for the first of them.
        RETURNS (int): 1 if the label was added, 0 if the component had it already.
        RAISES (ValueError): If the network is initialized already.
        """
        kind = next(iter(self.label_kinds)) if kind is None else kind
        labels: list[str] = self.cfg[self.label_kinds[kind]]
        if label in labels:
            return 0
        if self.is_initialized:
            raise ValueError(Errors.E303.format(name=self.name, label=label))
        self.vocab.strings.add(label)  # which refuses anything but a string
        labels.append(label)
        return 1

    # Training

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses in the order of `learn`: the component's name for the loss that is
        trained, as spaCy expects; then the names of its parts, if it has any."""
        return (self.name,)

    @abstractmethod
    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Compute the losses of a batch and backpropagate; the weights are stepped elsewhere.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The losses in the order of `loss_names`; none if the batch holds
            nothing to learn.
        """

    def class_logits(self, items: Sequence[tuple[Doc, Any]]) -> list[tuple[AnyArray, ...]]:
        """Compute logits from which another component of this kind can learn (`training.teacher`).

        items (Sequence[tuple[Doc, Any]]): Docs, and what is asked about each; the component says what.
        RETURNS (list[tuple[array, ...]]): The logits of each item.
        """
        raise NotImplementedError

    def annotation_read(self, doc: Doc) -> Sequence[Any]:
        """Return the annotation on which `class_logits` depends, besides tokens and sentence borders.

        doc (Doc): A Doc.
        RETURNS (Sequence[Any]): The annotation, in plain data; nothing unless a component says otherwise.
        """
        return ()

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from a batch.

        examples (Iterable[Example]): The batch.
        drop (float): Ignored: dropout is a setting of the architecture.
        sgd (Optimizer | None): If given, steps the weights at once.
        losses (dict[str, float] | None): The losses of the batch are added to these, under the names
            of `loss_names`.
        RETURNS (dict[str, float]): The losses.
        RAISES (ValueError): If a network computes in float16 or with ONNX Runtime, which cannot be
            trained.
        """
        losses = {} if losses is None else losses
        for name in self.loss_names:
            losses.setdefault(name, 0.0)
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        if any(shim.dtype == torch.float16 for shim in torch_shims(self.model)):
            raise ValueError(Errors.E307.format(name=self.name))
        if any(node.attrs["runtime"] != "torch" for node in runtimes(self.model).values()):
            raise ValueError(Errors.E308.format(name=self.name))
        values = self.learn(examples)
        for name, value in zip(self.loss_names, values, strict=bool(values)):
            losses[name] += value
            self.loss_totals[name] = self.loss_totals.get(name, 0.0) + value
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step all weights of the component together, clipped by the norm of their joint gradient.

        A transformer of another package (`TransformerEncoder`) steps its own weights.

        sgd (Optimizer): The optimizer.
        """
        step(torch_shims(self.model), sgd)
        for encoder in self._transformer_encoders():
            encoder.finish_update(sgd)

    def _transformer_encoders(self) -> list[Model[Any, Any]]:
        return [node for node in self.model.walk() if node.name == "transformer_encoder"]

    @property
    def learn_rates(self) -> dict[str, float]:
        """Learning rates of the last step by "encoder" and "head"; empty before the first step."""
        return current_rates(torch_shims(self.model))

    # Saving

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Change settings together with the config of the pipeline, so that later changes of `cfg` are not
        taken for older than the config.

        settings (Mapping[str, Any]): The new values, which the config has, too.
        """
        self._settings = {**self._settings, **settings}
        self.cfg.update(settings)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Save to bytes. exclude (Iterable[str]): Fields to leave out."""
        with self._configured():
            data: bytes = super().to_bytes(exclude=exclude)
        return data

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> TorchPipe:
        """Load from bytes. exclude (Iterable[str]): Fields to leave out."""
        with self._damage_refused(), self._config_wins():
            super().from_bytes(data, exclude=exclude)
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save to a folder. exclude (Iterable[str]): Fields to leave out."""
        with self._configured():
            # The model by ourselves: spaCy and thinc would copy the weights several times.
            super().to_disk(path, exclude=(*exclude, "model"))
            if "model" not in exclude:
                write_model(self.model, Path(path) / "model")

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> TorchPipe:
        """Load from a folder. exclude (Iterable[str]): Fields to leave out."""
        with self._damage_refused(), self._config_wins():
            super().from_disk(path, exclude=(*exclude, "model"))
            if "model" not in exclude:
                read_model(self.model, Path(path) / "model")
        return self

    @contextmanager
    def _configured(self) -> Iterator[None]:
        """Save the settings of the config beside the present ones."""
        self.cfg["configured"] = self._settings
        try:
            yield
        finally:
            self.cfg.pop("configured", None)

    @contextmanager
    def _damage_refused(self) -> Iterator[None]:
        """Turn whatever damaged data makes thinc, msgpack or this package raise into a ValueError."""
        try:
            yield
        except (ValueError, OSError, ImportError):
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise ValueError(Errors.E219.format(name=self.name, error=cause)) from error

    @contextmanager
    def _config_wins(self) -> Iterator[None]:
        """Keep the settings of the present config where they differ from those of the saved one."""
        # thinc restores the attrs of a model with its weights; ours are settings of the config. The
        # attrs of another package's transformer hold more than settings (a vocabulary, say).
        foreign = {
            node.id
            for encoder in self._transformer_encoders()
            for layer in encoder.layers
            for node in layer.walk()
        }
        attrs = [{} if node.id in foreign else dict(node.attrs) for node in self.model.walk()]
        yield
        for node, configured in zip(self.model.walk(), attrs, strict=True):
            node.attrs.update(configured)
        saved = self.cfg.pop("configured", {})
        for setting, value in self._settings.items():
            if setting not in saved:
                continue
            values = (value, saved[setting], self.cfg[setting])
            now, before, kept = map(srsly.json_dumps, values)
            # JSON rounds numbers; the config has all their digits.
            if now != before or now == kept:
                self.cfg[setting] = value
        apply_runtime(self.model)
        self.check_loaded()
