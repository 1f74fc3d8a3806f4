"""What follows from numbers about data: rules, each of which says one thing in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from .settings import PairReading, QuestionReading, Readings, SpanReading
from .statistics import Cases, CorpusStatistics, PairNumbers, QuestionNumbers, SpanNumbers

Level = Literal["good", "info", "warn", "error"]

# Fewer Docs than this are few, fewer cases of a label rare.
FEW_DOCS = 100
RARE = 10
# A relation is taken for one without direction if so many of its pairs have it in both.
SYMMETRIC_SHARE, SYMMETRIC_PAIRS = 0.8, 5
_MAX_NAMES = 10


@dataclass(frozen=True)
class Advice:
    """One finding.

    level (str): "good", "info", "warn", or "error" for what makes training impossible.
    topic (str): "Data", "Entities", "Relations" or "Questions", or the name of a component.
    text (str): What was found, and what to do about it.
    numbers (dict[str, Any]): The numbers in the text.
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
    """What the rules look at.

    train (CorpusStatistics), dev (CorpusStatistics | None): The numbers.
    readings (Readings): The components.
    """

    train: CorpusStatistics
    dev: CorpusStatistics | None
    readings: Readings

    @property
    def parts(self) -> list[tuple[str, CorpusStatistics]]:
        """The corpora by name."""
        return [("train", self.train), *([("dev", self.dev)] if self.dev is not None else [])]

    def concerns(self, kind: type[Any]) -> bool:
        """Whether there is a component of a kind, or none was asked for."""
        return bool(self.readings.of(kind))


Rule = Callable[[Findings], Iterator[Advice]]


def advise(found: Findings) -> list[Advice]:
    """Apply all rules.

    found (Findings): The numbers.
    RETURNS (list[Advice]): By topic, in the order of the rules.
    """
    rules: list[Rule] = [
        _problems,
        _size,
        _leakage,
        _tokenization,
        _entities,
        _relations,
        _labels,
        _directions,
        _questions,
        _span_components,
        _pair_components,
        _question_components,
    ]
    advice = [item for rule in rules for item in rule(found)]
    topics = list(dict.fromkeys(item.topic for item in advice))
    return sorted(advice, key=lambda item: topics.index(item.topic))


def share(n: int, total: int) -> str:
    """Return a part of a whole in words."""
    return f"{n} of {total} ({100 * n / total:.1f}%)" if total else f"{n} of 0"


def _shown(cases: Cases) -> str:
    more = "" if cases.n <= len(cases.first) else " ..."
    return f"First of them: {'; '.join(cases.first)}{more}"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(repr(name) for name in names[:_MAX_NAMES]) + more


def _problems(found: Findings) -> Iterator[Advice]:
    for problem in found.readings.problems:
        yield Advice("error", "Data", problem)
    for name, part in found.parts:
        if part.broken:
            yield Advice(
                "error",
                "Data",
                f"{share(part.broken.n, part.docs)} Docs in {name} have annotation that cannot be "
                f"read. {_shown(part.broken)}",
                {"n": part.broken.n, "docs": part.docs},
            )


def _size(found: Findings) -> Iterator[Advice]:
    train, dev = found.train, found.dev
    n = train.docs - train.empty_docs
    if not n:
        yield Advice("error", "Data", "There are no Docs with tokens in train.", {"n": 0})
    elif n < FEW_DOCS:
        yield Advice(
            "warn", "Data", f"Only {n} Docs to train on; a few hundred are a start.", {"n": n}
        )
    for name, part in found.parts:
        if part.empty_docs:
            yield Advice(
                "warn",
                "Data",
                f"{share(part.empty_docs, part.docs)} Docs in {name} have no tokens and are never "
                "read.",
                {"n": part.empty_docs, "docs": part.docs},
            )
        if part.bare_docs:
            yield Advice(
                "warn",
                "Data",
                f"{share(part.bare_docs, part.docs)} Docs in {name} have no annotation at all: "
                "neither entities nor relations nor questions. They are learned as text in which "
                "there is nothing to find.",
                {"n": part.bare_docs, "docs": part.docs},
            )
    if dev is None:
        yield Advice("info", "Data", "No development data was given (--dev) to compare with.")
    elif not dev.docs - dev.empty_docs:
        yield Advice("error", "Data", "There are no Docs with tokens in dev.", {"n": 0})


