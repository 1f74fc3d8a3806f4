"""Scores of answers, equal to those of the official scripts of SQuAD 2.0 and MLQA.

The functions that compare texts work like the official SQuAD script: scores are percentages, thresholds
apply to the probability of "no answer". `score_answers` is the scorer of spaCy that uses them: scores
from 0 to 1, for Examples.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import Any, Literal, Protocol, runtime_checkable

from spacy import registry
from spacy.training import Example

from ..annotations import QA_KEY, get_answers
from ..annotations.answers import best_answer, null_difference, reference_answers
from ..errors import Errors

# Names of the parts of the data, here and in the official script.
_PARTS = {"": "", "has_ans_": "HasAns_", "no_ans_": "NoAns_"}

# The articles that MLQA removes. Hindi and Chinese have no articles.
_ARTICLES = {
    "en": "a an the",
    "es": "el la los las un una unos unas",
    "de": "der die das den dem des ein eine einen einem eines einer",
    "vi": "của là cái chiếc những",
}
_ARTICLE = {
    language: re.compile(rf"\b(?:{words.replace(' ', '|')})\b")
    for language, words in _ARTICLES.items()
}
# MLQA removes the letters of the Arabic article everywhere, also inside words.
_ARTICLE["ar"] = re.compile("ال")
LANGUAGES = ("en", "es", "hi", "vi", "de", "ar", "zh")

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHINESE = re.compile("([\u4e00-\u9fa5])")


@runtime_checkable
class QAScorer(Protocol):
    """A function that scores Examples. It takes the `cfg` of a component as keyword arguments."""

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]: ...


# Texts


def normalize_answer(text: str, language: str | None = None) -> str:
    """Normalize an answer for comparison.

    The text is lower-cased, punctuation and then articles are removed, and words are joined by single
    spaces.

    - None: the rules of SQuAD (Rajpurkar et al. 2016), whatever the language of the text: ASCII
      punctuation and English articles.
    - "en", "es", "hi", "vi", "de", "ar", "zh": the rules of MLQA (Lewis et al. 2020): ASCII and Unicode
      punctuation and the articles of the language. In Vietnamese these are của, là, cái, chiếc and
      những; in Arabic the two letters of the article, also inside words; Hindi and Chinese have none. In
      Chinese text each character from U+4E00 to U+9FA5 is a word; otherwise words are separated by
      white space.

    text (str): The answer.
    language (str | None): The language whose rules apply.
    RETURNS (str): The normalized answer.
    RAISES (ValueError): If there are no rules for the language.
    """
    text = text.lower()
    if language is None:
        text = text.translate(_ASCII_PUNCTUATION)
    elif language in LANGUAGES:
        text = "".join(char for char in text if not _is_punctuation(char))
    else:
        languages = ", ".join(map(repr, LANGUAGES))
        raise ValueError(Errors.E851.format(language=language, languages=languages))
    article = _ARTICLE.get(language or "en")
    if article is not None:
        text = article.sub(" ", text)
    if language == "zh":
        text = _CHINESE.sub(r" \1 ", text)
    return " ".join(text.split())


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P") or char in string.punctuation


def exact_match(prediction: str, references: Sequence[str], language: str | None = None) -> float:
    """Return 1 if an answer equals one of the references, else 0; arguments as in `f1`."""
    return _compare(prediction, references, language)[0]


def f1(prediction: str, references: Sequence[str], language: str | None = None) -> float:
    """Compare the words of an answer with those of the most similar reference.

    A word that is repeated counts as often as both sides have it. If one side has no words, F1 is 1 if
    the other has none either, else 0.

    prediction (str): The answer; "" for no answer.
    references (Sequence[str]): The right answers; none for a question without an answer. References
        that normalize to nothing are ignored; if all do, "" is the right answer.
    language (str | None): As in `normalize_answer`.
    RETURNS (float): F1, from 0 to 1.
    RAISES (ValueError): If there are no rules for the language.
    """
    return _compare(prediction, references, language)[1]


def _compare(
    prediction: str, references: Sequence[str], language: str | None
) -> tuple[float, float]:
    """Return exact match and F1."""
    answer = normalize_answer(prediction, language)
    normalized = [normalize_answer(reference, language) for reference in references]
    right = [text for text in normalized if text] or [""]
    return float(answer in right), max(_word_f1(answer.split(), text.split()) for text in right)


def _word_f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    n_common = (Counter(predicted) & Counter(gold)).total()
    if not n_common:
        return 0.0
    precision, recall = n_common / len(predicted), n_common / len(gold)
    return 2 * precision * recall / (precision + recall)


# Questions


@dataclass(frozen=True)
class _Result:
    """The scores of one question.

    has_answer (bool): Whether the question has an answer.
    answered (bool): Whether the prediction is an answer.
    exact, f1 (float): The scores of the prediction.
    """

    has_answer: bool
    answered: bool
    exact: float
    f1: float

    @property
    def unanswered(self) -> float:
        """The score, by both measures, that "no answer" would have."""
        return float(not self.has_answer)


def squad_scores(
    references: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    *,
    na_threshold: float = 1.0,
    language: str | None = None,
    missing: Literal["error", "skip"] = "error",
) -> dict[str, float | int]:
    """Score predictions like the official SQuAD 2.0 script (Rajpurkar et al. 2018).

    The best thresholds are those of the official script too. It raises the threshold from question to
    question in the order of `na_probs`, and takes "answer no question" for the threshold 0. If
    `na_probs` are not probabilities, `best_null_threshold` gives a threshold that can be used.

    references (Mapping[str, Sequence[str]]): The right answers to each question, by its id; none for a
        question without an answer.
    predictions (Mapping[str, str]): An answer to each question, "" for no answer. Answers to other
        questions are ignored.
    na_probs (Mapping[str, float] | None): The probability of "no answer" for each question, or another
        number that is higher the less likely an answer is.
    na_threshold (float): A prediction whose `na_probs` exceeds this counts as "no answer".
    language (str | None): As in `normalize_answer`.
    missing ("error" | "skip"): Whether to refuse or to ignore questions without a prediction. (The
        official script stops or goes on, depending on the question.)
    RETURNS (dict[str, float | int]): exact, f1, total; HasAns_exact, HasAns_f1, HasAns_total and
        NoAns_exact, NoAns_f1, NoAns_total if there are such questions; with `na_probs` also
        best_exact, best_exact_thresh, best_f1, best_f1_thresh. Scores are percentages.
    RAISES (ValueError): If predictions or probabilities are missing, or there are no questions.
    """
    if missing not in ("error", "skip"):
        raise ValueError(Errors.E854.format(found=missing))
    if missing == "skip":
        references = {key: texts for key, texts in references.items() if key in predictions}
    results = _results(references, predictions, language)
    by_question = {key: (result.exact, result.f1) for key, result in results.items()}
    if na_probs is not None:
        _check_ids(references, na_probs, "probability of no answer")
        for key, result in results.items():
            if na_probs[key] > na_threshold:
                by_question[key] = (result.unanswered, result.unanswered)
    scores = _means(list(by_question.values()))
    for name, has_answer in (("HasAns", True), ("NoAns", False)):
        group = [by_question[key] for key, r in results.items() if r.has_answer is has_answer]
        if group:
            scores.update({f"{name}_{key}": value for key, value in _means(group).items()})
    if na_probs is not None:
        # Equal numbers stay in their order, as in the official script.
        order = [key for key in sorted(na_probs, key=na_probs.__getitem__) if key in results]
        ranked = [(na_probs[key], results[key]) for key in order]
        for name in ("exact", "f1"):
            best, threshold = _official_best(ranked, name)
            scores[f"best_{name}"] = best
            scores[f"best_{name}_thresh"] = threshold
    return scores


def _results(
    references: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    language: str | None,
) -> dict[str, _Result]:
    if not references:
        raise ValueError(Errors.E853)
    _check_ids(references, predictions, "prediction")
    return {
        key: _Result(
            bool(texts), bool(predictions[key]), *_compare(predictions[key], texts, language)
        )
        for key, texts in references.items()
    }


def _check_ids(wanted: Iterable[str], values: Mapping[str, Any], what: str) -> None:
    """Refuse values that lack some ids. what (str): A name for the values."""
    ids = [key for key in wanted if key not in values]
    if ids:
        raise ValueError(Errors.E852.format(n=len(ids), what=what, ids=", ".join(ids)))


def _means(scores: Sequence[tuple[float, float]]) -> dict[str, float | int]:
    exact = f1 = 0.0
    # Not by `sum`, which rounds differently from Python 3.12 on.
    for one_exact, one_f1 in scores:
        exact += one_exact
        f1 += one_f1
    n = len(scores)
    return {"exact": 100.0 * exact / n, "f1": 100.0 * f1 / n, "total": n}


def _official_best(ranked: Sequence[tuple[float, _Result]], name: str) -> tuple[float, float]:
    """Return the best score and the first threshold that gives it, by the official script's rules."""
    best = current = float(sum(not result.has_answer for _, result in ranked))
    best_threshold = 0.0
    for threshold, result in ranked:
        if result.has_answer:
            current += getattr(result, name)
        elif result.answered:
            current -= 1
        if current > best:
            best, best_threshold = current, threshold
    return 100.0 * best / len(ranked), best_threshold


