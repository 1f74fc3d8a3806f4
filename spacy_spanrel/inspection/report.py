"""A report on training data: numbers and advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacy.util import load_config
from tqdm import tqdm

from ..training.corpus import read_docs
from .advice import Advice, Findings, advise
from .settings import Readings, make_readings
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
    """Check training data, reading it as the components would.

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

    def collect_from(path: str | Path) -> CorpusStatistics:
        docs = read_docs(path, readings.nlp.vocab)
        bar = tqdm(docs, Path(path).name, unit="docs", disable=None, delay=1.0)
        return collect(bar, readings)

    findings = Findings(collect_from(train), None if dev is None else collect_from(dev), readings)
    return DataReport(findings.train, findings.dev, advise(findings), readings)
