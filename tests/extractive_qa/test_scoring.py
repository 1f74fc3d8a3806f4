from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example

from spacy_spanrel import Answer, Question, get_answers, set_answers, set_questions
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.annotations.answers import best_answer, null_difference, reference_answers
from spacy_spanrel.converters import answers_to_predictions, squad_to_docs
from spacy_spanrel.scoring.answers import (
    LANGUAGES,
    best_null_threshold,
    exact_match,
    f1,
    make_qa_scorer,
    normalize_answer,
    score_answers,
    squad_scores,
)

NLP = spacy.blank("en")
OFFICIAL = ["en-v2-dev", "es-v2-dev", "xquad.en", "xquad.es"]


def golden(shared: Path, name: str) -> dict[str, Any]:
    return json.loads((shared / "golden" / "squad_evaluate" / f"{name}.json").read_text("utf-8"))


def gold_texts(shared: Path, name: str) -> dict[str, list[str]]:
    data = json.loads((shared / "data" / "squad" / f"{name}.json").read_text("utf-8"))
    return {
        question["id"]: [answer["text"] for answer in question["answers"]]
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }


# Against the original programs


@pytest.mark.parametrize("name", OFFICIAL)
def test_equal_to_the_official_script(shared_dir: Path, name: str) -> None:
    known = golden(shared_dir, name)
    references = gold_texts(shared_dir, name)
    cases = [("squad_v2_without_na_probs", None)]
    if "na_probs" in known:
        cases.append(("squad_v2", known["na_probs"]))
    for key, na_probs in cases:
        found = squad_scores(references, known["predictions"], na_probs)
        assert found == known[key]  # to the last bit
        assert list(found) == list(known[key])


@pytest.mark.parametrize("language", ["en", "es"])
def test_equal_to_mlqas_script(shared_dir: Path, language: str) -> None:
    name = f"xquad.{language}"
    known = golden(shared_dir, name)
    references = gold_texts(shared_dir, name)
    found = squad_scores(references, known["predictions"], language=language)
    wanted = known[f"mlqa_{language}"]
    assert (found["exact"], found["f1"]) == (wanted["exact_match"], wanted["f1"])


@pytest.mark.parametrize("name", ["en-v2-dev", "es-v2-dev"])
def test_best_null_threshold_of_real_predictions(shared_dir: Path, name: str) -> None:
    known = golden(shared_dir, name)
    references = gold_texts(shared_dir, name)
    threshold, score = best_null_threshold(references, known["predictions"], known["na_probs"])
    # In the middle of the range that gives the same answers as the official threshold.
    official = known["squad_v2"]["best_f1_thresh"]
    above = min(d for d in known["na_probs"].values() if d > official)
    assert official < threshold
    assert threshold >= (official + above) / 2
    assert score >= known["squad_v2"]["best_f1"] - 1e-9


# Texts


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (None, "The  Cat's\ta-b, AN (owl)!", "cats ab owl"),
        (None, "theater anaconda a.", "theater anaconda"),
        (None, "«the» — t.h.e", "« » —"),  # ASCII only, and before articles
        (None, "la casa", "la casa"),
        (None, "", ""),
        ("en", "«The» end — an “owl”", "end owl"),
        ("en", "3 $ + 4 €", "3 4 €"),  # € is a symbol, no punctuation
        ("es", "El niño, ¿Las? UNA vez", "niño vez"),
        ("es", "the casa", "the casa"),
        ("de", "Einem Kind; den Hunden der", "kind hunden"),
        ("vi", "Những chiếc xe của tôi là cái", "xe tôi"),
        ("hi", "एक लड़का।", "एक लड़का"),
        ("ar", "الكتاب، و المالك", "كتاب و م ك"),
        ("zh", "北京，abc def大学", "北 京 abc def 大 学"),
        ("zh", "the 㐀龥", "the 㐀 龥"),
    ],
)
def test_normalize(language: str | None, text: str, expected: str) -> None:
    assert normalize_answer(text, language) == expected


@given(st.text(), st.sampled_from([None, *LANGUAGES]))
def test_normalized_text_has_words_only(text: str, language: str | None) -> None:
    found = normalize_answer(text, language)
    assert found == " ".join(found.split())
    assert not set(found) & set(string.punctuation)


