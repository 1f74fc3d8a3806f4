"""Reading Docs for the writers of formats, and counting whatever a format cannot hold.

This is the way back from the gold Docs of ``common``. A writer is a generator
``docs_to_<format>(docs, report)`` of plain records. Whatever its format cannot hold it changes or
leaves out, and counts by kind in ``report.notes``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from ..annotations import (
    get_clusters,
    get_entities,
    get_entity_scores,
    get_entity_weights,
    get_pair_scores,
    get_relations,
)
from ..annotations.relations import RecordId, get_orig_id
from ..pairing import sentence_starts
from .common import ENTITY, Borders, Edge, Entity, join_overlapping, types_of_mentions
from .report import ExportReport


def read_annotations(
    doc: Doc,
    report: ExportReport,
    *,
    with_clusters: bool = False,
    with_scores: bool = False,
    mention_types: Mapping[Borders, str] | None = None,
    coref: str = "",
) -> tuple[list[Entity], list[Edge]]:
    """Return the entities of a gold or predicted Doc, and the relations between them.

    Each entity comes once, in the order of the Doc. Arguments of relations that are none of the
    entities follow; an argument without a type is taken for the first entity with its boundaries.
    Entities without a type get the type ENTITY.

    doc (Doc): The Doc.
    report (ExportReport): Gets notes on these changes, and on scores that the format does not hold.
    with_clusters (bool): Whether the format holds clusters; if not, they are counted as left out.
    with_scores (bool): Whether the format holds scores; if not, they are counted as left out.
    mention_types (Mapping[tuple[int, int], str] | None): Coreferent mentions that need not become
        entities if they are arguments of relations, with the types that readers give them there.
    coref (str): The type of such arguments.
    RETURNS (tuple[list[Entity], list[Edge]]): Entities and the relations between them.
    """
    note_scores(doc, report, with_scores)
    if not with_clusters:
        note_clusters(doc, report)
    notes: Counter[str] = Counter()
    relations = get_relations(doc)
    if not with_scores:
        notes["scores of relations, left out"] += sum(r.score is not None for r in relations)
    notes["weights of relations, left out"] += sum(r.weight != 1 for r in relations)
    index: dict[Entity, int] = {}
    by_place: dict[tuple[int, int], int] = {}

    def add(span: Span, score: float | None = None) -> int:
        typed = bool(span.label_.strip())
        label = span.label_ if typed else ENTITY
        entity = Entity(span.start, span.end, label, score=score)
        if entity not in index:
            notes[f"entities without a type, written as {ENTITY}"] += not typed
            index[entity] = len(index)
            by_place.setdefault((span.start, span.end), index[entity])
        return index[entity]

    for span, score in zip(get_entities(doc), get_entity_scores(doc), strict=True):
        if len(span):
            n = len(index)
            add(span, score)
            notes["duplicate entities, written once"] += len(index) == n
        else:
            notes["entities without tokens, left out"] += 1
    edges: dict[Edge, None] = {}
    for relation in relations:
        if not (len(relation.head) and len(relation.tail) and relation.label.strip()):
            notes["relations without a label or with an empty argument, left out"] += 1
            continue
        ends = []
        for span in (relation.head, relation.tail):
            place = (span.start, span.end)
            if not span.label_.strip() and place in by_place:
                ends.append(by_place[place])
            elif mention_types and place in mention_types and place not in by_place:
                ends.append(index.setdefault(Entity(*place, coref), len(index)))
            else:
                n = len(index)
                ends.append(add(span))
                notes["arguments of relations that are no entities, written as entities"] += (
                    len(index) > n
                )
        edge = Edge(ends[0], ends[1], relation.label, score=relation.score)
        notes["duplicate relations, written once"] += edge in edges
        edges[edge] = None
    report.notes += notes  # of a Counter, this drops zeros
    return list(index), list(edges)


def note_scores(doc: Doc, report: ExportReport, with_scores: bool = False) -> None:
    """Count what a format cannot hold: scores and weights of entities, scores of all labels of a pair.

    doc (Doc): The Doc.
    report (ExportReport): Gets the notes.
    with_scores (bool): Whether the format holds the scores of entities.
    """
    n_scores = sum(score is not None for score in get_entity_scores(doc))
    report.note("scores of entities, left out", 0 if with_scores else n_scores)
    n_weights = sum(weight != 1 for weight in get_entity_weights(doc))
    report.note("weights of entities, left out", n_weights)
    report.note("pairs whose scores for all labels are left out", len(get_pair_scores(doc)))


def note_clusters(doc: Doc, report: ExportReport, hint: str = "") -> None:
    """Count the clusters of coreferent mentions as left out.

    doc (Doc): The Doc.
    report (ExportReport): Gets the note.
    hint (str): The option that would write them, for the note.
    """
    report.note(f"clusters of coreferent mentions, left out{hint}", len(get_clusters(doc)))


# Ids


def doc_id(doc: Doc, number: int, report: ExportReport) -> RecordId:
    """Return the id of the record of which a Doc was made; if it has none, the number of the Doc."""
    orig_id = get_orig_id(doc)
    if orig_id is None:
        report.notes["Docs without an id, numbered from 0"] += 1
        return number
    return orig_id


def one_word(name: RecordId, report: ExportReport, *, banned: str = "") -> str:
    """Return an id as text, with "_" for white space and banned characters."""
    text = str(name)
    # A byte order mark would be lost at the start of the file.
    banned += "\ufeff"
    word = "".join("_" if char.isspace() or char in banned else char for char in text)
    if word != text:
        report.notes["ids with characters that the format cannot hold, changed"] += 1
    return word


# Tokens and text


def words_of(doc: Doc, report: ExportReport, *, has_sentences: bool = False) -> list[str]:
    """Return the tokens of a Doc, for a format that has tokens and no text.

    doc (Doc): The Doc.
    report (ExportReport): Gets notes on losses: blanks between tokens, borders of sentences.
    has_sentences (bool): Whether the format can hold borders of sentences.
    RETURNS (list[str]): The tokens.
    """
    words = [token.text for token in doc]
    if not doc.has_unknown_spaces and doc.text != " ".join(words):
        report.notes["Docs whose blanks between tokens are lost"] += 1
    if not has_sentences and len(sentences_of(doc)) > 1:
        report.notes["Docs whose sentence borders are lost"] += 1
    return words


def sentences_of(doc: Doc) -> list[tuple[int, int]]:
    """Return start and exclusive end of each sentence; one sentence if there are no borders."""
    starts = sentence_starts(doc)
    ends = [*([0] if starts is None else starts.tolist()), len(doc)]
    return list(pairwise(ends)) if len(doc) else []


def divide_words(words: Sequence[str], report: ExportReport) -> tuple[list[str], list[int]]:
    """Divide tokens at white space, for a format with white space between tokens.

    words (Sequence[str]): The tokens.
    report (ExportReport): Gets notes on tokens of white space and with white space.
    RETURNS (tuple[list[str], list[int]]): The new tokens; and for each border between old tokens the
        number of new tokens before it, so that the span (start, end) becomes (borders[start],
        borders[end]).
    """
    divided = [word.split() for word in words]
    report.note("whitespace tokens, left out", divided.count([]))
    n_divided = sum(pieces not in ([], [w]) for w, pieces in zip(words, divided, strict=True))
    report.note("tokens containing white space, divided or trimmed", n_divided)
    return [word for pieces in divided for word in pieces], [0, *accumulate(map(len, divided))]


def line_text(doc: Doc, report: ExportReport) -> str:
    """Return the text of a Doc on one line, for a format without tokens; offsets stay right."""
    text: str = doc.text
    line = text.replace("\n", " ").replace("\r", " ")
    joined = "pretokenized Docs, whose tokens are joined by blanks and may be read differently"
    report.note(joined, doc.has_unknown_spaces)
    report.note("Docs whose line breaks became blanks", line != text)
    report.note("Docs whose sentence borders are lost", len(sentences_of(doc)) > 1)
    # Nobody wrote the blank behind the last of the given tokens.
    return line.removesuffix(" ") if doc.has_unknown_spaces else line


# Choosing entities and relations


def without_overlaps(
    doc: Doc, entities: Sequence[Entity], edges: Sequence[Edge], report: ExportReport
) -> tuple[list[Entity], list[Edge]]:
    """Leave out entities that overlap with longer or earlier ones, together with their relations."""
    spans = [Span(doc, entity.start, entity.end, label=entity.label) for entity in entities]
    kept = {Entity(span.start, span.end, span.label_) for span in filter_spans(spans)}
    report.note("overlapping entities, left out", len(entities) - len(kept))
    return select_entities(entities, edges, [entity in kept for entity in entities], report)


def select_entities(
    entities: Sequence[Entity], edges: Sequence[Edge], keep: Sequence[bool], report: ExportReport
) -> tuple[list[Entity], list[Edge]]:
    """Keep some of the entities, and count the relations that are lost with the others."""
    new_index = [n - 1 for n in accumulate(map(int, keep))]
    chosen = [
        replace(edge, head=new_index[edge.head], tail=new_index[edge.tail])
        for edge in edges
        if keep[edge.head] and keep[edge.tail]
    ]
    report.note("relations of entities left out", len(edges) - len(chosen))
    return [entity for entity, kept in zip(entities, keep, strict=True) if kept], chosen


@dataclass(frozen=True)
class Pair:
    """A relation as a record of its own.

    id (str | int): The Doc's id; if there are several relations, with a colon and a number.
    head, tail (Entity): The arguments.
    label (str): The label.
    """

    id: RecordId
    head: Entity
    tail: Entity
    label: str


def read_pairs(doc: Doc, number: int, report: ExportReport) -> list[Pair]:
    """Read the relations of a Doc, for a format with one relation a record.

    doc (Doc): The Doc.
    number (int): Its number among the Docs, from 0.
    report (ExportReport): Gets notes on everything that is in no record.
    RETURNS (list[Pair]): The relations, also those with a negative label.
    """
    entities, edges = read_annotations(doc, report)
    arguments = {index for edge in edges for index in (edge.head, edge.tail)}
    report.note("entities in no relation, left out", len(entities) - len(arguments))
    if not edges:
        report.notes["Docs without relations, left out"] += 1
        return []
    several = "Docs with several relations, whose records get ids of their own"
    report.note(several, len(edges) > 1)
    ends = Counter((edge.head, edge.tail) for edge in edges)
    n_several = sum(n > 1 for n in ends.values())
    report.note("pairs with several relations, in one record each", n_several)
    name = doc_id(doc, number, report)
    return [
        Pair(
            name if len(edges) == 1 else f"{name}:{i}",
            entities[edge.head],
            entities[edge.tail],
            edge.label,
        )
        for i, edge in enumerate(edges)
    ]


def count_pairs(pairs: Iterable[Pair], report: ExportReport) -> Iterator[Pair]:
    """Pass on the pairs of a Doc, and count the Doc and its pairs and arguments as written."""
    arguments: set[Entity] = set()
    for pair in pairs:
        arguments |= {pair.head, pair.tail}
        report.relations += 1
        yield pair
    report.entities += len(arguments)
    report.docs += bool(arguments)


# Texts with offsets


@dataclass(frozen=True)
class TextAnnotations:
    """A Doc as annotation tools see it.

    id (str | int | None): The id of its record, if it has one.
    text (str): Its text.
    entities (list[Entity]): By tokens, each once. Coreferent mentions that are no entities come last,
        with the name of coreference as their type.
    bounds (list[tuple[int, int]]): The offsets of each entity in the text, ends exclusive.
    relations (list[Edge]): By indices of entities, each once.
    clusters (list[list[int]]): Coreferent mentions by indices of entities, two or more in a cluster,
        in the order of the text; no mention is in two clusters.
    coref (str): The name of coreference.
    """

    id: RecordId | None
    text: str
    entities: list[Entity]
    bounds: list[tuple[int, int]]
    relations: list[Edge]
    clusters: list[list[int]]
    coref: str

    @property
    def has_overlaps(self) -> bool:
        """Whether entities or mentions overlap."""
        return any(first[1] > second[0] for first, second in pairwise(sorted(self.bounds)))

    @property
    def edges(self) -> list[Edge]:
        """The relations, and coreference as relations from each mention to the one before it."""
        links = (
            Edge(later, earlier, self.coref)
            for cluster in self.clusters
            for earlier, later in pairwise(cluster)
        )
        return [*self.relations, *links]

    @property
    def score(self) -> float | None:
        """The lowest score of all entities and relations: the text is no more certain than that. None if
        nothing has a score."""
        items: list[Entity | Edge] = [*self.entities, *self.relations]
        scores = (item.score for item in items)
        return min((score for score in scores if score is not None), default=None)

    def count(self, report: ExportReport) -> None:
        """Count everything as written."""
        n_entities = sum(entity.label != self.coref for entity in self.entities)
        report.count(n_entities, len(self.relations), len(self.clusters))


def score_of(item: Entity | Edge | TextAnnotations, suggestions: bool) -> dict[str, float]:
    """Return the entry of a record for a score; none if there is none, or no scores are written."""
    return {"score": round(item.score, 4)} if suggestions and item.score is not None else {}


def read_text_annotations(
    doc: Doc, report: ExportReport, coref: str | None = None, with_scores: bool = False
) -> TextAnnotations:
    """Read a Doc, gold or predicted, for a format of texts with offsets.

    doc (Doc): The Doc.
    report (ExportReport): Gets notes on what is left out or changed.
    coref (str | None): The name of coreference, with which the readers of such formats find clusters.
        None to leave them out.
    with_scores (bool): Whether the scores are written, too.
    RETURNS (TextAnnotations): Its text, entities, relations and clusters, which are not counted yet.
    """
    if coref is None:
        note_clusters(doc, report, ", as no name is given for coreference (--coref)")
    clusters = [] if coref is None else _clusters_to_write(doc, report)
    entities, relations = read_annotations(
        doc,
        report,
        with_clusters=True,
        with_scores=with_scores,
        mention_types=_mention_types(doc, clusters),
        coref=coref or "",
    )
    ambiguous = "entities and relations with the name of coreference, which will be read as such"
    n_ambiguous = sum(span.label_ == coref for span in get_entities(doc))
    n_ambiguous += sum(relation.label == coref for relation in relations)
    report.note(ambiguous, n_ambiguous)
    index: dict[Borders, int] = {}
    for i, entity in enumerate(entities):
        index.setdefault((entity.start, entity.end), i)
    for place in (place for cluster in clusters for place in cluster):
        if place not in index:
            index[place] = len(entities)
            entities.append(Entity(*place, coref or ""))
    spans = [doc[entity.start : entity.end] for entity in entities]
    text = doc.text
    if doc.has_unknown_spaces and len(doc):
        report.notes["pretokenized Docs, whose tokens are joined by blanks"] += 1
        # Nobody wrote the blank behind the last one.
        text = text[: doc[-1].idx + len(doc[-1])]
    bounds = [(span.start_char, span.end_char) for span in spans]
    return TextAnnotations(
        get_orig_id(doc),
        text,
        entities,
        bounds,
        relations,
        [[index[place] for place in cluster] for cluster in clusters],
        coref or "",
    )


def _clusters_to_write(doc: Doc, report: ExportReport) -> list[list[Borders]]:
    """Return the clusters of a Doc as readers will find them: joined where they share a mention."""
    groups = [[(m.start, m.end) for m in cluster] for cluster in get_clusters(doc)]
    clusters = join_overlapping(groups)
    report.note("clusters that share a mention, written as one", len(groups) - len(clusters))
    several = [cluster for cluster in clusters if len(cluster) > 1]
    report.note("clusters of one mention, left out", len(clusters) - len(several))
    return several


def _mention_types(doc: Doc, clusters: Sequence[Sequence[Borders]]) -> dict[Borders, str]:
    """Return the mentions that need not become entities, with the types that readers give them.

    An argument of a relation that is a mention and no entity gets the type of the entities in its
    cluster (`types_of_mentions`). Where arguments have another type than that, they need to be entities.
    """
    entities = [
        Entity(span.start, span.end, span.label_.strip() or ENTITY) for span in get_entities(doc)
    ]
    types = types_of_mentions(clusters, entities)
    places = {(entity.start, entity.end) for entity in entities}
    others = {
        (span.start, span.end)
        for relation in get_relations(doc)
        for span in (relation.head, relation.tail)
        if (span.start, span.end) not in places
        and span.label_.strip() not in ("", types.get((span.start, span.end)))
    }
    for cluster in clusters:
        if not others.isdisjoint(cluster):
            for mention in cluster:
                del types[mention]
    return types
