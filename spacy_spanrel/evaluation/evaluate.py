"""Scores of a pipeline and the outcomes behind them, from one pass over the corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from timeit import default_timer
from typing import Any

from spacy.language import Language
from spacy.scorer import Scorer as PipelineScorer
from spacy.training import Example
from spacy.util import dot_to_object
from tqdm import tqdm

from ..annotations import (
    ENTITIES_KEY,
    QA_KEY,
    RELATIONS_KEY,
    get_answers,
    get_questions,
)
from ..errors import Errors, Warnings
from ..files import to_plain
from ..scoring.answers import score_answers
from ..scoring.counts import Counts, LabelledCounts
from ..scoring.entities import NAME as ENTITY_RELATIONS
from ..scoring.entities import ClusterSource, EntityRelationScorer, count_entity_relations
from ..scoring.relations import score_pairs, score_relations
from ..training.corpus import has_input
from .confusion import Confusion, confuse
from .outcomes import (
    KINDS,
    STATUSES,
    Kind,
    Outcome,
    add_up,
    answer_outcomes,
    count_true_negatives,
    pair_outcomes,
    relation_outcomes,
)
from .reliability import Reliability, reliability

READER = "spacy-spanrel.Corpus.v1"
PLURALS: dict[Kind, str] = {"entity": "entities", "relation": "relations", "answer": "answers"}

Scorer = Callable[..., dict[str, Any]]
OutcomeMaker = Callable[..., Iterator[Outcome]]

# The default scorer of each of our components, and the function that follows its rules for single
# outcomes. By the names of the factories, because importing the components imports torch.
SCORERS: dict[str, Scorer] = {
    "span_relation": score_relations,
    "relation_classifier": score_pairs,
    "extractive_qa": score_answers,
}
OUTCOMES: dict[Scorer, OutcomeMaker] = {
    score_relations: relation_outcomes,
    score_pairs: pair_outcomes,
    score_answers: answer_outcomes,
}


@dataclass(frozen=True)
class ComponentEvaluation:
    """Scores and outcomes of one component.

    name (str): Its name in the pipeline.
    factory (str): Its factory: "span_relation", "relation_classifier" or "extractive_qa".
    scores (dict[str, Any]): The result of its scorer.
    outcomes (tuple[Outcome, ...]): All single outcomes.
    confusions (dict[Kind, Confusion]): A confusion matrix for each kind of gold annotation.
    entity_relations (LabelledCounts | None): Counts of relations between entities, by the rules of
        `scoring.entities`; None if there are no gold relations.
    """

    name: str
    factory: str
    scores: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    confusions: dict[Kind, Confusion]
    entity_relations: LabelledCounts | None = None

    def totals(self) -> dict[str, Counts]:
        """Return the counts behind each score."""
        totals = add_up(self.outcomes)
        if self.entity_relations is not None:
            totals[ENTITY_RELATIONS] = self.entity_relations.micro
        return totals

    def count(self, kind: Kind) -> dict[str, int]:
        """Return the number of outcomes of a kind for each status that occurs."""
        counts = Counter(outcome.status for outcome in self.outcomes if outcome.kind == kind)
        return {status: counts[status] for status in STATUSES if counts[status]}

    def reliabilities(self) -> dict[Kind, Reliability]:
        """Return whether scores tell how many predictions are right, for each kind that has scores."""
        kinds = {kind: reliability(self.outcomes, kind) for kind in self.confusions}
        return {kind: each for kind, each in kinds.items() if each is not None}

    def counts(self) -> dict[str, Any]:
        """Return plain data: the counts behind each score, and those of each kind and status."""
        counts: dict[str, Any] = {
            name: {"tp": total.tp, "fp": total.fp, "fn": total.fn}
            for name, total in self.totals().items()
        }
        counts.update({PLURALS[kind]: self.count(kind) for kind in self.confusions})
        return counts


@dataclass(frozen=True)
class Evaluation:
    """Scores and outcomes of a pipeline on a corpus.

    model, corpus (str): The pipeline and the corpus, as the user calls them.
    docs (int): Number of Docs.
    inputs (tuple[str, ...]): Gold annotation that the pipeline was given.
    scores (dict[str, Any]): The scores of all components, as `nlp.evaluate` returns them.
    components (tuple[ComponentEvaluation, ...]): This package's components, in the order of the
        pipeline.
    notices (tuple[str, ...]): Things to know when reading the scores.
    """

    model: str
    corpus: str
    docs: int
    inputs: tuple[str, ...]
    scores: dict[str, Any]
    components: tuple[ComponentEvaluation, ...]
    notices: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single outcomes as plain data, for JSON.

        RETURNS (dict[str, Any]): The scores under spaCy's names; "confusion", "counts" and
            "calibration", by the component's name; and "components", the scores of each, if there are
            several, because their scores may have the same names. Numbers that are not finite are None.
        """
        data = {
            **self.scores,
            "confusion": {
                component.name: {PLURALS[k]: c.to_dict() for k, c in component.confusions.items()}
                for component in self.components
            },
            "counts": {component.name: component.counts() for component in self.components},
            "calibration": {
                component.name: {
                    PLURALS[kind]: each.to_dict()
                    for kind, each in component.reliabilities().items()
                }
                for component in self.components
            },
        }
        if len(self.components) > 1:
            data["components"] = {component.name: component.scores for component in self.components}
        plain: dict[str, Any] = to_plain(data)
        return plain


