"""Numbers about training data and advice, in one report."""

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
    """What was found.

    train (CorpusStatistics), dev (CorpusStatistics | None): The numbers.
    advice (Sequence[Advice]): What follows from them.
    readings (Readings): The components that were asked about.
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
    """Look at training data as the components would.

    train (str | Path), dev (str | Path | None): `.spacy` files, or folders of such files.
    config (str | Path | None): Of the training; None for this package's components with defaults.
    overrides (dict[str, Any] | None): Settings that are other than in the config, such as
        "paths.encoder".
    encoder (str | None): Name of an encoder, for the lengths in word pieces; None for those in the
        config.
    RETURNS (DataReport): What was found.
    RAISES (ConversionError, OSError): If a file cannot be read.
    RAISES (ValueError): If the config is wrong, or has none of this package's components.
    """
    for path in (train, dev, config):
        if path is not None and not Path(path).exists():
            raise FileNotFoundError(f"There is no file {path}.")
    settings = None if config is None else load_config(config, overrides=overrides or {})
    readings = make_readings(settings, encoder)

    def numbers_of(path: str | Path) -> CorpusStatistics:
        docs = read_docs(path, readings.nlp.vocab)
        bar = tqdm(docs, Path(path).name, unit="docs", disable=None, delay=1.0)
        return collect(bar, readings)

    numbers = [None if path is None else numbers_of(path) for path in (train, dev)]
    assert numbers[0] is not None
    found = Findings(numbers[0], numbers[1], readings)
    return DataReport(found.train, found.dev, advise(found), readings)
