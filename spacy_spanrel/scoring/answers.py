"""Scores of answers, equal to those of the official SQuAD 2.0 script and of MLQA's.

The functions on texts take and return what the official script does (percentages, thresholds on
the probability that there is no answer). `score_answers` is spaCy's view of them: values from 0
to 1, over Examples.
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

# Parts of the data, by our names and the official script's.
_PARTS = {"": "", "has_ans_": "HasAns_", "no_ans_": "NoAns_"}

# The articles that MLQA removes, where it removes any. Hindi and Chinese have none.
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
# In MLQA's definition the Arabic article goes wherever its letters stand, in words too.
_ARTICLE["ar"] = re.compile("ال")
LANGUAGES = ("en", "es", "hi", "vi", "de", "ar", "zh")

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHINESE = re.compile("([\u4e00-\u9fa5])")


@runtime_checkable
class QAScorer(Protocol):
    """Scores Examples; takes a component's `cfg` as keyword arguments."""

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]: ...


# Texts


def normalize_answer(text: str, language: str | None = None) -> str:
    """Normalize an answer before it is compared.

    All lower-case the text, take out punctuation, then articles, and put one blank between words.

    - None: the official SQuAD rules, whatever the language of the text: ASCII punctuation, English
      articles (Rajpurkar et al. 2016).
    - "en", "es", "hi", "vi", "de", "ar", "zh": the rules of MLQA (Lewis et al. 2020): all
      characters that Unicode calls punctuation and the ASCII ones; that language's articles. In
      Vietnamese these are của, là, cái, chiếc and những; in Arabic the two letters of the article
      go wherever they stand; Hindi and Chinese have none. In Chinese text each character from
      U+4E00 to U+9FA5 is a word of its own; elsewhere words stand between white space.

    text (str): The answer.
    language (str | None): Whose rules to follow.
    RETURNS (str): The words of the answer, with a blank between them.
    RAISES (ValueError): If there are no rules for the language.
    """
    text = text.lower()
    if language is None:
        text = text.translate(_ASCII_PUNCTUATION)
    elif language in LANGUAGES:
        text = "".join(char for char in text if not _is_punctuation(char))
    else:
        known = ", ".join(map(repr, LANGUAGES))
        raise ValueError(Errors.E851.format(language=language, known=known))
    article = _ARTICLE.get(language or "en")
    if article is not None:
        text = article.sub(" ", text)
    if language == "zh":
        text = _CHINESE.sub(r" \1 ", text)
    return " ".join(text.split())


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P") or char in string.punctuation


def exact_match(prediction: str, references: Sequence[str], language: str | None = None) -> float:
    """Tell whether an answer is one of the references; arguments as in `f1`.

    RETURNS (float): 1 or 0.
    """
    return _compare(prediction, references, language)[0]


def f1(prediction: str, references: Sequence[str], language: str | None = None) -> float:
    """Compare the words of an answer with those of the reference that it is most like.

    A word counts as often as it is in both. If one side has no words, F1 is 1 where the other has
    none either, else 0.

    prediction (str): The answer; "" for no answer.
    references (Sequence[str]): The right answers; none if the question has no answer. Those that
        normalize to nothing are ignored; if all do, "" is the right answer.
    language (str | None): As in `normalize_answer`.
    RETURNS (float): From 0 to 1.
    RAISES (ValueError): If there are no rules for the language.
    """
    return _compare(prediction, references, language)[1]


def _compare(
    prediction: str, references: Sequence[str], language: str | None
) -> tuple[float, float]:
    """Exact match and F1."""
    found = normalize_answer(prediction, language)
    wanted = [normalize_answer(reference, language) for reference in references]
    wanted = [text for text in wanted if text] or [""]
    return float(found in wanted), max(_overlap(found.split(), text.split()) for text in wanted)