def configured_inputs(nlp: Language) -> tuple[str, ...]:
    """Return the gold annotation that a pipeline is given when it is scored during training.

    nlp (Language): The pipeline.
    RETURNS (tuple[str, ...]): The `inputs` of the reader of its development data, if that reader is
        "spacy-spanrel.Corpus.v1"; () otherwise.
    """
    config = nlp.config.interpolate()
    try:
        reader = dot_to_object(config, config["training"]["dev_corpus"])
    except (KeyError, TypeError):  # a pipeline that was not trained with a config
        return ()
    if not isinstance(reader, Mapping) or reader.get("@readers") != READER:
        return ()
    return tuple(reader.get("inputs", ()))


def given_inputs(nlp: Language, inputs: Sequence[str] | None) -> tuple[str, ...]:
    """Return the gold annotation that a pipeline is given: `inputs`, or None for `configured_inputs`."""
    return configured_inputs(nlp) if inputs is None else tuple(inputs)


def evaluate_examples(
    nlp: Language,
    examples: Sequence[Example],
    *,
    model: str = "",
    corpus: str = "",
    inputs: Sequence[str] = (),
    clusters: ClusterSource = "gold",
    quiet: bool = True,
) -> Evaluation:
    """Score a pipeline as `nlp.evaluate` does, and keep the outcomes behind the scores.

    nlp (Language): The pipeline. It is run once.
    examples (Sequence[Example]): Gold Docs, and Docs for the pipeline; neither are changed.
    model, corpus (str): Names of the pipeline and the corpus, for reports.
    inputs (Sequence[str]): The gold annotation that the Docs for the pipeline already hold.
    clusters ("gold" | "predicted" | "none"): Whose clusters of coreferent mentions tell which
        entities relations are between, as in `scoring.entities.count_entity_relations`.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (Evaluation): Scores and outcomes.
    RAISES (ValueError): If the pipeline has no component of this package, or there are no Examples or
        no gold annotation to score it by.
    """
    factories = our_components(nlp)
    if not factories:
        raise ValueError(
            Errors.E930.format(
                model=model,
                components=", ".join(nlp.pipe_names) or "none",
                expected=", ".join(SCORERS),
            )
        )
    if not examples:
        raise ValueError(Errors.E931.format(path=corpus))
    with _recorded(nlp, factories) as recorders:
        scores = _score(nlp, examples, quiet)
    notices = [
        Warnings.W144.format(name=name, corpus=corpus)
        for name in inputs
        if not any(has_input(eg.reference, name) for eg in examples)
    ]
    components = []
    for name, factory in factories.items():
        if name not in recorders:
            notices.append(Warnings.W143.format(name=name))
            continue
        component, more_notices = _evaluate_component(name, factory, recorders[name], clusters)
        notices += more_notices
        scores |= {k: v for k, v in component.scores.items() if k.startswith(ENTITY_RELATIONS)}
        if component.confusions:
            components.append(component)
    if not components:
        raise ValueError(Errors.E932.format(corpus=corpus, reasons="\n".join(notices)))
    return Evaluation(
        model, corpus, len(examples), tuple(inputs), scores, tuple(components), tuple(notices)
    )


def our_components(nlp: Language) -> dict[str, str]:
    """Return the names and factories of this package's components in a pipeline."""
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    return {name: factory for name, factory in factories.items() if factory in SCORERS}


def _score(nlp: Language, examples: Sequence[Example], quiet: bool) -> dict[str, Any]:
    """Score a pipeline as `nlp.evaluate` does, with a progress bar."""
    copies = [Example(example.predicted.copy(), example.reference) for example in examples]
    start = default_timer()
    for example in copies:
        nlp.make_doc(example.reference.text)  # spaCy counts tokenization in the speed
    docs = nlp.pipe(example.predicted for example in copies)
    bar = tqdm(docs, "Docs", len(copies), unit=" docs", delay=1.0, disable=True if quiet else None)
    for example, doc in zip(copies, bar, strict=True):
        example.predicted = doc
    seconds = default_timer() - start
    scores: dict[str, Any] = PipelineScorer(nlp=nlp).score(copies)
    return {**scores, "speed": sum(len(example.predicted) for example in copies) / seconds}


