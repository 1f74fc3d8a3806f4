from __future__ import annotations

import ast
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

import spacy_spanrel
from spacy_spanrel.annotations import (
    Answer,
    Question,
    get_answers,
    get_questions,
    make_answer,
    set_answers,
)
from spacy_spanrel.encoding.pieces import PieceTokenizer, TextPieces
from spacy_spanrel.extractive_qa import model
from spacy_spanrel.extractive_qa.component import ExtractiveQA
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows
from spacy_spanrel.extractive_qa.targets import find_gold, make_targets
from spacy_spanrel.training.optimizer import create_adamw

from ..util import WORDS, initialize, train
from .util import (
    ROWS,
    TEXTS,
    Row,
    answer_all,
    asking,
    assert_same_answers,
    edit_json,
    every,
    expected,
    found,
    gold_doc,
    lexicon_checkpoint,
    make_examples,
    make_nlp,
    output_of,
    places,
    qa_checkpoint,
    ready,
    the_pipe,
)

GOLD = [expected(row) for row in ROWS]
WHO, WHERE = "who lives in London ?", "where is he ?"
# Five times a window, and no two windows alike: there are no ties.
VARIED_TEXT = " ".join(random.Random(0).choices(WORDS, k=300))
ODD_TEXTS = {
    "empty": "",
    "white space": " \n\t ",
    "one token": "Mary",
    "three words": "Mary in Paris",
    "special tokens": "[CLS] John Smith works [SEP] for Google [MASK] in [unused1] Paris <s> . [PAD]",
    "no pieces": "John \u200b Smith \r\n works \ufe0f for \U0001f600 Google \u200b\u200b in \u00ad .",
    "five times too long": VARIED_TEXT,
}
ODD_QUESTIONS = {"blank": "  \n", "empty": "", "special tokens": "[SEP] who [CLS] ?", "one": "?"}
SCORER = {"@scorers": "spacy-spanrel.qa_scorer.v1"}


def answers_of(docs: list[Doc]) -> list[Answer]:
    return [answer for doc in docs for answer in doc._.answers]


@pytest.fixture(scope="module")
def _readers(checkpoint: Path, roberta: Path) -> dict[str, ExtractiveQA]:
    return {"bert": ready(checkpoint), "roberta": ready(roberta)}


@pytest.fixture
def readers(_readers: dict[str, ExtractiveQA]) -> Iterator[dict[str, ExtractiveQA]]:
    """Components with random weights. Changes to `cfg` are undone after each test."""
    kept = {kind: dict(pipe.cfg) for kind, pipe in _readers.items()}
    yield _readers
    for kind, pipe in _readers.items():
        pipe.cfg = kept[kind]


@pytest.fixture
def reader(readers: dict[str, ExtractiveQA]) -> ExtractiveQA:
    return readers["bert"]


# Learning, saving, loading


def test_overfits(trained: Language) -> None:
    docs = answer_all(trained)
    assert [found(doc) for doc in docs] == GOLD
    assert sum(answer is None for row in GOLD for _, answer in row) == 2
    for doc in docs:
        assert doc._.answers == get_answers(doc)
        for answer in doc._.answers:
            for part in (answer, *answer.alternatives):
                for number in (part.score, part.null_score):
                    assert type(number) is float  # not numpy's
                assert type(part.logit) is (float if part else type(None))
                assert 0 <= part.score <= 1
            assert bool(answer) == (answer.span is not None) == (answer.text != "")
            assert len(answer.alternatives) == (0 if answer else 1)
            assert answer.score > 0.5
    # The spans of the group are the answers.
    spans = [(span.text, span.label_) for span in docs[0].spans["qa"]]
    assert spans == [("John Smith", "who"), ("Paris", "where")]


def test_needs_no_data(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, pretrained=True)
    nlp.initialize()
    assert pipe.ask(TEXTS[0], WHO).score > 0


# Odd texts and questions


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_text(readers: dict[str, ExtractiveQA], name: str, kind: str) -> None:
    text, pipe = ODD_TEXTS[name], readers[kind]
    for no_answer in (True, False):
        pipe.cfg.update(no_answer=no_answer, top_k=5)
        answer = pipe.ask(text, WHO)
        if name in ("empty", "white space"):
            assert not answer
            assert answer.alternatives == ()
            assert answer.score == pytest.approx(1.0)
        elif not no_answer:
            assert answer
        for part in every(answer):
            assert text[part.start_char : part.end_char] == part.text == part.text.strip() != ""
            assert part.span is not None


@pytest.mark.parametrize("name", ODD_QUESTIONS)
def test_odd_question(reader: ExtractiveQA, name: str) -> None:
    reader.cfg["no_answer"] = False
    question = ODD_QUESTIONS[name]
    blank, asked = reader.ask(TEXTS[0], [question, WHO])
    # A blank question has no answer, even with no_answer = false.
    assert bool(blank) == bool(question.strip())
    assert blank.question == Question("q1", question)
    assert_same_answers([asked], [reader.ask(TEXTS[0], Question("q2", WHO))])


