"""Advice that follows from the numbers about training data.

Most rules are rows of a table: what is counted, and the sentence to print if the count is not zero.
Rules that compare corpora or labels, or that depend on several settings, are functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .settings import PairReading, QuestionReading, Reading, Readings, SpanReading
from .statistics import Cases, CorpusStatistics

Level = Literal["good", "info", "warn", "error"]

# Fewer Docs than FEW_DOCS are few, and labels with fewer than RARE cases are rare.
FEW_DOCS = 100
RARE = 10
# A relation seems to be symmetric if at least this share of its pairs have it in both directions.
SYMMETRIC_SHARE, SYMMETRIC_PAIRS = 0.8, 5
_MAX_NAMES = 10
_MAX_TYPE_PAIRS = 5


@dataclass(frozen=True)
class Advice:
    """A finding about training data, with what to do about it.

    level (str): "good", "info", "warn", or "error" if training is impossible.
    topic (str): "Data", "Entities", "Relations" or "Questions", or the name of a component.
    text (str): The finding and the advice.
    numbers (dict[str, Any]): The numbers in the text, by name.
    """

    level: Level
    topic: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))


@dataclass(frozen=True)
class Findings:
    """The input of all rules.

    train (CorpusStatistics), dev (CorpusStatistics | None): Numbers about the data.
    readings (Readings): The components that are to learn from it.
    """

    train: CorpusStatistics
    dev: CorpusStatistics | None
    readings: Readings

    @property
    def corpora(self) -> dict[str, CorpusStatistics]:
        """The corpora by name."""
        return {"train": self.train} | ({} if self.dev is None else {"dev": self.dev})


@dataclass(frozen=True)
class View:
    """A corpus, as one component (or none in particular) reads it.

    findings (Findings): All numbers.
    name (str): "train" or "dev".
    corpus (CorpusStatistics): Numbers about that corpus.
    reading (Reading | None): The component; None in rules about the data alone.
    """

    findings: Findings
    name: str
    corpus: CorpusStatistics
    reading: Reading | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The component's settings."""
        if self.reading is None:
            return {}
        # Some settings are not in the component's `cfg`: those of its model and of its pairs.
        return {**self.reading.cfg, **vars(self.reading)}

    @property
    def numbers(self) -> Any:
        """The component's numbers about the corpus."""
        assert self.reading is not None
        return self.corpus.components[self.reading.name]


Count = Callable[[View], Cases | int]
Total = tuple[str, Callable[[View], int]]


@dataclass(frozen=True)
class Rule:
    """A sentence to print for each corpus (and each component of a kind) in which a count is not zero.

    level (str): As in `Advice`.
    topic (str | type[Reading]): A topic, or the kind of component that the rule is about; the topic
        is then the component's name.
    text (str): Template of the sentence. It may use {n} (the count), {share} (the count as a share of
        the total), {name} (of the corpus), {corpus} and {numbers} (their attributes included), and
        the component's settings. The first cases are appended if the count has any.
    count (Callable): What is counted.
    total (tuple[str, Callable] | None): Name and number of all from which it is counted.
    report (tuple[str, ...]): Settings that belong to the numbers of the advice.
    when (Callable | None): A condition, such as a setting, without which the rule does not apply.
    """

    level: Level
    topic: str | type[Reading]
    text: str
    count: Count
    total: Total | None = None
    report: tuple[str, ...] = ()
    when: Callable[[View], bool] | None = None

    def apply(self, view: View) -> Iterator[Advice]:
        """Yield the advice, if there is any."""
        if self.when is not None and not self.when(view):
            return
        count = self.count(view)
        n = count.n if isinstance(count, Cases) else count
        if not n:
            return
        settings = view.settings
        numbers: dict[str, Any] = {"n": n}
        values: dict[str, Any] = {**settings, "name": view.name, "corpus": view.corpus, "n": n}
        if view.reading is not None:
            values["numbers"] = view.numbers
        if self.total is not None:
            numbers[self.total[0]] = total = self.total[1](view)
            values["share"] = share(n, total)
        numbers.update((name, settings[name]) for name in self.report)
        text = self.text.format(**values)
        if isinstance(count, Cases):
            text += f" {_examples(count)}"
        topic = self.topic if view.reading is None else view.reading.name
        assert isinstance(topic, str)
        yield Advice(self.level, topic, text, numbers)