def _leakage(found: Findings) -> Iterator[Advice]:
    train, dev = found.train, found.dev
    again = sum(n - 1 for n in train.texts.values())
    if again:
        yield Advice(
            "info",
            "Data",
            f"{share(again, train.docs)} Docs in train repeat the text of another one.",
            {"n": again, "docs": train.docs},
        )
    if dev is None or not dev.docs:
        return
    leaked = sum(n for text, n in dev.texts.items() if text in train.texts)
    numbers = {"n": leaked, "docs": dev.docs}
    if leaked:
        yield Advice(
            "warn",
            "Data",
            f"{share(leaked, dev.docs)} Docs in dev have the text of a Doc in train (but for case "
            "and spacing): scores on dev will be too good.",
            numbers,
        )
    else:
        yield Advice("good", "Data", "No text of dev is in train.", numbers)


def _tokenization(found: Findings) -> Iterator[Advice]:
    for name, part in found.parts:
        if part.retokenized:
            yield Advice(
                "info",
                "Data",
                f"{share(part.retokenized, part.docs)} Docs in {name} are tokenized in another way "
                "by the pipeline.",
                {"n": part.retokenized, "docs": part.docs},
            )
        if part.misaligned:
            yield Advice(
                "warn",
                "Data",
                f"{part.misaligned.n} entities and arguments in {name} do not lie on borders of the "
                f"pipeline's tokens and cannot be learned. {_shown(part.misaligned)}",
                {"n": part.misaligned.n},
            )


def _entities(found: Findings) -> Iterator[Advice]:
    for name, part in found.parts:
        total = part.entities.total()
        cases: list[tuple[Level, Cases, str]] = [
            ("info", part.duplicate_entities, "entities in {name} are there twice."),
            (
                "warn",
                part.several_types,
                "spans in {name} have several types; span_relation predicts one.",
            ),
            ("warn", part.untyped_entities, "entities in {name} have no type."),
            (
                "warn",
                part.blank_borders,
                "entities in {name} are empty, or begin or end with white space, and can never be "
                "predicted.",
            ),
            ("info", part.across_sentences, "entities in {name} cross a sentence border."),
        ]
        for level, case, text in cases:
            if case:
                yield Advice(
                    level,
                    "Entities",
                    f"{case.n} {text.format(name=name)} {_shown(case)}",
                    {"n": case.n},
                )
        if part.overlapping_entities:
            spans = found.readings.of(SpanReading)
            lost = [
                s.name
                for s in spans
                if s.cfg["entities"] == "predict" and s.cfg["overlaps"] == "best"
            ]
            advice = ' With overlaps = "best" one of them is predicted.' if lost else ""
            yield Advice(
                "warn" if lost else "info",
                "Entities",
                f"{share(part.overlapping_entities, total)} entities in {name} overlap, "
                f"{part.nested_entities} of them within another one.{advice}",
                {
                    "n": part.overlapping_entities,
                    "nested": part.nested_entities,
                    "entities": total,
                },
            )
        if part.docs_without_entities and total:
            yield Advice(
                "info",
                "Entities",
                f"{share(part.docs_without_entities, part.docs)} Docs in {name} have no entities.",
                {"n": part.docs_without_entities, "docs": part.docs},
            )


def _relations(found: Findings) -> Iterator[Advice]:
    for name, part in found.parts:
        total = part.relations.total()
        cases: list[tuple[Level, Cases, str]] = [
            (
                "warn",
                part.self_relations,
                "relations in {name} are between a span and itself; such pairs are never classified.",
            ),
            ("info", part.duplicate_relations, "relations in {name} are there twice."),
            (
                "warn" if found.readings.of(PairReading) else "info",
                part.several_labels,
                "pairs in {name} have several labels; relation_classifier learns the first one.",
            ),
            (
                "info",
                part.foreign_arguments,
                "arguments of relations in {name} are not among the entities.",
            ),
            ("warn", part.untyped_arguments, "arguments of relations in {name} have no type."),
        ]
        for level, case, text in cases:
            if case:
                yield Advice(
                    level,
                    "Relations",
                    f"{case.n} {text.format(name=name)} {_shown(case)}",
                    {"n": case.n},
                )
        across = part.sentence_distances.over(0)
        if across:
            yield Advice(
                "info",
                "Relations",
                f"{share(across, part.sentence_distances.n)} relations in {name} cross sentences, "
                f"{part.sentence_distances.max} at most.",
                {"n": across, "relations": part.sentence_distances.n},
            )
        if part.docs_without_relations and total:
            yield Advice(
                "info",
                "Relations",
                f"{share(part.docs_without_relations, part.docs)} Docs in {name} have no relations.",
                {"n": part.docs_without_relations, "docs": part.docs},
            )