def best_null_threshold(
    references: Mapping[str, Sequence[str]],
    answers: Mapping[str, str],
    differences: Mapping[str, float],
    *,
    language: str | None = None,
) -> tuple[float, float]:
    """Find the threshold on score differences that gives the best F1.

    A question counts as unanswered if its difference exceeds the threshold. Unlike the official
    script's best_f1_thresh, the threshold really gives the F1 that is returned: questions of equal
    difference are answered together, and a threshold below all differences answers none.

    references (Mapping[str, Sequence[str]]): As in `squad_scores`.
    answers (Mapping[str, str]): The best answer to each question other than "no answer".
    differences (Mapping[str, float]): The null score minus the score of that answer, for each question;
        with infinite differences the question is always or never answered.
    language (str | None): As in `normalize_answer`.
    RETURNS (tuple[float, float]): The threshold and its F1 as a percentage, as in `squad_scores`. The
        threshold is 0 if no other is better. Otherwise it lies in the lowest range of best thresholds:
        half-way between the two differences that limit it or, if it has only one limit, 1 beyond that.
    RAISES (ValueError): If answers or differences are missing, or there are no questions.
    """
    results = _results(references, answers, language)
    _check_ids(references, differences, "score difference")
    for key in results:
        if math.isnan(differences[key]):
            raise ValueError(Errors.E855.format(id=key, found=differences[key]))
    # Fractions, so that equal sums are equal in whatever order they were added.
    gains = sorted(
        (differences[key], Fraction(result.f1) - Fraction(result.unanswered))
        for key, result in results.items()
    )
    finite = [gain for gain in gains if math.isfinite(gain[0])]
    # (low, gain): the gain of a threshold of `low` or more over one that is below all finite
    # differences.
    at_zero = current = Fraction(0)
    steps = [(-math.inf, current)]
    for difference, group in groupby(finite, key=lambda gain: gain[0]):
        group_gains = [gain for _, gain in group]
        current += sum(group_gains, Fraction(0))
        # Questions for which it makes no difference whether they are answered limit no range.
        if any(group_gains):
            steps.append((difference, current))
        if difference <= 0:
            at_zero = current
    best = max(gain for _, gain in steps)
    threshold = 0.0
    if best > at_zero:
        lows = [low for low, _ in steps]
        first = next(i for i, (_, gain) in enumerate(steps) if gain == best)
        threshold = _middle(lows[first], lows[first + 1] if first + 1 < len(lows) else math.inf)
    scores = squad_scores(
        references, answers, differences, na_threshold=threshold, language=language
    )
    return threshold, scores["f1"]


