"""The ADE corpus of drugs and their adverse effects (``DRUG-AE.rel``)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    not_empty,
    parse_count,
    raise_error,
    read_lines,
    short,
)
from .common import DocMaker, Edge, Entity
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import doc_id, line_text, one_word, read_annotations

EFFECT = "Adverse-Effect"
DRUG = "Drug"
RELATION = "Adverse-Effect"
COLUMNS = ("pubmed_id", "sentence", "adverse effect", "begin", "end", "drug", "begin", "end")


@dataclass(frozen=True)
class _Row:
    pubmed_id: str
    sentence: str
    effect: str
    effect_begin: int
    drug: str
    drug_begin: int


@dataclass(frozen=True)
class _Mention:
    start_char: int
    end_char: int
    label: str


def ade_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read ADE's ``DRUG-AE.rel``, one Doc per sentence.

    A row is one effect of one drug: pubmed id, sentence, adverse effect, begin, end, drug, begin,
    end. All rows of a sentence become one Doc, whose id is the pubmed id, a colon and the number of
    the sentence in its abstract. The head of a relation is the effect, the tail is the drug. Sample::

        1|Rash after aspirin.|Rash|40|44|aspirin|51|58

    Offsets count from the start of the abstract, which the file does not contain. If a text occurs
    more than once in its sentence, the distance between the two offsets tells which occurrence is
    meant. An effect or drug that ends inside a token is widened to whole tokens and reported.

    The sentences are tokenized with the pipeline's tokenizer, so the Docs keep their spaces.

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs, in the order in which their sentences first occur.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a row in it.
    """
    maker = DocMaker(nlp, types, on_error, report)
    lines = ((number, line) for number, line in read_lines(path) if line.strip())

    def parse(numbered: tuple[int, str]) -> tuple[int, _Row, _Mention, _Mention]:
        number, line = numbered
        row, place = _parse_row(line, Place(str(path), f"line {number}"))
        return number, row, *_locate(row, place, maker.report)

    # The rows of a sentence need not be neighbours.
    sentences: dict[tuple[str, str], list[tuple[int, _Mention, _Mention]]] = {}
    for number, row, effect, drug in maker.each(not_empty(lines, path, "rows"), parse):
        key = (row.pubmed_id, row.sentence)
        sentences.setdefault(key, []).append((number, effect, drug))
    numbers: Counter[str] = Counter()

    def to_doc(key: tuple[str, str]) -> Doc:
        pubmed_id, sentence = key
        rows = sentences[key]
        place = Place(str(path), f"line {rows[0][0]}", f"{pubmed_id}:{numbers[pubmed_id]}")
        numbers[pubmed_id] += 1
        doc = maker.tokenize(sentence, place)
        # A dict, because a drug of several rows is one entity.
        mentions = {mention: None for row in rows for mention in row[1:]}
        index = {mention: i for i, mention in enumerate(mentions)}
        relations = [Edge(index[effect], index[drug], RELATION) for _, effect, drug in rows]
        entities = [
            maker.widened_entity(doc, m.start_char, m.end_char, m.label, place) for m in mentions
        ]
        return maker.annotate(doc, entities, relations, place)

    yield from maker.each(sentences, to_doc)


def _parse_row(line: str, place: Place) -> tuple[_Row, Place]:
    # Split from the right, because only the sentence may contain the separator.
    fields = line.rsplit("|", 6)
    pubmed_id, bar, sentence = fields[0].partition("|")
    if len(fields) != 7 or not bar:
        raise place.error(
            Errors.E610,
            found=f"{line.count('|') + 1} fields",
            expected=f"{len(COLUMNS)} fields: {'|'.join(COLUMNS)}",
        )
    place = Place(place.file, place.name, pubmed_id or None)
    _, effect, effect_begin, effect_end, drug, drug_begin, drug_end = fields
    for name, text in zip(
        ("pubmed_id", "sentence", "adverse effect", "drug"),
        (pubmed_id, sentence, effect, drug),
        strict=True,
    ):
        if not text.strip():
            raise place.at(name).error(Errors.E610, found=f"{name} {text!r}", expected="some text")
    begins = []
    for name, begin, end in (
        ("adverse effect", effect_begin, effect_end),
        ("drug", drug_begin, drug_end),
    ):
        numbers = parse_count(begin.strip()), parse_count(end.strip())
        if numbers[0] is None or numbers[1] is None or numbers[0] >= numbers[1]:
            raise place.at(name).error(
                Errors.E606,
                found=f"begin {short(begin)}, end {short(end)}",
                expected="two numbers, 0 <= begin < end",
            )
        begins.append(numbers[0])
    return _Row(pubmed_id, sentence, effect, begins[0], drug, begins[1]), place