def test_unknown_language() -> None:
    for function in (normalize_answer, lambda text, lang: f1(text, [text], lang)):
        with pytest.raises(ValueError, match="E_SR851.*'fr'.*'en', 'es'"):
            function("la maison", "fr")


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "overlap"),
    [
        ("The Cat", ["a cat."], 1, 1),
        ("black cat", ["cat", "dog"], 0, 2 / 3),
        ("a", ["dog"], 0, 0),
        ("", [], 1, 1),
        ("cat", [], 0, 0),
        ("the", [], 1, 1),
        ("", ["cat"], 0, 0),
        ("", ["", "cat"], 0, 0),  # what normalizes to nothing is no right answer
        ("", ["the", "..."], 1, 1),  # unless all do
        ("cat cat", ["cat dog"], 0, 0.5),
        ("dog", ["cat", "dog"], 1, 1),
        ("b a", ["a b"], 1, 1),  # "a" is an article
    ],
)
def test_exact_and_f1(prediction: str, references: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, references) == exact
    assert f1(prediction, references) == pytest.approx(overlap)


WORDS = st.lists(st.sampled_from(["x", "y", "zz", "the", "."]), max_size=5).map(" ".join)


@given(WORDS, WORDS, st.lists(WORDS, max_size=3))
def test_f1_properties(one: str, other: str, references: list[str]) -> None:
    assert f1(one, [other]) == f1(other, [one])
    assert f1(one, [one]) == exact_match(one, [one]) == 1
    found = f1(one, references)
    assert 0 <= found <= 1
    assert exact_match(one, references) in (0, found)  # 1 only if F1 is
    # More references never lower a score, unless they normalize to nothing.
    if any(normalize_answer(reference) for reference in references):
        assert f1(one, [*references, other]) >= found


@given(WORDS, WORDS)
def test_f1_counts_words_one_by_one(one: str, other: str) -> None:
    found, wanted = (normalize_answer(text).split() for text in (one, other))
    left, common = list(wanted), 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    expected = float(found == wanted)
    if found and wanted:
        expected = 2 * common / (len(found) + len(wanted))
    assert f1(one, [other]) == pytest.approx(expected)


# Questions

REFERENCES = {"a": ["cat", "the black cat"], "b": [], "c": ["dog"]}
PREDICTIONS = {"a": "black cat", "b": "cat", "c": "dog"}


def test_parts() -> None:
    found = squad_scores(REFERENCES, PREDICTIONS)
    assert found == {
        "exact": pytest.approx(200 / 3),
        "f1": pytest.approx(200 / 3),
        "total": 3,
        "HasAns_exact": 100,
        "HasAns_f1": 100,
        "HasAns_total": 2,
        "NoAns_exact": 0,
        "NoAns_f1": 0,
        "NoAns_total": 1,
    }
    assert all(type(found[key]) is int for key in found if key.endswith("total"))


def test_only_parts_that_there_are() -> None:
    assert list(squad_scores({"b": []}, {"b": ""}, {"b": 0.5})) == [
        *("exact", "f1", "total", "NoAns_exact", "NoAns_f1", "NoAns_total"),
        *("best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"),
    ]
    assert list(squad_scores({"c": ["x"]}, {"c": ""})) == [
        *("exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total")
    ]


def test_a_question_whose_answers_normalize_to_nothing_has_one() -> None:
    assert squad_scores({"a": ["the"]}, {"a": ""})["HasAns_exact"] == 100


def test_threshold_takes_answers_back() -> None:
    na_probs = {"a": 0.7, "b": 0.7, "c": 0.2}
    assert squad_scores(REFERENCES, PREDICTIONS, na_probs)["exact"] == pytest.approx(200 / 3)
    # A probability equal to the threshold does not exceed it.
    found = squad_scores(REFERENCES, PREDICTIONS, na_probs, na_threshold=0.7)
    assert found["NoAns_exact"] == 0
    found = squad_scores(REFERENCES, PREDICTIONS, na_probs, na_threshold=0.5)
    assert (found["HasAns_exact"], found["NoAns_exact"]) == (50, 100)


