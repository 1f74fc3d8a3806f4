"""Checks of the rows and answers of `extractive_qa` on every encoder."""

from __future__ import annotations

from typing import Any

from spacy_spanrel import get_answers
from spacy_spanrel.extractive_qa.features import pieces_of_range
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows

from .conftest import TrainedPipeline
from .util import LENGTH, ROWS, with_entities


def test_rows(trained: TrainedPipeline, hf_tokenizer: Any) -> None:
    """Ids and segments of a question and a text equal those of the tokenizer for a pair of texts."""
    model = trained.nlp.get_pipe("extractive_qa").model
    compared = 0
    for row in ROWS:
        doc = with_entities(trained.nlp, row)
        for question, _ in row.questions:
            qa_rows = make_qa_rows(model, QAInput([doc], [[question]]))
            wanted = hf_tokenizer(question, doc.text, return_token_type_ids=True)
            assert all(len(one.ids) <= LENGTH for one in qa_rows.rows)
            if len(qa_rows.rows) == 1:
                compared += 1
                assert qa_rows.rows[0].ids.tolist() == wanted.input_ids
                assert qa_rows.rows[0].types.tolist() == wanted.token_type_ids
    assert compared


def test_offsets(trained: TrainedPipeline) -> None:
    """Answers equal the text at their offsets, without surrounding white space; gold answers are
    recovered from their pieces (unless a piece extends beyond an answer)."""
    pipe = trained.nlp.get_pipe("extractive_qa")
    docs = [with_entities(trained.nlp, row) for row in ROWS]
    with trained.nlp.select_pipes(enable=["extractive_qa"]):
        answers = [a for doc in trained.nlp.pipe(docs) for a in get_answers(doc)]
    assert any(answers)
    for doc, row in zip(docs, ROWS, strict=True):
        qa_rows = make_qa_rows(pipe.model, QAInput([doc], [[]]))
        for answer in get_answers(doc):
            for one in (answer, *answer.alternatives):
                assert doc.text[one.start_char : one.end_char] == one.text == one.text.strip()
        chars = qa_rows.texts[0].chars
        for _, gold in row.questions:
            if gold is None:
                continue
            start = doc.text.index(gold)
            first, last = pieces_of_range(chars, start, start + len(gold))
            begin, end = int(chars[first, 0]), int(chars[last, 1])
            recovered = doc.text[begin:end].strip()
            assert gold in recovered
            inside = all(
                start <= a and b <= start + len(gold) or not doc.text[a:b].strip(gold)
                for a, b in chars[first : last + 1]
                if doc.text[a:b].strip() == doc.text[a:b]
            )
            assert recovered == gold or not inside