def advise(findings: Findings) -> list[Advice]:
    """Apply all rules.

    findings (Findings): Numbers and components.
    RETURNS (list[Advice]): Advice, grouped by topic, in the order of the rules.
    """
    advice = list(_data_advice(findings))
    for reading in findings.readings.components:
        advice += _component_advice(findings, reading)
    topics = list(dict.fromkeys(item.topic for item in advice))
    return sorted(advice, key=lambda item: topics.index(item.topic))


def _data_advice(findings: Findings) -> Iterator[Advice]:
    for problem in findings.readings.problems:
        yield Advice("error", "Data", problem)
    yield from _size(findings)
    yield from _leakage(findings)
    for rule in DATA_RULES:
        for name, corpus in findings.corpora.items():
            yield from rule.apply(View(findings, name, corpus))
    yield from _overlaps(findings)
    yield from _labels(findings)
    yield from _directions(findings)


def _component_advice(findings: Findings, reading: Reading) -> Iterator[Advice]:
    nothing = _nothing_to_learn(findings, reading)
    if nothing is not None:
        if findings.readings.configured:
            yield nothing
        return
    for rule in COMPONENT_RULES:
        if rule.topic is type(reading):
            for name, corpus in findings.corpora.items():
                yield from rule.apply(View(findings, name, corpus, reading))
    yield from _untrained_type_pairs(findings, reading)


# Words


def share(n: int, total: int) -> str:
    """Return a count as a share of a total, in words: "1 of 4 (25.0%)"."""
    return f"{n} of {total} ({100 * n / total:.1f}%)" if total else f"{n} of 0"


def _examples(cases: Cases) -> str:
    more = "" if cases.n <= len(cases.first) else " ..."
    return f"First of them: {'; '.join(cases.first)}{more}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(repr(name) for name in names[:_MAX_NAMES]) + more


# Totals and conditions in the tables

_DOCS: Total = ("docs", lambda v: v.corpus.docs)
_ENTITIES: Total = ("entities", lambda v: v.corpus.entities.total())
_RELATIONS: Total = ("relations", lambda v: v.corpus.relations.total())
_QUESTIONS: Total = ("questions", lambda v: v.corpus.n_questions)
_ANSWERS: Total = ("answers", lambda v: v.corpus.answer_sizes.n)
_PAIRS: Total = ("pairs", lambda v: v.corpus.token_distances.n)
_MARKED_PAIRS: Total = ("pairs", lambda v: v.corpus.sentence_distances.n)
_WINDOWS: Total = ("total", lambda v: v.numbers.windows.n)
_READ_ANSWERS: Total = ("answers", lambda v: v.numbers.answer_pieces.n)
_LEARNED_QUESTIONS: Total = ("questions", lambda v: v.corpus.answerable + v.corpus.unanswerable)


def _predicts_entities(view: View) -> bool:
    return bool(view.settings["entities"] == "predict")


def _by_sentence(view: View) -> bool:
    return bool(view.settings["scope"] == "sentence")


def _in_training(view: View) -> bool:
    """The corpus is learned from, and a config says with which settings."""
    return view.name == "train" and view.findings.readings.configured


def _all_taught(view: View) -> bool:
    teachers = [reading.cfg["teacher"] for reading in view.findings.readings.components]
    return all(teacher is not None and teacher.get("path") is not None for teacher in teachers)


def _has_classifier(view: View) -> bool:
    return bool(view.findings.readings.of(PairReading))


def _n_negative(view: View) -> int:
    return view.corpus.relations[view.settings["negative_label"]]


# Rules about the data alone

