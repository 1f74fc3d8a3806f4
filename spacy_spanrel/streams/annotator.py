"""Rows in, plain results out: the one way from a row to its annotations, for every engine.

Documents are made and annotated a batch at a time, and dropped again, so memory grows with the largest
batch. A batch has a limit of rows and, because long documents need more memory, one of tokens. When a
batch fails, its halves are tried again, and their halves, until the rows that fail stand alone: with b
bad rows among n, about b * log2(n) more calls of the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations import get_clusters, set_clusters
from ..errors import Errors
from ..reading import argument_error
from .records import ResultKeys, results
from .rows import BadRow, Row, make_doc

# A batch of so many tokens is full, however few rows it has: the vectors of its pieces are held at once.
BATCH_TOKENS = 1 << 16

Render = Callable[[int, Row, Doc, dict[str, Any]], Any]


class AnnotatedRow(NamedTuple):
    """A row, its annotated Doc, and the `results` of the Doc."""

    row: Row
    doc: Doc
    data: dict[str, Any]


class RenderedRow(NamedTuple):
    """A row as it is written, and how many entities, relations and answers it has."""

    output: Any
    entities: int
    relations: int
    answers: int


@dataclass(frozen=True)
class RowAnnotator:
    """Applies a pipeline to rows.

    nlp (Language): The pipeline.
    batch_size (int): Most rows that are annotated together.
    max_chars (int): A longer text is a failed row.
    entities (bool): Also return the relations between entities, see `get_entity_relations`.
    """

    nlp: Language
    batch_size: int
    max_chars: int
    entities: bool = False

    @property
    def settings(self) -> tuple[int, int, bool]:
        """All but the pipeline: from these, another process makes the same annotator."""
        return self.batch_size, self.max_chars, self.entities

    def __call__(self, rows: Iterable[Row | BadRow]) -> Iterator[AnnotatedRow | BadRow]:
        """Yield each row annotated, or what was wrong with it, in order.

        rows (Iterable[Row | BadRow]): The rows. Bad ones are passed on.
        YIELDS (AnnotatedRow | BadRow): A result for each row.
        """
        keys = ResultKeys.of(self.nlp)
        batch: list[tuple[Row, Doc] | BadRow] = []
        tokens = 0
        for row in rows:
            item = row if isinstance(row, BadRow) else self._make_doc(row, keys)
            batch.append(item)
            tokens += 0 if isinstance(item, BadRow) else len(item[1])
            if len(batch) >= self.batch_size or tokens >= BATCH_TOKENS:
                yield from self._annotate(batch, keys)
                batch, tokens = [], 0
        if batch:
            yield from self._annotate(batch, keys)

    def _make_doc(self, row: Row, keys: ResultKeys) -> tuple[Row, Doc] | BadRow:
        try:
            return row, make_doc(row, self.nlp, keys.answers, self.max_chars)
        except Exception as error:
            return BadRow.of(row.place, row.raw, error)

    def _annotate(
        self, batch: Sequence[tuple[Row, Doc] | BadRow], keys: ResultKeys
    ) -> Iterator[AnnotatedRow | BadRow]:
        docs = iter(self._pipe([item for item in batch if not isinstance(item, BadRow)], keys))
        for item in batch:
            outcome = item if isinstance(item, BadRow) else next(docs)
            if isinstance(outcome, BadRow) or isinstance(item, BadRow):
                yield outcome  # type: ignore[misc]
                continue
            row = item[0]
            try:
                if self.entities:
                    set_clusters(outcome, get_clusters(outcome))
                yield AnnotatedRow(row, outcome, results(outcome, keys, entities=self.entities))
            except Exception as error:
                yield BadRow.of(row.place, row.raw, error)

    def _pipe(self, batch: list[tuple[Row, Doc]], keys: ResultKeys) -> list[Doc | BadRow]:
        """Annotate a batch; one that fails is divided."""
        failure: Exception
        try:
            docs: list[Doc | BadRow] = list(
                self.nlp.pipe([doc for _, doc in batch], batch_size=self.batch_size)
            )
            if len(docs) == len(batch):
                return docs
            failure = ValueError(Errors.E928.format(n=len(docs)))
        except Exception as error:
            failure = error
        if len(batch) == 1:
            row = batch[0][0]
            return [BadRow.of(row.place, row.raw, failure)]
        # With new Docs: components may have written on these.
        again = [(row, make_doc(row, self.nlp, keys.answers, self.max_chars)) for row, _ in batch]
        half = len(again) // 2
        return self._pipe(again[:half], keys) + self._pipe(again[half:], keys)

    def render(
        self, numbers: range, rows: Sequence[Row | BadRow], render: Render
    ) -> list[RenderedRow | BadRow]:
        """Annotate rows, and make of each what a writer writes.

        numbers (range): The number of each row in the input, from 1.
        rows (Sequence[Row | BadRow]): The rows.
        render (Render): The `render` of the writer.
        RETURNS (list[RenderedRow | BadRow]): A result for each row, in order; no Docs.
        """
        rendered: list[RenderedRow | BadRow] = []
        with memory_zone(self.nlp):
            for number, outcome in zip(numbers, self(rows), strict=True):
                if isinstance(outcome, BadRow):
                    rendered.append(outcome)
                    continue
                row, doc, data = outcome
                try:
                    output = render(number, row, doc, data)
                except Exception as error:
                    rendered.append(BadRow.of(row.place, row.raw, error))
                else:
                    rendered.append(RenderedRow(output, *count_results(data)))
        return rendered


def count_results(data: dict[str, Any]) -> tuple[int, int, int]:
    """Count the entities, relations and answers in the `results` of a Doc. Questions without an answer
    do not count."""
    answers = sum(bool(answer["text"]) for answer in data["answers"])
    return len(data["entities"]), len(data["relations"]), answers


def memory_zone(nlp: Language) -> AbstractContextManager[Any]:
    """Let a vocabulary forget, at the end, the words that come new (from spaCy 3.8 on)."""
    zone: AbstractContextManager[Any] = getattr(nlp, "memory_zone", nullcontext)()
    return zone


def choose_components(nlp: Language, components: Sequence[str], disable: Sequence[str]) -> None:
    """Let a pipeline run some of its components only.

    nlp (Language): The pipeline.
    components (Sequence[str]): Run only these; () for all that the pipeline runs by itself.
    disable (Sequence[str]): Do not run these.
    RAISES (ConversionError): If the pipeline has no such component.
    """
    for option, names in (("--components", components), ("--disable", disable)):
        for name in names:
            if name not in nlp.component_names:
                available = ", ".join(nlp.component_names) or "(none)"
                raise argument_error(option, repr(name), f"one of {available}")
    enable_only(nlp, set(components or nlp.pipe_names) - set(disable))


def enable_only(nlp: Language, names: set[str]) -> None:
    """Enable these components of a pipeline, and disable the others."""
    for name in nlp.component_names:
        if name in names:
            nlp.enable_pipe(name)
        else:
            nlp.disable_pipe(name)
