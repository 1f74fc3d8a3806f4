"""Making gold Docs, the same way for all formats.

A gold Doc is stored in the terms of ``annotations``:

- ``doc.spans["entities"]``: every gold entity (they may overlap), with its type as label. Gold has
  no scores, so ``attrs`` has none; ``attrs["orig_id"]`` is the id of the record, if it has one. The
  id is stored there because the attrs of span groups survive ``DocBin`` with default settings and
  ``user_data`` does not. Read it with ``get_orig_id``.
- ``doc.spans["relations"]``: written by ``annotations.set_relations``, with the score None.
- ``doc.ents``: as many of the entities as fit without overlap, the longest first.

- Clusters of coreferent mentions, if the data has them: written by ``annotations.set_clusters``,
  without labels.

The first three are set on every Doc, so that "annotated, but nothing there" differs from "not annotated".
Texts without entities or relations stay in the data: they are negative examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import filter_spans

from ..annotations import ENTITIES_KEY, Relation, set_clusters, set_relations
from ..annotations.relations import ORIG_ID_ATTR, weight_attrs
from ..errors import Errors
from ..reading import ConversionError, ErrorHandler, JsonValue, Place, Where, raise_error, short
from .report import ConversionReport, Finding
from .type_names import TypeNames, read_types

# Brackets as the Penn Treebank, and corpora with its tokens, write them.
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}

# The type of an argument in formats that have no types.
ENTITY = "ENTITY"

# The integers that msgpack can hold; an id outside is kept as text.
_INT64 = range(-(2**63), 2**63)

# Start and end of a span in tokens, end exclusive.
Borders = tuple[int, int]
Record = TypeVar("Record")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entity:
    """An entity by token offsets, end exclusive.

    start, end, label: Two entities that agree in them are one.
    weight (float): The share in the loss of training, as in `Relation`.
    score (float | None): The probability, if the entity was predicted.
    """

    start: int
    end: int
    label: str
    weight: float = field(default=1.0, compare=False)
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Edge:
    """A relation between two entities by their indices; weight and score as in `Entity`."""

    head: int
    tail: int
    label: str
    weight: float = field(default=1.0, compare=False)
    score: float | None = field(default=None, compare=False)


def split_clusters(
    entities: Sequence[Entity], edges: Sequence[Edge], name: str
) -> tuple[list[Entity], list[Edge], list[list[Borders]]]:
    """Tell coreference from other relations.

    Edges of this name link mentions of one thing. As coreference is transitive, each set of linked
    places is a cluster. An entity of this name is a mention only, such as a pronoun. It gets the
    type of the entities of its cluster, and "" if there is none or several.

    entities, edges (Sequence[Entity], Sequence[Edge]): Entities and relations, as annotated.
    name (str): The label of coreference.
    RETURNS (tuple[list[Entity], list[Edge], list[list[tuple[int, int]]]]): The entities with these
        types, the other relations, and the places of the mentions of each cluster, in the order of
        the text.
    """
    places = [(entity.start, entity.end) for entity in entities]
    linked = ((places[edge.head], places[edge.tail]) for edge in edges if edge.label == name)
    clusters = join_overlapping([*((place,) for place in places), *linked])
    types = types_of_mentions(clusters, (entity for entity in entities if entity.label != name))
    typed = [
        entity if entity.label != name else Entity(*place, types[place])
        for entity, place in zip(entities, places, strict=True)
    ]
    edges = [edge for edge in edges if edge.label != name]
    return typed, edges, [cluster for cluster in clusters if len(cluster) > 1]


def join_overlapping(groups: Iterable[Iterable[Borders]]) -> list[list[Borders]]:
    """Join groups that share a member, because coreference is transitive.

    groups (Iterable[Iterable[tuple[int, int]]]): Groups of mentions, by start and end.
    RETURNS (list[list[tuple[int, int]]]): Groups without a common member. Members and groups are in
        the order of the text.
    """
    group_of: dict[Borders, set[Borders]] = {}
    for members in groups:
        joined: set[Borders] = set()
        for member in members:
            # The members of the smaller group move, so that each moves seldom.
            smaller, joined = sorted((group_of.setdefault(member, {member}), joined), key=len)
            joined |= smaller
            group_of.update(dict.fromkeys(smaller, joined))
    distinct = {id(group): group for group in group_of.values()}
    return sorted(map(sorted, distinct.values()))


def types_of_mentions(
    clusters: Iterable[Sequence[Borders]], entities: Iterable[Entity]
) -> dict[Borders, str]:
    """Return the entity type that a mention without one has by its cluster.

    clusters (Iterable[Sequence[tuple[int, int]]]): The mentions of each cluster, each in one cluster.
    entities (Iterable[Entity]): The entities.
    RETURNS (dict[tuple[int, int], str]): For each mention the type of the entities in its cluster; ""
        if there is none or several.
    """
    types: dict[Borders, set[str]] = {}
    for entity in entities:
        types.setdefault((entity.start, entity.end), set()).add(entity.label)
    type_of: dict[Borders, str] = {}
    for cluster in clusters:
        labels = {label for mention in cluster for label in types.get(mention, ())}
        type_of.update(dict.fromkeys(cluster, labels.pop() if len(labels) == 1 else ""))
    return type_of


class DocMaker:
    """Makes the gold Docs of one conversion and counts them in its report.

    Its arguments are those of the readers of all formats.

    nlp (Language | None): Gives the vocabulary and, for formats without tokens, the tokenizer.
        Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file in SpERT's form: labels that are not in it are
        errors, and the arguments of a relation that it calls symmetric are put in the order of the
        text.
    on_error (Callable[[ConversionError], None]): Called with the error in a bad record. If it does
        not raise, the record is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Counts what is read, changed and left out. Defaults to a new one.
    coref (str | None): The name of coreference. Relations of this name become clusters, which
        `get_clusters` reads. Spans of this type are mentions, such as pronouns: they are no entities,
        but may be arguments of relations, where they have the type of the entities in their cluster
        (see `split_clusters`). The name need not be in the types file. Defaults to none.
    """

    def __init__(
        self,
        nlp: Language | None = None,
        types: str | Path | TypeNames | None = None,
        on_error: ErrorHandler = raise_error,
        report: ConversionReport | None = None,
        coref: str | None = None,
    ) -> None:
        self.nlp = nlp or spacy.blank("en")
        self.types = types if types is None or isinstance(types, TypeNames) else read_types(types)
        self.on_error = on_error
        self.report = ConversionReport() if report is None else report
        self.coref = coref

    def each(
        self, records: Iterable[Record | ConversionError], make: Callable[[Record], Result | None]
    ) -> Iterator[Result]:
        """Yield what is made of each record; bad records are skipped as `on_error` decides.

        records (Iterable[Record | ConversionError]): The records, and the errors of bad ones. An
            error that is raised while they are read concerns the whole file, and is not caught.
        make (Callable[[Record], Result | None]): Makes a Doc, say; None if there is nothing to make.
        YIELDS (Result): What it makes.
        """
        for record in records:
            try:
                if isinstance(record, ConversionError):
                    raise record
                result = make(record)
            except ConversionError as error:
                self.skip(error)
                continue
            if result is not None:
                yield result

    def skip(self, error: ConversionError) -> None:
        """Hand an error to `on_error` and, if that returns, list its record as skipped."""
        self.on_error(error)
        self.report.skipped.append(error)

    # Docs

    def from_words(
        self,
        words: Sequence[str],
        entities: Sequence[Entity],
        relations: Sequence[Edge],
        place: Place,
        *,
        sent_starts: Sequence[bool] | None = None,
    ) -> Doc:
        """Make the gold Doc of a pretokenized record.

        The spaces between the tokens are unknown and stay so (`doc.has_unknown_spaces`): spaCy's
        corpus reader then keeps the given tokens for the predicted Doc too.

        words (Sequence[str]): The tokens.
        entities (Sequence[Entity]): All entities; they may overlap.
        relations (Sequence[Edge]): Relations between them.
        place (Place): The record; its id becomes the Doc's.
        sent_starts (Sequence[bool] | None): Whether each token starts a sentence, if that is known.
        RETURNS (Doc): The Doc.
        RAISES (ConversionError): If a label is not in the types file.
        """
        starts: list[bool | int | None] | None = None if sent_starts is None else [*sent_starts]
        doc = Doc(self.nlp.vocab, words=list(words), sent_starts=starts)
        return self.annotate(doc, entities, relations, place)

    def tokenize(self, text: str, where: Where, counted: str = "spans") -> Doc:
        """Make the Doc of a text, without changing the text.

        text (str): The text; it may be empty.
        where (Place | JsonValue): The text's place.
        counted (str): The things with offsets in the text, for the message.
        RETURNS (Doc): The Doc; `doc.text == text`.
        RAISES (ConversionError): If the text is too long, or the tokenizer changes it.
        """
        try:
            doc = self.nlp.make_doc(text)
        except ValueError as error:  # too long
            raise where.error(
                Errors.E617,
                found=f"{len(text)} characters ({short(text)}): {error}",
                expected="a text that the tokenizer takes",
            ) from error
        if doc.text != text:
            raise where.error(
                Errors.E617,
                found=f"{short(doc.text)} after tokenization",
                expected=f"{short(text)}, as {counted} are counted in its characters; choose "
                "another tokenizer",
            )
        return doc

    def annotate(
        self, doc: Doc, entities: Sequence[Entity], relations: Sequence[Edge], place: Place
    ) -> Doc:
        """Write gold entities and relations on a Doc, count them, and return the Doc.

        doc (Doc): The Doc.
        entities, relations, place: As in `from_words`.
        RETURNS (Doc): The same Doc.
        RAISES (ConversionError): If a label is not in the types file.
        """
        types, report = self.types, self.report
        named = [entity for entity in entities if entity.label != self.coref]
        if self.coref is not None:
            entities, relations, clusters = split_clusters(entities, relations, self.coref)
            report.clusters += len(clusters)
            set_clusters(doc, [[doc[start:end] for start, end in places] for places in clusters])
        if types is not None:
            types.check([e.label for e in named], [r.label for r in relations], place)
        spans: dict[Entity, Span] = {}
        for entity in entities:
            if entity not in spans:
                spans[entity] = Span(doc, entity.start, entity.end, label=entity.label)
        symmetric = types.symmetric if types is not None else frozenset()
        edges: dict[tuple[Entity, Entity, str], Relation] = {}
        for edge in relations:
            head, tail = entities[edge.head], entities[edge.tail]
            if edge.label in symmetric:
                # One direction stands for both: the order of the text.
                head, tail = sorted((head, tail), key=lambda e: (e.start, e.end, e.label))
            key = head, tail, edge.label
            # Of a relation, or entity, that comes twice, the most certain one counts.
            weight = max(edge.weight, edges[key].weight if key in edges else 0.0)
            edges[key] = Relation(spans[head], spans[tail], edge.label, weight=weight)
        weights: dict[Entity, float] = {}
        for entity in named:
            weights[entity] = max(entity.weight, weights.get(entity, 0.0))
        gold = [spans[entity] for entity in weights]
        orig_id = place.id
        if isinstance(orig_id, int) and orig_id not in _INT64:
            orig_id = str(orig_id)
        attrs: dict[str, Any] = {} if orig_id is None else {ORIG_ID_ATTR: orig_id}
        attrs |= weight_attrs([*weights.values()])
        doc.spans[ENTITIES_KEY] = SpanGroup(doc, name=ENTITIES_KEY, spans=gold, attrs=attrs)
        set_relations(doc, edges.values())
        doc.ents = tuple(filter_spans(gold))

        report.add_id(place.id)
        report.docs += 1
        report.tokens += len(doc)
        report.entities.update(span.label_ for span in gold)
        report.relations.update(label for _, _, label in edges)
        report.docs_without_entities += not gold
        report.docs_without_relations += not edges
        report.overlapping_entities += len(gold) - len(doc.ents)
        report.duplicate_entities += len(named) - len(gold)
        report.duplicate_relations += len(relations) - len(edges)
        report.self_relations += sum(
            (head.start, head.end) == (tail.start, tail.end) for head, tail, _ in edges
        )
        report.longest_entity = max([report.longest_entity, *map(len, gold)])
        if report.max_span_size is not None:
            report.too_long.extend(
                Finding(place.ref, f"{short(span.text)} ({span.label_}, {len(span)} tokens)")
                for span in gold
                if len(span) > report.max_span_size
            )
        return doc

    # Entities and labels

    def widened_entity(self, doc: Doc, start: int, end: int, label: str, where: Where) -> Entity:
        """Return the entity at character offsets, widened to whole tokens and reported if need be.

        doc (Doc): The tokenized text.
        start, end (int): Offsets in its characters, end exclusive.
        label (str): The entity's type.
        where (Place | JsonValue): The entity's place.
        RETURNS (Entity): The entity by token offsets.
        RAISES (ConversionError): If there are no tokens at these offsets.
        """
        span = doc.char_span(start, end, label=label)
        if span is None:
            span = doc.char_span(start, end, label=label, alignment_mode="expand")
            text = doc.text[start:end]
            if span is None:
                raise where.error(
                    Errors.E611,
                    found=short(text),
                    expected="tokens there; does the tokenizer change the text?",
                )
            self.report.misaligned.append(
                Finding(where.ref, f"{short(text)} ({label}) widened to {short(span.text)}")
            )
        return Entity(span.start, span.end, label)

    def trimmed_entity(
        self, doc: Doc, text: str, start: int, end: int, label: str, where: Where
    ) -> Entity:
        """Return the entity at character offsets without the blanks around it, as `widened_entity`.

        text (str): The text of the Doc; the other arguments as in `widened_entity`.
        RETURNS (Entity): The entity by token offsets.
        RAISES (ConversionError): If there is no text at these offsets, or only blanks.
        """
        if not 0 <= start < end <= len(text):
            raise wrong_offsets(start, end, text, where)
        if doc.char_span(start, end) is None:
            covered = text[start:end]
            if not covered.strip():
                raise where.error(
                    Errors.E606,
                    found=f"start {start}, end {end}, where there are only blanks",
                    expected="some text there",
                )
            if covered != covered.strip():
                start += len(covered) - len(covered.lstrip())
                end = start + len(covered.strip())
                self.report.notes["entities with blanks around them, cut off"] += 1
        return self.widened_entity(doc, start, end, label, where)

    def label_or(self, name: str, value: JsonValue | None, what: str) -> str:
        """Return a label; if the file has none, the name that stands for it, which is counted.

        name (str): What to call a thing without a label.
        value (JsonValue | None): The label, which may be null or empty.
        what (str): The kind of thing, in the plural, for the report.
        RETURNS (str): The label.
        RAISES (ConversionError): If the value is no label.
        """
        if value is None or value.raw is None or value.raw == "":
            self.report.notes[f"{what} without a label, called {name}"] += 1
            return name
        return value.as_name()


def one_relation(head: Entity, tail: Entity, label: str) -> tuple[list[Entity], list[Edge]]:
    """Return the entities and relations of a record that is one relation.

    Equal arguments are one entity.
    """
    entities = list(dict.fromkeys((head, tail)))
    return entities, [Edge(0, len(entities) - 1, label)]


def inclusive_offsets(
    first: JsonValue, last: JsonValue, n_tokens: int, where: Where
) -> tuple[int, int]:
    """Return start and exclusive end of a span that is given by its first and last token.

    first, last (JsonValue): The indices of the tokens.
    n_tokens (int): The number of tokens of the text.
    where (Place | JsonValue): The span's place.
    RETURNS (tuple[int, int]): Start and exclusive end.
    RAISES (ConversionError): If they are no span of the text.
    """
    start, end = first.as_int(), last.as_int()
    if not 0 <= start <= end < n_tokens:
        raise where.error(
            Errors.E606,
            found=f"start {start}, end {end}",
            expected=f"0 <= start <= end < {n_tokens} (the number of tokens), end inclusive",
        )
    return start, end + 1


def wrong_offsets(start: int, end: int, text: str, where: Where) -> ConversionError:
    """Return the error for character offsets that are no span of a text."""
    return where.error(
        Errors.E606,
        found=f"start {start}, end {end}",
        expected=f"0 <= start < end <= {len(text)} (the number of characters), end exclusive",
    )
