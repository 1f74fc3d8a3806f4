"""Odd texts and batches, in prediction and training."""

from __future__ import annotations

import math
from random import Random

import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel import Relation, get_answers, set_answers, set_relations
from spacy_spanrel.annotations import Question, make_answer

from ..encoders.util import (
    LENGTH,
    ROWS,
    TEXTS,
    annotations_of,
    assert_same,
    make_examples,
    with_entities,
)
from .conftest import Trained

WHO = "Who works for Google?"
ODD_TEXTS = {
    "empty": "",
    "white space": " \n\t ",
    "one token": "Mary",
    "no entity": "It was there .",
    "special tokens": "[CLS] John Smith works [SEP] for Google [MASK] in [unused1] Paris <s> . [PAD]",
    "no pieces": "John \u200b Smith \r\n works \ufe0f for \U0001f600 Google \u200b\u200b in \u00ad .",
    "five windows": " ".join([TEXTS[0]] * 5 * LENGTH),
}


def odd_doc(nlp: Language, name: str, *, inputs: bool = True) -> Doc:
    """A Doc of an odd text; with two entities where there is room, and a question."""
    doc = nlp.make_doc(ODD_TEXTS[name] if name != "five windows" else ODD_TEXTS[name][:1500])
    if inputs:
        solid = [token.i for token in doc if not token.is_space]
        if len(solid) > 1:
            first, last = solid[0], solid[-1]
            doc.set_ents(
                [Span(doc, first, first + 1, label="Per"), Span(doc, last, last + 1, label="Loc")]
            )
        doc._.questions = [WHO, " "]
    return doc


def gold_of(doc: Doc) -> Doc:
    """A gold Doc in which its entities are related, and its first word is an answer."""
    gold = doc.copy()
    if len(gold.ents) == 2:
        set_relations(gold, [Relation(*gold.ents, "lives")])
        set_relations(gold, [Relation(*gold.ents, "lives")], "classified")
    words = gold.text.split()
    start = gold.text.index(words[0]) if words else 0
    answer = make_answer(gold, Question("q1", WHO), start, start + len(words[0]) if words else 0)
    set_answers(gold, [answer])
    return gold


@pytest.mark.parametrize("inputs", [False, True], ids=["without inputs", "with inputs"])
@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_text(trained: Trained, name: str, inputs: bool) -> None:
    doc = odd_doc(trained.nlp, name, inputs=inputs)
    text = doc.text
    doc = trained.nlp(doc)
    assert doc.text == text
    found = annotations_of(doc)
    assert all(math.isfinite(number) for number in found["numbers"])
    for span in doc.spans.get("entities", []):
        assert span.text.strip() == span.text != ""
    for answer in get_answers(doc):
        assert text[answer.start_char : answer.end_char] == answer.text == answer.text.strip()
    if name in ("empty", "white space"):
        assert all(not place[-1] for place in found["places"])


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_learns_from_odd_text(fresh: Language, component: str, name: str) -> None:
    doc = odd_doc(fresh, name)
    odd = [Example(doc, gold_of(doc))]
    for batch in (odd, [*make_examples(fresh), *odd]):
        loss = fresh.update(batch)[component]
        assert 0 <= loss < 100


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_and_order_change_nothing(trained: Trained, batch_size: int) -> None:
    def docs() -> list[Doc]:
        made = [with_entities(trained.nlp, row) for row in ROWS]
        made += [odd_doc(trained.nlp, name) for name in ODD_TEXTS]
        made += [trained.nlp.make_doc(text) for text in ("", *TEXTS)]
        return made

    expected = [annotations_of(trained.nlp(doc)) for doc in docs()]
    order = list(range(len(expected)))
    Random(batch_size).shuffle(order)
    shuffled = docs()
    found = list(trained.nlp.pipe((shuffled[i] for i in order), batch_size=batch_size))
    assert [doc.text for doc in found] == [docs()[i].text for i in order]
    assert_same([annotations_of(doc) for doc in found], [expected[i] for i in order], 2e-5)


def test_no_docs(trained: Trained, component: str) -> None:
    assert list(trained.nlp.pipe([])) == []
    assert len(trained.nlp.get_pipe(component).predict([])) == 0


def test_prediction_does_not_change_docs(trained: Trained, component: str) -> None:
    pipe = trained.nlp.get_pipe(component)
    docs = [with_entities(trained.nlp, row) for row in ROWS]
    before = [doc.to_bytes() for doc in docs]
    predicted = pipe.predict(docs)
    assert [doc.to_bytes() for doc in docs] == before
    pipe.set_annotations(docs, predicted)
    expected = trained.nlp.pipe(with_entities(trained.nlp, row) for row in ROWS)
    assert_same([annotations_of(d) for d in docs], [annotations_of(d) for d in expected])
