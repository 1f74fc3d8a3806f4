"""Loggers for `spacy train` that show the parts of losses, learning rates and what was left out.

spaCy gives a logger losses and scores only at steps with an evaluation, and nothing at the steps
between. These loggers ask the components themselves, and so know every step.

To use several loggers at once, combine them with "spacy.ChainLogger.v1" of spacy-loggers.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any, Union

from spacy import registry
from spacy.language import Language
from spacy.training.loggers import setup_table
from thinc.api import Model
from tqdm import tqdm
from wasabi.printer import Printer

from ..about import __version__
from ..errors import Errors
from ..files import to_json

if TYPE_CHECKING:
    from ..pipe import TorchPipe

Info = dict[str, Any]
LogStep = Callable[[Union[Info, None]], None]  # noqa: UP007 (evaluated at run time)
SetupLogger = Callable[[Language, IO[str], IO[str]], tuple[LogStep, Callable[[], None]]]


class Recorder:
    """Collects records from this package's components in a pipeline while it is trained.

    nlp (Language): The pipeline.
    every (int): Steps from one record to the next; 0 to record evaluations only.
    """

    def __init__(self, nlp: Language, every: int = 1):
        self.nlp = nlp
        self.every = every
        self._start = perf_counter()
        self._step = self._recorded = -1
        self._totals = self._loss_totals()

    @property
    def pipes(self) -> list[tuple[str, TorchPipe]]:
        """Names and components of this package's components."""
        from ..pipe import TorchPipe  # torch waits until there is something to train

        return [(name, pipe) for name, pipe in self.nlp.pipeline if isinstance(pipe, TorchPipe)]

    def _learn_rates(self) -> dict[str, dict[str, float]]:
        """Learning rates of all components with weights of this package: `tok2vec` may have some."""
        from ..encoding.shim import torch_shims
        from ..encoding.step import current_rates

        models = {name: getattr(pipe, "model", None) for name, pipe in self.nlp.pipeline}
        return {
            name: rates
            for name, model in models.items()
            if isinstance(model, Model) and (rates := current_rates(torch_shims(model)))
        }

    def _loss_totals(self) -> dict[str, float]:
        return {key: v for _, pipe in self.pipes for key, v in pipe.loss_totals.items()}

    def record(self, info: Info | None) -> Info | None:
        """Count a step.

        info (dict | None): The data from spaCy, at steps with an evaluation.
        RETURNS (dict | None): The record, if one is due: "event" ("step" or "evaluation"); "step",
            counted from 0 as in spaCy; "seconds" since the start; "step_losses", the losses of
            components and their parts by the names that `update` uses, means over the steps since
            the last record; "learn_rates" of each component, by "encoder" and "head"; "skipped",
            counts of what each component left out of training so far. That of an evaluation also has
            "epoch", "words", "losses" (sums since the last evaluation), "score" and "scores".
        """
        self._step = self._step + 1 if info is None else info["step"]
        due = self.every and self._step % self.every == 0
        if info is None and not due:
            return None
        totals = self._loss_totals()
        steps = max(1, self._step - self._recorded)
        losses = {k: (v - self._totals.get(k, 0.0)) / steps for k, v in totals.items()}
        self._totals, self._recorded = totals, self._step
        record = {
            "event": "step",
            "step": self._step,
            "seconds": round(perf_counter() - self._start, 3),
            "step_losses": losses,
            "learn_rates": self._learn_rates(),
            "skipped": {name: dict(+pipe.skipped) for name, pipe in self.pipes},
        }
        if info is not None:
            record |= {
                "event": "evaluation",
                "epoch": info["epoch"],
                "words": info["words"],
                "losses": {name: float(value) for name, value in info["losses"].items()},
                "score": info["score"],
                "scores": info["other_scores"],
            }
        return record


def _check_every(logger: str, every: int) -> None:
    if every < 0:
        raise ValueError(Errors.E941.format(name=logger, found=every))