def test_white_space_around_a_question(readers: dict[str, ExtractiveQA]) -> None:
    pipe = readers["roberta"]
    plain, spaced = (pipe.ask(TEXTS[0], question) for question in (WHO, f"  {WHO}\n"))
    assert (spaced.start_char, spaced.end_char) == (plain.start_char, plain.end_char)
    assert spaced.score == pytest.approx(plain.score, abs=1e-6)
    assert spaced.question.text == f"  {WHO}\n"


def test_no_docs_and_no_questions(trained: Language) -> None:
    pipe = the_pipe(trained)
    assert list(trained.pipe([])) == []
    assert pipe.predict([]) == []
    assert pipe.ask("", []) == ()
    assert pipe.ask(TEXTS[0], []) == ()
    assert list(pipe.ask_pipe([])) == []
    doc = trained(TEXTS[0])
    assert doc._.questions == doc._.answers == ()
    assert dict(doc.spans) == {}  # nothing was written
    docs = [trained.make_doc(""), asking(trained, ROWS[0]), trained.make_doc("Mary")]
    assert [found(doc) for doc in trained.pipe(docs)] == [[], GOLD[0], []]


@pytest.mark.parametrize("n_words", [24, 25, 500])
def test_long_question(checkpoint: Path, n_words: int) -> None:
    # Longer than max_question_length = 24, and longer than a row.
    pipe = ready(checkpoint)
    words = [WORDS[i % len(WORDS)] for i in range(n_words)]
    question = " ".join(words)
    if n_words == 24:
        answer = pipe.ask(TEXTS[0], question)
    else:
        with pytest.warns(
            UserWarning, match=r"W_SR109\] Component '\w+': 1 question.* = 24 pieces"
        ) as caught:
            answer = pipe.ask(TEXTS[0], question)
        assert question[:80] in str(caught[0].message)
        # The warning comes once, not for every batch, and again after the next initialization.
        pipe.ask(TEXTS[0], question)
        pipe.initialize()
        with pytest.warns(UserWarning, match="W_SR109"):
            pipe.ask(TEXTS[0], question)
    assert answer.question.text == question
    cut = pipe.ask(TEXTS[0], " ".join(words[:24]))
    assert (answer.start_char, answer.end_char) == (cut.start_char, cut.end_char)
    assert answer.score == pytest.approx(cut.score, abs=1e-6)


def test_long_question_in_training(bert_checkpoint: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint)
    row: Row = (TEXTS[1], [("a", " ".join(["who"] * 500), "Mary")])
    examples = make_examples(nlp, [row])
    initialize(nlp, examples)
    with pytest.warns(UserWarning, match=r"W_SR109\] Component '\w+': 1 question"):
        assert 0 < train(nlp, examples, 1)[0] < 100


FILLING = "he was born in the city . "
LONG_TEXT = FILLING * 20 + TEXTS[1] + " " + FILLING * 20


def test_answer_in_the_middle_of_a_long_text(bert_checkpoint: Path) -> None:
    # One of many windows has the answer; the others learn that they have none.
    nlp, pipe = make_nlp(bert_checkpoint)
    row: Row = (LONG_TEXT, [("who", WHO, "Mary"), ("none", "who was killed ?", None)])
    examples = make_examples(nlp, [row])
    initialize(nlp, examples)
    losses = train(nlp, examples, 60, learn_rate=3e-3)
    assert losses[-1] < 0.05
    (doc,) = answer_all(nlp, [row])
    assert found(doc) == expected(row)
    output = output_of(pipe, [LONG_TEXT], [[WHO]])
    assert len(output.rows.texts[0].ids) > 5 * max(len(row.owned) for row in output.rows.rows)
    prefers_none = [
        float(logits[0].sum())
        > float(logits[row.offset : len(row.ids), 0].max())
        + float(logits[row.offset : len(row.ids), 1].max())
        for row, logits in zip(output.rows.rows, output.logits, strict=True)
    ]
    assert prefers_none.count(False) <= 4 < prefers_none.count(True)
    assert prefers_none[0]
    assert prefers_none[-1]


# Offsets


ALPHABET = [
    *"aM.'- \n\t",
    *"éñ¿Ñ",  # composed
    "e\u0301",  # combining
    "n\u0303",
    "\U0001f600",
    "\U0001f469\u200d\U0001f467",  # a family: two people and a joiner
    "\U0001f1ea\U0001f1f8",  # a flag: two letters
    "\u200b",
    "\u00a0",
    *"مريم",  # right to left
    "\u200f",
    "שלום",
    "東京",
    "한",
    "ﬁ",
    "½",
    "İ",  # two characters in lower case
]


