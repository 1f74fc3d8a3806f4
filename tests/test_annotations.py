from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from spacy_spanrel import (
    Relation,
    get_answers,
    get_entities,
    get_pair_scores,
    get_questions,
    get_relations,
    register_extensions,
    set_entities,
    set_relations,
)
from spacy_spanrel.annotations import get_entity_scores
from spacy_spanrel.annotations.extensions import register_defaults
from spacy_spanrel.annotations.relations import relation_extensions
from spacy_spanrel.converters import ExportReport, docs_to_spert, docs_to_squad, get_orig_id
from spacy_spanrel.converters.writing import read_annotations
from spacy_spanrel.evaluation import relation_outcomes
from spacy_spanrel.streams.records import ResultKeys, results
from spacy_spanrel.visualize import render
from tests.util import ROUND_TRIPS, make_doc, through_bytes, through_docbin

NLP = spacy.blank("en")
TEXT = "John Smith works for Acme in Paris"
N = len(TEXT.split())


def make(doc: Doc, *rows: tuple) -> list[Relation]:
    """Relations from rows (head, tail, label, score); an argument is (start, end, type)."""
    return [
        Relation(Span(doc, h[0], h[1], label=h[2]), Span(doc, t[0], t[1], label=t[2]), label, score)
        for h, t, label, score in rows
    ]


def rows_of(relations: tuple[Relation, ...]) -> list[tuple]:
    return [
        (
            (r.head.start, r.head.end, r.head.label_),
            (r.tail.start, r.tail.end, r.tail.label_),
            r.label,
            r.score,
        )
        for r in relations
    ]


ROWS = [
    ((0, 2, "Per"), (4, 5, "Org"), "work_for", 0.75),
    ((0, 2, "Per"), (6, 7, "Loc"), "live_in", None),
    ((4, 5, "Org"), (0, 2, "Per"), "employs", 0.0),
    ((4, 5, "Org"), (4, 5, "Org"), "self", 1.0),
]


@pytest.fixture
def doc() -> Doc:
    return make_doc(NLP.vocab, TEXT)


# Set and get


def test_set_and_get(doc):
    set_relations(doc, make(doc, *ROWS))
    found = get_relations(doc)
    assert rows_of(found) == ROWS
    assert found == tuple(make(doc, *ROWS))
    assert doc._.relations == found
    assert all(r.head.doc is doc and type(r.label) is str for r in found)


def test_the_extension_sets(doc):
    doc._.relations = make(doc, *ROWS)
    assert rows_of(doc._.relations) == ROWS
    doc._.relations = make(doc, ROWS[0])
    assert rows_of(doc._.relations) == ROWS[:1]


def test_a_generator_and_another_key(doc):
    set_relations(doc, (relation for relation in make(doc, *ROWS)), key="links")
    assert get_relations(doc) == ()
    assert rows_of(get_relations(doc, "links")) == ROWS


@st.composite
def relation_rows(draw: st.DrawFn) -> list[tuple]:
    argument = st.tuples(
        st.integers(0, N - 1), st.integers(1, N), st.sampled_from(["", "Per", "Ört 1"])
    ).filter(lambda a: a[0] < a[1])
    score = st.none() | st.floats(0, 1)
    label = st.sampled_from(["work_for", "", "lebt in ü"])
    return draw(st.lists(st.tuples(argument, argument, label, score), max_size=6))


@pytest.mark.parametrize("trip", ROUND_TRIPS)
@settings(max_examples=20)
@given(rows=relation_rows())
def test_round_trips(trip: Callable[[Doc], Doc], rows):
    # Span groups are kept where extension data is dropped.
    doc = make_doc(NLP.vocab, TEXT)
    set_relations(doc, make(doc, *rows))
    found = trip(doc)
    assert found is not doc
    assert rows_of(found._.relations) == rows
    assert type(found._.relations) is tuple
    assert all(r.score is None or type(r.score) is float for r in found._.relations)


@pytest.mark.parametrize("trip", ROUND_TRIPS)
def test_round_trips_give_no_none(trip):
    assert trip(make_doc(NLP.vocab, TEXT))._.relations == ()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0]])
def test_merged_docs_keep_all_relations(order):
    # The offsets of the later Docs are shifted; spaCy drops the scores.
    docs = [make_doc(NLP.vocab, text) for text in (TEXT, "Mary lives in London", "x y")]
    set_relations(docs[0], make(docs[0], *ROWS))
    set_relations(docs[1], make(docs[1], ((0, 1, "Per"), (3, 4, "Loc"), "live_in", 0.5)))
    docs = [docs[i] for i in order]
    found = Doc.from_docs(docs)._.relations
    assert [r.to_triple() for r in found] == [r.to_triple() for d in docs for r in d._.relations]
    assert [(r.head.label_, r.tail.label_) for r in found] == [
        (r.head.label_, r.tail.label_) for d in docs for r in d._.relations
    ]


