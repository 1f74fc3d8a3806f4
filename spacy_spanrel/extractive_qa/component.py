"""The `extractive_qa` component: answers questions with words of the Doc."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import get_lang_class

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
from ..annotations.answers import text_length
from ..arrays import AnyArray, BoolArray, FloatArray, IntArray
from ..encoding.batching import chunks_by_size
from ..encoding.pieces import TextPieces
from ..encoding.transfer import to_device
from ..errors import Errors, Warnings
from ..pipe import TorchPipe
from ..scoring.answers import QAScorer
from ..settings import (
    TEMPERATURE,
    Rule,
    check_settings,
    defaults_of,
    number,
    survives_as_table,
    whole_number,
)
from ..training.corpus import is_unlabelled
from ..training.losses import ends_loss, further_losses
from ..training.teacher import TEACHER, Teacher, first_teacher, teachers_mean, teachers_of
from .decoding import Candidates, WindowLogits, best_candidates, probabilities
from .model import Backprop, QAInput, QAModel, QAOutput, QARows, SpanQA, initialize
from .targets import GoldPlace, find_gold, make_targets


def _are_questions(setting: Any) -> bool:
    """Tell whether the setting `questions` has one of its forms, without blank questions."""
    if isinstance(setting, dict):
        texts = list(setting.values()) if survives_as_table(setting) else [None]
    elif isinstance(setting, (list, tuple)):
        pairs = [item if isinstance(item, (list, tuple)) else ("", item) for item in setting]
        # An id may be empty, but has to be a text.
        texts = [pair[1] if len(pair) == 2 and isinstance(pair[0], str) else None for pair in pairs]
    else:
        return False
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
    "temperature": TEMPERATURE,
    "plausible_weight": number(0),
    "r_drop": number(0),
    "teacher": TEACHER,
}

# Characters of text, times questions, that are read together in prediction: enough for batches of rows
# of similar length, and few enough to bound the memory.
_CHUNK_CHARS = 400_000


def make_extractive_qa(
    nlp: Language,
    name: str,
    model: QAModel,
    *,
    qa_key: str = QA_KEY,
    extension_prefix: str = "",
    pretrained: bool = True,
    questions: Union[list[str], list[list[str]], dict[str, str]] = [],  # noqa: B006, UP007
    no_answer: bool = True,
    null_threshold: float = 0.0,
    temperature: float = 1.0,
    max_answer_length: int = 30,
    n_best: int = 20,
    top_k: int = 1,
    language: Optional[str] = None,  # noqa: UP045
    plausible_weight: float = 0.25,
    r_drop: float = 0.0,
    teacher: Optional[dict[str, Any]] = None,  # noqa: UP045
    scorer: Optional[QAScorer],  # noqa: UP045
) -> ExtractiveQA:
    """Make an `extractive_qa` component.

    qa_key (str): Span group of questions and answers, read and set by `doc._.questions` and
        `doc._.answers`. A second component with another group needs an `extension_prefix`.
    extension_prefix (str): Put before the names of the extensions, for example where another package
        uses these names.
    pretrained (bool): Use the question-answering head of the checkpoint, so that the component is
        ready to predict; false to train a new one.
    questions (list[str] | list[list[str]] | dict[str, str]): Questions that are asked of every Doc, in
        addition to the questions of the Doc. A table, or pairs [id, question], give them ids.
    no_answer (bool): Whether a question may have no answer. False for checkpoints that were trained
        without such questions (SQuAD 1.1).
    null_threshold (float): A question has no answer if the null score exceeds the logit of the best
        answer by more than this.
    temperature (float): Number by which logits and null score are divided before they become
        probabilities (Guo et al. 2017). `calibrate` finds the one with which scores tell how many
        answers are right. Logits and null scores of answers, and with them `null_threshold`, stay.
    max_answer_length (int): Length of the longest answer, in pieces.
    n_best (int): Number of best answers among which, with "no answer", the probability is divided; at
        least `top_k`.
    top_k (int): Number of answers to each question that are kept.
    language (str | None): Score by the rules of MLQA for this language; None for those of SQuAD.
    plausible_weight (float): Weight in training of the plausible answers that SQuAD 2.0 gives to
        questions without an answer. They teach where an answer would be. 0 ignores them.
    r_drop (float): Weight of the disagreement between two passes over each batch, with different
        dropout (R-Drop, Liang et al. 2021), usually 0.5 to 5; a step takes twice as long. 0: one pass.
    teacher (dict | None): A trained pipeline with a component of this kind, whose logits are learned
        beside the gold labels (Hinton et al. 2015): a table with `path`, and as one likes `weight`, its
        share of the loss (0.5), `temperature` (2.0) and `cache`, a file that keeps the logits for further
        trainings. With a list of paths the mean of their logits is learned. Teachers are needed in
        training only. null, or a path that is null: no teacher.
    scorer (Callable | None): The scoring method.
    """
    settings = dict(locals())
    return ExtractiveQA(settings.pop("nlp").vocab, **settings)


Language.factory(
    "extractive_qa",
    func=make_extractive_qa,
    assigns=["doc.spans", "doc._.answers", "doc._.spanrel_report"],
    default_config=defaults_of(
        make_extractive_qa,
        model={
            "@architectures": "spacy-spanrel.SpanQA.v1",
            **defaults_of(SpanQA, name="deepset/minilm-uncased-squad2"),
        },
        scorer={"@scorers": "spacy-spanrel.qa_scorer.v1"},
    ),
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


@dataclass(frozen=True)
class DocPrediction:
    """The prediction for one Doc.

    answers (tuple[Answer, ...]): The answers, in the order of the questions.
    report (dict): The component's part of `doc._.spanrel_report`: numbers of questions, of questions
        that were cut, and of windows.
    """

    answers: tuple[Answer, ...]
    report: Record


class ExtractiveQA(TorchPipe):
    """Extractive question answering in windows of the text (BERT, Devlin et al. 2019).

    Arguments as in `make_extractive_qa`.
    """

    rules = RULES
    extensions = (register_qa_extensions, "qa_key")

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]] | None = None,
        *,
        nlp: Language | None = None,
    ) -> None:
        """Load the checkpoint. No data is needed.

        get_examples (Callable | None): Returns the training examples; the first one is checked, none is
            used.
        nlp (Language | None): Ignored.
        RAISES (OSError, ValueError): If there is no such checkpoint, or if with `pretrained` it has no
            question-answering head.
        RAISES (TypeError): If `get_examples` does not return Examples.
        """
        next(self.read_examples(get_examples), None)
        initialize(self.model, self.cfg["pretrained"])

    # Asking

    def ask(
        self,
        text: Doc | str,
        questions: QuestionLike | Iterable[QuestionLike],
        top_k: int | None = None,
    ) -> Any:
        """Ask questions about a text.

        text (Doc | str): The text; a Doc is not changed.
        questions: One question (a text, a `Question` or a table), or several: anything that
            `doc._.questions` may be set to.
        top_k (int | None): Number of answers to each question, the best one included; None for the
            setting.
        RETURNS (Answer | tuple[Answer, ...]): The answer to one question, with the next best ones as
            its alternatives; for several questions a tuple, in their order.
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
        batch_size (int): Number of texts that are read together.
        YIELDS (tuple[Answer, ...]): The answers about each text, in the order of its questions.
        """
        stream = iter(asked)
        while batch := list(islice(stream, batch_size)):
            docs = [text if isinstance(text, Doc) else self._make_doc(text) for text, _ in batch]
            yield from self.answer(
                docs, [make_questions(questions) for _, questions in batch], top_k
            )

    def answer(
        self,
        docs: Sequence[Doc],
        questions: Sequence[Sequence[Question]],
        top_k: int | None = None,
    ) -> list[tuple[Answer, ...]]:
        """Answer questions about Docs, without changing the Docs.

        docs (Sequence[Doc]): The Docs.
        questions (Sequence[Sequence[Question]]): The questions about each Doc.
        top_k (int | None): As in `ask`.
        RETURNS (list[tuple[Answer, ...]]): The answers about each Doc, in the order of its questions.
        """
        return [prediction.answers for prediction in self._predict(docs, questions, top_k)]

    def _make_doc(self, text: str) -> Doc:
        """Tokenize a text as a blank pipeline of the language does."""
        if not hasattr(self, "_tokenizer"):
            self._tokenizer = get_lang_class(self.vocab.lang or "xx")(vocab=self.vocab).tokenizer
        doc: Doc = self._tokenizer(text)
        return doc

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[DocPrediction]:
        """Answer the questions of Docs and the fixed questions, without changing the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[DocPrediction]): One for each Doc.
        """
        docs = list(docs)
        return self._predict(docs, [self._questions_of(doc) for doc in docs])

    def _questions_of(self, doc: Doc) -> tuple[Question, ...]:
        """Return the questions of a Doc, followed by the fixed questions that it does not have yet."""
        questions = {question.id: question for question in get_questions(doc, self.cfg["qa_key"])}
        fixed = self.cfg["questions"]
        if isinstance(fixed, dict):
            fixed = [Question(str(key), text) for key, text in fixed.items()]
        for question in make_questions(fixed):
            # If another question of the Doc has the id, the fixed one gets a prefix. It is the same
            # prefix whenever the Doc passes, so that the question is not added again.
            while questions.get(question.id, question).text != question.text:
                question = Question(f"fixed-{question.id}", question.text)
            questions[question.id] = question
        return tuple(questions.values())

    def _predict(
        self,
        docs: Sequence[Doc],
        questions: Sequence[Sequence[Question]],
        top_k: int | None = None,
    ) -> list[DocPrediction]:
        """Answer questions about Docs; arguments as in `answer`."""
        keep = self.cfg["top_k"] if top_k is None else top_k
        check_settings(f"component '{self.name}'", {"top_k": keep}, {"top_k": RULES["top_k"]})
        answers: list[list[Answer]] = [[] for _ in docs]
        counts = [Counter(questions=0, questions_cut=0, windows=0) for _ in docs]
        requests: list[tuple[int, Sequence[Question]]] = []
        sizes: list[int] = []
        for i, (doc, asked) in enumerate(zip(docs, questions, strict=True)):
            # A Doc with more questions than fit into a chunk is read several times.
            size = text_length(doc) + 200
            step = max(1, _CHUNK_CHARS // size)
            for start in range(0, len(asked), step):
                requests.append((i, asked[start : start + step]))
                sizes.append(size * len(requests[-1][1]))
        for chunk in chunks_by_size(sizes, _CHUNK_CHARS):
            predictions = self._predict_chunk(
                [(docs[i], asked) for i, asked in requests[chunk]], keep
            )
            for (i, _), prediction in zip(requests[chunk], predictions, strict=True):
                answers[i] += prediction.answers
                counts[i].update(prediction.report)
        return [
            DocPrediction(tuple(answers_of_doc), dict(counts_of_doc))
            for answers_of_doc, counts_of_doc in zip(answers, counts, strict=True)
        ]

    def _predict_chunk(
        self, chunk: Sequence[tuple[Doc, Sequence[Question]]], top_k: int
    ) -> list[DocPrediction]:
        """Answer questions about Docs that are read together."""
        texts = [[question.text for question in questions] for _, questions in chunk]
        output = self.model.predict(QAInput([doc for doc, _ in chunk], texts))
        rows, logits = output.rows, output.logits.cpu().numpy()
        self._warn_cut(rows.cut, texts)
        # The rows of question i are those from borders[i] to borders[i + 1].
        borders = np.searchsorted(rows.question, np.arange(sum(map(len, texts)) + 1))
        n_best = max(self.cfg["n_best"], top_k)
        predictions = []
        first = 0
        for (doc, questions), pieces in zip(chunk, rows.texts, strict=True):
            last = first + len(questions)
            text = doc.text
            usable = _usable_pieces(text, pieces)
            answers = []
            for question, (start, end) in zip(
                questions, pairwise(borders[first : last + 1].tolist()), strict=True
            ):
                candidates = best_candidates(
                    _windows(rows, logits, start, end),
                    # A blank question has no answer.
                    usable if question.text.strip() else np.zeros_like(usable),
                    n_best,
                    self.cfg["max_answer_length"],
                )
                answers.append(self._make_answer(doc, text, question, pieces, candidates, top_k))
            report = {
                "questions": len(questions),
                "questions_cut": int(np.sum((first <= rows.cut) & (rows.cut < last))),
                "windows": int(borders[last] - borders[first]),
            }
            predictions.append(DocPrediction(tuple(answers), report))
            first = last
        return predictions

    def _make_answer(
        self,
        doc: Doc,
        text: str,
        question: Question,
        pieces: TextPieces,
        candidates: Candidates,
        top_k: int,
    ) -> Answer:
        """Make the answer to a question, with its alternatives, from the best candidates."""
        null_score = candidates.null_score
        scores = probabilities(
            candidates.logits,
            null_score if self.cfg["no_answer"] else None,
            self.cfg["temperature"],
        ).tolist()
        answers = []
        for (first, last), logit, score in zip(
            candidates.spans[:top_k].tolist(), candidates.logits.tolist(), scores, strict=False
        ):
            start, end = int(pieces.chars[first, 0]), int(pieces.chars[last, 1])
            answer = text[start:end]
            start += len(answer) - len(answer.lstrip())
            end -= len(answer) - len(answer.rstrip())
            scored = {"score": score, "logit": logit, "null_score": null_score}
            answers.append(make_answer(doc, question, start, end, **scored))
        if not answers or (
            self.cfg["no_answer"] and null_score - candidates.logits[0] > self.cfg["null_threshold"]
        ):
            return Answer(
                question, score=scores[-1], null_score=null_score, alternatives=tuple(answers)
            )
        best, *others = answers
        return replace(best, alternatives=tuple(others))

    def _warn_cut(self, cut: IntArray, texts: Sequence[Sequence[str]]) -> None:
        """Warn of questions that were cut. cut (int64 array): Their numbers among all questions."""
        asked = [text.strip() for texts_of_doc in texts for text in texts_of_doc]
        limit = self.model.attrs["max_question_length"]
        self.warn_once(Warnings.W109, [asked[i][:80] for i in cut.tolist()], limit=limit)

    def set_annotations(self, docs: Iterable[Doc], predictions: Sequence[DocPrediction]) -> None:
        """Write answers on Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[DocPrediction]): The predictions for them.
        """
        for doc, prediction in zip(docs, predictions, strict=True):
            if prediction.answers:
                set_answers(doc, prediction.answers, self.cfg["qa_key"])
            set_report(doc, self.name, prediction.report)

    # Training

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Learn the gold answers to the questions of the predicted Docs or, where a Doc has no
        questions, to all gold questions.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The loss, averaged over the rows.
        """
        gold = [self._gold(example) for example in examples]
        if not any(gold):
            return ()
        texts = [[answer.question.text for answer in answers] for answers in gold]
        docs = [example.predicted for example in examples]
        n_passes = 2 if self.cfg["r_drop"] else 1
        output, backprop = self.model.begin_update(QAInput(docs * n_passes, texts * n_passes))
        places = find_gold(examples, gold, output.rows.texts[: len(docs)])
        self._note_skipped(output.rows, texts, places)
        targets = make_targets(output.rows, places * n_passes)
        device = output.logits.device
        learned = to_device(torch.from_numpy(targets.rows), device)
        # Rows of unlabelled texts are the teacher's alone.
        has_gold = [
            not is_unlabelled(eg) for eg, of_doc in zip(examples, gold, strict=True) for _ in of_doc
        ]
        is_gold = np.asarray(has_gold * n_passes, dtype=bool)[output.rows.question[targets.rows]]
        rows = slice(None) if is_gold.all() else to_device(torch.from_numpy(is_gold), device)
        value, d_rows = ends_loss(
            output.logits[learned][rows],
            to_device(torch.from_numpy(targets.ends), device)[rows],
            to_device(torch.from_numpy(targets.plausible), device)[rows],
            to_device(torch.from_numpy(targets.text), device)[rows],
            self.cfg["plausible_weight"],
        )
        hard_loss = value, d_rows
        if not is_gold.all():
            share = float(is_gold.mean())
            d_all = torch.zeros_like(output.logits[learned])
            d_all[rows] = share * d_rows
            hard_loss = share * value, d_all
        taught = None
        if teachers := teachers_of(self):
            asked = [
                (doc, text) for doc, of_doc in zip(docs, texts, strict=True) for text in of_doc
            ]
            logits = [self._ask_teacher(teacher, asked, output) for teacher in teachers]
            taught = teachers_mean(self.cfg["teacher"], logits, device)
            taught = replace(taught, logits=taught.logits[learned])
        loss, d_learned = further_losses(
            hard_loss, output.logits[learned], r_drop=self.cfg["r_drop"], taught=taught, dim=1
        )
        d_logits = torch.zeros_like(output.logits)
        d_logits[learned] = d_learned
        cast(Backprop, backprop)(d_logits)
        return (loss,)

    def _ask_teacher(
        self, teacher: Teacher, asked: Sequence[tuple[Doc, str]], output: QAOutput
    ) -> FloatArray:
        """Return a teacher's logits of the rows of a batch."""
        answers = teacher.logits(asked)
        logits = np.full(output.logits.shape, -np.inf, dtype=np.float32)
        rows, numbers = output.rows.rows, output.rows.question % len(asked)
        start = 0
        for i, row in enumerate(rows):
            ids, answer = answers[numbers[i]]
            is_first = i == 0 or output.rows.question[i] != output.rows.question[i - 1]
            start = 0 if is_first else start
            end = start + len(row.ids)
            if not np.array_equal(ids[start:end], row.ids):
                raise ValueError(Errors.E513.format(name=self.name, path=teacher.path))
            logits[i, : len(row.ids)] = answer[start:end]
            start = end
        return logits

    def class_logits(self, items: Sequence[tuple[Doc, Any]]) -> list[tuple[AnyArray, ...]]:
        """Compute the logits of questions.

        items (Sequence[tuple[Doc, str]]): Docs, each with a question.
        RETURNS (list[tuple[IntArray, FloatArray]]): For each question the piece ids of its rows, one row
            after the other, ``(n_pieces,)``, and their logits, ``(n_pieces, 2)``.
        """
        output = self.model.predict(
            QAInput([doc for doc, _ in items], [[text] for _, text in items])
        )
        logits = output.logits.float().cpu().numpy()
        rows: list[list[int]] = [[] for _ in items]
        for i, question in enumerate(output.rows.question.tolist()):
            rows[question].append(i)
        ids = [row.ids for row in output.rows.rows]
        return [
            (
                np.concatenate([ids[i] for i in of_item]),
                np.concatenate([logits[i, : len(ids[i])] for i in of_item]),
            )
            for of_item in rows
        ]

    def _gold(self, example: Example) -> list[Answer]:
        """Return the gold answers to the questions that an Example asks."""
        if is_unlabelled(example):
            first_teacher(self)
            questions = get_questions(example.predicted, self.cfg["qa_key"])
            return [
                Answer(question)
                for question in questions or get_questions(example.reference, self.cfg["qa_key"])
            ]
        answers = get_answers(example.reference, self.cfg["qa_key"])
        asked = {question.id for question in get_questions(example.predicted, self.cfg["qa_key"])}
        return [answer for answer in answers if not asked or answer.question.id in asked]

    def _note_skipped(
        self, rows: QARows, texts: Sequence[Sequence[str]], places: Sequence[GoldPlace]
    ) -> None:
        """Count what the batch leaves out, and warn of it."""
        lost = [place.answer for place in places if place.is_unreachable]
        cut = rows.cut[rows.cut < len(places)]  # those of the first pass
        self.skipped.update(questions_cut=len(cut), answers_without_pieces=len(lost))
        self._warn_cut(cut, texts)
        self.warn_once(Warnings.W110, [f"{a.text!r} ({a.question.id})" for a in lost])

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score the answers to the gold questions.

        Gold questions that the predicted Docs do not answer are asked first: `spacy evaluate` gives
        the component bare texts.

        examples (Iterable[Example]): Gold and predictions.
        RETURNS (dict[str, Any]): The scores of the component's scorer.
        """
        return super().score(self.answer_gold(examples), **kwargs)

    def answer_gold(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Answer the gold questions where the predicted Docs do not.

        examples (Iterable[Example]): Gold and predictions.
        YIELDS (Example): The Examples; those that lacked answers with a copy of the predicted Doc.
        """
        key = self.cfg["qa_key"]
        examples = list(examples)
        gold = [get_questions(example.reference, key) for example in examples]
        lacking = [
            i
            for i, (example, questions) in enumerate(zip(examples, gold, strict=True))
            if not {a.question for a in get_answers(example.predicted, key)}.issuperset(questions)
        ]
        docs = [examples[i].predicted.copy() for i in lacking]
        self.set_annotations(docs, self._predict(docs, [gold[i] for i in lacking]))
        answered = dict(zip(lacking, docs, strict=True))
        for i, example in enumerate(examples):
            yield Example(answered[i], example.reference) if i in answered else example