@pytest.fixture(scope="module")
def takers(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, roberta: Path
) -> list[ExtractiveQA]:
    """Components that always answer, with tokenizers that keep case and accents, that drop them, and
    that work on bytes."""
    lower = qa_checkpoint(tmp_path_factory.mktemp("lower") / "bert", cased=False)
    return [ready(folder, no_answer=False, top_k=20) for folder in (checkpoint, lower, roberta)]


@given(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=25).map("".join))
def test_offsets(takers: list[ExtractiveQA], text: str) -> None:
    for pipe in takers:
        doc = pipe._make_doc(text)
        assert doc.text == text
        answer = pipe.ask(doc, "¿who?")
        solid = {i for i, char in enumerate(text) if not char.isspace()}
        for part in every(answer):
            start, end = part.start_char, part.end_char
            assert 0 <= start < end <= len(text)
            assert {start, end - 1} <= solid
            assert doc.text[start:end] == part.text
            assert part.span.doc is doc
            assert part.span.start_char <= start
            assert part.span.end_char >= end
            # No token is included without need.
            assert part.span[0].idx + len(part.span[0]) > start
            assert part.span[-1].idx < end
            borders = (part.span.start_char, part.span.end_char)
            assert part.aligned == (borders == (start, end))
        set_answers(doc, [answer])
        assert_same_answers(doc._.answers, [answer], 1e-9)


def test_pieces_that_begin_with_a_blank(
    readers: dict[str, ExtractiveQA], roberta: Path, tmp_path: Path
) -> None:
    """Answers do not begin with the blank that some tokenizers add to a piece."""
    folder = shutil.copytree(roberta, tmp_path / "roberta")
    edit_json(folder / "tokenizer_config.json", trim_offsets=False)
    pipe, trimmed = ready(folder), readers["roberta"]
    for reader in (pipe, trimmed):
        reader.cfg.update(no_answer=False, top_k=10)
    text = TEXTS[0]
    chars = output_of(pipe, [text], [[WHO]]).rows.texts[0].chars
    assert any(text[start] == " " for start, _ in chars)
    assert_same_answers([pipe.ask(text, WHO)], [trimmed.ask(text, WHO)])


def test_spanish_text(tmp_path: Path) -> None:
    """Accented letters are kept, and count as one character."""
    folder = lexicon_checkpoint(
        tmp_path / "bert",
        {"José": (8.0, 0.0), "Núñez": (0.0, 8.0), "nació": (-9.0, -9.0)},
        vocab_words=["José", "Núñez", "nació", "en", "Málaga"],
    )
    text = "¿Nació en Málaga? José Núñez nació en Málaga."
    for lang in ("es", "xx"):
        pipe = ready(folder, lang=lang)
        answer = pipe.ask(text, "¿Quién nació en Málaga?")
        assert answer.text == "José Núñez"
        assert (answer.start_char, answer.end_char) == (18, 28)
        assert answer.to_dict()["answer"] == "José Núñez"
    # Decomposed characters, as macOS writes them, have other offsets.
    decomposed = "Malaga\u0301. Jose\u0301 Núñez"
    part = ready(folder, lang="es").ask(decomposed, "¿Quién?")
    assert decomposed[part.start_char : part.end_char] == part.text
    assert part.text.endswith("Núñez")


def test_aligned(tmp_path: Path) -> None:
    """`aligned` tells whether the answer begins and ends at token boundaries."""
    pipe = ready(lexicon_checkpoint(tmp_path / "bert", {"Mary": (8.0, 8.0)}))
    whole = Doc(pipe.vocab, words=["Mary", "'s", "city"], spaces=[False, True, False])
    cut = Doc(pipe.vocab, words=["Mary's", "city"], spaces=[True, False])
    assert whole.text == cut.text
    for doc, aligned, text in ((whole, True, "Mary"), (cut, False, "Mary's")):
        answer = pipe.ask(doc, "who ?")
        assert (answer.text, answer.start_char, answer.end_char) == ("Mary", 0, 4)
        assert answer.aligned == aligned
        assert answer.span.text == text


@pytest.mark.parametrize("kind", ["bytes", "decomposed"])
def test_a_place_is_one_answer(takers: list[ExtractiveQA], tmp_path: Path, kind: str) -> None:
    # An emoji is four pieces of a byte-level tokenizer.
    pipe = takers[2] if kind == "bytes" else ready(_jamo(tmp_path), no_answer=False, top_k=20)
    text = "\U0001f600 a" if kind == "bytes" else "한 a"
    answer = pipe.ask(text, "who ?")
    assert sorted(places(answer)) == [(0, 1), (0, 3), (2, 3)]
    assert sum(part.score for part in every(answer)) == pytest.approx(1.0)


def _jamo(folder: Path) -> Path:
    """A BERT that strips accents, and so decomposes Korean syllables."""
    letters = ["ᄒ", "##ᅡ", "##ᆫ"]
    return qa_checkpoint(folder / "bert", cased=False, vocab_words=letters)


