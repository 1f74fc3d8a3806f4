"""Random gold Docs for the formats of annotation tools: a text and the offsets of spans in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import spacy
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup

from spacy_spanrel.annotations import Relation, get_entities, get_relations, set_relations
from spacy_spanrel.annotations.relations import ORIG_ID_ATTR
from spacy_spanrel.converters import ExportReport, get_orig_id

NLP = spacy.blank("en")
# One and two UTF-16 units, combining marks, line ends, blanks of several kinds, quotes and tabs.
PIECES = st.sampled_from(
    [
        *"abZ.,'\"\\\t\n\r|{",
        " ",
        "  ",
        "\r\n",
        "e\u0301",
        "漢",
        "😀",
        "𝒜",
        "👩\u200d🚒",
        "\u00a0",
        "\u2028",
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)
WORDS = st.lists(
    st.tuples(st.lists(PIECES, min_size=1, max_size=3).map("".join), st.booleans()), max_size=10
)
LABELS = ["A", "B", "É:1", "x-y"]
IDS = st.none() | st.integers(0, 9) | st.sampled_from(["a-1", "doc 7", "漢"])


def given_tokens(words: Iterable[tuple[str, bool]]) -> Doc:
    """Make a Doc of (token, whether a space follows)."""
    pairs = list(words)
    return Doc(NLP.vocab, words=[word for word, _ in pairs], spaces=[space for _, space in pairs])


@st.composite
def gold_docs(
    draw: st.DrawFn, plain: st.SearchStrategy[Doc], labels: Iterable[str] = LABELS
) -> Doc:
    """Annotate Docs: entities may overlap, be nested, and share their bounds."""
    doc = draw(plain)
    names = st.sampled_from([*labels])
    n = len(doc)
    spans: list[Span] = []
    if n:
        bounds = draw(
            st.lists(
                st.tuples(st.integers(0, n - 1), st.integers(1, 4), names), max_size=6, unique=True
            )
        )
        keys = dict.fromkeys((start, min(start + size, n), label) for start, size, label in bounds)
        spans = [Span(doc, start, end, label=label) for start, end, label in keys]
    annotate(doc, spans, draw(IDS))
    if spans:
        index = st.integers(0, len(spans) - 1)
        edges = draw(st.lists(st.tuples(index, index, names), max_size=6, unique=True))
        set_relations(doc, [Relation(spans[a], spans[b], label) for a, b, label in edges])
    return doc


def annotate(doc: Doc, spans: list[Span], orig_id: str | int | None = None) -> None:
    """Write entities and an id."""
    attrs = {} if orig_id is None else {ORIG_ID_ATTR: orig_id}
    doc.spans["entities"] = SpanGroup(doc, name="entities", spans=spans, attrs=attrs)


def bounds(span: Span) -> tuple[int, int, str]:
    """Return the offsets of a span in the text, and its label."""
    return span.start_char, span.end_char, span.label_


def view(doc: Doc) -> dict[str, Any]:
    """Return the content of a Doc that every format has to keep."""
    return {
        "id": get_orig_id(doc),
        "text": doc.text,
        "entities": [bounds(entity) for entity in get_entities(doc)],
        "relations": [
            (bounds(r.head), r.label, bounds(r.tail), r.score) for r in get_relations(doc)
        ],
    }


def to_lines(records: Iterable[Any]) -> str:
    """Make JSON lines."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """Write JSON lines and return the path."""
    path.write_text(to_lines(records), encoding="utf-8", newline="")
    return path


def predicted_doc() -> Doc:
    """Make a Doc as components do: scores, no id, unknown spaces, an argument without a type."""
    doc = Doc(NLP.vocab, words=["Ann", "Lee", "lives", "in", "Oslo"])
    ann, oslo = Span(doc, 0, 2, label="PERSON"), Span(doc, 4, 5, label="CITY")
    doc.spans["entities"] = SpanGroup(
        doc, name="entities", spans=[ann, oslo], attrs={"scores": [0.9, 0.8]}
    )
    untyped, place = Span(doc, 0, 2), Span(doc, 3, 5, label="PLACE")
    set_relations(
        doc,
        [
            Relation(untyped, oslo, "lives_in", 0.7),
            Relation(ann, place, "is_in", 0.6),
            Relation(ann, oslo, ""),
        ],
    )
    return doc


PREDICTED_VIEW = {
    "text": "Ann Lee lives in Oslo",
    "entities": [(0, 7, "PERSON"), (17, 21, "CITY"), (14, 21, "PLACE")],
    "relations": [
        ((0, 7, "PERSON"), "lives_in", (17, 21, "CITY"), None),
        ((0, 7, "PERSON"), "is_in", (14, 21, "PLACE"), None),
    ],
}


def check_predicted_report(report: ExportReport) -> None:
    """Check that everything that `predicted_doc` loses is counted."""
    assert (report.docs, report.entities, report.relations) == (1, 3, 2)
    assert report.notes["scores of entities, left out"] == 2
    assert report.notes["scores of relations, left out"] >= 2
    assert report.notes["pretokenized Docs, whose tokens are joined by blanks"] == 1
    assert report.notes["arguments of relations that are no entities, written as entities"] == 1
    assert report.notes["relations without a label or with an empty argument, left out"] == 1