def _overlap(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    n_common = (Counter(found) & Counter(wanted)).total()
    if not n_common:
        return 0.0
    precision, recall = n_common / len(found), n_common / len(wanted)
    return 2 * precision * recall / (precision + recall)


# Questions


@dataclass(frozen=True)
class _Result:
    """The scores of one question."""

    has_answer: bool
    answered: bool
    exact: float
    f1: float

    @property
    def unanswered(self) -> float:
        """The score of "no answer", by either measure."""
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
    """Score predictions as the official SQuAD 2.0 script does (Rajpurkar et al. 2018).

    references (Mapping[str, Sequence[str]]): The right answers to each question, by its id; none
        if it has no answer.
    predictions (Mapping[str, str]): An answer to each; "" for no answer. Those to other questions
        are ignored.
    na_probs (Mapping[str, float] | None): How probable it is that a question has no answer, or any
        other number that is greater the less likely an answer is.
    na_threshold (float): Where `na_probs` are greater, the prediction counts as no answer.
    language (str | None): As in `normalize_answer`.
    missing ("error" | "skip"): What to do about questions without a prediction. Skipped ones
        count nowhere; the official script fails or goes on, depending on the question.
    RETURNS (dict[str, float | int]): exact, f1, total; HasAns_exact, HasAns_f1, HasAns_total and
        NoAns_exact, NoAns_f1, NoAns_total if there are such questions; with `na_probs` also
        best_exact, best_exact_thresh, best_f1, best_f1_thresh. Scores are percentages. The best
        ones are the official script's: it moves a threshold over `na_probs`, question by question,
        and calls the state before the first one, where nothing is answered, threshold 0. With
        numbers that are no probabilities see also `best_null_threshold`.
    RAISES (ValueError): If predictions or probabilities are missing, with the ids, or there are no
        questions.
    """
    if missing not in ("error", "skip"):
        raise ValueError(Errors.E854.format(found=missing))
    if missing == "skip":
        references = {key: texts for key, texts in references.items() if key in predictions}
    results = _results(references, predictions, language)
    chosen = {key: (result.exact, result.f1) for key, result in results.items()}
    if na_probs is not None:
        _check_ids(references, na_probs, "probability of no answer")
        for key, result in results.items():
            if na_probs[key] > na_threshold:
                chosen[key] = (result.unanswered, result.unanswered)
    scores = _means(list(chosen.values()))
    for name, has_answer in (("HasAns", True), ("NoAns", False)):
        part = [chosen[key] for key, result in results.items() if result.has_answer is has_answer]
        if part:
            scores.update({f"{name}_{key}": value for key, value in _means(part).items()})
    if na_probs is not None:
        # Equal ones stay in the order in which they were given, as in the official script.
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


def _check_ids(wanted: Iterable[str], given: Mapping[str, Any], what: str) -> None:
    ids = [key for key in wanted if key not in given]
    if ids:
        raise ValueError(Errors.E852.format(n=len(ids), what=what, ids=", ".join(ids)))


def _means(scores: Sequence[tuple[float, float]]) -> dict[str, float | int]:
    exact = f1 = 0.0
    # One by one: from Python 3.12 on `sum` rounds otherwise.
    for one_exact, one_f1 in scores:
        exact += one_exact
        f1 += one_f1
    n = len(scores)
    return {"exact": 100.0 * exact / n, "f1": 100.0 * f1 / n, "total": n}


def _official_best(ranked: Sequence[tuple[float, _Result]], name: str) -> tuple[float, float]:
    """Move the threshold up over the questions; return the best score and where it came first."""
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

    A question gets no answer where its difference is greater than the threshold. Unlike the
    official script's best_f1_thresh, the threshold really gives the F1 returned: questions of equal
    difference are answered together, and to answer none there is a threshold below all of them.

    references (Mapping[str, Sequence[str]]): As in `squad_scores`.
    answers (Mapping[str, str]): The best answer to each question, "no answer" set aside.
    differences (Mapping[str, float]): For each, null score - score of that answer. Infinite ones
        are answered always or never.
    language (str | None): As in `normalize_answer`.
    RETURNS (tuple[float, float]): The threshold, and F1 as a percentage: what `squad_scores` makes
        of it. The threshold is 0 if none is better than that; else of the lowest range in which
        all are best the middle, half-way between the two differences that matter, or, where the
        range has one end, 1 beyond that.
    RAISES (ValueError): If answers or differences are missing, or there are no questions.
    """
    results = _results(references, answers, language)
    _check_ids(references, differences, "score difference")
    for key in results:
        if math.isnan(differences[key]):
            raise ValueError(Errors.E855.format(id=key, found=differences[key]))
    # Exact sums, so that equal scores are equal in whatever order they were added.
    gains = sorted(
        (differences[key], Fraction(result.f1) - Fraction(result.unanswered))
        for key, result in results.items()
    )
    finite = [gain for gain in gains if math.isfinite(gain[0])]
    # Gains over answering no question with a finite difference, for thresholds from `low` on.
    at_zero = current = Fraction(0)
    steps = [(-math.inf, current)]
    for difference, group in groupby(finite, key=lambda gain: gain[0]):
        own = [gain for _, gain in group]
        current += sum(own, Fraction(0))
        # Questions that are as well answered as not have no say in where a range ends.
        if any(own):
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
    """Return a number in the middle of [low, high), of which one end may be infinite."""
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

    references (dict[str, list[str]]): Right answers, by number of the Doc and id of the question:
        the same id in two Docs means two questions.
    predictions (dict[str, str]): The answers as predicted; "" for no answer.
    best (dict[str, str]): The best ones other than "no answer"; "" if there is none.
    differences (dict[str, float | None]): As in `null_difference`.
    unanswered (int): Questions that nobody answered. They count as answered by "", with an infinite
        difference.
    """

    references: dict[str, list[str]] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    best: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float | None] = field(default_factory=dict)
    unanswered: int = 0