@registry.loggers("spacy-spanrel.JsonLinesLogger.v1")
def create_json_lines_logger(
    path: Union[str, Path],  # noqa: UP007 (spaCy resolves these annotations at run time)
    every: int = 1,
) -> SetupLogger:
    """Write a line of JSON for each step and each evaluation.

    Each run starts with a line `{"event": "start", ...}`; several runs may share a file. Lines of
    steps ("step") have step, step_losses, learn_rates, skipped and seconds. Lines of evaluations
    ("evaluation") also have epoch, words, score, scores and losses (sums since the last evaluation,
    as the console shows them). Numbers that are not finite become null.

    path (str | Path): The file. Its folder is created if need be; an existing file is appended to.
    every (int): Steps from one line to the next; 0 to write evaluations only.
    RETURNS (Callable): The logger.
    RAISES (ValueError): If `every` is negative.
    """
    _check_every("JsonLinesLogger", every)

    def setup(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        recorder = Recorder(nlp, every)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 (closed when training ends)

        def write(row: dict[str, Any]) -> None:
            file.write(to_json(row) + "\n")
            file.flush()  # for those who follow a training as it runs

        write(
            {
                "event": "start",
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "version": __version__,
                "pipeline": nlp.pipe_names,
            }
        )

        def log_step(info: Info | None) -> None:
            record = recorder.record(info)
            if record is not None:
                write(record)

        return log_step, file.close

    return setup


@registry.loggers("spacy-spanrel.TensorBoardLogger.v1")
def create_tensorboard_logger(
    log_dir: Union[str, Path],  # noqa: UP007 (spaCy resolves these annotations at run time)
    every: int = 1,
) -> SetupLogger:
    """Write curves for TensorBoard (`tensorboard --logdir LOG_DIR`).

    Curves of steps: `loss/{name}` (means over steps), `learn_rate/{component}/{encoder or head}`,
    `skipped/{component}/{reason}` and `seconds`. Curves of evaluations: `score`, `scores/{name}` and
    below it the scores per type, `loss_sum/{name}` (as the console shows them), `epoch` and `words`.

    log_dir (str | Path): Folder of the run.
    every (int): Steps from one point to the next; 0 to write evaluations only.
    RETURNS (Callable): The logger.
    RAISES (ImportError): If tensorboard is not installed.
    RAISES (ValueError): If `every` is negative.
    """
    _check_every("TensorBoardLogger", every)
    try:
        # First by itself: torch's own error does not say which package to install.
        importlib.import_module("tensorboard")
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(Errors.E940.format(error=error)) from error

    def setup(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        recorder = Recorder(nlp, every)
        writer = SummaryWriter(str(log_dir))
        tags = {"step_losses": "loss", "learn_rates": "learn_rate", "losses": "loss_sum"}

        def log_step(info: Info | None) -> None:
            record = recorder.record(info)
            if record is not None:
                curves = {tags.get(key, key): value for key, value in record.items()}
                del curves["event"], curves["step"]
                for tag, value in _numbers(curves):
                    writer.add_scalar(tag, value, record["step"])
                writer.flush()

        return log_step, writer.close

    return setup


def _numbers(value: Any, tag: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested tables, each with its path as a tag; lists cannot be drawn."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{tag}/{key}" if tag else key)
    elif value is not None and not isinstance(value, (str, list, tuple)):
        yield tag, float(value)


@registry.loggers("spacy-spanrel.ConsoleLogger.v1")
def create_console_logger(progress_bar: bool = False) -> SetupLogger:
    """Print a table with a row for each evaluation.

    Beside the columns of "spacy.ConsoleLogger.v3" it shows the parts of losses, learning rates, how
    much was left out of training since the last row, and the time.

    progress_bar (bool): Show a progress bar for the steps to the next evaluation.
    RETURNS (Callable): The logger.
    """

    def setup(
        nlp: Language, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        recorder = Recorder(nlp, every=0)
        ours = dict(recorder.pipes)
        trained = [n for n, pipe in nlp.pipeline if getattr(pipe, "is_trainable", False)]
        losses = {}
        for pipe_name in trained:
            losses[pipe_name] = f"Loss {pipe_name}"
            parts = ours[pipe_name].loss_names[1:] if pipe_name in ours else ()
            losses |= {part: f"Loss {part.removeprefix(f'{pipe_name}_')}" for part in parts}
        settings = nlp.config["training"]
        scores = [name for name, weight in settings["score_weights"].items() if weight is not None]
        columns = [
            ("E", 3),
            ("#", 6),
            ("sec", 5),
            *((title, 8) for title in losses.values()),
            *((f"Rate {name}", 15) for name in ours),
            ("Skipped", 7),
            *((name, 6) for name in scores),
            ("Score", 6),
        ]
        header, widths, aligns = setup_table(
            cols=[name for name, _ in columns], widths=[width for _, width in columns], max_width=22
        )
        printer = Printer(no_print=True)

        def write(cells: list[str], **layout: Any) -> None:
            print(printer.row(cells, widths=widths, spacing=2, **layout), file=stdout, flush=True)

        write(header)
        write(["-" * width for width in widths])
        skipped: Counter[str] = Counter()
        bar: Any = None

        def log_step(info: Info | None) -> None:
            nonlocal bar, skipped
            record = recorder.record(info)
            if record is None or info is None:
                if bar is not None:
                    bar.update(1)
                return
            if bar is not None:
                bar.close()
            skipped_so_far = Counter(
                {
                    f"{name}: {reason}": n
                    for name, reasons in record["skipped"].items()
                    for reason, n in reasons.items()
                }
            )
            rates = [record["learn_rates"].get(name, {}) for name in ours]
            other = info["other_scores"] or {}
            write(
                [
                    str(info["epoch"]),
                    str(info["step"]),
                    str(round(record["seconds"])),
                    *(f"{float(info['losses'].get(name, 0.0)):.2f}" for name in losses),
                    *("/".join(f"{rate:.1e}" for rate in pair.values()) or "-" for pair in rates),
                    str((skipped_so_far - skipped).total()),
                    *(_percent(name, other.get(name)) for name in scores),
                    f"{float(info['score']):.2f}",
                ],
                aligns=aligns,
            )
            skipped = skipped_so_far
            if progress_bar:
                bar = tqdm(
                    total=settings["eval_frequency"],
                    desc=f"Epoch {info['epoch'] + 1}",
                    disable=None,
                    leave=False,
                    file=stderr,
                )

        def finalize() -> None:
            if bar is not None:
                bar.close()
            if skipped:
                rows = ", ".join(f"{what} {n}" for what, n in sorted(skipped.items()))
                text = printer.warn(f"Left out of training, all passes together: {rows}")
                print(text, file=stdout, flush=True)

        return log_step, finalize

    return setup


def _percent(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return f"{float(value) * (1 if name == 'speed' else 100):.2f}"