def test_equal_probabilities_are_moved_one_by_one() -> None:
    # As in the official script, though no threshold gives this score; see best_null_threshold.
    na_probs = {"a": 0.7, "b": 0.7, "c": 0.2}
    found = squad_scores(REFERENCES, PREDICTIONS, na_probs)
    assert (found["best_exact"], found["best_exact_thresh"]) == (100, 0.7)
    na_probs = {"b": 0.7, "a": 0.7, "c": 0.2}  # in the order of the file
    found = squad_scores(REFERENCES, PREDICTIONS, na_probs)
    assert (found["best_exact"], found["best_exact_thresh"]) == (pytest.approx(200 / 3), 0.2)
    threshold, score = best_null_threshold(REFERENCES, PREDICTIONS, na_probs)
    assert (threshold, score) == (pytest.approx(0.45), pytest.approx(200 / 3))


def test_missing_predictions() -> None:
    with pytest.raises(ValueError, match="E_SR852.*2 question.*a, c"):
        squad_scores(REFERENCES, {"b": ""})
    with pytest.raises(ValueError, match="E_SR852.*probability.*: b, c"):
        squad_scores(REFERENCES, PREDICTIONS, {"a": 0.5})
    found = squad_scores(REFERENCES, {"b": "", "x": "other"}, {"b": 0.5}, missing="skip")
    assert (found["total"], found["exact"], found["best_exact"]) == (1, 100, 100)
    assert "HasAns_total" not in found
    with pytest.raises(ValueError, match="E_SR854.*'ignore'"):
        squad_scores(REFERENCES, PREDICTIONS, missing="ignore")


def test_no_questions() -> None:
    with pytest.raises(ValueError, match="E_SR853"):
        squad_scores({}, {"a": "x"})
    with pytest.raises(ValueError, match="E_SR853"):
        squad_scores(REFERENCES, {}, missing="skip")


def test_other_predictions_are_ignored() -> None:
    na_probs = {"x": 0.1, "a": 0.2, "b": 0.9, "c": 0.3}
    found = squad_scores(REFERENCES, {**PREDICTIONS, "x": "dog"}, na_probs)
    na_probs.pop("x")
    assert found == squad_scores(REFERENCES, PREDICTIONS, na_probs)


CASES = st.lists(
    st.tuples(
        st.sampled_from([[], ["x"], ["x y", "z"], ["the"]]),
        st.sampled_from(["", "x", "y", "x y z"]),
        st.sampled_from([-2.5, -1.0, 0.0, 0.25, 1.0, 3.0]),
    ),
    min_size=1,
    max_size=7,
)


def split(cases: Sequence[tuple[Any, ...]]) -> tuple[dict[str, Any], ...]:
    return tuple({str(i): case[part] for i, case in enumerate(cases)} for part in range(3))


@given(CASES.filter(lambda cases: all(case[0] != ["the"] for case in cases)))
def test_threshold_equals_empty_answers(cases: list[Any]) -> None:
    references, texts, differences = split(cases)
    for threshold in (-3.0, -1.0, 0.25, 3.0):
        emptied = {k: "" if differences[k] > threshold else text for k, text in texts.items()}
        found = squad_scores(references, texts, differences, na_threshold=threshold)
        wanted = squad_scores(references, emptied)
        assert {key: found[key] for key in wanted} == wanted


@given(CASES)
def test_official_best_against_all_thresholds(cases: list[Any]) -> None:
    references, texts, _ = split(cases)
    na_probs = {key: (i + 1) / 10 for i, key in enumerate(texts)}  # different ones, none of them 0
    found = squad_scores(references, texts, na_probs)
    for name in ("exact", "f1"):
        by_threshold = {
            t: squad_scores(references, texts, na_probs, na_threshold=t)[name]
            for t in (0.0, *na_probs.values())
        }
        assert found[f"best_{name}"] == pytest.approx(max(by_threshold.values()))
        best = found[f"best_{name}_thresh"]
        assert by_threshold[best] == pytest.approx(found[f"best_{name}"])