def test_no_relations_is_an_empty_tuple(doc):
    assert get_relations(doc) == ()
    assert doc._.relations == ()
    assert doc[0:2]._.relations == ()
    set_relations(doc, [])
    assert doc._.relations == ()
    assert "relations" in doc.spans
    empty = Doc(NLP.vocab)
    assert empty._.relations == ()
    set_relations(empty, [])
    assert empty._.relations == ()


def test_scores_become_plain_floats(doc):
    scores = [np.float32(0.5), np.float64(0.25), 1, True, 0]
    set_relations(doc, make(doc, *[(*ROWS[0][:3], score) for score in scores]))
    found = [r.score for r in get_relations(doc)]
    assert [type(score) for score in found] == [float] * 5
    assert found == [0.5, 0.25, 1.0, 1.0, 0.0]
    assert json.dumps(dict(doc.spans["relations"].attrs))


def test_two_types_on_one_span(doc):
    rows = [
        ((4, 5, "Org"), (0, 2, "Per"), "employs", 0.5),
        ((4, 5, "Loc"), (0, 2, "Per"), "houses", 0.5),
    ]
    set_relations(doc, make(doc, *rows))
    assert rows_of(through_docbin(doc)._.relations) == rows


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf"), -float("inf")])
def test_scores_out_of_range_are_refused(doc, score):
    set_relations(doc, make(doc, ROWS[0]))
    before = doc.to_bytes()
    with pytest.raises(ValueError, match="E_SR104"):
        set_relations(doc, make(doc, *ROWS, (*ROWS[0][:3], score)))
    assert doc.to_bytes() == before


@pytest.mark.parametrize("which", ["head", "tail"])
def test_spans_of_another_doc_are_refused(doc, which):
    other = make_doc(NLP.vocab, TEXT)
    spans = {"head": doc[0:2], "tail": doc[4:5], which: other[4:5]}
    with pytest.raises(ValueError, match="E_SR103.*'work_for'"):
        doc._.relations = [*make(doc, *ROWS), Relation(**spans, label="work_for")]
    assert "relations" not in doc.spans


def test_a_group_changed_by_hand_is_refused(doc):
    set_relations(doc, make(doc, *ROWS))
    doc.spans["relations"].append(Span(doc, 0, 1, label="x"))
    with pytest.raises(ValueError, match="E_SR102") as info:
        get_relations(doc)
    for part in ("'relations'", "9 spans", "4 scores"):
        assert part in str(info.value)
    doc.spans["relations"] = [doc[0:1]]  # odd, without scores
    with pytest.raises(ValueError, match="E_SR102"):
        _ = doc._.relations


def test_a_group_without_scores_is_gold(doc):
    spans = [Span(doc, 0, 2, label="r", span_id="Per"), Span(doc, 4, 5, label="r")]
    doc.spans["relations"] = SpanGroup(doc, name="relations", spans=spans)
    assert rows_of(doc._.relations) == [((0, 2, "Per"), (4, 5, ""), "r", None)]


# Views


def test_to_dict(doc):
    set_relations(doc, make(doc, *ROWS))
    found = json.loads(json.dumps([r.to_dict() for r in doc._.relations]))
    assert found[0] == {
        "label": "work_for",
        "score": 0.75,
        "head": {
            "text": "John Smith",
            "type": "Per",
            "start": 0,
            "end": 2,
            "start_char": 0,
            "end_char": 10,
        },
        "tail": {
            "text": "Acme",
            "type": "Org",
            "start": 4,
            "end": 5,
            "start_char": 21,
            "end_char": 25,
        },
    }
    assert found[1]["score"] is None
    for argument in (row[side] for row in found for side in ("head", "tail")):
        assert doc.text[argument["start_char"] : argument["end_char"]] == argument["text"]


def test_to_triple(doc):
    set_relations(doc, make(doc, *ROWS[:2]))
    assert [r.to_triple() for r in doc._.relations] == [
        ("John Smith", "work_for", "Acme"),
        ("John Smith", "live_in", "Paris"),
    ]


def test_relations_of_a_span(doc):
    set_relations(doc, make(doc, *ROWS))
    labels = {
        (a, b): [r.label for r in doc[a:b]._.relations] for a, b in [(0, 2), (6, 7), (4, 5), (0, 1)]
    }
    assert labels == {
        (0, 2): ["work_for", "live_in", "employs"],
        (6, 7): ["live_in"],
        (4, 5): ["work_for", "employs", "self"],
        (0, 1): [],
    }
    # by its boundaries, whatever its label
    assert len(Span(doc, 0, 2, label="Other")._.relations) == 3