def _usable_pieces(text: str, pieces: TextPieces) -> BoolArray:
    """Tell with which pieces an answer may begin (first column) and end (second column).

    Pieces of white space alone are not usable. Where several pieces stand for one character (the bytes
    of an emoji, say), an answer begins with the first of them and ends with the last, so that no two
    answers have the same place.

    text (str): The text.
    pieces (TextPieces): Its pieces.
    RETURNS (bool array, (n_pieces, 2)): Whether an answer may begin and end there.
    """
    chars = pieces.chars
    is_solid = [bool(text[start:end].strip()) for start, end in chars.tolist()]
    begins = np.asarray(is_solid, dtype=bool)
    ends = begins.copy()
    is_same = np.all(chars[1:] == chars[:-1], axis=1)
    begins[1:] &= ~is_same
    ends[:-1] &= ~is_same
    return np.stack([begins, ends], axis=1)


def _windows(rows: QARows, logits: FloatArray, first: int, last: int) -> list[WindowLogits]:
    """Return the logits of the windows in the rows from `first` to `last` (exclusive)."""
    windows = []
    for row, row_logits in zip(rows.rows[first:last], logits[first:last], strict=True):
        window = row_logits[row.offset : row.offset + len(row.owned)]
        null = float(row_logits[row.null].sum())
        windows.append(WindowLogits(row.start, window[:, 0], window[:, 1], row.owned, null))
    return windows
