"""Every setting of `extractive_qa` has its effect."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_spanrel.annotations import Question, get_questions, make_answer, set_answers
from spacy_spanrel.encoding.shim import get_shim
from spacy_spanrel.extractive_qa.component import ExtractiveQA
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows

from ..util import initialize, train
from .util import (
    ROWS,
    TEXTS,
    answer_all,
    asking,
    assert_same_answers,
    edit_json,
    every,
    expected,
    found,
    lexicon_checkpoint,
    make_examples,
    make_nlp,
    network_of,
    output_of,
    qa_checkpoint,
    ready,
    the_pipe,
)

GOLD = [expected(row) for row in ROWS]
WHO = "who ?"
SCORER = {"@scorers": "spacy-spanrel.qa_scorer.v1"}


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "John" begins answers and "Mary" ends them; no answer has the logit 4."""
    table = {"[CLS]": (2.0, 2.0), "John": (2.0, -1.0), "Mary": (-1.0, 1.0)}
    return lexicon_checkpoint(tmp_path_factory.mktemp("lexicon") / "bert", table)


@pytest.fixture(scope="module")
def _reader(lexicon: Path) -> ExtractiveQA:
    return ready(lexicon)


@pytest.fixture
def reader(_reader: ExtractiveQA) -> ExtractiveQA:
    """A component over `lexicon`. Changes to `cfg` are undone after each test."""
    kept = dict(_reader.cfg)
    yield _reader
    _reader.cfg = kept


def test_key_and_prefix(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint, pretrained=True, qa_key="links", extension_prefix="my_")
    nlp.initialize()
    doc = nlp.make_doc(TEXTS[0])
    doc._.my_questions = [WHO]
    doc = the_pipe(nlp)(doc)
    assert set(doc.spans) == {"links"}
    assert len(doc._.my_answers) == 1
    assert get_questions(doc, "links") == (Question("q1", WHO),)
    # Questions in other span groups are ignored.
    other = nlp(asking(make_nlp(checkpoint)[0], ROWS[0]))
    assert "links" not in other.spans


def test_pretrained(checkpoint: Path) -> None:
    taken, drawn = (ready(checkpoint, pretrained=value) for value in (True, False))
    head = network_of(taken).encoder.transformer.qa_outputs.weight
    assert not torch.equal(head, network_of(drawn).encoder.transformer.qa_outputs.weight)


def test_questions(reader: ExtractiveQA) -> None:
    for questions, ids in (([WHO, "where ?"], ["q1", "q2"]), ({"x": WHO}, ["x"]), ([], [])):
        reader.cfg["questions"] = questions
        (prediction,) = reader.predict([reader._make_doc("Mary")])
        assert [answer.question.id for answer in prediction.answers] == ids


def test_no_answer(reader: ExtractiveQA) -> None:
    # The answer from John to Mary has the logit 3, no answer has 4.
    answer = reader.ask("John and Mary", WHO)
    assert not answer
    reader.cfg["no_answer"] = False
    other = reader.ask("John and Mary", WHO)
    assert other.text == "John and Mary"
    (best,) = answer.alternatives
    assert best.text == other.text
    # The answers get the probability of "no answer".
    assert other.score == pytest.approx(best.score / (1 - answer.score))
    assert other.null_score == pytest.approx(4.0)
    reader.cfg["null_threshold"] = -100.0
    assert reader.ask("John and Mary", WHO)


@pytest.mark.parametrize(
    ("threshold", "there_is_one"), [(-50.0, False), (0.0, False), (0.9, False), (1.1, True)]
)
def test_null_threshold(reader: ExtractiveQA, threshold: float, there_is_one: bool) -> None:
    reader.cfg["null_threshold"] = threshold
    answer = reader.ask("John and Mary", WHO)
    assert bool(answer) == there_is_one
    assert answer.null_score == pytest.approx(4.0, abs=1e-5)
    (best,) = every(answer)
    assert (best.text, best.logit) == ("John and Mary", pytest.approx(3.0, abs=1e-5))
    # The probabilities do not depend on the threshold: six spans and "no answer".
    total = sum(math.exp(logit) for logit in (1, 2, 3, 0, 1, 0, 4))
    assert best.score == pytest.approx(math.exp(3) / total, abs=1e-5)
    assert answer.score == pytest.approx(math.exp(3 if answer else 4) / total, abs=1e-5)


def test_null_threshold_is_exceeded_or_not(tmp_path: Path) -> None:
    # Logits that are exact as floats: 2 for "no answer", 1 for the word.
    table = {"[CLS]": (1.0, 1.0), "Mary": (1.0, 0.0)}
    pipe = ready(lexicon_checkpoint(tmp_path / "bert", table))
    answer = pipe.ask("Mary", WHO)
    (best,) = answer.alternatives
    difference = answer.null_score - best.logit
    assert difference == pytest.approx(1.0, abs=1e-5)
    for threshold, there_is_one in ((difference, True), (difference - 1e-6, False)):
        pipe.cfg["null_threshold"] = threshold
        assert bool(pipe.ask("Mary", WHO)) == there_is_one