def _locate(row: _Row, place: Place, report: ConversionReport) -> tuple[_Mention, _Mention]:
    """Return the occurrences of effect and drug in the sentence that the row means."""
    occurrences: list[list[int]] = []
    for name, text in (("adverse effect", row.effect), ("drug", row.drug)):
        # A lookahead also finds occurrences that overlap.
        starts = [m.start() for m in re.finditer(f"(?={re.escape(text)})", row.sentence)]
        if not starts:
            raise place.at(name).error(
                Errors.E611,
                found=f"{name} {short(text)}",
                expected=f"a part of the sentence {short(row.sentence)}",
            )
        occurrences.append(starts)
    distance = row.effect_begin - row.drug_begin
    effects, drugs = occurrences
    effect, drug = _pair_at_distance(effects, drugs, distance)
    if effect - drug != distance:
        # The sentence differs from the abstract, in its blanks for instance.
        report.notes["rows whose offsets do not fit their sentence"] += 1
        if len(effects) > 1 or len(drugs) > 1:
            report.notes["rows with repeated texts, placed by the nearest distance"] += 1
    return (
        _Mention(effect, effect + len(row.effect), EFFECT),
        _Mention(drug, drug + len(row.drug), DRUG),
    )


def _pair_at_distance(
    effects: Sequence[int], drugs: Sequence[int], distance: int
) -> tuple[int, int]:
    """Return the effect and the drug whose distance is nearest to the given one.

    For each effect, only the two drugs around the wanted place can be nearest, and binary search
    finds them: n log n instead of all n * n pairs, for texts that repeat themselves.

    effects, drugs (Sequence[int]): Where each begins, in ascending order; not empty.
    distance (int): The wanted effect - drug.
    RETURNS (tuple[int, int]): The pair; of equally good ones the first effect, then the first drug.
    """
    pairs: list[tuple[int, int]] = []
    for effect in effects:
        i = bisect_left(drugs, effect - distance)
        pairs.extend((effect, drug) for drug in drugs[max(i - 1, 0) : i + 1])
    return min(pairs, key=lambda pair: abs(pair[0] - pair[1] - distance))


# Back to rows


def docs_to_ade(docs: Iterable[Doc], report: ExportReport) -> Iterator[str]:
    """Make the rows of ADE's ``DRUG-AE.rel``, which `ade_to_docs` reads.

    A row is one relation Adverse-Effect with a head of the type Adverse-Effect and a tail of the type
    Drug; the format holds nothing else. Offsets count from the start of the sentence, because the
    abstract is not known. If an id ends in the number of a sentence, the number is not written:
    readers count the sentences again.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (str): The rows, without their ends.
    """
    numbers: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for number, doc in enumerate(docs):
        entities, edges = read_annotations(doc, report)
        chosen = [edge for edge in edges if _is_effect(edge, entities)]
        others = f"relations other than {RELATION} of {EFFECT} to {DRUG}, left out"
        report.note(others, len(edges) - len(chosen))
        sentence = line_text(doc, report) if chosen else ""
        rows: dict[Edge, str] = {}
        for edge in chosen:
            spans = [Span(doc, *astuple(entities[i])) for i in (edge.head, edge.tail)]
            mentions = [_Mention(s.start_char, s.end_char, s.label_) for s in spans]
            row = _to_row(sentence, mentions, report)
            if row is not None:
                rows[edge] = row
        arguments = {i for edge in rows for i in (edge.head, edge.tail)}
        report.note("entities in no row, left out", len(entities) - len(arguments))
        if not rows:
            report.notes["Docs without rows, left out"] += 1
            continue
        orig_id = doc_id(doc, number, report)
        pubmed_id = one_word(_without_number(orig_id), report, banned="|")
        if (pubmed_id, sentence) in seen:
            report.notes["Docs with the id and text of an earlier Doc, read as one"] += 1
        else:
            seen.add((pubmed_id, sentence))
            read_as = f"{pubmed_id}:{numbers[pubmed_id]}"
            numbers[pubmed_id] += 1
            report.note("ids whose number changes", read_as != str(orig_id))
        report.count(len(arguments), len(rows))
        yield from (f"{pubmed_id}|{row}" for row in rows.values())


def _is_effect(edge: Edge, entities: Sequence[Entity]) -> bool:
    labels = (entities[edge.head].label, edge.label, entities[edge.tail].label)
    return labels == (EFFECT, RELATION, DRUG)


def _without_number(orig_id: RecordId) -> str:
    pubmed_id, colon, number = str(orig_id).rpartition(":")
    return pubmed_id if pubmed_id and number.isascii() and number.isdigit() else str(orig_id)


def _to_row(sentence: str, mentions: Sequence[_Mention], report: ExportReport) -> str | None:
    """Return a row without the id; None if it would not be read back as it is."""
    texts = [sentence[mention.start_char : mention.end_char] for mention in mentions]
    fields = [sentence]
    for mention, text in zip(mentions, texts, strict=True):
        fields.extend((text, str(mention.start_char), str(mention.end_char)))
    line = "|".join(fields)
    try:
        row, place = _parse_row(f"0|{line}", Place("", "row"))
        mentions_read = _locate(row, place, ConversionReport())
        is_same = [row.sentence, row.effect, row.drug] == [sentence, *texts]
    except ConversionError:
        is_same = False
    if not is_same:
        report.notes["relations with blank arguments, or with | in an argument, left out"] += 1
        return None
    moved = "relations read at the first of several places with the same texts"
    report.note(moved, mentions_read != (*mentions,))
    return line