@given(CASES, st.lists(st.sampled_from([math.inf, -math.inf]), max_size=2))
def test_best_null_threshold_against_all_thresholds(cases: list[Any], odd: list[float]) -> None:
    for difference in odd:
        cases = [*cases, (["x"], "x", difference)]
    references, texts, differences = split(cases)
    threshold, score = best_null_threshold(references, texts, differences)
    finite = sorted({d for d in differences.values() if math.isfinite(d)})
    tried = [0.0, *finite, *(d - 0.01 for d in finite), *((a + b) / 2 for a, b in pairwise(finite))]
    by_threshold = {
        t: squad_scores(references, texts, differences, na_threshold=t)["f1"]
        for t in [*tried, -100.0, 100.0]
    }
    assert math.isfinite(threshold)
    assert score == pytest.approx(max(by_threshold.values()))
    exactly = squad_scores(references, texts, differences, na_threshold=threshold)
    assert score == exactly["f1"]
    if threshold:
        # The threshold is not close to a difference: they are at least 0.25 apart.
        for near in (threshold - 0.1, threshold + 0.1):
            assert squad_scores(references, texts, differences, na_threshold=near)["f1"] == score
    if by_threshold[0.0] == max(by_threshold.values()):
        assert threshold == 0.0


def test_best_null_threshold_may_answer_nothing() -> None:
    # The official threshold is 0, with which both are answered.
    references, texts, differences = {"a": [], "b": []}, {"a": "x", "b": "x"}, {"a": -5, "b": -3}
    threshold, score = best_null_threshold(references, texts, differences)
    assert (score, threshold) == (100, -6)
    official = squad_scores(references, texts, differences, na_threshold=0)
    assert (official["best_f1"], official["best_f1_thresh"], official["f1"]) == (100, 0, 0)


def test_best_null_threshold_of_bad_input() -> None:
    with pytest.raises(ValueError, match="E_SR852.*prediction: c"):
        best_null_threshold(REFERENCES, {"a": "", "b": ""}, {})
    with pytest.raises(ValueError, match="E_SR852.*difference: c"):
        best_null_threshold(REFERENCES, PREDICTIONS, {"a": 0, "b": 0})
    with pytest.raises(ValueError, match="E_SR855.*'b'.*nan"):
        best_null_threshold(REFERENCES, PREDICTIONS, {"a": 0, "b": math.nan, "c": 0})
    with pytest.raises(ValueError, match="E_SR853"):
        best_null_threshold({}, {}, {})


# Docs

TEXT = "Ann Lee lives in Oslo, and Bo in the old town."


def gold_doc(questions: dict[str, list[str]], text: str = TEXT, key: str = "qa") -> Doc:
    doc = NLP.make_doc(text)
    answers = []
    for name, texts in questions.items():
        parts = [part(doc, name, text) for text in texts] or [Answer(Question(name, "?"))]
        answers.append(combined(parts))
    set_answers(doc, answers, key)
    return doc


def part(doc: Doc, name: str, text: str, **more: Any) -> Answer:
    start = doc.text.index(text)
    return make_answer(doc, Question(name, "?"), start, start + len(text), **more)


def combined(parts: Sequence[Answer]) -> Answer:
    return Answer(**{**parts[0].__dict__, "alternatives": tuple(parts[1:])})


def predicted_doc(
    answers: dict[str, tuple[str, float]], threshold: float = 0.0, text: str = TEXT, key: str = "qa"
) -> Doc:
    """For each question the best text and null score - logit; "" where there is no other answer."""
    doc = NLP.make_doc(text)
    made = []
    for name, (best, difference) in answers.items():
        null = Answer(Question(name, "?"), score=0.5, null_score=1.0)
        parts = [null]
        if best:
            logit = 1.0 - difference
            parts = [part(doc, name, best, score=0.5, logit=logit, null_score=1.0)]
            if difference > threshold:
                parts = [null, *parts]
        made.append(combined(parts))
    set_answers(doc, made, key)
    return doc


def score(*pairs: tuple[Doc, Doc], **cfg: Any) -> dict[str, Any]:
    return score_answers([Example(predicted, gold) for gold, predicted in pairs], **cfg)