@pytest.mark.parametrize("longest", [1, 2, 3, 30])
def test_max_answer_length(reader: ExtractiveQA, longest: int) -> None:
    reader.cfg.update(max_answer_length=longest, no_answer=False, n_best=100, top_k=100)
    answer = reader.ask("John and Mary and John", WHO)
    lengths = {len(part.span) for part in every(answer)}
    assert lengths == set(range(1, min(longest, 5) + 1))
    assert (answer.text == "John and Mary") == (longest >= 3)


def test_n_best(reader: ExtractiveQA) -> None:
    """The probability is divided among n_best answers."""
    reader.cfg["no_answer"] = False
    logits = [part.logit for part in every(reader.ask("John and Mary", WHO, top_k=20))]
    assert logits == pytest.approx([3, 2, 1, 1, 0, 0], abs=1e-5)
    for n_best in (1, 2, 6, 20):
        reader.cfg["n_best"] = n_best
        score = reader.ask("John and Mary", WHO).score
        assert score == pytest.approx(
            math.exp(logits[0]) / sum(math.exp(logit) for logit in logits[:n_best])
        )


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_top_k(reader: ExtractiveQA, top_k: int) -> None:
    reader.cfg.update(top_k=top_k, no_answer=False, questions=[WHO])
    doc = reader(reader._make_doc("John and Mary"))
    (answer,) = doc._.answers
    assert len(answer.alternatives) == top_k - 1
    assert len(doc.spans["qa"]) == top_k
    assert_same_answers([answer], [reader.ask("John and Mary", WHO)])


def test_language(lexicon: Path) -> None:
    """The rules of MLQA remove the articles of a language before answers are compared."""
    scores = {}
    for language in (None, "en", "es"):
        nlp, pipe = make_nlp(lexicon, lang="es", language=language, scorer=SCORER)
        gold = nlp.make_doc("vive en la ciudad")
        predicted = nlp.make_doc(gold.text)
        question = Question("a", "¿ dónde vive ?")
        set_answers(gold, [make_answer(gold, question, 11, 17)])
        set_answers(predicted, [make_answer(predicted, question, 8, 17, score=0.9)])
        assert predicted._.answers[0].text == "la ciudad"
        scores[language] = pipe.score([Example(predicted, gold)])["qa_exact"]
    assert scores == {None: 0.0, "en": 0.0, "es": 1.0}


def test_scorer(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, scorer=None)
    nlp.initialize()
    examples = make_examples(nlp)
    assert pipe.score(examples) == {}
    nlp, pipe = make_nlp(checkpoint, scorer=SCORER)
    nlp.initialize()
    assert {"qa_exact", "qa_f1"} <= set(pipe.score(make_examples(nlp)))


def rows_of(pipe: ExtractiveQA, text: str, question: str) -> list[Any]:
    return make_qa_rows(pipe.model, QAInput([pipe._make_doc(text)], [[question]])).rows


def test_windows(checkpoint: Path) -> None:
    text = " ".join(TEXTS * 5)
    for max_length, doc_stride in ((64, 16), (64, 8), (48, 16), (44, 1)):
        pipe = ready(checkpoint, model={"max_length": max_length, "doc_stride": doc_stride})
        rows = rows_of(pipe, text, WHO)
        assert max(len(row.ids) for row in rows) == max_length
        assert {b.start - a.start for a, b in zip(rows, rows[1:], strict=False)} == {doc_stride}
    # A window fills the room that the question leaves.
    assert len(rows_of(pipe, text, WHO * 4)[0].owned) < len(rows_of(pipe, text, WHO)[0].owned)


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_max_question_length(checkpoint: Path, limit: int) -> None:
    pipe = ready(checkpoint, model={"max_question_length": limit})
    with pytest.warns(UserWarning, match=rf"W_SR109.*max_question_length = {limit} pieces"):
        pipe.ask("Mary", "John " * 21)
    (row,) = rows_of(pipe, "Mary", "John " * 21)
    assert len(row.ids) == 1 + limit + 1 + 1 + 1


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_dropout(tmp_path: Path, kind: Any) -> None:
    folder = qa_checkpoint(tmp_path / kind, kind)  # its own dropout is 0.1
    for dropout, same in ((None, False), (0.0, True), (0.5, False)):
        assert (len(_losses(folder, dropout)) == 1) == same


