"""The `extractive_qa` component: answers to questions in the words of the Doc."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import get_lang_class
from spacy.vocab import Vocab
from thinc.api import Config

from ..annotations import (
    QA_KEY,
    Answer,
    Question,
    QuestionLike,
    Record,
    get_answers,
    get_questions,
    make_answer,
    make_questions,
    register_qa_extensions,
    set_answers,
    set_report,
)
from ..annotations.answers import plausible_answers
from ..arrays import BoolArray, FloatArray, IntArray
from ..encoding.alignment import project_chars
from ..encoding.batching import chunks_by_size
from ..encoding.pieces import TextPieces
from ..encoding.transfer import to_device
from ..errors import Warnings
from ..pipe import TorchPipe
from ..scoring.answers import QAScorer
from ..settings import Rule, check_settings, number, survives_as_table, whole_number
from ..training.losses import ends_loss
from .decoding import Candidates, WindowLogits, best_candidates, probabilities
from .features import pieces_of_range
from .model import Backprop, QAInput, QAModel, QARows

logger = logging.getLogger(__name__)


DEFAULT_CONFIG = """
[model]
@architectures = "spacy-spanrel.SpanQA.v1"
name = "deepset/minilm-uncased-squad2"
tokenizer = null
max_length = 384
doc_stride = 128
max_question_length = 64
batch_pieces = "auto"
dropout = null
attention_dropout = null
casing = false
precision = "auto"
device = "auto"
"""


def _are_questions(setting: Any) -> bool:
    if isinstance(setting, dict):
        texts = list(setting.values()) if survives_as_table(setting) else [None]
    else:
        texts = [row[1] if not isinstance(row, str) and len(row) == 2 else row for row in setting]
    return all(isinstance(text, str) and text.strip() for text in texts)


RULES = {
    "max_answer_length": whole_number(1),
    "n_best": whole_number(1),
    "top_k": whole_number(1),
    "questions": Rule(
        "a list of questions, a table {id: question}, or pairs [id, question] (where an id has "
        "':' or '='), none of them blank",
        _are_questions,
    ),
    "null_threshold": number(),
    "plausible_weight": number(0),
}

# Characters of text, times questions, that are read together in prediction: many batches of similar
# length can be made of them, and memory stays bounded.
_CHUNK_CHARS = 400_000


@Language.factory(
    "extractive_qa",
    assigns=["doc.spans", "doc._.answers", "doc._.spanrel_report"],
    default_config={
        "model": Config().from_str(DEFAULT_CONFIG)["model"],
        "qa_key": QA_KEY,
        "extension_prefix": "",
        "pretrained": True,
        "questions": [],
        "no_answer": True,
        "null_threshold": 0.0,
        "max_answer_length": 30,
        "n_best": 20,
        "top_k": 1,
        "language": None,
        "plausible_weight": 0.25,
        "scorer": {"@scorers": "spacy-spanrel.qa_scorer.v1"},
    },
    default_score_weights={
        "qa_f1": 0.5,
        "qa_exact": 0.5,
        "qa_has_ans_exact": 0.0,
        "qa_has_ans_f1": 0.0,
        "qa_no_ans_exact": 0.0,
        "qa_no_ans_f1": 0.0,
        "qa_best_exact": 0.0,
        "qa_best_f1": 0.0,
    },
)
def make_extractive_qa(
    nlp: Language,
    name: str,
    model: QAModel,
    qa_key: str,
    extension_prefix: str,
    pretrained: bool,
    questions: Union[list[str], list[list[str]], dict[str, str]],  # noqa: UP007 (resolved at run time)
    no_answer: bool,
    null_threshold: float,
    max_answer_length: int,
    n_best: int,
    top_k: int,
    language: Optional[str],  # noqa: UP045
    plausible_weight: float,
    scorer: Optional[QAScorer],  # noqa: UP045
) -> ExtractiveQA:
    """Make an `extractive_qa` component.

    qa_key (str): Span group behind `doc._.questions` and `doc._.answers`.
    extension_prefix (str): Put before the names of the extensions, where another package owns them.
    pretrained (bool): Take over the checkpoint's own question-answering head, ready to predict;
        false draws a new one to be trained.
    questions (list[str] | list[list[str]] | dict[str, str]): Asked of every Doc besides its own; a
        table, or pairs [id, question], give them ids.
    no_answer (bool): Whether "no answer" is an option. False for checkpoints that were trained
        without it (SQuAD 1.1): there is an answer to everything then.
    null_threshold (float): There is no answer where the null score exceeds the best answer's logit
        by more than this.
    max_answer_length (int): Longest answer in pieces.
    n_best (int): Answers among which probability is divided; never fewer than are kept.
    top_k (int): Answers that are kept for each question.
    language (str | None): Score as MLQA does for this language; None as SQuAD does.
    plausible_weight (float): In training, the weight of the plausible answers that SQuAD 2.0 gives
        for questions without an answer: they teach where an answer would be. 0 leaves them out.
    scorer (Callable | None): The scoring method.
    """
    return ExtractiveQA(
        nlp.vocab,
        model,
        name,
        scorer=scorer,
        qa_key=qa_key,
        extension_prefix=extension_prefix,
        pretrained=pretrained,
        questions=questions,
        no_answer=no_answer,
        null_threshold=null_threshold,
        max_answer_length=max_answer_length,
        n_best=n_best,
        top_k=top_k,
        language=language,
        plausible_weight=plausible_weight,
    )


@dataclass(frozen=True)
class Targets:
    """What the rows of a batch learn.

    rows (int64 array, (n,)): The rows that are learned.
    ends (int64 array, (n, 2)): Columns of the first and the last piece of the answer; twice the
        null position where the row holds none.
    plausible (int64 array, (n, 2)): The same of a plausible answer to a question that has none; -1
        where there is no such thing.
    text (bool array, (n, longest)): The columns that hold text.
    """

    rows: IntArray
    ends: IntArray
    plausible: IntArray
    text: BoolArray


class DocAnswers(tuple[Answer, ...]):
    """The answers about a Doc, and what becomes of `doc._.spanrel_report`.

    answers (Iterable[Answer]): The answers.
    report (dict | None): The record; None where nothing was asked.
    """

    report: Record

    def __new__(cls, answers: Iterable[Answer] = (), report: Record | None = None) -> DocAnswers:
        made = super().__new__(cls, answers)
        made.report = report or {"questions": 0, "questions_cut": 0, "windows": 0}
        return made


class ExtractiveQA(TorchPipe):
    """Extractive question answering over windows of the text (BERT, Devlin et al. 2019).

    Arguments as in `make_extractive_qa`. All settings live in `cfg`, are saved with the pipeline,
    and may be changed there after training.
    """

    rules = RULES

    def __init__(
        self,
        vocab: Vocab,
        model: QAModel,
        name: str = "extractive_qa",
        *,
        scorer: QAScorer | None = None,
        **settings: Any,
    ):
        super().__init__(vocab, model, name, scorer, settings)

    @staticmethod
    def register_extensions(settings: Mapping[str, Any]) -> None:
        """Register `doc._.questions` and `doc._.answers`. settings (Mapping[str, Any]): Of the config."""
        register_qa_extensions(settings["extension_prefix"], settings["qa_key"])

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]] | None = None,
        *,
        nlp: Language | None = None,
    ) -> None:
        """Load the checkpoint. Nothing is taken from the data, and none is needed to predict.

        get_examples (Callable | None): Not used.
        nlp (Language | None): Not used.
        RAISES (OSError, ValueError): If there is no such checkpoint, or with `pretrained` it has no
            question-answering head.
        """
        self.model.attrs["pretrained"] = self.cfg["pretrained"]
        self.model.initialize()
        self._warned = set()

    # Asking

    def ask(
        self,
        text: Doc | str,
        questions: QuestionLike | Iterable[QuestionLike],
        top_k: int | None = None,
    ) -> Any:
        """Ask questions about a text.

        text (Doc | str): The text; a Doc is left as it is.
        questions: One question (a text, a `Question` or a table), or several: any form of
            `doc._.questions`.
        top_k (int | None): Answers wanted for each question, the best one included; None for the
            setting.
        RETURNS (Answer | tuple[Answer, ...]): The answer to one question, with the others as its
            alternatives; a tuple for several questions, in their order.
        """
        (answers,) = self.ask_pipe([(text, questions)], top_k=top_k)
        return answers[0] if isinstance(questions, (str, Question, Mapping)) else answers

    def ask_pipe(
        self,
        asked: Iterable[tuple[Doc | str, QuestionLike | Iterable[QuestionLike]]],
        top_k: int | None = None,
        batch_size: int = 64,
    ) -> Iterator[tuple[Answer, ...]]:
        """Ask questions about a stream of texts.

        asked (Iterable[tuple]): Pairs of a text (or Doc) and its question or questions.
        top_k (int | None): As in `ask`.
        batch_size (int): Texts that are read together.
        YIELDS (tuple[Answer, ...]): The answers about each text, in the order of its questions.
        """
        stream = iter(asked)
        while batch := list(islice(stream, batch_size)):
            docs = [text if isinstance(text, Doc) else self._make_doc(text) for text, _ in batch]
            questions = [make_questions(given) for _, given in batch]
            yield from self.answer(docs, questions, top_k)

    def _make_doc(self, text: str) -> Doc:
        """Tokenize a text as a blank pipeline of the language does."""
        if not hasattr(self, "_tokenizer"):
            self._tokenizer = get_lang_class(self.vocab.lang or "xx")(vocab=self.vocab).tokenizer
        doc: Doc = self._tokenizer(text)
        return doc

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[tuple[Answer, ...]]:
        """Answer the Docs' questions, and the fixed ones, without touching the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[tuple[Answer, ...]]): The answers about each.
        """
        docs = list(docs)
        return self.answer(docs, [self._questions_of(doc) for doc in docs])

    def _questions_of(self, doc: Doc) -> tuple[Question, ...]:
        own = get_questions(doc, self.cfg["qa_key"])
        fixed = self.cfg["questions"]
        if not fixed:
            return own
        if isinstance(fixed, dict):
            fixed = [Question(str(key), text) for key, text in fixed.items()]
        asked = {question.id: question for question in own}
        for question in make_questions(fixed):
            # An id that the Doc uses otherwise gets a prefix: the same one whenever it passes.
            while asked.get(question.id, question).text != question.text:
                question = Question(f"fixed-{question.id}", question.text)
            asked[question.id] = question
        return tuple(asked.values())

    def answer(
        self,
        docs: Sequence[Doc],
        questions: Sequence[Sequence[Question]],
        top_k: int | None = None,
    ) -> list[tuple[Answer, ...]]:
        """Answer questions without touching the Docs.

        docs (Sequence[Doc]): The Docs.
        questions (Sequence[Sequence[Question]]): The questions about each.
        top_k (int | None): As in `ask`.
        RETURNS (list[tuple[Answer, ...]]): The answers about each, in the order of its questions.
        """
        keep = self.cfg["top_k"] if top_k is None else top_k
        check_settings(self.name, {"top_k": keep}, {"top_k": RULES["top_k"]})
        found: list[tuple[Answer, ...]] = [DocAnswers()] * len(docs)
        busy = [i for i, part in enumerate(questions) if part]
        sizes = [(len(docs[i].text) + 200) * len(questions[i]) for i in busy]
        for part in chunks_by_size(sizes, _CHUNK_CHARS):
            chosen = busy[part]
            answers = self._answer_chunk(
                [docs[i] for i in chosen], [questions[i] for i in chosen], keep
            )
            for i, own in zip(chosen, answers, strict=True):
                found[i] = own
        return found

    def _answer_chunk(
        self, docs: list[Doc], questions: list[Sequence[Question]], top_k: int
    ) -> list[tuple[Answer, ...]]:
        texts = [[question.text for question in part] for part in questions]
        output = self.model.predict(QAInput(docs, texts))
        self._warn_cut(output.rows.cut, texts)
        logits = output.logits.cpu().numpy()
        borders = np.searchsorted(output.rows.question, np.arange(sum(map(len, texts)) + 1))
        answers: list[tuple[Answer, ...]] = []
        number = 0
        cut = output.rows.cut
        n_best = max(self.cfg["n_best"], top_k)
        for doc, part, pieces in zip(docs, questions, output.rows.texts, strict=True):
            solid = _solid(doc.text, pieces)
            own, first = [], number
            for question in part:
                windows = _windows(output.rows, logits, borders[number], borders[number + 1])
                # Text without a word in it answers nothing, and a blank question asks nothing.
                usable = solid if question.text.strip() else np.zeros_like(solid)
                found = best_candidates(windows, usable, n_best, self.cfg["max_answer_length"])
                own.append(self._make_answer(doc, question, pieces, found, top_k))
                number += 1
            report = {
                "questions": len(own),
                "questions_cut": int(np.searchsorted(cut, number) - np.searchsorted(cut, first)),
                "windows": int(borders[number] - borders[first]),
            }
            answers.append(DocAnswers(own, report))
        return answers

    def _make_answer(
        self, doc: Doc, question: Question, pieces: TextPieces, found: Candidates, top_k: int
    ) -> Answer:
        null = found.null_score if self.cfg["no_answer"] else None
        scores = probabilities(found.logits, null).tolist()
        made = []
        for (first, last), logit, score in zip(
            found.spans[:top_k].tolist(), found.logits.tolist(), scores, strict=False
        ):
            start, end = int(pieces.chars[first, 0]), int(pieces.chars[last, 1])
            while doc.text[start].isspace():
                start += 1
            while doc.text[end - 1].isspace():
                end -= 1
            made.append(
                make_answer(
                    doc,
                    question,
                    start,
                    end,
                    score=score,
                    logit=logit,
                    null_score=found.null_score,
                )
            )
        difference = found.null_score - found.logits[0] if made else np.inf
        if not made or (null is not None and difference > self.cfg["null_threshold"]):
            return Answer(
                question,
                score=scores[-1],
                null_score=found.null_score,
                alternatives=tuple(made),
            )
        first_answer, *others = made
        return replace(first_answer, alternatives=tuple(others))

    def _warn_cut(self, cut: IntArray, texts: Sequence[Sequence[str]]) -> None:
        if not len(cut):
            return
        limit = self.model.attrs["max_question_length"]
        asked = [text.strip() for part in texts for text in part]
        self.warn_once(Warnings.W109, [asked[i][:80] for i in cut.tolist()], limit=limit)

    def set_annotations(
        self, docs: Iterable[Doc], predictions: Sequence[tuple[Answer, ...]]
    ) -> None:
        """Write answers on Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[tuple[Answer, ...]]): What it returned.
        """
        for doc, answers in zip(docs, predictions, strict=True):
            if answers:
                set_answers(doc, answers, self.cfg["qa_key"])
            if isinstance(answers, DocAnswers):
                set_report(doc, self.name, answers.report)

    # Training

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Learn the questions of the predicted Docs or, where a Doc has none, all of the gold ones.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The loss, averaged over the rows.
        """
        gold = [self._gold(example) for example in examples]
        if not any(gold):
            return ()
        docs = [example.predicted for example in examples]
        texts = [[answer.question.text for answer in part] for part in gold]
        output, backprop = self.model.begin_update(QAInput(docs, texts))
        self.skipped.update({"questions_cut": len(output.rows.cut)})
        self._warn_cut(output.rows.cut, texts)
        targets = self.make_targets(examples, gold, output.rows)
        device = output.logits.device
        chosen = to_device(torch.from_numpy(targets.rows), device)
        loss, d_chosen = ends_loss(
            output.logits[chosen],
            to_device(torch.from_numpy(targets.ends), device),
            to_device(torch.from_numpy(targets.plausible), device),
            to_device(torch.from_numpy(targets.text), device),
            self.cfg["plausible_weight"],
        )
        d_logits = torch.zeros_like(output.logits)
        d_logits[chosen] = d_chosen
        cast(Backprop, backprop)(d_logits)
        return (loss,)

    def _gold(self, example: Example) -> list[Answer]:
        """Gold answers to the questions that an Example asks."""
        answers = get_answers(example.reference, self.cfg["qa_key"])
        asked = {question.id for question in get_questions(example.predicted, self.cfg["qa_key"])}
        return [answer for answer in answers if not asked or answer.question.id in asked]

    def make_targets(
        self, examples: Sequence[Example], gold: Sequence[Sequence[Answer]], rows: QARows
    ) -> Targets:
        """Say where the answers are in the rows of a batch.

        A window that does not hold the whole answer has none: its target is the null position, as
        in BERT's `run_squad`.

        examples (Sequence[Example]): The batch.
        gold (Sequence[Sequence[Answer]]): The gold answers to the questions about each.
        rows (QARows): The rows of the same questions.
        RETURNS (Targets): What the rows learn.
        """
        places: list[tuple[int, int] | None] = []
        lost: list[str] = []
        skipped: set[int] = set()
        for i, (example, part) in enumerate(zip(examples, gold, strict=True)):
            source, target = example.reference.text, example.predicted.text
            for answer in part:
                place = None
                # The right answer, or the plausible one to a question that has none.
                wanted = answer or next(iter(plausible_answers(answer)), None)
                if wanted:
                    moved = project_chars(source, target, wanted.start_char, wanted.end_char)
                    place = pieces_of_range(rows.texts[i].chars, *moved)
                    if place is None and answer:
                        lost.append(f"{answer.text!r} ({answer.question.id})")
                        skipped.add(len(places))
                places.append(place)
        self.skipped.update({"answers_without_pieces": len(lost)})
        self.warn_once(Warnings.W110, lost)
        answerable = [bool(answer) for part in gold for answer in part]
        chosen = [i for i, number in enumerate(rows.question.tolist()) if number not in skipped]
        ends = np.zeros((len(chosen), 2), dtype=np.int64)
        plausible = np.full((len(chosen), 2), -1, dtype=np.int64)
        longest = max((len(row.ids) for row in rows.rows), default=0)
        text = np.zeros((len(chosen), longest), dtype=bool)
        for n, i in enumerate(chosen):
            row, question = rows.rows[i], int(rows.question[i])
            text[n, row.context : row.context + len(row.owned)] = True
            ends[n] = row.null
            found = places[question]
            if found is None:
                continue
            first, last = found[0] - row.start, found[1] - row.start
            if first >= 0 and last < len(row.owned):
                columns = (row.context + first, row.context + last)
                (ends if answerable[question] else plausible)[n] = columns
        return Targets(np.asarray(chosen, dtype=np.int64), ends, plausible, text)

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score the answers to the gold questions.

        Questions that the predicted Doc does not answer already are asked here: the inputs of
        `spacy evaluate` are texts alone.

        examples (Iterable[Example]): Gold and predictions.
        RETURNS (dict[str, Any]): The scores of the component's scorer.
        """
        if self.scorer is None:
            return {}
        return self.scorer(self.answer_gold(examples), **{**self.cfg, **kwargs})

    def answer_gold(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yield copies of Examples whose predicted Docs answer the gold questions.

        examples (Iterable[Example]): Gold and predictions.
        YIELDS (Example): Those whose predicted Docs answer all gold questions as they are.
        """
        key = self.cfg["qa_key"]
        examples = list(examples)
        wanted = [get_questions(example.reference, key) for example in examples]
        missing = []
        for i, (example, questions) in enumerate(zip(examples, wanted, strict=True)):
            answered = {answer.question for answer in get_answers(example.predicted, key)}
            if not answered.issuperset(questions):
                missing.append(i)
        docs = [examples[i].predicted.copy() for i in missing]
        answers = self.answer(docs, [wanted[i] for i in missing])
        self.set_annotations(docs, answers)
        copies = dict(zip(missing, docs, strict=True))
        for i, example in enumerate(examples):
            yield Example(copies[i], example.reference) if i in copies else example


def _solid(text: str, pieces: TextPieces) -> BoolArray:
    """Tell with which pieces an answer may begin, and with which it may end, (n_pieces, 2).

    They stand for more than white space. Where a character is several pieces (bytes, say), an answer
    begins with the first of them and ends with the last, so that a place is one answer.
    """
    chars = pieces.chars
    solid = np.asarray([bool(text[start:end].strip()) for start, end in chars.tolist()], dtype=bool)
    same = np.all(chars[1:] == chars[:-1], axis=1)
    begins, ends = solid.copy(), solid
    begins[1:] &= ~same
    ends[:-1] &= ~same
    return np.stack([begins, ends], axis=1)


def _windows(rows: QARows, logits: FloatArray, first: int, last: int) -> list[WindowLogits]:
    """Cut the windows out of the logits of some rows."""
    found = []
    for i in range(first, last):
        row = rows.rows[i]
        window = logits[i, row.context : row.context + len(row.owned)]
        null = float(logits[i, row.null].sum())
        found.append(WindowLogits(row.start, window[:, 0], window[:, 1], row.owned, null))
    return found