GOLD = {"a": ["Ann Lee", "Ann"], "b": [], "c": ["Oslo"]}


def test_scores_as_predicted_and_best() -> None:
    # The right answer to "c" is lost because of the threshold.
    predicted = predicted_doc({"a": ("Ann Lee lives", -2.0), "b": ("Bo", 3.0), "c": ("Oslo", 1.0)})
    found = score((gold_doc(GOLD), predicted))
    assert found == {
        "qa_exact": pytest.approx(1 / 3),
        "qa_f1": pytest.approx((0.8 + 1 + 0) / 3),
        "qa_has_ans_exact": 0.0,
        "qa_has_ans_f1": pytest.approx(0.4),
        "qa_no_ans_exact": 1.0,
        "qa_no_ans_f1": 1.0,
        "qa_best_exact": pytest.approx(2 / 3),
        "qa_best_f1": pytest.approx(2.8 / 3),
        "qa_best_exact_thresh": 1.0,
        "qa_best_f1_thresh": 1.0,
        "qa_total": 3,
        "qa_has_ans_total": 2,
        "qa_no_ans_total": 1,
        "qa_unanswered": 0,
    }
    json.dumps(found)


def test_unanswered_questions_count_as_empty() -> None:
    found = score((gold_doc(GOLD), predicted_doc({"a": ("Ann", -1.0), "x": ("Bo", -1.0)})))
    assert found["qa_unanswered"] == 2
    assert (found["qa_total"], found["qa_exact"]) == (3, pytest.approx(2 / 3))
    assert (found["qa_has_ans_exact"], found["qa_no_ans_exact"]) == (0.5, 1.0)
    asked = NLP.make_doc(TEXT)
    set_questions(asked, {"id": "a", "text": "?"})
    assert score((gold_doc(GOLD), asked))["qa_unanswered"] == 3


def test_no_answer_without_an_alternative() -> None:
    predicted = predicted_doc({"a": ("", 0.0), "b": ("", 0.0), "c": ("Oslo", -1.0)})
    found = score((gold_doc(GOLD), predicted))
    assert found["qa_exact"] == found["qa_best_exact"] == pytest.approx(2 / 3)
    assert found["qa_best_f1_thresh"] == -1.0


def test_nothing_to_score() -> None:
    plain = NLP.make_doc(TEXT)
    asked = NLP.make_doc(TEXT)
    set_questions(asked, ["Who?"])  # not annotated
    for gold in (plain, asked):
        found = score((gold, predicted_doc({"q1": ("Ann", 0.0)})))
        counts = {key: value for key, value in found.items() if value is not None}
        assert counts == {
            "qa_total": 0,
            "qa_has_ans_total": 0,
            "qa_no_ans_total": 0,
            "qa_unanswered": 0,
        }
        assert len(found) == 14
    assert score_answers([])["qa_f1"] is None


def test_none_of_a_kind() -> None:
    found = score((gold_doc({"b": []}), predicted_doc({"b": ("", 0.0)})))
    assert found["qa_has_ans_f1"] is None
    assert found["qa_no_ans_f1"] == 1.0
    found = score((gold_doc({"a": ["Ann"]}), predicted_doc({"a": ("Ann", 0.0)})))
    assert found["qa_no_ans_exact"] is None
    assert (found["qa_has_ans_total"], found["qa_no_ans_total"]) == (1, 0)


def test_answers_without_scores_have_no_best_threshold() -> None:
    found = score((gold_doc(GOLD), gold_doc(GOLD)))
    assert found["qa_exact"] == found["qa_f1"] == 1.0
    assert [found[f"qa_best_{name}"] for name in ("exact", "f1", "exact_thresh")] == [None] * 3


def test_same_ids_in_different_docs() -> None:
    gold = gold_doc({"q1": ["Ann"]}), gold_doc({"q1": []}, "Nobody.")
    predicted = predicted_doc({"q1": ("Ann", -1.0)}), predicted_doc({"q1": ("", 0.0)}, 0, "Nobody.")
    found = score(*zip(gold, predicted, strict=True))
    assert (found["qa_total"], found["qa_exact"]) == (2, 1.0)