# fmt: off
DATA_RULES: tuple[Rule, ...] = (
    Rule("error", "Data",
         "{share} Docs in {name} have annotations that cannot be read.",
         lambda v: v.corpus.broken, _DOCS),
    Rule("warn", "Data",
         "{share} Docs in {name} have no tokens and are never read.",
         lambda v: v.corpus.empty_docs, _DOCS),
    Rule("warn", "Data",
         "{share} Docs in {name} are not annotated at all: no entities, relations or questions. "
         "Components learn from them that such text contains none.",
         lambda v: v.corpus.bare_docs, _DOCS),
    Rule("info", "Data",
         "Further {n} Docs in {name} are unlabelled: a teacher's predictions are learned from them.",
         lambda v: v.corpus.unlabelled_docs),
    Rule("error", "Data",
         "{n} Docs in {name} are unlabelled, but not every component has a teacher.",
         lambda v: v.corpus.unlabelled_docs,
         when=lambda v: _in_training(v) and not _all_taught(v)),
    Rule("info", "Data",
         "{share} Docs in {name} are tokenized differently by the pipeline.",
         lambda v: v.corpus.retokenized, _DOCS),
    Rule("warn", "Data",
         "{n} entities and arguments in {name} do not begin and end at boundaries of the "
         "pipeline's tokens and cannot be learned.",
         lambda v: v.corpus.misaligned),
    Rule("info", "Entities",
         "{n} entities in {name} are annotated twice.",
         lambda v: v.corpus.duplicate_entities),
    Rule("warn", "Entities",
         "{n} spans in {name} have several types; span_relation predicts only one.",
         lambda v: v.corpus.several_types),
    Rule("warn", "Entities",
         "{n} entities in {name} have no type.",
         lambda v: v.corpus.untyped_entities),
    Rule("warn", "Entities",
         "{n} entities in {name} are empty, or begin or end with whitespace, and can never be "
         "predicted.",
         lambda v: v.corpus.blank_borders),
    Rule("info", "Entities",
         "{n} entities in {name} cross a sentence boundary.",
         lambda v: v.corpus.across_sentences),
    Rule("info", "Entities",
         "{share} Docs in {name} have no entities.",
         lambda v: v.corpus.docs_without_entities, _DOCS, when=lambda v: bool(v.corpus.entities)),
    Rule("warn", "Relations",
         "{n} relations in {name} relate a span to itself; such pairs are never classified.",
         lambda v: v.corpus.self_relations),
    Rule("info", "Relations",
         "{n} relations in {name} are annotated twice.",
         lambda v: v.corpus.duplicate_relations),
    Rule("warn", "Relations",
         "{n} pairs in {name} have several labels; relation_classifier learns only the first one.",
         lambda v: v.corpus.several_labels, when=_has_classifier),
    Rule("info", "Relations",
         "{n} pairs in {name} have several labels.",
         lambda v: v.corpus.several_labels, when=lambda v: not _has_classifier(v)),
    Rule("info", "Relations",
         "{n} arguments of relations in {name} are not annotated as entities.",
         lambda v: v.corpus.foreign_arguments),
    Rule("warn", "Relations",
         "{n} arguments of relations in {name} have no type.",
         lambda v: v.corpus.untyped_arguments),
    Rule("info", "Relations",
         "{share} relations in {name} cross sentence boundaries, up to "
         "{corpus.sentence_distances.max} of them at a time.",
         lambda v: v.corpus.sentence_distances.over(0),
         ("relations", lambda v: v.corpus.sentence_distances.n)),
    Rule("info", "Relations",
         "{share} Docs in {name} have no relations.",
         lambda v: v.corpus.docs_without_relations, _DOCS, when=lambda v: bool(v.corpus.relations)),
    Rule("info", "Questions",
         "{share} questions in {name} have no answer.",
         lambda v: v.corpus.unanswerable, _QUESTIONS),
    Rule("warn", "Questions",
         '{share} questions in {name} have no gold annotation, not even "no answer", and are not '
         'learned.',
         lambda v: v.corpus.unsettled, _QUESTIONS),
    Rule("info", "Questions",
         "{share} answers in {name} begin or end within a token. Answers are learned by their "
         "characters, so nothing is lost.",
         lambda v: v.corpus.misaligned_answers, _ANSWERS),
    Rule("warn", "Questions",
         "{n} questions in {name} are asked twice of a Doc.",
         lambda v: v.corpus.repeated_questions),
)
# fmt: on

# Rules about what a component can learn and predict