def test_longest_answer(tmp_path: Path) -> None:
    # An answer of 25 tokens is not cut.
    words = ["John", *["the"] * 23, "Mary", "in", "Paris"]
    folder = lexicon_checkpoint(tmp_path / "bert", {"John": (9.0, -9.0), "Mary": (-9.0, 9.0)})
    nlp = spacy.blank("en")
    model = {"name": str(folder), "max_length": 64, "doc_stride": 16, "max_question_length": 20}
    pipe = nlp.add_pipe("extractive_qa", config={"model": model, "scorer": None})
    nlp.initialize()
    answer = pipe.ask(Doc(nlp.vocab, words=words), "who ?")
    assert len(answer.span) == 25
    assert answer.text == " ".join(words[:25])
    pipe.cfg["max_answer_length"] = 24
    assert len(pipe.ask(Doc(nlp.vocab, words=words), "who ?").span or []) < 25


# Asking


def test_ask(trained: Language) -> None:
    pipe = the_pipe(trained)
    text = TEXTS[1]
    answer = pipe.ask(text, WHO)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.question) == ("Mary", Question("q1", WHO))
    # The Doc is not changed, and the span of the answer belongs to it.
    doc = trained.make_doc(text)
    before = doc.to_bytes()
    of_doc = pipe.ask(doc, WHO)
    assert_same_answers([of_doc], [answer])
    assert of_doc.span.doc is doc
    assert doc.to_bytes() == before
    # One question with an id, and several questions in every form.
    assert pipe.ask(text, Question("mine", WHO)).question.id == "mine"
    several: list[Any] = [
        [WHO, WHERE],
        (WHO, WHERE),
        iter([WHO, WHERE]),
        [("q1", WHO), {"id": "q2", "text": WHERE}],
        [Question("q1", WHO), WHERE],
        [WHO, {"question": WHERE}],
    ]
    wanted = pipe.ask(text, [WHO, WHERE])
    for questions in several:
        answers = pipe.ask(text, questions)
        assert isinstance(answers, tuple)
        assert [a.question for a in answers] == [Question("q1", WHO), Question("q2", WHERE)]
        assert_same_answers(answers, wanted)
    assert isinstance(pipe.ask(text, [WHO]), tuple)
    with pytest.raises(ValueError, match="E_SR105"):
        pipe.ask(text, [("a", WHO), ("a", WHERE)])
    with pytest.raises(ValueError, match="E_SR106"):
        pipe.ask(text, [3])


def test_ask_for_several_answers(reader: ExtractiveQA) -> None:
    pipe = reader
    pipe.cfg["no_answer"] = False
    wanted = pipe.ask(TEXTS[0], WHO, top_k=20)
    for top_k in (1, 2, 7, 20):
        answer = pipe.ask(TEXTS[0], WHO, top_k=top_k)
        assert len(every(answer)) == top_k == 1 + len(answer.alternatives)
        # Probabilities are divided among n_best answers, however many are kept.
        assert_same_answers(every(answer)[1:], every(wanted)[1:top_k])
        assert answer.score == pytest.approx(wanted.score)
    # top_k may be larger than n_best.
    more = pipe.ask(TEXTS[0], WHO, top_k=25)
    assert len(set(places(more))) == 25
    assert places(more)[:20] == places(wanted)
    for top_k in (0, -1):
        with pytest.raises(ValueError, match=rf"E_SR302\] Setting 'top_k'.* is {top_k},"):
            pipe.ask(TEXTS[0], WHO, top_k=top_k)
    assert [len(every(a)) for a in pipe.ask(TEXTS[0], [WHO, WHERE], top_k=3)] == [3, 3]
    assert pipe.cfg["top_k"] == 1


def test_ask_pipe(trained: Language) -> None:
    pipe = the_pipe(trained)
    asked = [(text, [(key, q) for key, q, _ in questions]) for text, questions in ROWS]
    wanted = [pipe.ask(text, questions) for text, questions in asked]
    for batch_size in (1, 2, 64):
        answers = list(pipe.ask_pipe(iter(asked), batch_size=batch_size))
        assert [[(a.question.id, a.text or None) for a in part] for part in answers] == GOLD
        for part, other in zip(answers, wanted, strict=True):
            assert_same_answers(part, other)
    # Docs and texts, with one, several or no questions: always a tuple.
    mixed = [(trained.make_doc(TEXTS[1]), WHO), (TEXTS[0], []), (TEXTS[1], (WHO, WHERE))]
    first, second, third = pipe.ask_pipe(mixed, top_k=2)
    assert (len(first), second, len(third)) == (1, (), 2)
    assert len(every(first[0])) == 2
    assert_same_answers(first, third[:1])
    # It is a stream, which may be endless.
    endless = pipe.ask_pipe(cycle(asked), batch_size=2)
    assert [a.text for part in islice(endless, 3) for a in part] == [
        *("John Smith", "Paris", "Mary", "", "John", "Berlin")
    ]


def test_pipeline_equals_asking(trained: Language) -> None:
    for row, doc in zip(ROWS, answer_all(trained), strict=True):
        assert_same_answers(doc._.answers, the_pipe(trained).ask(row[0], doc._.questions))