def test_other_tokens_and_blanks() -> None:
    text = TEXT.replace("Ann Lee", "Ann  Lee")
    predicted = predicted_doc({"a": ("Ann  Lee", -1.0)}, text=text)
    assert score((gold_doc({"a": ["Ann Lee"]}), predicted))["qa_exact"] == 1.0


def test_key_and_language() -> None:
    gold = gold_doc({"a": ["the old town"]}, key="other")
    predicted = predicted_doc({"a": ("old town", -1.0)}, key="other")
    assert score((gold, predicted))["qa_total"] == 0
    assert score((gold, predicted), qa_key="other", n_best=20)["qa_exact"] == 1.0
    assert score((gold, predicted), qa_key="other", language="es")["qa_exact"] == 0.0
    with pytest.raises(ValueError, match="E_SR851"):
        score((gold, predicted), qa_key="other", language="xx")


def test_parts_of_answers() -> None:
    doc = predicted_doc({"a": ("Ann", -2.0), "b": ("Bo", 3.0), "c": ("", 0.0)})
    a, b, c = get_answers(doc)
    assert [best_answer(x) and best_answer(x).text for x in (a, b, c)] == ["Ann", "Bo", None]
    assert [null_difference(x) for x in (a, b, c)] == [-2.0, 3.0, math.inf]
    gold, *_ = get_answers(gold_doc(GOLD))
    assert null_difference(gold) is None
    assert [x.text for x in reference_answers(gold)] == ["Ann Lee", "Ann"]
    assert reference_answers(b) == ()
    # The alternatives of a predicted answer are not right answers.
    both = combined([a, gold])
    assert reference_answers(both) == (both,)


def test_registered() -> None:
    assert spacy.registry.scorers.get("spacy-spanrel.qa_scorer.v1") is make_qa_scorer
    assert make_qa_scorer() is score_answers


def test_scores_of_docs_are_those_of_the_exported_files(shared_dir: Path) -> None:
    # The same scores as the official script.
    path = shared_dir / "data" / "squad" / "en-v2-dev.json"
    examples, answered = [], []
    for doc in squad_to_docs(path, nlp=NLP):
        predicted = NLP.make_doc(doc.text)
        answers = []
        for i, gold in enumerate(get_answers(doc)):
            # Some right answers, some longer, some wrong, and some below the threshold.
            token = predicted[(7 * i) % len(predicted)]
            start, end = token.idx, token.idx + len(token)
            if gold and i % 3:
                start, end = gold.start_char, gold.span[-1].idx + len(gold.span[-1])
            logit, null_score = float((5 * i) % 7), float((3 * i + len(doc)) % 8)
            best = make_answer(
                predicted, gold.question, start, end, score=0.5, logit=logit, null_score=null_score
            )
            if null_score - logit > 0:
                null = Answer(gold.question, score=0.5, null_score=null_score)
                best = combined([null, best])
            answers.append(best)
        set_answers(predicted, answers)
        examples.append(Example(predicted, doc))
        answered.append(predicted)
    found = score_answers(examples)
    texts, null_odds = answers_to_predictions(answered)
    references = gold_texts(shared_dir, "en-v2-dev")
    official = squad_scores(references, texts)
    assert 0 < official["HasAns_f1"] < 100
    assert found["qa_exact"] == official["exact"] / 100
    assert found["qa_f1"] == official["f1"] / 100
    for ours, theirs in (("has_ans", "HasAns"), ("no_ans", "NoAns")):
        for name in ("exact", "f1"):
            assert found[f"qa_{ours}_{name}"] == official[f"{theirs}_{name}"] / 100
        assert found[f"qa_{ours}_total"] == official[f"{theirs}_total"]
    best = {a.question.id: best_answer(a).text for doc in answered for a in get_answers(doc)}
    official = squad_scores(references, best, null_odds)
    assert found["qa_best_f1"] == official["best_f1"] / 100
    assert found["qa_best_f1_thresh"] == official["best_f1_thresh"]
    threshold, score = best_null_threshold(references, best, null_odds)
    assert score == squad_scores(references, best, null_odds, na_threshold=threshold)["f1"]