# fmt: off
COMPONENT_RULES: tuple[Rule, ...] = (
    Rule("warn", SpanReading,
         "The {n} entities in {name} come without relations in doc.spans[{relations_key!r}], so "
         "only entities can be learned.",
         lambda v: v.corpus.entities.total(),
         when=lambda v: v.name == "train" and not v.corpus.relations),
    Rule("warn", SpanReading,
         "{share} entities in {name} are longer than max_span_size = {max_span_size} tokens and "
         "can never be predicted (the longest has {corpus.entity_sizes.max}).",
         lambda v: v.numbers.too_long, _ENTITIES, report=("max_span_size",),
         when=_predicts_entities),
    Rule("warn", SpanReading,
         '{share} relations in {name} are not within one {scope} (scope = "{scope}") and can never '
         'be predicted.',
         lambda v: v.numbers.out_of_scope, _RELATIONS),
    Rule("warn", SpanReading,
         "{share} relations in {name} have more than max_distance = {max_distance} tokens between "
         "head and tail and can never be predicted.",
         lambda v: v.numbers.too_far, _RELATIONS),
    Rule("warn", SpanReading,
         '{share} entities in {name} cross a sentence boundary (scope = "sentence") and can never '
         'be predicted.',
         lambda v: v.corpus.across_sentences, _ENTITIES,
         when=lambda v: _by_sentence(v) and _predicts_entities(v)),
    Rule("info", SpanReading,
         "{share} Docs in {name} have no sentence boundaries, so relations across sentences cannot "
         "be counted in them.",
         lambda v: v.corpus.docs - v.corpus.empty_docs - v.corpus.sentences.n, _DOCS,
         when=_by_sentence),
    Rule("warn", SpanReading,
         "None of {n} Docs in {name} has more than one sentence, so context = {context} does nothing "
         "and nothing is learned about it. Give whole paragraphs or documents.",
         lambda v: v.corpus.sentences.n, report=("context",),
         when=lambda v: bool(v.settings["context"]) and not v.corpus.sentences.over(1)),
    Rule("warn", SpanReading,
         "{share} Docs in {name} have more than max_pairs = {max_pairs} pairs of entities (up to "
         "{numbers.pairs.max}): the pairs farthest apart are not classified.",
         lambda v: v.numbers.pairs.over(v.settings["max_pairs"]),
         ("docs", lambda v: v.numbers.pairs.n), report=("max_pairs",)),
    *(Rule("info", SpanReading,
           f"{{share}} {texts} in {{name}} need more than one window of the encoder.",
           lambda v: v.numbers.windows.over(1), _WINDOWS, when=when)
      for texts, when in (("sentences", _by_sentence), ("Docs", lambda v: not _by_sentence(v)))),
    Rule("info", PairReading,
         "{share} pairs in {name} are negative ({negative_label!r}).",
         _n_negative, ("pairs", _RELATIONS[1]), when=lambda v: v.name == "train"),
    Rule("warn", PairReading,
         "All {n} pairs in {name} are negative: there is no relation to learn.",
         _n_negative,
         when=lambda v: v.name == "train" and _n_negative(v) == v.corpus.relations.total()),
    Rule("warn", PairReading,
         "None of {n} pairs in {name} has the negative label {negative_label!r}, so the classifier "
         "will find a relation in every pair. Add unrelated pairs ('spanrel convert ... "
         "--negatives {negative_label}' makes them).",
         lambda v: v.corpus.relations.total(),
         when=lambda v: (_in_training(v) and v.settings["negative_label"] is not None
                         and v.settings["train_pairs"] == "gold" and not _n_negative(v))),
    Rule("warn", PairReading,
         "{n} pairs in {name} are left out because their arguments alone are longer than a row.",
         lambda v: v.numbers.too_long),
    Rule("info", PairReading,
         "{share} rows in {name} are longer than max_length = {marker.max_length} pieces and are "
         "cut around the arguments (the longest has {numbers.rows.max}).",
         lambda v: v.numbers.cut, ("rows", lambda v: v.numbers.rows.n)),
    Rule("warn", PairReading,
         '{share} gold pairs in {name} cross sentence boundaries. Where sentences are marked, only '
         'pairs within a sentence are classified (scope = "sentence").',
         lambda v: v.corpus.sentence_distances.over(0), _MARKED_PAIRS,
         when=lambda v: _by_sentence(v) and v.findings.readings.configured),
    Rule("warn", PairReading,
         "{share} gold pairs in {name} are more than max_distance = {max_distance} tokens apart "
         "and are never classified.",
         lambda v: v.corpus.token_distances.over(v.settings["max_distance"]), _PAIRS,
         report=("max_distance",), when=lambda v: v.settings["max_distance"] is not None),
    Rule("warn", QuestionReading,
         "None of {n} questions in {name} is without an answer, so the component cannot learn when "
         "there is none. Set no_answer = false, or add such questions.",
         _LEARNED_QUESTIONS[1],
         when=lambda v: _in_training(v) and v.settings["no_answer"] and not v.corpus.unanswerable),
    Rule("warn", QuestionReading,
         "{share} questions in {name} have no answer, but with no_answer = false the component "
         "always gives one.",
         lambda v: v.corpus.unanswerable, _LEARNED_QUESTIONS,
         when=lambda v: v.name == "train" and not v.settings["no_answer"]),
    Rule("warn", QuestionReading,
         "{share} answers in {name} are longer than max_answer_length = {max_answer_length} pieces "
         "and can never be given (the longest has {numbers.answer_pieces.max}).",
         lambda v: v.numbers.too_long, _READ_ANSWERS),
    Rule("warn", QuestionReading,
         "{share} answers in {name} do not fit into any window; their questions are learned as if "
         "they had no answer. Raise max_length, or lower doc_stride.",
         lambda v: v.numbers.split, _READ_ANSWERS),
    Rule("warn", QuestionReading,
         "{share} answers in {name} have no subword pieces; their questions are left out.",
         lambda v: v.numbers.lost,
         ("answers", lambda v: v.numbers.answer_pieces.n + v.numbers.lost.n)),
    Rule("warn", QuestionReading,
         "{share} questions in {name} are longer than max_question_length = {max_question_length} "
         "pieces and are cut.",
         lambda v: v.numbers.cut, _QUESTIONS),
    Rule("info", QuestionReading,
         "{share} questions in {name} need more than one window of the encoder.",
         lambda v: v.numbers.windows.over(1), _WINDOWS),
)
# fmt: on