class _Recorder:
    """A scorer that remembers the Examples it gets.

    They need not be the caller's: a component may classify gold pairs or answer gold questions in
    copies of them before it calls its scorer.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self.examples: list[Example] = []
        self.cfg: dict[str, Any] = {}
        self.scores: dict[str, Any] = {}

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]:
        self.examples, self.cfg = list(examples), cfg
        self.scores = self.scorer(self.examples, **cfg)
        return self.scores


@contextmanager
def _recorded(nlp: Language, names: Iterable[str]) -> Iterator[dict[str, _Recorder]]:
    """Put recorders in the place of components' scorers."""
    recorders: dict[str, _Recorder] = {}
    try:
        for name in names:
            pipe: Any = nlp.get_pipe(name)
            if pipe.scorer is not None:
                pipe.scorer = recorders[name] = _Recorder(pipe.scorer)
        yield recorders
    finally:
        for name, recorder in recorders.items():
            pipe = nlp.get_pipe(name)
            pipe.scorer = recorder.scorer


def _evaluate_component(
    name: str, factory: str, recorder: _Recorder, clusters: ClusterSource
) -> tuple[ComponentEvaluation, list[str]]:
    """Return the evaluation of a component, and notices about it."""
    notices = []
    scorer = _base(recorder.scorer)
    if scorer not in OUTCOMES:
        scorer = SCORERS[factory]
        notices.append(Warnings.W142.format(name=name, scorer=scorer.__name__))
    outcomes = list(OUTCOMES[scorer](recorder.examples, **recorder.cfg))
    confusions: dict[Kind, Confusion] = {}
    for kind in _kinds(scorer, recorder.cfg):
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        # A gold "no answer" is an annotation, a gold "no relation" is none.
        if not of_kind or (kind != "answer" and not any(outcome.gold for outcome in of_kind)):
            notices.append(
                Warnings.W140.format(name=name, what=PLURALS[kind], n_predicted=len(of_kind))
            )
            outcomes = [outcome for outcome in outcomes if outcome.kind != kind]
            continue
        notices += _unannotated(name, kind, recorder)
        none, negatives = f"no {kind}", None
        if scorer is score_pairs:
            none = recorder.cfg.get("negative_label") or none
            negatives = count_true_negatives(recorder.examples, **recorder.cfg)
        confusions[kind] = confuse(of_kind, kind, none, negatives)
    scores, entity_relations = recorder.scores, None
    if "relation" in confusions and scorer is _base(recorder.scorer):
        options = {**recorder.cfg, "clusters": clusters}
        entity_relations = count_entity_relations(recorder.examples, **options)
        scores = {**scores, **entity_relations.scores(ENTITY_RELATIONS)}
    return ComponentEvaluation(
        name, factory, scores, tuple(outcomes), confusions, entity_relations
    ), notices


def _base(scorer: Scorer) -> Scorer:
    """Return the scorer to whose scores those of relations between entities are added, if they are."""
    return scorer.scorer if isinstance(scorer, EntityRelationScorer) else scorer


def _kinds(scorer: Scorer, cfg: Mapping[str, Any]) -> list[Kind]:
    """Return the kinds of annotation that a scorer scores."""
    if scorer is score_answers:
        return ["answer"]
    if scorer is score_pairs or cfg.get("entities") == "doc":
        return ["relation"]
    return [kind for kind in KINDS if kind != "answer"]


def _unannotated(name: str, kind: Kind, recorder: _Recorder) -> list[str]:
    """Return a notice if there are gold Docs (or questions) that nobody annotated."""
    docs = [example.reference for example in recorder.examples]
    cfg = recorder.cfg
    what, consequence = "Docs", "predictions in them count as wrong, as in spaCy's scores"
    if kind == "answer":
        key = cfg.get("qa_key", QA_KEY)
        what, consequence = "questions", "they are not counted"
        n = sum(len(get_questions(doc, key)) - len(get_answers(doc, key)) for doc in docs)
    elif kind == "entity":
        key = cfg.get("spans_key", ENTITIES_KEY)
        n = sum(key not in doc.spans and not doc.has_annotation("ENT_IOB") for doc in docs)
    else:
        key = cfg.get("relations_key", RELATIONS_KEY)
        n = sum(key not in doc.spans for doc in docs)
    if not n:
        return []
    return [
        Warnings.W141.format(
            name=name, n=n, what=what, missing=PLURALS[kind], key=key, consequence=consequence
        )
    ]
