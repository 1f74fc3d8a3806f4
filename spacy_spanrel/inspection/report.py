"""A report on training data: numbers and advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.util import load_config
from spacy.vocab import Vocab
from tqdm import tqdm

from ..training.corpus import UNLABELLED, read_docs
from .advice import Advice, Findings, advise
from .settings import Readings, make_readings, unlabelled_texts
from .statistics import CorpusStatistics, collect


@dataclass(frozen=True)
class DataReport:
    """Numbers about training data, and advice.

    train (CorpusStatistics), dev (CorpusStatistics | None): Numbers about the corpora.
    advice (Sequence[Advice]): The advice that follows from them.
    readings (Readings): The components that the data is for.
    """

    train: CorpusStatistics
    dev: CorpusStatistics | None
    advice: Sequence[Advice]
    readings: Readings

    @property
    def has_errors(self) -> bool:
        """Whether training is impossible."""
        return any(item.level == "error" for item in self.advice)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "train": self.train.to_dict(),
            "dev": None if self.dev is None else self.dev.to_dict(),
            "advice": [item.to_dict() for item in self.advice],
        }


def inspect_data(
    train: str | Path,
    dev: str | Path | None = None,
    *,
    config: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
    encoder: str | None = None,
) -> DataReport:
    """Check training data, reading it as the components would. The unlabelled texts that a config names are
    counted with it.

    train (str | Path), dev (str | Path | None): `.spacy` files, or folders of such files.
    config (str | Path | None): Config of the training; None for this package's components with their
        default settings.
    overrides (dict[str, Any] | None): Settings to change in the config, such as "paths.encoder".
    encoder (str | None): Folder or name of an encoder, for lengths in subword pieces; None for the
        encoders in the config.
    RETURNS (DataReport): The report.
    RAISES (ConversionError, OSError): If a file cannot be read.
    RAISES (ValueError): If the config is invalid, or has none of this package's components.
    """
    for path in (train, dev, config):
        if path is not None and not Path(path).exists():
            raise FileNotFoundError(f"There is no file {path}.")
    settings = None if config is None else load_config(config, overrides=overrides or {})
    readings = make_readings(settings, encoder)

    vocab = readings.nlp.vocab

    def collect_from(path: str | Path, unlabelled: str | None = None) -> CorpusStatistics:
        docs = chain(read_docs(path, vocab), _read_unlabelled(unlabelled, vocab))
        bar = tqdm(docs, Path(path).name, unit="docs", disable=None, delay=1.0)
        return collect(bar, readings)

    unlabelled = None if settings is None else unlabelled_texts(settings)
    findings = Findings(
        collect_from(train, unlabelled), None if dev is None else collect_from(dev), readings
    )
    return DataReport(findings.train, findings.dev, advise(findings), readings)


def _read_unlabelled(path: str | None, vocab: Vocab) -> Iterator[Doc]:
    for doc in () if path is None else read_docs(path, vocab):
        doc.user_data[UNLABELLED] = True
        yield doc
