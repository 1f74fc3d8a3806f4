"""The rows and answers of `extractive_qa` on every encoder."""

from __future__ import annotations

from typing import Any

from spacy_spanrel import get_answers
from spacy_spanrel.extractive_qa.features import pieces_of_range
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows

from .conftest import Made
from .util import LENGTH, ROWS, with_entities


def test_rows(trained: Made, own: Any) -> None:
    """Rows of a question and a text are the tokenizer's own build for pairs, ids and segments."""
    model = trained.nlp.get_pipe("extractive_qa").model
    compared = 0
    for row in ROWS:
        doc = with_entities(trained.nlp, row)
        for question, _ in row.questions:
            made = make_qa_rows(model, QAInput([doc], [[question]]))
            wanted = own(question, doc.text, return_token_type_ids=True)
            assert all(len(found.ids) <= LENGTH for found in made.rows)
            if len(made.rows) == 1:
                compared += 1
                assert made.rows[0].ids.tolist() == wanted.input_ids
                assert made.rows[0].types.tolist() == wanted.token_type_ids
    assert compared


def test_offsets(trained: Made) -> None:
    """Answers are exactly the text at their offsets, without white space around them; gold answers
    are found again from their pieces (but for pieces that reach over their ends)."""
    pipe = trained.nlp.get_pipe("extractive_qa")
    docs = [with_entities(trained.nlp, row) for row in ROWS]
    with trained.nlp.select_pipes(enable=["extractive_qa"]):
        answers = [a for doc in trained.nlp.pipe(docs) for a in get_answers(doc)]
    assert any(answers)
    for doc, row in zip(docs, ROWS, strict=True):
        made = make_qa_rows(pipe.model, QAInput([doc], [[]]))
        for answer in get_answers(doc):
            for part in (answer, *answer.alternatives):
                assert doc.text[part.start_char : part.end_char] == part.text == part.text.strip()
        chars = made.texts[0].chars
        for _, gold in row.questions:
            if gold is None:
                continue
            start = doc.text.index(gold)
            first, last = pieces_of_range(chars, start, start + len(gold))
            begin, end = int(chars[first, 0]), int(chars[last, 1])
            found = doc.text[begin:end].strip()
            assert gold in found
            inside = all(
                start <= a and b <= start + len(gold) or not doc.text[a:b].strip(gold)
                for a, b in chars[first : last + 1]
                if doc.text[a:b].strip() == doc.text[a:b]
            )
            assert found == gold or not inside
