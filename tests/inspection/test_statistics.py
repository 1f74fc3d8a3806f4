from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel import (
    Question,
    Relation,
    set_answers,
    set_clusters,
    set_entities,
    set_relations,
)
from spacy_spanrel.annotations import Answer, make_answer
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows
from spacy_spanrel.extractive_qa.targets import find_gold, make_targets
from spacy_spanrel.inspection.settings import Readings, make_readings
from spacy_spanrel.inspection.statistics import (
    Distribution,
    collect,
    text_hash,
)
from spacy_spanrel.relation_classifier.model import PairInput, marked_rows
from spacy_spanrel.relation_classifier.pairs import TypedPair
from spacy_spanrel.training.corpus import UNLABELLED

from ..extractive_qa.util import make_nlp as make_qa_nlp
from ..extractive_qa.util import qa_checkpoint
from ..relation_classifier.conftest import make_nlp as make_pair_nlp
from ..span_relation.util import make_examples, make_nlp
from ..util import WORDS, initialize, make_doc


@pytest.fixture(scope="module")
def defaults() -> Readings:
    """All components with default settings, without encoders."""
    return make_readings()


def readings_of(nlp: Language) -> Readings:
    return make_readings(nlp.config)


def answered(doc: Doc, rows: Sequence[tuple[str, int, int]]) -> Doc:
    """Set answers on a Doc, given as question and character offsets."""
    set_answers(
        doc, [make_answer(doc, Question(f"q{i}", q), a, b) for i, (q, a, b) in enumerate(rows)]
    )
    return doc


