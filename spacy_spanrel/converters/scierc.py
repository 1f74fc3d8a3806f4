"""JSON lines of SciERC and DyGIE++: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotations import get_clusters, set_clusters
from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, Place, parse_count, raise_error, read_json_lines
from .common import DocMaker, Edge, Entity, inclusive_offsets
from .report import ConversionReport, ExportReport, Finding
from .type_names import TypeNames
from .writing import doc_id, read_annotations, sentences_of, words_of

# The most sentences that may be missing in a document before another: an id like "log:20240131" is no
# reason for millions of empty ones.
MAX_GAP = 1000

Unit = Literal["sentence", "document"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass
class _Segment:
    """The segment of a document that becomes one Doc: a sentence, or the whole.

    place (Place): Its place in the file, with the id of the Doc.
    start (int): The number of tokens of the document before it.
    words (list[str]): Its tokens.
    sent_starts (list[bool] | None): Whether each token starts a sentence, if that is known.
    entities, relations (list[Entity], list[Edge]): By its own tokens.
    clusters (list[list[tuple[int, int]]]): Coreferent mentions, likewise, ends exclusive.
    """

    place: Place
    start: int
    words: list[str]
    sent_starts: list[bool] | None = None
    entities: list[Entity] = field(default_factory=list)
    relations: list[Edge] = field(default_factory=list)
    clusters: list[list[tuple[int, int]]] = field(default_factory=list)


@dataclass
class _Parsed:
    """The Docs-to-be of a document, and what is to be reported of it."""

    segments: list[_Segment]
    lost: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def scierc_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    unit: Unit = "sentence",
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of SciERC or DyGIE++, one Doc per sentence or per document.

    A line is a document. Offsets count the tokens of the document, and ends are inclusive. Sample
    (in the file this is one line)::

        {"doc_key": "A7",
         "sentences": [["Ann", "Lee", "lives", "in", "Oslo"], ["She", "sings"]],
         "ner": [[[0, 1, "Person"], [4, 4, "Place"]], [[5, 5, "Person"]]],
         "relations": [[[0, 1, 4, 4, "LIVES-IN"]], []],
         "clusters": [[[0, 1], [5, 5]]]}

    The clusters, which a file need not have, list mentions of the same thing. They become the span
    groups that `get_clusters` reads. If the unit is a sentence, mentions without another one of their
    cluster in the sentence are left out and counted.

    The id of a Doc is the document's `doc_key`; if the unit is a sentence, a colon and the number of
    the sentence follow. A sentence without tokens makes no Doc. Relations whose argument is no
    entity are left out and reported and, if the unit is a sentence, relations across sentences too.

    path (str | Path): The file.
    unit ("sentence" | "document"): What becomes a Doc. Docs of documents have sentence starts.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a document in it.
    """
    _check_unit(unit, Place(str(path)))
    maker = DocMaker(nlp, types, on_error, report)

    def parse(record: JsonValue) -> _Parsed:
        document = _parse_document(record, unit)
        if maker.types is not None:
            # Before the first Doc: a bad document is skipped as a whole.
            for segment in document.segments:
                labels = [e.label for e in segment.entities], [r.label for r in segment.relations]
                maker.types.check(*labels, segment.place)
        return document

    for document in maker.each(read_json_lines(path), parse):
        maker.report.lost_relations.extend(document.lost)
        maker.report.notes.update(document.notes)
        for segment in document.segments:
            doc = maker.from_words(
                segment.words,
                segment.entities,
                segment.relations,
                segment.place,
                sent_starts=segment.sent_starts,
            )
            set_clusters(doc, ([doc[i:j] for i, j in cluster] for cluster in segment.clusters))
            yield doc