# Rules that need code


def _size(findings: Findings) -> Iterator[Advice]:
    """Are there enough Docs in train, and any in dev?"""
    for name, corpus in findings.corpora.items():
        n = corpus.docs - corpus.empty_docs
        if not n:
            yield Advice("error", "Data", f"No Doc in {name} has tokens.", {"n": 0})
        elif name == "train" and n < FEW_DOCS:
            text = f"Only {n} Docs to train on; a few hundred are a start."
            yield Advice("warn", "Data", text, {"n": n})
    if findings.dev is None:
        yield Advice("info", "Data", "No development data was given (--dev) to compare with.")


def _leakage(findings: Findings) -> Iterator[Advice]:
    """Which texts occur twice in train, or in both corpora?"""
    train, dev = findings.train, findings.dev
    repeated = sum(n - 1 for n in train.texts.values())
    if repeated:
        text = f"{share(repeated, train.docs)} Docs in train repeat the text of another one."
        yield Advice("info", "Data", text, {"n": repeated, "docs": train.docs})
    if dev is None or not dev.docs:
        return
    leaked = sum(n for text, n in dev.texts.items() if text in train.texts)
    level: Level = "warn" if leaked else "good"
    text = (
        f"{share(leaked, dev.docs)} Docs in dev have the text of a Doc in train (apart from case and "
        "spacing): scores on dev will be too good."
        if leaked
        else "No text of dev is in train."
    )
    yield Advice(level, "Data", text, {"n": leaked, "docs": dev.docs})


def _overlaps(findings: Findings) -> Iterator[Advice]:
    """Which entities overlap, and does span_relation predict both of them?"""
    only_best = any(
        reading.cfg["entities"] == "predict" and reading.cfg["overlaps"] == "best"
        for reading in findings.readings.of(SpanReading)
    )
    for name, corpus in findings.corpora.items():
        n, nested, total = (
            corpus.overlapping_entities,
            corpus.nested_entities,
            corpus.entities.total(),
        )
        if n:
            yield Advice(
                "warn" if only_best else "info",
                "Entities",
                f"{share(n, total)} entities in {name} overlap, {nested} of them within another one."
                + (' With overlaps = "best" only one of them is predicted.' if only_best else ""),
                {"n": n, "nested": nested, "entities": total},
            )


