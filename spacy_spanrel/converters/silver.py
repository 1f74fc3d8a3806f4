"""Gold Docs from entities and relations that another program names in words: the records of all such
formats, and how they become entities and relations at places in a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from spacy.tokens import Doc

from ..reading import JsonValue, Place, short
from .common import ENTITY, DocMaker, Edge, Entity
from .placing import Grade, Places, StringFinder, Tokens, fold, not_nested
from .report import Finding

# Keys of a record's id and of a weight; the first one that is there counts.
ID_KEYS = ("id", "doc", "doc_id", "document_id")
WEIGHT_KEYS = ("weight", "confidence", "score")


@dataclass(frozen=True)
class Name:
    """An entity as another program names it.

    text (str): Its words.
    label (str): Its type; "" if it has none.
    where (JsonValue): Its place in the file.
    weight (float | None): Its weight, if it has one of its own.
    chars (tuple[int, int] | None): Its offsets in characters, if they are known.
    """

    text: str
    label: str
    where: JsonValue
    weight: float | None = None
    chars: tuple[int, int] | None = None


@dataclass(frozen=True)
class Triple:
    """A relation as another program names it.

    head, tail (Name): Its arguments.
    label (str): Its label.
    weight (float): Its weight.
    """

    head: Name
    tail: Name
    label: str
    weight: float


def weight_of(record: JsonValue) -> float | None:
    """Return the weight of an object; None if it has none."""
    for key in WEIGHT_KEYS:
        value = record.get(key)
        if value is not None:
            return value.as_number()
    return None


def weight_of_triple(record: JsonValue, head: Name, tail: Name) -> float:
    """Return the weight of a relation: its own, else the lower one of its arguments, else 1."""
    weight = weight_of(record) if isinstance(record.raw, dict) else None
    if weight is None:
        weight = min((w for w in (head.weight, tail.weight) if w is not None), default=1.0)
    return weight


class Placer:
    """Finds the entities and relations of one text.

    doc (Doc): The text.
    maker (DocMaker): Its report gets whatever cannot be placed, or not exactly.
    place (Place): The record in the file.
    """

    def __init__(self, doc: Doc, maker: DocMaker, place: Place) -> None:
        self._doc, self._maker, self._place = doc, maker, place
        self._finder = StringFinder(doc)
        self._report = maker.report
        self._noted: set[str] = set()

    def annotate(self, names: Sequence[Name], triples: Sequence[Triple]) -> Doc:
        """Write entities and relations on the Doc, count them, and return the Doc.

        A name that is no argument stands for all its places. Of an argument, the place that is nearest
        to the other argument counts (`StringFinder.nearest_pair`). The type of either is the one that it
        has itself, else (of an argument) that of an entity at this place, else that of the first entity
        or argument with the same words, else ENTITY.

        names (Sequence[Name]): The entities.
        triples (Sequence[Triple]): The relations.
        RETURNS (Doc): The same Doc.
        """
        names = [self._checked(name) for name in names]
        triples = [
            triple
            if triple.head.chars is triple.tail.chars is None
            else replace(triple, head=self._checked(triple.head), tail=self._checked(triple.tail))
            for triple in triples
        ]
        arguments = [name for triple in triples for name in (triple.head, triple.tail)]
        places = {}
        for name in (*names, *arguments):
            if name.chars is None and name.text not in places:
                places[name.text] = self._finder.find(name.text)
        everywhere = [p for p in places.values() if p is not None]
        free: dict[str, list[Tokens]] = {}

        def spans_of(name: Name) -> list[Tokens]:
            if name.chars is not None:
                return [self._tokens_at(name)]
            found = places[name.text]
            self._note(name, found)
            if found is None:
                return []
            if name.text not in free:
                free[name.text] = not_nested(found, everywhere)
            return free[name.text]

        # An entity that is listed may be an argument as well, and that of several relations.
        weights: dict[Entity, float] = {}

        def add(span: Tokens, label: str, weight: float) -> Entity:
            entity = Entity(*span, label)
            weights[entity] = max(weight, weights.get(entity, 0.0))
            return entity

        typed = {
            name.text: name.label for name in (*reversed(arguments), *reversed(names)) if name.label
        }
        for name in names:
            label = name.label or typed.get(name.text, ENTITY)
            for span in spans_of(name):
                add(span, label, 1.0 if name.weight is None else name.weight)
        types: dict[Tokens, str] = {}
        for entity in weights:
            types.setdefault((entity.start, entity.end), entity.label)
        if large := sum(triple.weight > 1 for triple in triples):
            # Perhaps percentages.
            self._report.notes["weights greater than 1, kept"] += large
        relations: list[tuple[Entity, Entity, str, float]] = []
        for triple in triples:
            heads, tails = spans_of(triple.head), spans_of(triple.tail)
            if triple.head.chars is not None and triple.tail.chars is not None:
                pair: tuple[Tokens, Tokens] | None = (heads[0], tails[0])
            else:
                pair = self._finder.nearest_pair(heads, tails)
            if pair is None:
                self._lose(triple, heads, tails)
                continue
            if len(heads) > 1 or len(tails) > 1:
                self._report.notes["relations with several places, of which the nearest count"] += 1
            head, tail = (
                add(
                    span,
                    name.label or types.get(span) or typed.get(name.text, ENTITY),
                    triple.weight,
                )
                for name, span in zip((triple.head, triple.tail), pair, strict=True)
            )
            relations.append((head, tail, triple.label, triple.weight))
        order = {entity: i for i, entity in enumerate(weights)}
        entities = [Entity(e.start, e.end, e.label, weight) for e, weight in weights.items()]
        edges = [Edge(order[h], order[t], label, weight) for h, t, label, weight in relations]
        return self._maker.annotate(self._doc, entities, edges, self._place)

    def _checked(self, name: Name) -> Name:
        """Return a name without its offsets if other words are there, and its own are elsewhere in the text.

        Language models are poor at counting characters. Offsets of a longer or shorter form of the name
        ("Lee" for "Ann Lee") are believed, and those of a name that is not in the text.
        """
        if name.chars is None:
            return name
        start, end = name.chars
        text = self._doc.text[max(0, start) : max(0, end)]
        there, words = fold(text), fold(name.text)
        if not there or there in words or words in there:
            return name
        places = self._finder.find(name.text)
        if places is None or places.grade == Grade.FUZZY:
            taken = f"{short(name.text)} taken for {short(text)}, which is at its offsets"
            self._report.similar.append(Finding(_line_of(name.where), taken))
            return name
        self._report.notes["offsets at which there are other words, not used"] += 1
        return replace(name, chars=None)

    def _tokens_at(self, name: Name) -> Tokens:
        assert name.chars is not None
        entity = self._maker.trimmed_entity(
            self._doc, self._doc.text, *name.chars, name.label or ENTITY, name.where
        )
        return entity.start, entity.end

    def _note(self, name: Name, found: Places | None) -> None:
        """Count or list once for each text what was not found exactly."""
        if name.text in self._noted:
            return
        self._noted.add(name.text)
        where = _line_of(name.where)
        if found is None:
            self._report.unplaced.append(Finding(where, short(name.text)))
        elif found.grade == Grade.FUZZY:
            start, end = found.spans[0]
            text = f"{short(name.text)} taken for {short(self._doc[start:end].text)}"
            self._report.similar.append(Finding(where, text))
        elif found.grade == Grade.WIDENED:
            start, end = found.spans[0]
            text = f"{short(name.text)} widened to {short(self._doc[start:end].text)}"
            self._report.misaligned.append(Finding(where, text))
        elif found.grade == Grade.FOLDED:
            self._report.notes["strings found but for case, blanks, quotes or dashes"] += 1

    def _lose(self, triple: Triple, heads: Iterable[Tokens], tails: Iterable[Tokens]) -> None:
        lost = [
            f"{short(name.text)} is not in the text"
            for name, spans in ((triple.head, heads), (triple.tail, tails))
            if not spans
        ]
        reason = " and ".join(lost) or "head and tail are the same words"
        relation = f"{triple.label}({triple.head.text}, {triple.tail.text})"
        self._report.lost_relations.append(
            Finding(_line_of(triple.head.where), f"{short(relation)}: {reason}")
        )


def _line_of(where: JsonValue) -> str:
    """Return file and line or record, whatever id the record has."""
    place = where.place
    return f"{place.file}, {place.name.split(',')[0]}"