def _parse_document(record: JsonValue, unit: Unit) -> _Parsed:
    record["doc_key"].as_id()  # it may be null, but not missing
    record = record.with_id("doc_key")
    place = record.place
    sentences = [item.as_words(allow_empty=True) for item in record["sentences"]]
    if not any(sentences):
        raise record["sentences"].wrong_kind("at least one token")
    ner, edges = (_per_sentence(record[key], len(sentences)) for key in ("ner", "relations"))

    segments, segment_of_token, segment_of_sentence = _make_segments(sentences, unit, place)
    n_tokens = len(segment_of_token)
    document = _Parsed(segments)
    document.notes += ["sentences without tokens"] * sum(not words for words in sentences)
    # The first entity of each span by its place in the document; a span may have several types.
    by_span: dict[tuple[int, int], tuple[_Segment, int]] = {}
    ambiguous: set[tuple[int, int]] = set()
    for home, item in (
        (segment_of_sentence[s], item) for s, items in enumerate(ner) for item in items
    ):
        item.as_list(3)
        start, end, label = item
        span = inclusive_offsets(start, end, n_tokens, item)
        segment = segment_of_token[span[0]]
        if segment is not home or span[1] > segment.start + len(segment.words):
            raise item.error(
                Errors.E606,
                found=f"start {start.raw}, end {end.raw}",
                expected=f"offsets inside its {unit}, from {home.start} "
                f"to {home.start + len(home.words) - 1} (end inclusive)",
            )
        entity = Entity(span[0] - segment.start, span[1] - segment.start, label.as_name())
        if span not in by_span:
            by_span[span] = (segment, len(segment.entities))
        elif segment.entities[by_span[span][1]].label != entity.label:
            ambiguous.add(span)
        segment.entities.append(entity)
    for item in (item for items in edges for item in items):
        item.as_list(5)
        start1, end1, start2, end2, label = item
        head = inclusive_offsets(start1, end1, n_tokens, item)
        tail = inclusive_offsets(start2, end2, n_tokens, item)
        edge = f"{label.as_name()} [{start1.raw}, {end1.raw}] -> [{start2.raw}, {end2.raw}]"
        if head not in by_span or tail not in by_span:
            document.lost.append(Finding(place.ref, f"{edge}: an argument is no entity"))
            continue
        (segment, head_index), (other, tail_index) = by_span[head], by_span[tail]
        if segment is not other:
            document.lost.append(Finding(place.ref, f"{edge}: across sentences"))
            continue
        if head in ambiguous or tail in ambiguous:
            document.notes.append(
                "relations whose argument has several types, of which the first was taken"
            )
        segment.relations.append(Edge(head_index, tail_index, label.as_name()))
    clusters = record.get("clusters")
    for cluster in clusters or ():
        _add_cluster(cluster, segment_of_token, document)
    return document


def _add_cluster(cluster: JsonValue, segment_of_token: list[_Segment], document: _Parsed) -> None:
    """Add the mentions of a cluster to the segments that hold two of them or more."""
    spans = set()
    for item in cluster:
        start, end = item.as_list(2) and item
        spans.add(inclusive_offsets(start, end, len(segment_of_token), item))
    by_start: dict[int, list[tuple[int, int]]] = {}
    for start, end in sorted(spans):
        segment = segment_of_token[start]
        if segment is segment_of_token[end - 1]:
            by_start.setdefault(segment.start, []).append((start, end))
    n_left_out = len(spans)
    for offset, mentions in by_start.items():
        if len(mentions) > 1:
            segment = segment_of_token[mentions[0][0]]
            segment.clusters.append([(start - offset, end - offset) for start, end in mentions])
            n_left_out -= len(mentions)
    document.notes += ["coreferent mentions without another one in their text"] * n_left_out


def _make_segments(
    sentences: list[list[str]], unit: Unit, place: Place
) -> tuple[list[_Segment], list[_Segment], list[_Segment]]:
    """Return the future Docs, and which of them holds each token and each sentence."""
    if unit == "document":
        words = [word for sentence in sentences for word in sentence]
        starts = [i == 0 for sentence in sentences for i in range(len(sentence))]
        segment = _Segment(place, 0, words, starts)
        return [segment], [segment] * len(words), [segment] * len(sentences)
    segments = []
    start = 0
    for i, sentence in enumerate(sentences):
        key = None if place.id is None else f"{place.id}:{i}"
        where = Place(place.file, f"{place.name}, sentences[{i}]", key)
        segments.append(_Segment(where, start, sentence))
        start += len(sentence)
    tokens = [segment for segment in segments for _ in segment.words]
    return [segment for segment in segments if segment.words], tokens, segments


def _per_sentence(lists: JsonValue, n_sentences: int) -> list[list[JsonValue]]:
    """Return the items of a list of lists, which must have one list a sentence."""
    n_lists = len(lists.as_list())
    if n_lists != n_sentences:
        raise lists.error(
            Errors.E604, found=f"{n_lists} lists", expected=f"{n_sentences} lists, one a sentence"
        )
    return [list(items) for items in lists]


def _check_unit(unit: str, place: Place) -> None:
    if unit not in UNITS:
        raise place.error(
            Errors.E613, found=f"unit {unit!r}", expected=" or ".join(map(repr, UNITS))
        )


# Back to JSON