def _middle(low: float, high: float) -> float:
    """Return the middle of the range [low, high); if one end is infinite, a number 1 from the other."""
    if math.isinf(low):
        return min(high - 1.0, math.nextafter(high, -math.inf))
    if math.isinf(high):
        return low + 1.0
    middle = low + (high - low) / 2
    return middle if low <= middle < high else low


# Docs


@dataclass
class GatheredAnswers:
    """Gold and predicted answers to the questions of several Docs.

    The keys are made of the number of the Doc and the id of the question: the same id in two Docs
    stands for two questions.

    references (dict[str, list[str]]): The right answers.
    predictions (dict[str, str]): The predicted answers; "" for no answer.
    best (dict[str, str]): The best predicted answers other than "no answer"; "" if there is none.
    differences (dict[str, float | None]): As in `null_difference`.
    unanswered (int): Number of questions without a prediction. They count as answered by "", with an
        infinite difference.
    """

    references: dict[str, list[str]] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float | None] = field(default_factory=dict)
    unanswered: int = 0


def gather_answers(examples: Iterable[Example], qa_key: str = QA_KEY) -> GatheredAnswers:
    """Collect the gold and predicted answers to the same questions, by the ids of the questions.

    examples (Iterable[Example]): Gold and predictions. Questions of the gold Docs without a gold answer
        or a gold "no answer" are left out.
    qa_key (str): Span group of questions and answers, in both Docs.
    RETURNS (GatheredAnswers): The answers, in the order of the gold questions.
    """
    gathered = GatheredAnswers()
    for number, example in enumerate(examples):
        predicted = {a.question.id: a for a in get_answers(example.predicted, qa_key)}
        for gold in get_answers(example.reference, qa_key):
            key = f"{number}: {gold.question.id}"
            gathered.references[key] = [answer.text for answer in reference_answers(gold)]
            answer = predicted.get(gold.question.id)
            best = None if answer is None else best_answer(answer)
            gathered.unanswered += answer is None
            gathered.predictions[key] = "" if answer is None else answer.text
            gathered.best[key] = "" if best is None else best.text
            gathered.differences[key] = math.inf if answer is None else null_difference(answer)
    return gathered


