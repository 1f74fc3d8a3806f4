"""Numbers about training data and advice, in one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, DocBin
from spacy.training.corpus import FILE_TYPE, walk_corpus
from spacy.util import load_config
from spacy.vocab import Vocab
from tqdm import tqdm

from ..converters.common import ConversionErrors, Place
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
    numbers = [
        None if path is None else collect(read_docs(path, readings.nlp.vocab), readings)
        for path in (train, dev)
    ]
    assert numbers[0] is not None
    found = Findings(numbers[0], numbers[1], readings)
    return DataReport(found.train, found.dev, advise(found), readings)


def read_docs(path: str | Path, vocab: Vocab) -> Iterator[Doc]:
    """Read Docs one after the other, with a progress bar.

    path (str | Path): A `.spacy` file, or a folder of such files.
    vocab (Vocab): Theirs.
    YIELDS (Doc): The Docs, also those without tokens, which spaCy's readers leave out.
    RAISES (ConversionError): If a file cannot be read, or is something else.
    """
    files = walk_corpus(path, FILE_TYPE) if Path(path).is_dir() else [Path(path)]
    with tqdm(total=0, desc=Path(path).name, unit="docs", disable=None, delay=1.0) as bar:
        for file in files:
            try:
                docs = DocBin().from_disk(file)
                bar.total += len(docs)
                for doc in docs.get_docs(vocab):
                    yield doc
                    bar.update(1)
            except Exception as error:  # whatever unpacking other bytes leads to
                raise Place(str(file)).error(
                    ConversionErrors.E601,
                    found=f"{type(error).__name__}: {error}",
                    expected="a file of Docs, as DocBin.to_disk writes it",
                ) from error