# Entities


def test_entities(doc):
    doc.set_ents([Span(doc, 6, 7, label="Loc")])
    assert [s.label_ for s in get_entities(doc)] == ["Loc"]
    spans = [Span(doc, 0, 2, label="Per"), Span(doc, 0, 1, label="First")]
    set_entities(doc, spans, np.array([0.5, 0.25], dtype=np.float32))
    for found in (doc, through_bytes(doc), through_docbin(doc)):
        assert [(s.start, s.end, s.label_) for s in get_entities(found)] == [
            (0, 2, "Per"),
            (0, 1, "First"),
        ]
        scores = found.spans["entities"].attrs["scores"]
        assert list(scores) == [0.5, 0.25]
        assert all(type(score) is float for score in scores)  # not numpy's
        assert [s.label_ for s in get_entities(found, None)] == ["Loc"]
    set_entities(doc, [], [])
    assert get_entities(doc) == []  # nothing predicted is not "no prediction"


def test_replaced_entities_keep_the_id_of_the_record():
    gold = make_doc(NLP.vocab, TEXT)
    gold.spans["entities"] = SpanGroup(gold, attrs={"orig_id": 7})
    set_entities(gold, [Span(gold, 1, 2, label="Loc")], [0.5])
    assert get_orig_id(through_docbin(gold)) == 7
    assert list(gold.spans["entities"].attrs["scores"]) == [0.5]


# Span groups of other components


def _nested(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=2)


FOREIGN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats()
    | st.text(max_size=5)
    | st.integers(0, 4).map(lambda n: np.linspace(-0.5, 1.5, n, dtype=np.float32))
    | st.integers(0, 4).map(lambda n: np.full((n, 2), 0.5)),
    _nested,
    max_leaves=6,
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_of_spancat_are_read(doc, dtype):
    spans = [Span(doc, 0, 2, label="Per"), Span(doc, 4, 5, label="Org")]
    scores = np.array([0.5, 0.25], dtype=dtype)
    doc.spans["entities"] = SpanGroup(doc, spans=spans, attrs={"scores": scores})
    for found in (doc, through_bytes(doc), through_docbin(doc)):
        assert get_entity_scores(found) == [0.5, 0.25]
        assert get_entity_scores(found, None) == []


@pytest.mark.filterwarnings("ignore:.*W_SR130")  # nothing to draw
@settings(max_examples=150)
@given(
    attrs=st.dictionaries(
        st.sampled_from(["scores", "orig_id", "questions", "answers", "labels", "title"]), FOREIGN
    ),
    n=st.integers(0, 4),
)
def test_attributes_of_foreign_groups(attrs, n):
    # Attributes of groups with our names are read, ignored, or refused with a numbered error.
    doc = make_doc(NLP.vocab, TEXT)
    spans = [Span(doc, i, i + 1, label="Per") for i in range(n)]
    for key in ("entities", "relations", "relations_scores", "qa"):
        doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)
    assert len(get_entity_scores(doc)) == n
    assert isinstance(get_orig_id(doc), (str, int, type(None)))
    for read in (get_relations, get_pair_scores, get_questions, get_answers, docs_to_squad_file):
        error = ""
        try:
            read(doc)
        except ValueError as refusal:
            error = str(refusal)
        assert not error or "[E_SR" in error, read
    for key in ("relations", "relations_scores"):
        del doc.spans[key]
    render(doc)
    list(docs_to_spert([doc], ExportReport()))
    list(relation_outcomes([Example(doc, make_doc(NLP.vocab, TEXT))]))


def docs_to_squad_file(doc: Doc) -> object:
    return docs_to_squad([doc])


# Extensions


@pytest.mark.usefixtures("fresh_extensions")
def test_registering_twice_changes_nothing(doc):
    register_extensions()
    doc._.relations = make(doc, *ROWS)
    register_extensions()
    assert rows_of(doc._.relations) == ROWS


@pytest.mark.usefixtures("fresh_extensions")
@pytest.mark.parametrize("kind", [Doc, Span])
@pytest.mark.parametrize(
    "foreign",
    [{"default": None}, {"getter": len}, {"method": lambda doc: "theirs"}],
    ids=["default", "getter", "method"],
)
def test_extensions_of_others_are_not_overwritten(doc, kind, foreign):
    # Other packages may use the same names.
    for mine in (Doc, Span):
        mine.remove_extension("relations")
    kind.set_extension("relations", **foreign)
    theirs = kind.get_extension("relations")
    with pytest.raises(ValueError, match="E_SR101") as info:
        register_extensions()
    message = str(info.value)
    assert f"'{kind.__name__.lower()}._.relations'" in message
    assert "extension_prefix" in message
    assert "register_extensions(prefix=...)" in message
    assert kind.get_extension("relations") == theirs
    other = Span if kind is Doc else Doc
    assert not other.has_extension("relations")  # all or nothing
    register_extensions(prefix="spanrel_")
    doc._.spanrel_relations = make(doc, *ROWS)
    assert rows_of(doc._.spanrel_relations) == ROWS
    assert len(doc[0:2]._.spanrel_relations) == 3


