"""Reports of conversions and exports: what was made, and everything that was changed or left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..annotations.relations import RecordId
from ..reading import ConversionError


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    record (str): The record's id, or its place if it has none.
    text (str): What happened to it.
    """

    record: str
    text: str


@dataclass
class ConversionReport:
    """The results of a conversion; several inputs may add to one report.

    max_span_size (int | None): Entities of more tokens are listed as too long.
    docs, tokens (int): The Docs and tokens that were made.
    entities, relations (Counter[str]): Numbers by type and by label.
    docs_without_entities, docs_without_relations (int): Docs without any; they are kept.
    longest_entity (int): Its number of tokens.
    too_long (list[Finding]): Entities that a model with `max_span_size` can never predict.
    misaligned (list[Finding]): Entities widened to token borders.
    lost_entities, lost_relations (list[Finding]): Entities and relations that had to be left out.
    skipped (list[ConversionError]): Bad records, left out because `on_error` did not raise.
    overlapping_entities (int): Entities of the span group for which `doc.ents` has no room.
    duplicate_entities, duplicate_relations (int): Repetitions within a record, left out.
    duplicate_ids (int): Records with the id of an earlier one; they are kept.
    clusters (int): Coreference clusters.
    self_relations (int): Relations of a span with itself, which no model predicts; they are kept.
    questions, unanswerable (int): Questions, and those of them that have no answer.
    answers (int): Reference answers to the other questions.
    docs_without_questions (int): Docs without any; they are kept.
    misaligned_answers (int): Reference answers that begin or end inside a token; they are kept.
    repaired_answers (list[Finding]): Answers found elsewhere than the file says.
    lost_answers (list[Finding]): Answers that do not occur in their text, left out.
    unplaced (list[Finding]): Strings that name entities and are not in their text, left out.
    similar (list[Finding]): Strings taken for others in their text that differ in a few characters.
    notes (Counter[str]): Everything else that was changed or left out, in words, and how often.
    """

    max_span_size: int | None = None
    docs: int = 0
    tokens: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    docs_without_entities: int = 0
    docs_without_relations: int = 0
    longest_entity: int = 0
    too_long: list[Finding] = field(default_factory=list)
    misaligned: list[Finding] = field(default_factory=list)
    lost_entities: list[Finding] = field(default_factory=list)
    lost_relations: list[Finding] = field(default_factory=list)
    skipped: list[ConversionError] = field(default_factory=list)
    overlapping_entities: int = 0
    duplicate_entities: int = 0
    duplicate_relations: int = 0
    duplicate_ids: int = 0
    clusters: int = 0
    self_relations: int = 0
    questions: int = 0
    unanswerable: int = 0
    answers: int = 0
    docs_without_questions: int = 0
    misaligned_answers: int = 0
    repaired_answers: list[Finding] = field(default_factory=list)
    lost_answers: list[Finding] = field(default_factory=list)
    unplaced: list[Finding] = field(default_factory=list)
    similar: list[Finding] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    _ids: set[RecordId] = field(default_factory=set, init=False, repr=False)

    @property
    def n_entities(self) -> int:
        """The number of entities of all types."""
        return sum(self.entities.values())

    @property
    def n_relations(self) -> int:
        """The number of relations of all labels."""
        return sum(self.relations.values())

    def add_id(self, orig_id: RecordId | None) -> None:
        """Remember the id of a record, if it has one, and count it if an earlier one has the same."""
        if orig_id is not None:
            self.duplicate_ids += orig_id in self._ids
            self._ids.add(orig_id)


@dataclass
class ExportReport:
    """The results of an export; several outputs may add to one report.

    docs (int): Docs of which something was written.
    entities, relations, clusters, questions (int): The numbers of those that were written.
    notes (Counter[str]): What the format cannot hold and what became of it, in words ("scores of
        relations, left out"), and how often.
    """

    docs: int = 0
    entities: int = 0
    relations: int = 0
    clusters: int = 0
    questions: int = 0
    notes: Counter[str] = field(default_factory=Counter)

    def note(self, text: str, n: int) -> None:
        """Add a count to the notes; zero adds nothing."""
        if n:
            self.notes[text] += n

    def count(self, entities: int, relations: int, clusters: int = 0) -> None:
        """Count a Doc of which so many entities, relations and clusters were written."""
        self.docs += 1
        self.entities += entities
        self.relations += relations
        self.clusters += clusters