def _labels(found: Findings) -> Iterator[Advice]:
    train, dev = found.train, found.dev
    kinds: list[tuple[str, str, Counter[str], Counter[str] | None]] = [
        ("Entities", "entity types", train.entities, dev.entities if dev else None),
        ("Relations", "relation labels", train.relations, dev.relations if dev else None),
    ]
    for topic, what, known, others in kinds:
        rare = sorted(
            (name for name, n in known.items() if n < RARE), key=lambda name: (known[name], name)
        )
        if rare:
            yield Advice(
                "warn",
                topic,
                f"{share(len(rare), len(known))} {what} occur fewer than {RARE} times in train: "
                f"{_names(rare)}. Hardly anything can be learned about them.",
                {"n": len(rare), "labels": rare},
            )
        if others is None:
            continue
        new = sorted(name for name in others if name not in known)
        if new and known:
            n = sum(others[name] for name in new)
            yield Advice(
                "warn",
                topic,
                f"{len(new)} {what} are in dev only: {_names(new)}. Their {n} cases can never be "
                "found, and count as missed.",
                {"n": len(new), "labels": new, "cases": n},
            )
        unseen = sorted(name for name in known if name not in others)
        if unseen and others:
            yield Advice(
                "info",
                topic,
                f"{len(unseen)} {what} are in train only, and dev tells nothing about them: "
                f"{_names(unseen)}.",
                {"n": len(unseen), "labels": unseen},
            )


def _directions(found: Findings) -> Iterator[Advice]:
    train = found.train
    parts = [*found.readings.of(SpanReading), *found.readings.of(PairReading)]
    known = {label for part in parts for label in part.cfg["symmetric"]}
    known.add(found.readings.negative_label)
    for label in sorted(train.pairs):
        n, both = train.pairs[label], train.both_ways[label]
        if label not in known and n >= SYMMETRIC_PAIRS and both >= SYMMETRIC_SHARE * n:
            yield Advice(
                "info",
                "Relations",
                f"{share(both, n)} pairs with {label!r} in train have it in both directions. If its "
                f"direction means nothing, set symmetric = [{label!r}] and annotate one.",
                {"label": label, "n": both, "pairs": n},
            )


def _questions(found: Findings) -> Iterator[Advice]:
    for name, part in found.parts:
        if not part.n_questions:
            continue
        yield Advice(
            "info",
            "Questions",
            f"{share(part.unanswerable, part.n_questions)} questions in {name} have no answer.",
            {"n": part.unanswerable, "questions": part.n_questions},
        )
        if part.unsettled:
            yield Advice(
                "warn",
                "Questions",
                f"{share(part.unsettled, part.n_questions)} questions in {name} have no gold answer, "
                'not even "no answer", and are not learned.',
                {"n": part.unsettled, "questions": part.n_questions},
            )
        if part.misaligned_answers:
            yield Advice(
                "info",
                "Questions",
                f"{share(part.misaligned_answers.n, part.answer_sizes.n)} answers in {name} begin or "
                "end within a token. They are learned by characters, so nothing is lost. "
                f"{_shown(part.misaligned_answers)}",
                {"n": part.misaligned_answers.n, "answers": part.answer_sizes.n},
            )
        if part.repeated_questions:
            yield Advice(
                "warn",
                "Questions",
                f"{part.repeated_questions.n} questions in {name} are asked twice of a Doc. "
                f"{_shown(part.repeated_questions)}",
                {"n": part.repeated_questions.n},
            )


def _span_components(found: Findings) -> Iterator[Advice]:
    train = found.train
    for part in found.readings.of(SpanReading):
        name, cfg = part.name, part.cfg
        if not train.entities and not train.relations:
            if found.readings.configured:
                yield Advice(
                    "error",
                    name,
                    f"There is nothing to learn: train has 0 entities in doc.spans"
                    f"[{cfg['spans_key']!r}] or doc.ents and 0 relations in doc.spans"
                    f"[{cfg['relations_key']!r}].",
                    {"entities": 0, "relations": 0},
                )
            continue
        if not train.relations:
            yield Advice(
                "warn",
                name,
                f"Train has 0 relations in doc.spans[{cfg['relations_key']!r}]: only entities can "
                "be learned.",
                {"relations": 0},
            )
        for corpus, statistics in found.parts:
            numbers = statistics.components[name]
            assert isinstance(numbers, SpanNumbers)
            size, limit = cfg["max_span_size"], cfg["max_pairs"]
            if numbers.too_long and cfg["entities"] == "predict":
                yield Advice(
                    "warn",
                    name,
                    f"{share(numbers.too_long.n, statistics.entities.total())} entities in {corpus} "
                    f"are longer than max_span_size = {size} tokens and can never be predicted (the "
                    f"longest has {statistics.entity_sizes.max}). {_shown(numbers.too_long)}",
                    {"n": numbers.too_long.n, "max_span_size": size},
                )
            yield from _out_of_reach(found, part, corpus, statistics)
            over = numbers.pairs.over(limit)
            if over:
                yield Advice(
                    "warn",
                    name,
                    f"{share(over, numbers.pairs.n)} Docs in {corpus} have more than max_pairs = "
                    f"{limit} pairs of entities (at most {numbers.pairs.max}): the farthest are not "
                    "classified.",
                    {"n": over, "max_pairs": limit},
                )
            what = "sentences" if cfg["scope"] == "sentence" else "Docs"
            yield from _windows(name, corpus, numbers.windows.over(1), numbers.windows.n, what)
        if cfg["type_constraints"] == "learned":
            yield from _new_type_pairs(found, name)