@pytest.mark.usefixtures("fresh_extensions")
def test_a_prefix_with_a_group_of_its_own(doc):
    register_extensions(prefix="gold_", relations_key="gold")
    doc._.gold_relations = make(doc, ROWS[0])
    assert doc._.relations == ()
    assert rows_of(doc._.gold_relations) == ROWS[:1]
    assert rows_of(get_relations(doc, "gold")) == ROWS[:1]
    assert [r.label for r in doc[0:2]._.gold_relations] == ["work_for"]


@pytest.mark.usefixtures("fresh_extensions")
def test_the_first_to_register_chooses_the_group(doc):
    # The import registers all three names; the first component may take them over.
    for extension in relation_extensions():
        extension.owner.remove_extension(extension.name)
    register_defaults(relation_extensions())
    assert doc._.relations == ()
    register_extensions(relations_key="other")
    doc._.relations = make(doc, ROWS[0])
    assert rows_of(get_relations(doc, "other")) == rows_of(doc._.relations) == ROWS[:1]
    assert [r.label for r in doc[0:2]._.relations] == ["work_for"]
    register_extensions(relations_key="other")
    register_defaults(relation_extensions())  # a second import does not take it back
    assert rows_of(doc._.relations) == ROWS[:1]
    for key in ("third", "relations"):
        with pytest.raises(ValueError, match=r"E_SR101.*'doc\._\.relations'.*span group 'other'"):
            register_extensions(relations_key=key)
    assert rows_of(doc._.relations) == ROWS[:1]


@pytest.mark.usefixtures("fresh_extensions")
def test_the_default_group_is_kept_once_registered():
    register_extensions()
    with pytest.raises(ValueError, match="E_SR101.*span group 'relations'"):
        register_extensions(relations_key="other")


def test_extensions_survive_pickling(doc):
    set_relations(doc, make(doc, *ROWS))
    for kind, thing in ((Doc, doc), (Span, doc[0:2])):
        getter = pickle.loads(pickle.dumps(kind.get_extension("relations")[2]))
        assert getter(thing) == thing._.relations


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (None, [None, None]),
        ([0.25, None], [0.25, None]),
        (np.array([0.25, 0.5], dtype=np.float32), [0.25, 0.5]),  # as spaCy's spancat writes them
        (np.zeros((2, 3)), [None, None]),
        (np.zeros(0), [None, None]),
        (np.float32(0.5), [None, None]),
        ([0.25], [None, None]),
        ([float("nan"), "0.5"], [None, None]),
        ({"PER": 0.5, "ORG": 0.25}, [None, None]),
        ("ab", [None, None]),
        (7, [None, None]),
    ],
)
def test_scores_of_other_components(scores: object, expected: list[float | None]) -> None:
    """A span group of another component may hold the entities, whatever its attributes are."""
    doc = make_doc(NLP.vocab, TEXT, [(0, 2, "Per"), (4, 5, "Org")], [(0, 1, "works")])
    doc.spans["entities"] = SpanGroup(
        doc, spans=list(doc.ents), attrs={"scores": scores, "orig_id": [scores]}
    )
    assert get_entity_scores(doc) == expected
    assert get_entity_scores(doc, None) == [None, None]
    assert get_orig_id(doc) is None
    markup = render(doc, jupyter=False, options={"scores": True})
    assert ("Per 0.25" in markup) == (expected[0] is not None)
    report = ExportReport()
    read_annotations(doc, report)
    left_out = report.notes.get("scores of entities, left out", 0)
    assert left_out == sum(score is not None for score in expected)
    outcomes = [o for o in relation_outcomes([Example(doc, doc)]) if o.kind == "entity"]
    assert [outcome.score for outcome in outcomes] == expected
    keys = ResultKeys(entities=("entities",), relations=("relations",), answers=())
    record = results(doc, keys)
    assert [entity["score"] for entity in record["entities"]] == expected


def test_scores_of_relations_may_be_an_array() -> None:
    doc = make_doc(NLP.vocab, TEXT, [(0, 2, "Per"), (4, 5, "Org")], [(0, 1, "works")])
    doc.spans["relations"].attrs["scores"] = np.array([0.25], dtype=np.float32)
    assert [relation.score for relation in get_relations(doc)] == [0.25]