# Fixed questions


@pytest.mark.parametrize(
    ("questions", "ids"),
    [([WHO, WHERE], ("q1", "q2")), ({"resident": WHO, "place": WHERE}, ("resident", "place"))],
)
def test_fixed_questions(trained: Language, questions: Any, ids: tuple[str, str]) -> None:
    the_pipe(trained).cfg["questions"] = questions
    doc = trained(TEXTS[1])
    assert doc._.questions == (Question(ids[0], WHO), Question(ids[1], WHERE))
    assert found(doc)[0] == (ids[0], "Mary")


def test_fixed_questions_come_after_the_own_ones(trained: Language) -> None:
    the_pipe(trained).cfg["questions"] = {"who": "who was killed ?", "resident": WHO}
    doc = asking(trained, ROWS[1])
    own = doc._.questions
    doc = the_pipe(trained)(doc)
    # Another question of the Doc has the id "who", so the fixed question gets another id.
    fixed = (Question("fixed-who", "who was killed ?"), Question("resident", WHO))
    assert doc._.questions == (*own, *fixed)
    assert found(doc) == [*GOLD[1], ("fixed-who", None), ("resident", "Mary")]


def test_fixed_questions_are_asked_once(trained: Language) -> None:
    the_pipe(trained).cfg["questions"] = [WHO]
    doc = trained.make_doc(TEXTS[1])
    doc._.questions = [WHO, WHERE]
    for _ in range(3):  # and a Doc may come through again
        doc = the_pipe(trained)(doc)
        assert doc._.questions == (Question("q1", WHO), Question("q2", WHERE))
        assert len(doc._.answers) == 2


@pytest.mark.parametrize(
    "own", [[("who", "where ?")], [("who", "where ?"), ("fixed-who", "when ?")]]
)
def test_ids_that_clash_twice(trained: Language, own: list[tuple[str, str]]) -> None:
    the_pipe(trained).cfg["questions"] = {"who": WHO}
    doc = trained.make_doc(TEXTS[1])
    doc._.questions = own
    for _ in range(2):  # as where the component annotates in training
        doc = the_pipe(trained)(doc)
        assert [q.text for q in doc._.questions] == [*(text for _, text in own), WHO]
        assert doc._.answers[-1].text == "Mary"


# Many questions, many Docs