def _out_of_reach(
    found: Findings, part: SpanReading, corpus: str, statistics: CorpusStatistics
) -> Iterator[Advice]:
    """What `scope` and `max_distance` leave out."""
    name, scope, distance = part.name, part.cfg["scope"], part.cfg["max_distance"]
    numbers, total = statistics.components[name], statistics.relations.total()
    assert isinstance(numbers, SpanNumbers)
    cases: list[tuple[Cases, str]] = [
        (numbers.out_of_scope, f'do not lie in one {scope} (scope = "{scope}")'),
        (numbers.too_far, f"have more than max_distance = {distance} tokens between head and tail"),
    ]
    for case, text in cases:
        if case:
            yield Advice(
                "warn",
                name,
                f"{share(case.n, total)} relations in {corpus} {text}, and can never be predicted. "
                f"{_shown(case)}",
                {"n": case.n, "relations": total},
            )
    if scope != "sentence":
        return
    across = statistics.across_sentences
    if across and part.cfg["entities"] == "predict":
        yield Advice(
            "warn",
            name,
            f"{share(across.n, statistics.entities.total())} entities in {corpus} cross a sentence "
            f'border (scope = "sentence"), and can never be predicted. {_shown(across)}',
            {"n": across.n, "entities": statistics.entities.total()},
        )
    unmarked = statistics.docs - statistics.empty_docs - statistics.docs_with_sentences
    if unmarked:
        yield Advice(
            "info",
            name,
            f"{share(unmarked, statistics.docs)} Docs in {corpus} have no sentences marked, so that "
            "nothing can be said about relations in them that cross sentences.",
            {"n": unmarked, "docs": statistics.docs},
        )


def _windows(name: str, corpus: str, n: int, total: int, what: str) -> Iterator[Advice]:
    if n:
        yield Advice(
            "info",
            name,
            f"{share(n, total)} {what} in {corpus} need more than one window of the encoder.",
            {"n": n, "total": total},
        )


def _new_type_pairs(found: Findings, name: str) -> Iterator[Advice]:
    if found.dev is None:
        return
    new = Counter(
        {
            key: n
            for key, n in found.dev.type_pairs.items()
            if key not in found.train.type_pairs
            and key[0] in found.train.relations
            and key[0] != found.readings.negative_label
        }
    )
    if new:
        shown = [f"{label}({head}, {tail})" for (label, head, tail), _ in new.most_common(5)]
        yield Advice(
            "warn",
            name,
            f"{share(new.total(), found.dev.relations.total())} relations in dev are between types "
            "that train never relates so, and cannot be found with type_constraints = 'learned': "
            f"{', '.join(shown)}.",
            {"n": new.total(), "relations": found.dev.relations.total()},
        )