def _labels(findings: Findings) -> Iterator[Advice]:
    """Which labels are rare, and which does only one corpus have?"""
    train, dev = findings.train, findings.dev
    kinds: tuple[tuple[str, str, Counter[str], Counter[str] | None], ...] = (
        ("Entities", "entity types", train.entities, None if dev is None else dev.entities),
        ("Relations", "relation labels", train.relations, None if dev is None else dev.relations),
    )
    for topic, what, in_train, in_dev in kinds:
        rare = sorted(
            (label for label, n in in_train.items() if n < RARE),
            key=lambda label: (in_train[label], label),
        )
        if rare:
            yield Advice(
                "warn",
                topic,
                f"{share(len(rare), len(in_train))} {what} occur fewer than {RARE} times in train: "
                f"{_names(rare)}. Hardly anything can be learned about them.",
                {"n": len(rare), "labels": rare},
            )
        if not in_train or not in_dev:
            continue
        new = sorted(in_dev.keys() - in_train.keys())
        if new:
            cases = sum(in_dev[label] for label in new)
            yield Advice(
                "warn",
                topic,
                f"{len(new)} {what} are in dev only: {_names(new)}. Their {cases} cases can never be "
                "predicted, and count as missed.",
                {"n": len(new), "labels": new, "cases": cases},
            )
        untested = sorted(in_train.keys() - in_dev.keys())
        if untested:
            yield Advice(
                "info",
                topic,
                f"{len(untested)} {what} are in train only, so dev cannot test them: "
                f"{_names(untested)}.",
                {"n": len(untested), "labels": untested},
            )


def _directions(findings: Findings) -> Iterator[Advice]:
    """Which relations are annotated in both directions, and may be symmetric?"""
    readings = findings.readings
    settled = {
        label
        for kind in (SpanReading, PairReading)
        for reading in readings.of(kind)
        for label in reading.cfg["symmetric"]
    }
    settled.add(readings.negative_label)
    for label, n in sorted(findings.train.pairs.items()):
        both = findings.train.both_ways[label]
        if label not in settled and n >= SYMMETRIC_PAIRS and both >= SYMMETRIC_SHARE * n:
            yield Advice(
                "info",
                "Relations",
                f"{share(both, n)} pairs with {label!r} in train have it in both directions. If its "
                f"direction means nothing, set symmetric = [{label!r}] and annotate only one.",
                {"label": label, "n": both, "pairs": n},
            )


def _nothing_to_learn(findings: Findings, reading: Reading) -> Advice | None:
    """Return the error for a component for which train has no annotation; None if there is some."""
    train, cfg = findings.train, reading.cfg
    numbers: Mapping[str, int]
    if isinstance(reading, SpanReading):
        numbers = {"entities": train.entities.total(), "relations": train.relations.total()}
        missing = (
            f"0 entities in doc.spans[{cfg['spans_key']!r}] or doc.ents and 0 relations in "
            f"doc.spans[{cfg['relations_key']!r}]"
        )
    elif isinstance(reading, PairReading):
        numbers = {"relations": train.relations.total()}
        missing = f"0 relations in doc.spans[{cfg['relations_key']!r}]"
    else:
        numbers = {"questions": train.answerable + train.unanswerable}
        missing = f"0 questions with gold answers in doc.spans[{cfg['qa_key']!r}]"
    if any(numbers.values()):
        return None
    text = f"There is nothing to learn: train has {missing}."
    return Advice("error", reading.name, text, dict(numbers))


def _untrained_type_pairs(findings: Findings, reading: Reading) -> Iterator[Advice]:
    """Which relations of dev does `type_constraints = "learned"` rule out?"""
    train, dev = findings.train, findings.dev
    if dev is None or reading.cfg.get("type_constraints") != "learned":
        return
    new = Counter(
        {
            key: n
            for key, n in dev.type_pairs.items()
            if key not in train.type_pairs
            and key[0] in train.relations
            and key[0] != findings.readings.negative_label
        }
    )
    if new:
        pairs = [
            f"{label}({head}, {tail})"
            for (label, head, tail), _ in new.most_common(_MAX_TYPE_PAIRS)
        ]
        yield Advice(
            "warn",
            reading.name,
            f"{share(new.total(), dev.relations.total())} relations in dev are between entity types "
            "that train never relates so, and cannot be predicted with type_constraints = 'learned': "
            f"{', '.join(pairs)}.",
            {"n": new.total(), "relations": dev.relations.total()},
        )