@dataclass
class _Document:
    """A document to which Docs are added."""

    key: RecordId
    sentences: list[list[str]] = field(default_factory=list)
    ner: list[list[list[Any]]] = field(default_factory=list)
    relations: list[list[list[Any]]] = field(default_factory=list)
    clusters: list[list[list[int]]] = field(default_factory=list)
    n_tokens: int = 0

    def takes(self, key: RecordId, index: int) -> bool:
        """Whether a sentence may follow, perhaps after a few that are missing."""
        return self.key == key and 0 <= index - len(self.sentences) <= MAX_GAP

    def pad(self, n: int) -> None:
        """Add empty sentences until there are n."""
        for items in (self.sentences, self.ner, self.relations):
            items.extend([] for _ in range(n - len(items)))

    def add(
        self,
        words: Sequence[str],
        borders: Sequence[tuple[int, int]],
        entities: Sequence[Entity],
        edges: Sequence[Edge],
        clusters: Sequence[Sequence[Span]],
    ) -> None:
        """Add the sentences of a Doc; an annotation is listed with the sentence in which it begins."""
        first, offset = len(self.sentences), self.n_tokens
        home = [first + i for i, (start, end) in enumerate(borders) for _ in range(start, end)]
        self.sentences.extend(list(words[start:end]) for start, end in borders)
        self.pad(len(self.sentences))
        self.n_tokens += len(words)
        places = [[e.start + offset, e.end + offset - 1] for e in entities]
        for entity, place in zip(entities, places, strict=True):
            self.ner[home[entity.start]].append([*place, entity.label])
        for edge in edges:
            row = [*places[edge.head], *places[edge.tail], edge.label]
            self.relations[home[entities[edge.head].start]].append(row)
        for cluster in clusters:
            self.clusters.append([[m.start + offset, m.end + offset - 1] for m in cluster])

    def to_dict(self) -> dict[str, Any]:
        return {
            "doc_key": self.key,
            "sentences": self.sentences,
            "ner": self.ner,
            "relations": self.relations,
            **({"clusters": self.clusters} if self.clusters else {}),
        }


def docs_to_scierc(
    docs: Iterable[Doc], report: ExportReport, *, unit: Unit = "sentence"
) -> Iterator[dict[str, Any]]:
    """Make documents of SciERC's JSON lines, which `scierc_to_docs` reads with the same unit.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    unit ("sentence" | "document"): What a Doc is. Sentences that follow each other and have the ids
        "key:0", "key:1" and so on become one document, with empty sentences in the place of missing
        numbers. Other sentences become documents of one sentence. A Doc that is a document is
        divided at its own sentence starts.
    YIELDS (dict[str, Any]): The documents, each to be written as a line of JSON.
    RAISES (ConversionError): If there is no such unit.
    """
    _check_unit(unit, Place("docs_to_scierc"))
    current: _Document | None = None
    keys: set[RecordId] = set()
    is_document = unit == "document"
    for number, doc in enumerate(docs):
        if not len(doc):
            report.notes["Docs without tokens, left out"] += 1
            continue
        entities, edges = read_annotations(doc, report, with_clusters=True)
        clusters = get_clusters(doc)
        words = words_of(doc, report, has_sentences=is_document)
        borders = sentences_of(doc) if is_document else [(0, len(doc))]
        _note_losses(borders, entities, edges, report)
        name = doc_id(doc, number, report)
        key, index = (name, 0) if is_document else _split_id(name)
        if current is None or not current.takes(key, index):
            if current is not None:
                yield current.to_dict()
            if index > MAX_GAP:
                key, index = name, 0
            current = _Document(key)
            report.note("documents with the key of an earlier one", key in keys)
            keys.add(key)
        n_missing = index - len(current.sentences)
        report.note("empty sentences, in the place of missing ones", n_missing)
        is_unnumbered = not is_document and key == name
        report.note("ids that get ':0', as they name no sentence", is_unnumbered)
        current.pad(index)
        current.add(words, borders, entities, edges, clusters)
        report.count(len(entities), len(edges), len(clusters))
    if current is not None:
        yield current.to_dict()


def _split_id(name: RecordId) -> tuple[RecordId, int]:
    """Return the key of the document and the number of the sentence; without number the id and 0."""
    key, _, number = str(name).rpartition(":")
    index = parse_count(number)
    if key and index is not None and str(index) == number:
        return key, index
    return name, 0


def _note_losses(
    borders: Sequence[tuple[int, int]],
    entities: Sequence[Entity],
    edges: Sequence[Edge],
    report: ExportReport,
) -> None:
    sentence = [i for i, (start, end) in enumerate(borders) for _ in range(start, end)]
    first: dict[tuple[int, int], int] = {}
    for i, entity in enumerate(entities):
        first.setdefault((entity.start, entity.end), i)
    places = [(entity.start, entity.end) for entity in entities]
    report.note(
        "entities across sentences, listed with their first sentence",
        sum(sentence[start] != sentence[end - 1] for start, end in places),
    )
    report.note(
        "relations across sentences, listed with the sentence of the head",
        sum(sentence[places[e.head][0]] != sentence[places[e.tail][0]] for e in edges),
    )
    report.note(
        "relations of a span with several types, of which the first will be taken",
        sum(any(first[places[end]] != end for end in (e.head, e.tail)) for e in edges),
    )