def _pair_components(found: Findings) -> Iterator[Advice]:
    train = found.train
    for part in found.readings.of(PairReading):
        name, cfg = part.name, part.cfg
        negative = cfg["negative_label"]
        pretrained = cfg["pretrained"] or cfg["preset"] is not None
        if not train.relations:
            if found.readings.configured and not pretrained:
                yield Advice(
                    "error",
                    name,
                    "There is nothing to learn: train has 0 relations in "
                    f"doc.spans[{cfg['relations_key']!r}].",
                    {"relations": 0},
                )
            continue
        n, total = train.relations[negative], train.relations.total()
        if n:
            yield Advice(
                "info",
                name,
                f"{share(n, total)} pairs in train are negative ({negative!r}).",
                {"n": n, "pairs": total},
            )
        elif negative is not None and cfg["train_pairs"] == "gold" and found.readings.configured:
            yield Advice(
                "warn",
                name,
                f"0 of {total} pairs in train have the negative label {negative!r}: the classifier "
                "will find a relation in every pair. Add unrelated pairs ('spanrel convert ... "
                f"--negatives {negative}' makes them).",
                {"n": 0, "pairs": total},
            )
        if total == n:
            yield Advice(
                "warn",
                name,
                f"All {total} pairs in train are negative: there is no relation to learn.",
                {"n": n, "pairs": total},
            )
        for corpus, statistics in found.parts:
            numbers = statistics.components[name]
            assert isinstance(numbers, PairNumbers)
            if numbers.too_long:
                yield Advice(
                    "warn",
                    name,
                    f"{numbers.too_long.n} pairs in {corpus} have arguments that are longer than a "
                    f"row and are left out. {_shown(numbers.too_long)}",
                    {"n": numbers.too_long.n},
                )
            if numbers.cut:
                limit = part.marker.max_length if part.marker is not None else 0
                yield Advice(
                    "info",
                    name,
                    f"{share(numbers.cut, numbers.rows.n)} rows in {corpus} are longer than "
                    f"max_length = {limit} pieces and are cut around the arguments (the longest has "
                    f"{numbers.rows.max}).",
                    {"n": numbers.cut, "rows": numbers.rows.n},
                )
            across = statistics.sentence_distances.over(0)
            if part.scope == "sentence" and across and found.readings.configured:
                yield Advice(
                    "warn",
                    name,
                    f"{share(across, statistics.sentence_distances.n)} gold pairs in {corpus} cross "
                    "sentences. Where sentences are marked, pairs are asked within one "
                    '(scope = "sentence").',
                    {"n": across, "pairs": statistics.sentence_distances.n},
                )
            if part.max_distance is not None:
                far = statistics.token_distances.over(part.max_distance)
                if far:
                    yield Advice(
                        "warn",
                        name,
                        f"{share(far, statistics.token_distances.n)} gold pairs in {corpus} are more "
                        f"than max_distance = {part.max_distance} tokens apart and are never asked.",
                        {"n": far, "max_distance": part.max_distance},
                    )
        if cfg["type_constraints"] == "learned" and found.readings.configured:
            yield from _new_type_pairs(found, name)


def _question_components(found: Findings) -> Iterator[Advice]:
    train = found.train
    for part in found.readings.of(QuestionReading):
        name, cfg = part.name, part.cfg
        learned = train.answerable + train.unanswerable
        if not learned:
            if found.readings.configured:
                yield Advice(
                    "error",
                    name,
                    "There is nothing to learn: train has 0 questions with gold answers in "
                    f"doc.spans[{cfg['qa_key']!r}].",
                    {"questions": train.n_questions},
                )
            continue
        if found.readings.configured and cfg["no_answer"] and not train.unanswerable:
            yield Advice(
                "warn",
                name,
                f"0 of {learned} questions in train have no answer: that there is none cannot be "
                "learned. Set no_answer = false, or add such questions.",
                {"n": 0, "questions": learned},
            )
        if not cfg["no_answer"] and train.unanswerable:
            yield Advice(
                "warn",
                name,
                f"{share(train.unanswerable, learned)} questions in train have no answer, but with "
                "no_answer = false one is always given.",
                {"n": train.unanswerable, "questions": learned},
            )
        for corpus, statistics in found.parts:
            numbers = statistics.components[name]
            assert isinstance(numbers, QuestionNumbers)
            total, limit = numbers.answer_pieces.n, cfg["max_answer_length"]
            cases: list[tuple[Cases, int, str]] = [
                (
                    numbers.too_long,
                    total,
                    f"answers in {corpus} are longer than max_answer_length = {limit} pieces and "
                    f"can never be given (the longest has {numbers.answer_pieces.max}).",
                ),
                (
                    numbers.split,
                    total,
                    f"answers in {corpus} stand in no window as a whole; their questions are learned "
                    "as if there were no answer. Raise max_length, or lower doc_stride.",
                ),
                (
                    numbers.lost,
                    total + numbers.lost.n,
                    f"answers in {corpus} have no word piece; their questions are left out.",
                ),
                (
                    numbers.cut,
                    statistics.n_questions,
                    f"questions in {corpus} are longer than max_question_length = "
                    f"{part.max_question_length} pieces and are cut.",
                ),
            ]
            for case, n, text in cases:
                if case:
                    yield Advice(
                        "warn", name, f"{share(case.n, n)} {text} {_shown(case)}", {"n": case.n}
                    )
            yield from _windows(
                name, corpus, numbers.windows.over(1), numbers.windows.n, "questions"
            )