def test_all_annotation_of_one_doc(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    text = "John Smith works for Google in Paris . He lives there ."
    doc = make_doc(
        vocab,
        text,
        [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc"), (8, 9, "Per")],
        [(0, 1, "works"), (1, 2, "based"), (3, 2, "lives")],
        key="entities",
    )
    for token in doc:
        token.is_sent_start = token.i in (0, 8)
    answered(doc, [("who?", 0, 10), ("where?", 31, 36), ("when?", 0, 0), ("how?", 1, 3)])
    set_clusters(doc, [[doc[0:2], doc[8:9]], [doc[6:7], doc[10:11]], [doc[4:5]]])
    found = collect([doc], defaults)
    assert (found.docs, found.sentences.n, found.bare_docs) == (1, 1, 0)
    assert found.clusters.counts == {2: 2, 1: 1}
    assert found.tokens.counts == {12: 1}
    assert found.entities == {"Per": 2, "Org": 1, "Loc": 1}
    assert found.entity_sizes.counts == {1: 3, 2: 1}
    assert found.relations == {"works": 1, "based": 1, "lives": 1}
    assert found.type_pairs == {
        ("works", "Per", "Org"): 1,
        ("based", "Org", "Loc"): 1,
        ("lives", "Per", "Loc"): 1,
    }
    assert found.token_distances.counts == {2: 1, 1: 2}
    assert found.sentence_distances.counts == {0: 2, 1: 1}
    assert found.pairs == {"works": 1, "based": 1, "lives": 1}
    assert not +found.both_ways
    assert found.questions.counts == {4: 1}
    assert (found.answerable, found.unanswerable, found.unsettled) == (3, 1, 0)
    assert found.answer_sizes.counts == {2: 1, 1: 2}
    assert (found.misaligned_answers.n, found.misaligned_answers.first) == (1, ["'oh' (how?)"])
    spans = found.components["span_relation"]
    assert spans.pairs.counts == {12: 1}
    # Without an encoder, subword pieces are not counted.
    assert spans.pieces.n == 0


def test_odd_entities(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    doc = Doc(vocab, words=["a", "b", "\n", "c", "d", "e"])
    rows = [
        (0, 2, "A"),
        (0, 2, "A"),
        (0, 2, "B"),
        (1, 3, "A"),
        (3, 5, ""),
        (4, 5, "A"),
        (5, 6, "A"),
    ]
    spans = [Span(doc, start, end, label=label) for start, end, label in rows]
    set_entities(doc, spans, [1.0] * len(spans))
    for token in doc:
        token.is_sent_start = token.i in (0, 4)
    found = collect([doc], defaults)
    assert found.entities == {"A": 4, "B": 1, "": 1}
    assert found.duplicate_entities.n == 1
    assert found.several_types.first == ["'a b' (A, B)"]
    assert found.untyped_entities.first == ["'c d'"]
    assert found.blank_borders.n == 1
    assert found.across_sentences.n == 1
    # (0, 2) overlaps (1, 3); (3, 5) contains (4, 5).
    assert (found.overlapping_entities, found.nested_entities) == (4, 1)


def test_odd_relations(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    doc = make_doc(vocab, "a b c d", [(0, 1, "A"), (1, 2, "B"), (2, 3, "C")], key="entities")
    a, b, c = doc.spans["entities"]
    other = Span(doc, 3, 4)
    rows = [
        (a, b, "x"),
        (a, b, "x"),
        (a, b, "y"),
        (a, b, "z"),
        (b, a, "x"),
        (c, c, "x"),
        (a, other, "x"),
    ]
    set_relations(doc, [Relation(head, tail, label) for head, tail, label in rows])
    found = collect([doc], defaults)
    assert found.relations == {"x": 4, "y": 1, "z": 1}
    assert found.duplicate_relations.first == ["x('a', 'b')"]
    assert found.several_labels.n == 1
    assert found.self_relations.first == ["x('c', 'c')"]
    assert found.foreign_arguments.n == 1
    assert found.untyped_arguments.n == 1
    # a and b in both directions, a and d in one.
    assert (found.pairs["x"], found.both_ways["x"]) == (2, 1)
    assert (found.pairs["y"], found.both_ways["y"]) == (1, 0)


def test_docs_without_annotation(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    nothing_there = Doc(vocab, words=["b"])
    set_relations(nothing_there, [])
    found = collect([Doc(vocab, words=["a"]), nothing_there, Doc(vocab)], defaults)
    assert (found.docs, found.empty_docs, found.bare_docs) == (3, 1, 1)
    assert found.docs_without_entities == found.docs_without_relations == 3


def test_unlabelled_docs_are_counted_apart(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    unlabelled = make_doc(vocab, "a b", [(0, 1, "A")])
    unlabelled.user_data[UNLABELLED] = True
    annotated = make_doc(vocab, "a b", [(0, 1, "A")])
    found = collect([unlabelled, annotated, unlabelled], defaults)
    assert (found.unlabelled_docs, found.docs, found.docs_without_relations) == (2, 1, 1)
    assert found.to_dict() == {**collect([annotated], defaults).to_dict(), "unlabelled_docs": 2}


def test_broken_annotation_is_named(defaults: Readings) -> None:
    vocab = defaults.nlp.vocab
    odd = Doc(vocab, words=["a", "b"])
    odd.spans["relations"] = [odd[0:1]]
    beyond = answered(Doc(vocab, words=["a", "b"]), [("q", 0, 1)])
    beyond.spans["qa"].attrs["answers"] = [[[0, 99, None, None, None]]]
    fine = make_doc(vocab, "a b", [(0, 1, "A")])
    found = collect([odd, fine, beyond], defaults)
    assert found.broken.n == 2
    assert found.broken.first[0].startswith("Doc 0 ('a b ')")
    assert "Doc 2" in found.broken.first[1]
    assert found.entities == {"A": 1}


def test_questions_without_gold_and_repeated_ones(defaults: Readings) -> None:
    doc = Doc(defaults.nlp.vocab, words=["a", "b"])
    doc._.questions = ["Who?", "who? ", "what?"]
    found = collect([doc], defaults)
    assert (found.unsettled, found.n_questions) == (3, 3)
    assert found.repeated_questions.n == 1


def test_texts_are_compared_without_case_and_spacing() -> None:
    assert text_hash("A  b\nC") == text_hash("a b c ")
    assert text_hash("a b") != text_hash("ab")


def test_the_pipelines_tokens_count(bert_checkpoint: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint, max_span_size=2)
    readings = readings_of(nlp)
    doc = Doc(readings.nlp.vocab, words=["John", "Smith-Lee", "works"], spaces=[True, True, False])
    ents = [Span(doc, 0, 2, label="Per"), Span(doc, 1, 2, label="Name")]
    set_entities(doc, ents, [1.0, 1.0])
    inner = Doc(readings.nlp.vocab, words=["do", "ing"], spaces=[False, False])
    set_entities(inner, [Span(inner, 0, 1, label="X")], [1.0])
    found = collect([doc, inner], readings)
    # "Smith-Lee" is three tokens of English, "doing" one.
    assert found.retokenized == 2
    assert found.misaligned.first == ["'do' (X)"]
    spans = found.components["span_relation"]
    assert spans.too_long.n == 2
    assert "4 tokens" in spans.too_long.first[0]


# Numbers of subword pieces equal those of the components

TEXTS = [" ".join(WORDS[i % len(WORDS)] for i in range(n)) for n in (1, 20, 61, 62, 63, 150, 400)]


@pytest.mark.parametrize("max_length", ["auto", 40])
def test_windows_of_span_relation(checkpoint: Path, max_length: Any) -> None:
    nlp, pipe = make_nlp(
        checkpoint,
        model={
            "dropout": 0.0,
            "encoder": {"name": str(checkpoint), "max_length": max_length, "window_overlap": 10},
        },
    )
    readings = readings_of(nlp)
    initialize(nlp, make_examples(nlp))
    rows: list[int] = []
    module = next(s.module for s in torch_shims(pipe.model) if isinstance(s.module, HFModule))
    module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    for text in TEXTS:
        doc = nlp.make_doc(text)
        rows.clear()
        pipe.predict([doc])
        numbers = collect([doc], readings).components["span_relation"]
        assert numbers.windows.counts == {sum(rows): 1}
        assert numbers.pieces.max == len(module.pieces([text])[0].ids)


@pytest.mark.parametrize("mode", ["typed_markers", "text"])
def test_rows_of_relation_classifier(bert_checkpoint: Path, mode: str) -> None:
    nlp, pipe = make_pair_nlp(
        bert_checkpoint, mode=mode, type_constraints="off", pretrained=False, negative_label=None
    )
    readings = readings_of(nlp)
    docs = []
    for text in TEXTS[1:]:
        doc = nlp.make_doc(text)
        n = len(doc)
        places = [(0, 1), (2, 4), (n // 2, n // 2 + 1), (0, n), (n - 1, n)]
        spans = [Span(doc, *place, label="PER") for place in places]
        set_relations(doc, [Relation(a, b, "x") for a, b in permutations(spans, 2)])
        docs.append(doc)
    initialize(nlp, [Example(nlp.make_doc(doc.text), doc) for doc in docs])
    for doc in docs:
        pairs = [
            TypedPair((r.head.start, r.head.end), (r.tail.start, r.tail.end), "PER", "PER")
            for r in doc._.relations
        ]
        made = marked_rows(pipe.model, PairInput([nlp.make_doc(doc.text)], [pairs], "sentence"))
        numbers = collect([doc], readings).components["relation_classifier"]
        assert numbers.too_long.n == len(pairs) - len(made.pairs)
        assert numbers.rows.n == len(made.pairs)
        lengths = sorted(min(length, 64) for length in numbers.rows.counts.elements())
        assert lengths == sorted(map(len, made.ids))
        assert numbers.cut == numbers.rows.over(64)


def test_windows_of_extractive_qa(tmp_path: Path) -> None:
    nlp, pipe = make_qa_nlp(qa_checkpoint(tmp_path / "bert"), pretrained=True, max_answer_length=5)
    readings = readings_of(nlp)
    nlp.initialize()
    for text in TEXTS:
        doc = nlp.make_doc(text)
        ends = [doc[min(i, len(doc) - 1)].idx for i in (0, 10, 30, 60)]
        rows = [
            (f"{'who ' * n}?", start, min(len(text), start + 4 * n))
            for n, start in zip((1, 8, 20, 40), ends, strict=True)
        ]
        answered(doc, rows)
        numbers_of_doc = collect([doc], readings)
        numbers = numbers_of_doc.components["extractive_qa"]
        questions = [row[0] for row in rows]
        qa_rows = make_qa_rows(pipe.model, QAInput([nlp.make_doc(text)], [questions]))
        counts = np.bincount(qa_rows.question).tolist()
        assert sorted(numbers.windows.counts.elements()) == sorted(counts)
        assert numbers.cut.n == len(qa_rows.cut) > 0
        # Rows that are learned as "no answer" although there is an answer.
        gold = list(doc._.answers)
        places = find_gold([Example(nlp.make_doc(text), doc)], [gold], qa_rows.texts)
        targets = make_targets(qa_rows, places)
        whole = {
            question
            for question, row, target in zip(
                qa_rows.question.tolist(), qa_rows.rows, targets.ends.tolist(), strict=True
            )
            if target[0] != row.null
        }
        assert numbers.split.n == len(gold) - len(whole)
        assert numbers.too_long.n == numbers.answer_pieces.over(5)


def test_same_question_with_two_answers(tmp_path: Path) -> None:
    nlp, _ = make_qa_nlp(qa_checkpoint(tmp_path / "bert"))
    doc = nlp.make_doc("Mary lives in Paris .")
    first = make_answer(doc, Question("a", "who ?"), 0, 4)
    set_answers(doc, [first, Answer(Question("b", "who ?"))])
    numbers = collect([doc], readings_of(nlp)).components["extractive_qa"]
    assert numbers.answer_pieces.counts == {1: 1}


# Arrays


@given(st.lists(st.integers(0, 30)), st.sampled_from([0.25, 0.5, 0.95]))
def test_distribution(values: list[int], share: float) -> None:
    found = Distribution()
    for value in values:
        found.add(value)
    assert found.n == len(values)
    assert found.over(10) == sum(value > 10 for value in values)
    if values:
        assert found.max == max(values)
        assert found.mean == pytest.approx(np.mean(values))
        assert found.quantile(share) == np.quantile(values, share, method="inverted_cdf")
    assert found.to_dict()["n"] == len(values)


BLANK = spacy.blank("xx")
SPANS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 4)).map(lambda row: (row[0], row[0] + row[1])),
    max_size=8,
)


@given(SPANS)
def test_overlaps(spans: list[tuple[int, int]]) -> None:
    doc = Doc(BLANK.vocab, words=["w"] * 14)
    set_entities(doc, [Span(doc, a, b, label="A") for a, b in spans], [1.0] * len(spans))
    found = collect([doc], Readings(BLANK, False, ()))
    different = sorted(set(spans))
    overlapping = [
        a for a in different if any(a != b and a[0] < b[1] and b[0] < a[1] for b in different)
    ]
    nested = [
        a for a in different if any(a != b and b[0] <= a[0] and a[1] <= b[1] for b in different)
    ]
    assert found.overlapping_entities == len(overlapping)
    assert found.nested_entities == len(nested)
    assert found.duplicate_entities.n == len(spans) - len(different)
