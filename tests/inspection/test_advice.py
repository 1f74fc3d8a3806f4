from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_spanrel import Question, Relation, set_answers, set_relations
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.inspection.advice import (
    COMPONENT_RULES,
    DATA_RULES,
    Advice,
    Findings,
    View,
    advise,
)
from spacy_spanrel.inspection.settings import Readings, make_readings
from spacy_spanrel.inspection.statistics import collect

from ..extractive_qa.util import make_nlp as make_qa_nlp
from ..relation_classifier.conftest import make_nlp as make_pair_nlp
from ..span_relation.util import make_nlp
from ..util import make_doc

TEXT = "John Smith works for Google in Paris ."
ENTITIES = [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc")]


@pytest.fixture(scope="module")
def defaults() -> Readings:
    return make_readings()


def advice(
    readings: Readings, train: Sequence[Doc], dev: Sequence[Doc] | None = None
) -> list[Advice]:
    train_numbers = collect(train, readings)
    dev_numbers = None if dev is None else collect(dev, readings)
    return advise(Findings(train_numbers, dev_numbers, readings))


def only(found: list[Advice], part: str) -> Advice:
    """Return the only advice that contains some words."""
    (item,) = [item for item in found if part in item.text]
    return item


def texts(found: list[Advice], *levels: str) -> list[str]:
    return [item.text for item in found if item.level in levels]


def many(
    nlp: Language, n: int, start: int = 0, relations: Sequence[Any] = ((0, 1, "works"),)
) -> list[Doc]:
    """Return Docs with different texts."""
    return [
        make_doc(nlp.vocab, f"{TEXT} {i}", ENTITIES, relations, key="entities")
        for i in range(start, start + n)
    ]


def test_good_data_gets_no_warning(bert_checkpoint: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint)
    readings = make_readings(nlp.config)
    relations = [(0, 1, "works"), (1, 2, "based")]
    found = advice(
        readings,
        many(readings.nlp, 100, 0, relations),
        many(readings.nlp, 20, 100, relations),
    )
    assert texts(found, "warn", "error", "info") == []
    assert texts(found, "good") == ["No text of dev is in train."]


def test_labels_and_texts_of_train_and_dev(defaults: Readings) -> None:
    nlp = defaults.nlp
    train = many(nlp, 12, 0, [(0, 1, "works"), (0, 2, "lives")])
    train += [make_doc(nlp.vocab, "rare", [(0, 1, "Odd")], [], key="entities")]
    dev = many(nlp, 3, 11, [(0, 1, "works"), (0, 2, "born"), (1, 0, "works")])
    found = advice(defaults, train, dev)
    leaked = only(found, "have the text of a Doc in train")
    assert (leaked.level, leaked.numbers) == ("warn", {"n": 1, "docs": 3})
    assert "1 of 3 (33.3%)" in leaked.text
    new = only(found, "relation labels are in dev only")
    assert (new.level, new.numbers) == ("warn", {"n": 1, "labels": ["born"], "cases": 3})
    gone = only(found, "relation labels are in train only")
    assert (gone.level, gone.numbers["labels"]) == ("info", ["lives"])
    rare = only(found, "entity types occur fewer than 10 times")
    assert (rare.level, rare.numbers["labels"]) == ("warn", ["Odd"])
    # works(Org, Per) is in dev only.
    learned = only([item for item in found if item.topic == "span_relation"], "never relates so")
    assert learned.numbers == {"n": 3, "relations": 9}
    assert "works(Org, Per)" in learned.text
    assert only(found, "Only 13 Docs").level == "warn"


def test_texts_that_train_repeats(defaults: Readings) -> None:
    found = advice(defaults, [*many(defaults.nlp, 2), *many(defaults.nlp, 2)])
    assert only(found, "repeat the text of another").numbers == {"n": 2, "docs": 4}
    assert only(found, "No development data").level == "info"


def test_symmetric_candidates(bert_checkpoint: Path) -> None:
    both = [(0, 1, "knows"), (1, 0, "knows"), (0, 2, "lives")]
    for symmetric in ([], ["knows"]):
        nlp, _ = make_nlp(bert_checkpoint, symmetric=symmetric)
        readings = make_readings(nlp.config)
        found = advice(readings, many(readings.nlp, 5, 0, both))
        hits = [item for item in found if "in both directions" in item.text]
        assert [item.numbers for item in hits] == (
            [] if symmetric else [{"label": "knows", "n": 5, "pairs": 5}]
        )


def test_span_relation(bert_checkpoint: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint, max_span_size=2, max_pairs=5)
    readings = make_readings(nlp.config)
    doc = make_doc(
        readings.nlp.vocab,
        TEXT + " " + TEXT * 10,
        [(0, 5, "Long"), (0, 2, "Per"), (4, 5, "Org")],
        key="entities",
    )
    found = advice(readings, [doc])
    long = only(found, "max_span_size = 2")
    assert (long.level, long.topic) == ("warn", "span_relation")
    assert "1 of 3 (33.3%)" in long.text
    assert "the longest has 5" in long.text
    assert only(found, "max_pairs = 5").level == "warn"
    assert only(found, "more than one window").level == "info"
    assert only(found, "only entities can be learned").level == "warn"
    overlap = only(found, 'overlaps = "best"')
    assert (overlap.level, overlap.numbers["nested"]) == ("warn", 2)
    assert not texts(found, "error")


@pytest.mark.parametrize("kind", ["span_relation", "relation_classifier", "extractive_qa"])
def test_nothing_to_learn(bert_checkpoint: Path, defaults: Readings, kind: str) -> None:
    make = {
        "span_relation": make_nlp,
        "relation_classifier": make_pair_nlp,
        "extractive_qa": make_qa_nlp,
    }[kind]
    nlp, _ = make(bert_checkpoint)
    readings = make_readings(nlp.config)
    found = advice(readings, [Doc(readings.nlp.vocab, words=["a"])])
    assert [item.topic for item in found if item.level == "error"] == [kind]
    assert "There is nothing to learn" in texts(found, "error")[0]
    # Without a config, nothing says that the component should be trained.
    assert not texts(advice(defaults, [Doc(defaults.nlp.vocab, words=["a"])]), "error")
    assert only(advice(readings, []), "No Doc in train has tokens").level == "error"


def test_relation_classifier(bert_checkpoint: Path) -> None:
    nlp, _ = make_pair_nlp(
        bert_checkpoint,
        pairs={"@misc": "spacy-spanrel.EntityPairs.v1", "max_distance": 3},
    )
    readings = make_readings(nlp.config)
    doc = Doc(readings.nlp.vocab, words=["w"] * 90)
    a, b, c, d = (Span(doc, *place, label="A") for place in ((0, 1), (2, 3), (50, 51), (3, 80)))
    set_relations(
        doc, [Relation(a, b, "x"), Relation(a, b, "y"), Relation(a, c, "x"), Relation(b, d, "x")]
    )
    for token in doc:
        token.is_sent_start = token.i in (0, 40)
    found = [item for item in advice(readings, [doc]) if item.topic == "relation_classifier"]
    assert only(found, "has the negative label 'no_relation'").numbers == {"n": 4}
    assert only(found, "longer than a row").numbers == {"n": 1}
    cut = only(found, "max_length = 64 pieces")
    assert cut.numbers == {"n": 3, "rows": 3}
    across = only(found, "cross sentence boundaries")
    assert (across.level, across.numbers) == ("warn", {"n": 1, "pairs": 4})
    far = only(found, "max_distance = 3")
    assert far.numbers == {"n": 1, "pairs": 4, "max_distance": 3}
    several = only(advice(readings, [doc]), "have several labels")
    assert several.level == "warn"


def test_negative_pairs(bert_checkpoint: Path) -> None:
    nlp, _ = make_pair_nlp(bert_checkpoint)
    readings = make_readings(nlp.config)
    docs = many(readings.nlp, 3, 0, [(0, 1, "works"), (1, 0, "no_relation"), (0, 2, "no_relation")])
    found = advice(readings, docs)
    assert only(found, "are negative").numbers == {"n": 6, "pairs": 9}
    # Negative pairs count neither for directions nor for type pairs.
    assert not [item for item in found if "both directions" in item.text]
    found = advice(readings, many(readings.nlp, 3, 0, [(1, 0, "no_relation")]))
    assert only(found, "All 3 pairs in train are negative").level == "warn"


def qa_doc(readings: Readings, rows: Sequence[tuple[str, str]], text: str = TEXT) -> Doc:
    doc = readings.nlp.make_doc(text)
    answers = []
    for i, (question, answer) in enumerate(rows):
        start = text.index(answer)
        answers.append(make_answer(doc, Question(f"q{i}", question), start, start + len(answer)))
    set_answers(doc, answers)
    return doc


def test_extractive_qa(bert_checkpoint: Path) -> None:
    nlp, _ = make_qa_nlp(bert_checkpoint, max_answer_length=3)
    readings = make_readings(nlp.config)
    found = advice(readings, [qa_doc(readings, [("who ?", "John Smith"), ("how ?", "oh")])])
    assert only(found, "cannot learn when there is none").numbers == {"n": 2}
    assert only(found, "begin or end within a token").numbers == {"n": 1, "answers": 2}
    assert not [item for item in found if "questions in train have no answer." in item.text]
    long = TEXT * 20
    rows = [("who ?", long[: len(long) // 2]), ("a " * 40, "Paris"), ("none ?", "")]
    found = advice(readings, [qa_doc(readings, rows, long)])
    assert only(found, "max_answer_length = 3").numbers == {"n": 1, "answers": 2}
    assert only(found, "do not fit into any window").numbers == {"n": 1, "answers": 2}
    assert only(found, "max_question_length = 24").numbers == {"n": 1, "questions": 3}
    assert only(found, "need more than one window").numbers == {"n": 3, "total": 3}
    assert not texts(found, "error")
    nlp, _ = make_qa_nlp(bert_checkpoint, no_answer=False)
    readings = make_readings(nlp.config)
    found = advice(readings, [qa_doc(readings, [("none ?", ""), ("who ?", "Paris")])])
    assert only(found, "no_answer = false").numbers == {"n": 1, "questions": 2}


def test_every_number_is_in_the_text(defaults: Readings) -> None:
    dev = many(defaults.nlp, 3, 2, [(0, 1, "new"), (2, 2, "new")])
    odd = [Doc(defaults.nlp.vocab), Doc(defaults.nlp.vocab, words=["a"])]
    broken = Doc(defaults.nlp.vocab, words=["b"])
    broken.spans["relations"] = [broken[0:1]]
    found = advice(defaults, [*many(defaults.nlp, 3), *odd, broken], dev)
    assert {item.level for item in found} == {"error", "warn", "info"}
    for item in found:
        for value in item.numbers.values():
            if isinstance(value, int):
                assert str(value) in item.text, item
    topics = [item.topic for item in found]
    assert topics == sorted(topics, key=topics.index)


def test_every_rule_makes_a_sentence(bert_checkpoint: Path) -> None:
    pipelines = [make(bert_checkpoint)[0] for make in (make_nlp, make_pair_nlp, make_qa_nlp)]
    topics = set()
    for nlp in pipelines:
        readings = make_readings(nlp.config)
        findings = Findings(collect(many(readings.nlp, 2), readings), None, readings)
        (reading,) = readings.components
        rules = [rule for rule in COMPONENT_RULES if rule.topic is type(reading)]
        views = [(rule, View(findings, "train", findings.train, reading)) for rule in rules]
        views += [(rule, View(findings, "train", findings.train)) for rule in DATA_RULES]
        for rule, view in views:
            (item,) = replace(rule, count=lambda _: 7, when=None).apply(view)
            assert item.numbers["n"] == 7
            assert "7" in item.text
            topics.add(item.topic)
    assert topics == {"Data", "Entities", "Relations", "Questions"} | {
        name for nlp in pipelines for name in nlp.pipe_names
    }


def test_encoders_that_cannot_be_read(bert_checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = make_nlp(bert_checkpoint)
    config = nlp.config.copy()
    config["components"]["span_relation"]["model"]["encoder"]["name"] = str(tmp_path)
    readings = make_readings(config)
    found = advice(readings, many(readings.nlp, 1))
    assert [item.level for item in found if "cannot be read" in item.text] == ["error"]
    config["components"]["span_relation"]["model"]["encoder"].update(
        name=str(bert_checkpoint), max_length=65
    )
    readings = make_readings(config)
    assert "E_SR205" in only(advice(readings, many(readings.nlp, 1)), "max_length = 65").text
    with pytest.raises(ValueError, match=r"E_SR945.*\(none\)"):
        make_readings(spacy.blank("en").config)


@pytest.mark.parametrize(
    ("bounds", "out_of_scope", "too_far"),
    [
        ({"scope": "doc"}, 0, 0),
        ({"scope": "sentence"}, 2, 0),
        ({"scope": "window"}, 1, 0),
        ({"max_distance": 3}, 0, 2),
        ({"scope": "sentence", "max_distance": 0}, 2, 1),
    ],
)
def test_relations_that_scope_leaves_out(
    bert_checkpoint: Path, bounds: dict[str, Any], out_of_scope: int, too_far: int
) -> None:
    model = {"encoder": {"name": str(bert_checkpoint), "max_length": 12, "window_overlap": 2}}
    nlp, _ = make_nlp(bert_checkpoint, model=model, **bounds)
    readings = make_readings(nlp.config)
    # 9 + 9 tokens of one piece each; windows hold tokens 0 to 9 and 8 to 17.
    starts = [i in (0, 9) for i in range(18)]
    doc = Doc(readings.nlp.vocab, words=["Mary"] * 18, sent_starts=starts)
    spans = [Span(doc, a, b, label="Per") for a, b in ((0, 1), (4, 5), (9, 10), (17, 18))]
    doc.spans["entities"] = spans if "scope" not in bounds else [*spans, Span(doc, 8, 10, "Odd")]
    # 3 tokens apart; 4 apart, in two sentences and one window; 16 apart.
    links = [(0, 1), (1, 2), (0, 3)]
    set_relations(doc, [Relation(spans[h], spans[t], "knows") for h, t in links])
    unmarked = Doc(readings.nlp.vocab, words=["Mary", "lives"])
    found = [item for item in advice(readings, [doc, unmarked]) if item.topic == "span_relation"]
    counts = {"are not within one": out_of_scope, "tokens between head and tail": too_far}
    for part, n in counts.items():
        hits = [item for item in found if part in item.text]
        assert [(item.level, item.numbers) for item in hits] == (
            [("warn", {"n": n, "relations": 3})] if n else []
        )
    by_sentence = bounds.get("scope") == "sentence"
    assert any("cross a sentence boundary" in item.text for item in found) == by_sentence
    assert any("have no sentence boundaries" in item.text for item in found) == by_sentence


@pytest.mark.parametrize(("context", "n_sentences"), [(0, 1), (5, 1), (5, 2)])
def test_context_needs_docs_of_several_sentences(
    bert_checkpoint: Path, context: int, n_sentences: int
) -> None:
    nlp, _ = make_nlp(bert_checkpoint, scope="sentence", context=context)
    readings = make_readings(nlp.config)
    starts = [i < n_sentences for i in range(3)]
    docs = [
        Doc(readings.nlp.vocab, words=["Mary", "lives", "."], sent_starts=[True, False, False]),
        Doc(readings.nlp.vocab, words=["Mary", "lives", "."], sent_starts=starts),
    ]
    for doc in docs:
        doc.set_ents([Span(doc, 0, 1, label="Per")])
    found = [item for item in advice(readings, docs) if "context = 5 does nothing" in item.text]
    expected = [("warn", {"n": 2, "context": 5})] if context and n_sentences == 1 else []
    assert [(item.level, item.numbers) for item in found] == expected