@pytest.mark.parametrize(
    ("dropout", "attention_dropout", "expected"),
    [
        (None, None, (0.1, 0.1)),
        (None, 0.0, (0.1, 0.0)),
        (0.2, None, (0.2, 0.2)),
        (0.2, 0.3, (0.2, 0.3)),
    ],
)
def test_attention_dropout(
    tmp_path: Path,
    dropout: float | None,
    attention_dropout: float | None,
    expected: tuple[float, float],
) -> None:
    folder = qa_checkpoint(tmp_path / "bert", "bert")  # its own dropout is 0.1
    pipe = ready(folder, model={"dropout": dropout, "attention_dropout": attention_dropout})
    config = network_of(pipe).encoder.transformer.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == expected


def test_attention_dropout_has_an_effect(tmp_path: Path) -> None:
    folder = qa_checkpoint(tmp_path / "bert", "bert")
    for attention, same in ((0.0, True), (0.5, False)):
        losses = _losses(folder, 0.0, attention_dropout=attention)
        assert (len(losses) == 1) == same


def test_dropout_before_the_head(tmp_path: Path) -> None:
    folder = qa_checkpoint(tmp_path / "distilbert", "distilbert")
    assert len(_losses(folder, 0.0)) == 1
    edit_json(folder / "config.json", qa_dropout=0.1)  # as it is by default
    assert len(_losses(folder, 0.0)) == 1


def _losses(folder: Path, dropout: float | None, **model: Any) -> set[float]:
    """The number of different losses for the same batch."""
    nlp, _ = make_nlp(folder, model={"dropout": dropout, **model})
    examples = make_examples(nlp, ROWS[:2])
    initialize(nlp, examples)
    return {round(train(nlp, examples, 1, learn_rate=0.0)[0], 5) for _ in range(3)}


def test_precision(checkpoint: Path) -> None:
    # In half precision, a mask of -1e30 is minus infinity, and then NaN.
    exact, rough = (
        ready(checkpoint, model={"precision": precision}) for precision in ("float32", "bfloat16")
    )
    one, other = (output_of(pipe, TEXTS[:1], [[WHO]]).logits for pipe in (exact, rough))
    assert one.dtype == other.dtype == torch.float32
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, atol=0.5, rtol=0.1)
    assert all(p.dtype == torch.float32 for p in network_of(rough).parameters())


def test_bfloat16_is_close(trained: Language) -> None:
    shim = get_shim(the_pipe(trained).model)
    shim.precision_setting = "bfloat16"
    try:
        docs = answer_all(trained)
        assert [found(doc) for doc in docs] == GOLD
        assert all(type(a.score) is float for doc in docs for a in doc._.answers)
    finally:
        shim.precision_setting = "float32"


def test_learns_in_bfloat16(bert_checkpoint: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint, model={"precision": "bfloat16"})
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 40)
    assert [found(doc) for doc in answer_all(nlp)] == GOLD


def test_casing(tmp_path: Path) -> None:
    """An encoder of lower-cased text learns an answer that depends on the letter case."""
    folder = qa_checkpoint(tmp_path / "bert", cased=False, std=0.1)
    text = "mary MARY mary"
    row = (text, [("a", WHO, "MARY")])
    for casing in (True, False):
        nlp, _ = make_nlp(folder, model={"casing": casing})
        examples = make_examples(nlp, [row, ("MARY mary mary", [("a", WHO, "MARY")])])
        initialize(nlp, examples)
        losses = train(nlp, examples, 60)
        assert (losses[-1] < 0.1) == casing


def test_name(checkpoint: Path, tmp_path: Path) -> None:
    other = qa_checkpoint(tmp_path / "other", seed=1)
    first, second = (ready(folder).ask(TEXTS[0], WHO) for folder in (checkpoint, other))
    assert first.null_score != pytest.approx(second.null_score, abs=1e-3)


def test_questions_overridden_by_a_table(checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = make_nlp(checkpoint, questions={"a": WHO, "b": "where ?"})
    nlp.initialize()
    nlp.to_disk(tmp_path / "pipeline")
    config = {"components": {"extractive_qa": {"questions": {"a": "when ?"}}}}
    pipe = the_pipe(spacy.load(tmp_path / "pipeline", config=config))
    # spaCy merges the tables of a config.
    assert pipe.cfg["questions"] == {"a": "when ?", "b": "where ?"}


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 384, "doc_stride": 384},
        {"max_length": 64, "doc_stride": 16, "max_question_length": 64},
        {"max_length": 384, "doc_stride": 317},
        {"doc_stride": 0},
        {"doc_stride": -128},
        {"max_question_length": 0},
        {"max_length": 0},
    ],
)
def test_windows_that_would_skip_text(checkpoint: Path, settings: dict[str, int]) -> None:
    # The error comes when the pipeline is built.
    whole = {"max_length": 384, "doc_stride": 128, "max_question_length": 64, **settings}
    with pytest.raises(ValueError, match="E_SR801") as error:
        make_nlp(checkpoint, model=whole)
    for key, value in whole.items():
        assert f"{key} = {value}" in str(error.value)