def test_a_doc_is_split_into_pieces_once(
    reader: ExtractiveQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = PieceTokenizer.__call__

    def spy(self: PieceTokenizer, texts: list[str]) -> list[TextPieces]:
        seen.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(PieceTokenizer, "__call__", spy)
    questions = [f"who {word} ?" for word in WORDS]
    assert len(reader.ask(VARIED_TEXT, questions)) == len(questions) > 30
    assert seen == [VARIED_TEXT, *questions]


def test_many_questions_equal_one_at_a_time(reader: ExtractiveQA) -> None:
    pipe = reader
    pipe.cfg["top_k"] = 3
    questions = [Question(str(i), f"who {word} ?") for i, word in enumerate(WORDS[:20])]
    for text in (TEXTS[0], VARIED_TEXT):
        together = pipe.ask(text, questions)
        assert_same_answers(together, [pipe.ask(text, question) for question in questions])
        assert len({a.score for a in together}) > 10
        assert_same_answers(pipe.ask(text, questions[::-1]), together[::-1])


def test_one_question_about_many_docs(reader: ExtractiveQA) -> None:
    pipe = reader
    pipe.cfg["top_k"] = 3
    texts = [*TEXTS, *ODD_TEXTS.values()]
    together = [part[0] for part in pipe.ask_pipe((text, WHO) for text in texts)]
    assert_same_answers(together, [pipe.ask(text, WHO) for text in texts])


# Batches


def docs_to_ask(nlp: Language, seed: int) -> list[Doc]:
    docs = [asking(nlp, row) for row in ROWS * 2]
    for text in [*ODD_TEXTS.values(), *TEXTS]:
        doc = nlp.make_doc(text)
        doc._.questions = [WHO, *ODD_QUESTIONS.values()][: 1 + len(text) % 4]
        docs.append(doc)
    docs += [nlp.make_doc(text) for text in TEXTS]  # nothing is asked
    random.Random(seed).shuffle(docs)
    return docs


def test_many_chunks_equal_one(trained: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(trained.pipe(docs_to_ask(trained, 0)))
    monkeypatch.setattr("spacy_spanrel.extractive_qa.component._CHUNK_CHARS", 500)
    for doc, other in zip(whole, trained.pipe(docs_to_ask(trained, 0)), strict=True):
        assert_same_answers(other._.answers, doc._.answers)
        assert other._.spanrel_report == doc._.spanrel_report


def test_many_questions_about_a_doc_are_read_in_chunks(
    reader: ExtractiveQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Memory is bounded also if one Doc has all the questions.
    n_read: list[int] = []
    make_rows = model.make_qa_rows

    def noting(of_model: model.QAModel, X: QAInput) -> model.QARows:
        n_read.append(sum(map(len, X.questions)))
        return make_rows(of_model, X)

    questions = [f"who {word} ?" for word in WORDS]
    whole = reader.ask(VARIED_TEXT, questions)
    monkeypatch.setattr(model, "make_qa_rows", noting)
    size = len(VARIED_TEXT) + 200
    monkeypatch.setattr("spacy_spanrel.extractive_qa.component._CHUNK_CHARS", 7 * size)
    assert_same_answers(reader.ask(VARIED_TEXT, questions), whole)
    assert sum(n_read) == len(questions) > 14
    assert max(n_read) == 7


def test_annotation_beside_it_stays(trained: Language) -> None:
    doc = asking(trained, ROWS[0])
    doc.spans["other"] = [doc[0:2]]
    doc.set_ents([spacy.tokens.Span(doc, 0, 2, label="PER")])
    doc = the_pipe(trained)(doc)
    assert [span.text for span in doc.spans["other"]] == ["John Smith"]
    assert [ent.label_ for ent in doc.ents] == ["PER"]
    assert found(doc) == GOLD[0]


# Training


def test_asks_what_the_predicted_docs_ask(bert_checkpoint: Path) -> None:
    """Training asks the questions of the predicted Doc, or all gold questions if it has none."""
    nlp, pipe = make_nlp(bert_checkpoint)
    initialize(nlp, [])
    (row,) = ROWS[:1]

    def loss(asked: list[str] | None, gold: list[str]) -> float:
        questions = [question for question in row[1] if question[0] in gold]
        predicted = nlp.make_doc(row[0])
        if asked is not None:
            predicted._.questions = [(k, q) for k, q, _ in row[1] if k in asked]
        example = Example(predicted, gold_doc(nlp, (row[0], questions)))
        return pipe.update([example])["extractive_qa"]

    who, where, both = loss(None, ["who"]), loss(None, ["where"]), loss(None, ["who", "where"])
    assert who != pytest.approx(where, abs=1e-3)
    assert both == pytest.approx((who + where) / 2, abs=1e-5)
    assert loss(["who"], ["who", "where"]) == pytest.approx(who, abs=1e-5)
    assert loss(["where"], ["who", "where"]) == pytest.approx(where, abs=1e-5)
    assert loss(["where"], ["who"]) == 0.0


def test_gold_that_no_piece_covers(bert_checkpoint: Path) -> None:
    # Such answers are counted and warned of.
    nlp, pipe = make_nlp(bert_checkpoint)
    initialize(nlp, [])
    questions = [
        ("a", WHO, "Mary"),
        ("b", WHERE, "\u200b"),
        ("c", "when ?", "\u00ad"),
        ("d", "?", None),
    ]
    text = "Mary \u200b lives \u00ad in Paris"
    good: Row = (text, [questions[0], questions[3]])
    wanted = pipe.update(make_examples(nlp, [good]))["extractive_qa"]
    examples = make_examples(nlp, [(text, questions)])
    with pytest.warns(
        UserWarning, match=r"W_SR110\] Component '\w+': 2 gold answer.*'\\u200b' \(b\).*\(c\)"
    ):
        losses = pipe.update(examples)
    # The questions are left out, not learned as unanswerable.
    assert losses["extractive_qa"] == pytest.approx(wanted, abs=1e-5)
    pipe.update(examples)  # said once
    only = make_examples(nlp, [(text, questions[1:2])])
    assert pipe.update(only) == {"extractive_qa": 0.0}


def test_gold_within_tokens(bert_checkpoint: Path) -> None:
    """Answers may begin inside tokens, and the white space of the predicted Doc may differ."""
    nlp, pipe = make_nlp(bert_checkpoint)
    initialize(nlp, [])
    gold = Doc(nlp.vocab, words=["John", "lives", "in", "London-Paris", "."])
    start = gold.text.index("Paris")
    set_answers(gold, [make_answer(gold, Question("a", WHERE), start, start + 5)])
    words = ["John", "lives", "  ", "in", "London", "-Paris."]
    predicted = Doc(nlp.vocab, words=words, spaces=[True] * 4 + [False] * 2)
    assert predicted.text == "John lives    in London-Paris."
    example = Example(predicted, gold)
    rows = make_qa_rows(pipe.model, QAInput([predicted], [[WHERE]]))
    targets = make_targets(rows, find_gold([example], [get_answers(gold)], rows.texts))
    assert targets.rows.tolist() == [0]
    first, last = (targets.ends[0] - rows.rows[0].offset).tolist()
    chars = rows.texts[0].chars
    assert predicted.text[chars[first, 0] : chars[last, 1]] == "Paris"
    train(nlp, [example], 30)
    answer = pipe.ask(predicted, Question("a", WHERE))
    assert answer.text == "Paris"
    assert not answer.aligned


def test_plausible_answers_teach_the_place(bert_checkpoint: Path) -> None:
    """The best span is the plausible answer, though the question still has no answer."""
    found = {}
    for weight in (0.0, 1.0):
        nlp, pipe = make_nlp(bert_checkpoint, plausible_weight=weight)
        initialize(nlp, [])
        gold = nlp.make_doc("John lives in London . Mary was born in Paris .")
        plausible = make_answer(gold, Question("a", WHERE), 40, 45)
        assert plausible.text == "Paris"
        none = replace(make_answer(gold, Question("a", WHERE), 0, 0), alternatives=(plausible,))
        set_answers(gold, [none])
        train(nlp, [Example(nlp.make_doc(gold.text), gold)], 40)
        answer = pipe.ask(gold.text, Question("a", WHERE), top_k=2)
        assert not answer
        found[weight] = [other.text for other in answer.alternatives]
    assert found[1.0][0] == "Paris"
    assert found[0.0][0] != "Paris"


def test_targets_of_windows(bert_checkpoint: Path) -> None:
    """A window that does not hold the whole answer learns "no answer"."""
    nlp, pipe = make_nlp(bert_checkpoint)
    initialize(nlp, [])
    answer = "born in the city . Mary lives in London . he was born in the city . he"
    row: Row = (LONG_TEXT, [("a", WHO, answer), ("b", WHERE, None)])
    (example,) = make_examples(nlp, [row])
    rows = make_qa_rows(pipe.model, QAInput([example.predicted], [[WHO, WHERE]]))
    targets = make_targets(rows, find_gold([example], [get_answers(example.reference)], rows.texts))
    assert targets.rows.tolist() == list(range(len(rows.rows)))
    chars = rows.texts[0].chars
    n_whole = n_cut = 0
    for line, number, target in zip(rows.rows, rows.question, targets.ends.tolist(), strict=True):
        window = chars[line.start : line.start + len(line.owned)]
        text = LONG_TEXT[window[0, 0] : window[-1, 1]]
        if number == 0 and answer in text:
            n_whole += 1
            first, last = (column - line.offset for column in target)
            assert LONG_TEXT[window[first, 0] : window[last, 1]] == answer
        else:
            n_cut += number == 0 and ("Mary" in text or "London" in text)
            assert target == [0, 0]
    assert n_whole >= 1
    assert n_cut >= 1


def test_questions_without_gold_answers_are_not_learned(bert_checkpoint: Path) -> None:
    nlp, pipe = make_nlp(bert_checkpoint)
    initialize(nlp, [])
    open_question = Example(nlp.make_doc(TEXTS[0]), asking(nlp, ROWS[0]))
    assert pipe.update([open_question], sgd=create_adamw()) == {"extractive_qa": 0.0}


def test_frozen_component_annotates(
    trained: Language, bert_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen component answers its fixed questions while another component is trained."""
    nlp, second = make_nlp(bert_checkpoint, name="second", qa_key="more", extension_prefix="more_")
    nlp.add_pipe("extractive_qa", source=trained, first=True)
    the_pipe(nlp).cfg["questions"] = {"who": WHO}
    examples = make_examples(nlp)
    for example in examples:
        set_answers(example.reference, get_answers(example.reference), "more")
    fix_random_seed(0)
    second.initialize(lambda: examples, nlp=nlp)
    frozen = the_pipe(nlp).to_bytes()
    seen: list[Any] = []
    update = second.update

    def noting(examples: list[Example], **settings: Any) -> dict[str, float]:
        seen[:] = [found(example.predicted) for example in examples]
        return update(examples, **settings)

    monkeypatch.setattr(second, "update", noting)
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(40):
        losses: dict[str, float] = {}
        nlp.update(
            examples,
            sgd=optimizer,
            losses=losses,
            exclude=["extractive_qa"],
            annotates=["extractive_qa"],
        )
    assert set(losses) == {"second"}
    assert the_pipe(nlp).to_bytes() == frozen
    assert [[key for key, _ in part] for part in seen] == [["who"]] * len(ROWS)
    assert seen[1] == [("who", "Mary")]
    for row in ROWS:
        doc = nlp.make_doc(row[0])
        doc._.more_questions = [(key, question) for key, question, _ in row[1]]
        doc = nlp.get_pipe("second")(doc)
        assert found(doc, "more") == expected(row)
        assert doc._.more_answers == get_answers(doc, "more")


def test_training_goes_on_after_loading(trained_path: Path) -> None:
    nlp = spacy.load(trained_path)
    row: Row = ("the president is from Acme .", [("a", "who is from Acme ?", "the president")])
    examples = make_examples(nlp, [*ROWS, row])
    train(nlp, examples, 40)
    assert [found(doc) for doc in answer_all(nlp, [*ROWS, row])] == [*GOLD, expected(row)]


# Scoring


@pytest.fixture
def scored(trained_path: Path) -> Language:
    """The trained pipeline with the scorer."""
    config = {"components": {"extractive_qa": {"scorer": SCORER}}}
    return spacy.load(trained_path, config=config)


def test_evaluate_asks_the_gold_questions(scored: Language) -> None:
    # As in `spacy evaluate` and `spacy train`, the predicted Docs have no annotation.
    examples = make_examples(scored)
    before = [example.predicted.to_bytes() for example in examples]
    scores = scored.evaluate(examples)
    for name in ("qa_exact", "qa_f1", "qa_has_ans_exact", "qa_no_ans_exact", "qa_best_f1"):
        assert scores[name] == 1.0, name
    assert [example.predicted.to_bytes() for example in examples] == before
    assert all("qa" not in example.predicted.spans for example in examples)
    wrong: Row = (TEXTS[1], [("who", WHO, "London"), ("where", "where is the city ?", "Mary")])
    assert scored.evaluate(make_examples(scored, [*ROWS, wrong]))["qa_exact"] < 1.0


def test_answers_that_are_there_are_scored_as_they_are(scored: Language) -> None:
    # Only Docs that lack answers are asked.
    pipe = the_pipe(scored)
    (example,) = make_examples(scored, ROWS[1:2])
    who, what = get_questions(example.reference)
    doc = example.predicted
    set_answers(doc, [make_answer(doc, who, 14, 20), make_answer(doc, what, 14, 20)])
    assert list(pipe.answer_gold([example])) == [example]
    assert pipe.score([example])["qa_exact"] == 0.0
    set_answers(doc, [make_answer(doc, who, 14, 20)])
    (asked,) = pipe.answer_gold([example])
    assert found(asked.predicted) == GOLD[1]
    assert asked.reference is example.reference
    assert found(doc) == [("who", "London")]
    assert pipe.score([example])["qa_exact"] == 1.0


def test_docs_without_gold_questions_are_not_asked(trained: Language) -> None:
    pipe = the_pipe(trained)
    doc = trained.make_doc(TEXTS[0])
    example = Example(doc, doc.copy())
    assert list(pipe.answer_gold([example])) == [example]
    assert list(pipe.answer_gold([])) == []
    assert pipe.score([example]) == {}  # there is no scorer


# Several components, names


def test_two_instances(trained: Language, checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = make_nlp(
        checkpoint,
        name="other",
        qa_key="links",
        extension_prefix="other_",
        pretrained=True,
        questions={"a": "who ?"},
        no_answer=False,
    )
    nlp.initialize()
    nlp.add_pipe("extractive_qa", source=trained)
    nlp.to_disk(tmp_path / "pipeline")
    for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
        doc = pipeline.make_doc(ROWS[0][0])
        doc._.questions = [(key, question) for key, question, _ in ROWS[0][1]]
        doc = pipeline(doc)
        assert found(doc) == GOLD[0]
        assert [a.question.id for a in doc._.other_answers] == ["a"]
        assert doc._.other_answers == get_answers(doc, "links")
        assert doc._.other_answers[0]


def test_analyze_pipes(trained: Language) -> None:
    analysis = trained.analyze_pipes(keys=["assigns", "requires", "scores", "retokenizes"])
    summary = analysis["summary"]["extractive_qa"]
    assert set(summary["assigns"]) == {"doc.spans", "doc._.answers", "doc._.spanrel_report"}
    assert {"qa_f1", "qa_exact", "qa_no_ans_f1"} <= set(summary["scores"])
    assert not analysis["problems"]["extractive_qa"]


def test_foreign_extension_is_not_overwritten(
    checkpoint: Path, fresh_extensions: Iterator[None]
) -> None:
    # Other packages may use the same names.
    for name in ("questions", "answers"):
        for ours in ("questions", "answers"):
            if Doc.has_extension(ours):
                Doc.remove_extension(ours)
        Doc.set_extension(name, default="theirs")
        with pytest.raises(ValueError, match=rf"E_SR101.*'doc\._\.{name}'.*extension_prefix"):
            make_nlp(checkpoint)
        nlp, pipe = make_nlp(checkpoint, extension_prefix="our_", questions=["who ?"])
        nlp.initialize()
        doc = nlp("Mary")
        assert getattr(doc._, name) == "theirs"
        assert doc._.our_questions == (Question("q1", "who ?"),)
        assert len(doc._.our_answers) == 1


def test_nothing_comes_from_the_question_answering_pipeline() -> None:
    """Nothing is used of the question-answering pipeline, which transformers 5.3 removed."""
    imported = set()
    for path in Path(spacy_spanrel.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        # The pattern does not match spacy_transformers.data_classes.
        assert not re.search(r"(?<![\w.])transformers\.(pipelines|data)\b", source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] == "transformers"}
    assert "transformers.AutoConfig" in ours  # the search does find things
    for name in ours:
        assert not name.startswith(("transformers.pipelines", "transformers.data"))
        assert "pipeline" not in name.lower()
        assert "squad" not in name.lower()