@registry.scorers("spacy-spanrel.qa_scorer.v1")
def make_qa_scorer() -> QAScorer:
    """Return the scorer of `extractive_qa`: `score_answers`."""
    return score_answers


def score_answers(
    examples: Iterable[Example],
    *,
    qa_key: str = QA_KEY,
    language: str | None = None,
    **cfg: Any,
) -> dict[str, Any]:
    """Score answers by the rules of the official SQuAD 2.0 script.

    qa_exact, qa_f1 and those of parts of the data score the predicted answers, with the component's own
    null threshold: what the official script prints for a file of these answers. qa_best_* are what it
    prints for the best answers other than "no answer", with null score - logit for `na_probs`. They
    tell how good another null threshold would be (qa_best_f1), and which one (qa_best_f1_thresh;
    `best_null_threshold` finds one that is right in all cases).

    examples (Iterable[Example]): Gold and predictions. A gold question without a prediction counts as
        answered by "", and in qa_unanswered.
    qa_key (str): Span group of questions and answers, in both Docs.
    language (str | None): As in `normalize_answer`.
    RETURNS (dict[str, Any]): qa_exact, qa_f1, qa_has_ans_exact, qa_has_ans_f1, qa_no_ans_exact,
        qa_no_ans_f1, qa_best_exact, qa_best_f1 from 0 to 1, and qa_best_exact_thresh,
        qa_best_f1_thresh; None if there are no such gold questions, qa_best_* also if an answer has no
        scores. Numbers of questions: qa_total, qa_has_ans_total, qa_no_ans_total, qa_unanswered.
    RAISES (ValueError): If there are no rules for the language.
    """
    gathered = gather_answers(examples, qa_key)
    official: dict[str, float | int] = {}
    if gathered.references:
        official = squad_scores(gathered.references, gathered.predictions, language=language)
        differences = {key: d for key, d in gathered.differences.items() if d is not None}
        if len(differences) == len(gathered.references):
            by_best = squad_scores(
                gathered.references, gathered.best, differences, language=language
            )
            official.update(
                {name: value for name, value in by_best.items() if name.startswith("best_")}
            )
    scores: dict[str, Any] = {}
    for ours, theirs in {**_PARTS, "best_": "best_"}.items():
        for name in ("exact", "f1"):
            value = official.get(theirs + name)
            scores[f"qa_{ours}{name}"] = None if value is None else value / 100
    for name in ("best_exact_thresh", "best_f1_thresh"):
        scores[f"qa_{name}"] = official.get(name)
    for ours, theirs in _PARTS.items():
        scores[f"qa_{ours}total"] = official.get(f"{theirs}total", 0)
    scores["qa_unanswered"] = gathered.unanswered
    return scores