def gather_answers(examples: Iterable[Example], qa_key: str = QA_KEY) -> GatheredAnswers:
    """Collect gold and predicted answers, matched by the questions' ids.

    examples (Iterable[Example]): Gold and predictions. Gold questions of which it is not known
        whether they have an answer are left out.
    qa_key (str): Span group of questions and answers, in both.
    RETURNS (GatheredAnswers): In the order of the gold questions.
    """
    found = GatheredAnswers()
    for number, example in enumerate(examples):
        predicted = {a.question.id: a for a in get_answers(example.predicted, qa_key)}
        for gold in get_answers(example.reference, qa_key):
            key = f"{number}: {gold.question.id}"
            found.references[key] = [answer.text for answer in reference_answers(gold)]
            answer = predicted.get(gold.question.id)
            best = None if answer is None else best_answer(answer)
            found.unanswered += answer is None
            found.predictions[key] = "" if answer is None else answer.text
            found.best[key] = "" if best is None else best.text
            found.differences[key] = math.inf if answer is None else null_difference(answer)
    return found


@registry.scorers("spacy-spanrel.qa_scorer.v1")
def make_qa_scorer() -> QAScorer:
    """Make the scorer of components that answer questions."""
    return score_answers


def score_answers(
    examples: Iterable[Example],
    *,
    qa_key: str = QA_KEY,
    language: str | None = None,
    **cfg: Any,
) -> dict[str, Any]:
    """Score answers by the official SQuAD 2.0 rules.

    qa_exact, qa_f1 and their parts score the answers as they were predicted, by the threshold that
    the model has: what the official script prints for a file of these answers. qa_best_* are what
    it prints for the best answers other than "no answer", with null score - logit for na_probs:
    there one answer a question counts, and only the threshold moves. So qa_best_f1 tells what
    another null threshold could give, and qa_best_f1_thresh which (in raw scores; that of
    `best_null_threshold` suits all cases).

    examples (Iterable[Example]): Gold and predictions. A gold question that nobody answered counts
        as answered by "", and in qa_unanswered.
    qa_key (str): Span group of questions and answers, in both.
    language (str | None): As in `normalize_answer`.
    RETURNS (dict[str, Any]): qa_exact, qa_f1, qa_has_ans_exact, qa_has_ans_f1, qa_no_ans_exact,
        qa_no_ans_f1, qa_best_exact, qa_best_f1 from 0 to 1, and qa_best_exact_thresh,
        qa_best_f1_thresh; all None where there are no such gold questions, the best ones also if
        an answer has no scores. Counts: qa_total, qa_has_ans_total, qa_no_ans_total, qa_unanswered.
    RAISES (ValueError): If there are no rules for the language.
    """
    found = gather_answers(examples, qa_key)
    official: dict[str, float | int] = {}
    if found.references:
        official = squad_scores(found.references, found.predictions, language=language)
        differences = {key: d for key, d in found.differences.items() if d is not None}
        if len(differences) == len(found.references):
            by_best = squad_scores(found.references, found.best, differences, language=language)
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
    scores["qa_unanswered"] = found.unanswered
    return scores
