"""Scores of a pipeline, and the outcomes behind them, from one pass over the corpus."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
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
from ..scoring.answers import score_answers
from ..scoring.relations import score_pairs, score_relations
from ..training.corpus import ENTS
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

READER = "spacy-spanrel.Corpus.v1"
PLURALS: dict[Kind, str] = {"entity": "entities", "relation": "relations", "answer": "answers"}

Scorer = Callable[..., dict[str, Any]]
OutcomeMaker = Callable[..., Iterator[Outcome]]

# What each of our components is scored by if nobody changed that, and the same rules one by one.
# By name, because importing the components imports torch.
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
    """How one component did.

    name (str): Its name in the pipeline.
    factory (str): Its kind: "span_relation", "relation_classifier" or "extractive_qa".
    scores (dict[str, Any]): What its scorer gave.
    outcomes (tuple[Outcome, ...]): One by one.
    confusions (dict[Kind, Confusion]): Label against label, for each kind that the corpus has.
    """

    name: str
    factory: str
    scores: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    confusions: dict[Kind, Confusion]

    def count(self, kind: Kind) -> dict[str, int]:
        """Return how many outcomes of a kind have which status; those that occur."""
        found = [outcome.status for outcome in self.outcomes if outcome.kind == kind]
        return {status: found.count(status) for status in STATUSES if status in found}

    def counts(self) -> dict[str, Any]:
        """Return the counts as plain data: of each score, and of each kind and status."""
        counts: dict[str, Any] = {
            name: {"tp": total.tp, "fp": total.fp, "fn": total.fn}
            for name, total in add_up(self.outcomes).items()
        }
        counts.update({PLURALS[kind]: self.count(kind) for kind in self.confusions})
        return counts


@dataclass(frozen=True)
class Evaluation:
    """How a pipeline did on a corpus.

    model, corpus (str): What was evaluated on what.
    docs (int): Number of Docs.
    inputs (tuple[str, ...]): Gold annotation that the pipeline was given.
    scores (dict[str, Any]): What `nlp.evaluate` gave: the scores of all components.
    components (tuple[ComponentEvaluation, ...]): Ours, in the order of the pipeline.
    notices (tuple[str, ...]): What a reader of the scores has to know.
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

        RETURNS (dict[str, Any]): The scores under spaCy's names; "confusion" and "counts", by the
            component's name; "components", each one's own scores, where there are several of
            them, because they may use the same names. JSON has no infinity: such numbers are None.
        """
        data = {
            **self.scores,
            "confusion": {
                part.name: {PLURALS[kind]: c.to_dict() for kind, c in part.confusions.items()}
                for part in self.components
            },
            "counts": {part.name: part.counts() for part in self.components},
        }
        if len(self.components) > 1:
            data["components"] = {part.name: part.scores for part in self.components}
        plain: dict[str, Any] = _finite(data)
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def configured_inputs(nlp: Language) -> tuple[str, ...]:
    """Return the gold annotation that a pipeline is given when it is scored in training.

    nlp (Language): The pipeline.
    RETURNS (tuple[str, ...]): The `inputs` of the reader of its development data, if that is
        "spacy-spanrel.Corpus.v1"; () otherwise.
    """
    config = nlp.config.interpolate()
    try:
        reader = dot_to_object(config, config["training"]["dev_corpus"])
    except (KeyError, TypeError):  # a pipeline that was never trained by a config
        return ()
    if not isinstance(reader, Mapping) or reader.get("@readers") != READER:
        return ()
    return tuple(reader.get("inputs", ()))


@contextmanager
def _counted(nlp: Language, total: int, quiet: bool) -> Iterator[None]:
    """Count the Docs that leave a pipeline, in a progress bar: `nlp.evaluate` tells nobody."""
    with tqdm(
        desc="Docs", total=total, unit=" docs", delay=1.0, disable=True if quiet else None
    ) as bar:

        def count(doc: Doc) -> Doc:
            bar.update()
            return doc

        nlp._components.append(("progress", count))
        try:
            yield
        finally:
            nlp._components.pop()


def evaluate_examples(
    nlp: Language,
    examples: Sequence[Example],
    *,
    model: str = "",
    corpus: str = "",
    inputs: Sequence[str] = (),
    quiet: bool = True,
) -> Evaluation:
    """Evaluate a pipeline with `nlp.evaluate`, and keep what is behind the scores.

    nlp (Language): The pipeline. It is run once.
    examples (Sequence[Example]): Gold, and Docs to be annotated; both stay as they are.
    model, corpus (str): How both are called.
    inputs (Sequence[str]): The gold annotation that the Docs to be annotated hold already.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (Evaluation): Scores and outcomes.
    RAISES (ValueError): If the pipeline has no component of ours, or there are no Examples or no
        gold annotation to score it by.
    """
    own = own_components(nlp)
    if not own:
        raise ValueError(
            Errors.E930.format(
                model=model,
                components=", ".join(nlp.pipe_names) or "none",
                expected=", ".join(SCORERS),
            )
        )
    if not examples:
        raise ValueError(Errors.E931.format(path=corpus))
    with _recorded(nlp) as recorders, _counted(nlp, len(examples), quiet):
        scores = nlp.evaluate(examples)
    notices = [
        Warnings.W144.format(name=name, corpus=corpus)
        for name in inputs
        if not any(_has_input(example, name) for example in examples)
    ]
    parts = []
    for name, factory in own.items():
        if name not in recorders:
            notices.append(Warnings.W143.format(name=name))
            continue
        part, said = _evaluate_component(name, factory, recorders[name])
        notices += said
        if part.confusions:
            parts.append(part)
    if not parts:
        raise ValueError(Errors.E932.format(corpus=corpus, reasons="\n".join(notices)))
    return Evaluation(
        model, corpus, len(examples), tuple(inputs), scores, tuple(parts), tuple(notices)
    )


def own_components(nlp: Language) -> dict[str, str]:
    """Return the factories of this package's components in a pipeline, by the components' names."""
    factories = {name: nlp.get_pipe_meta(name).factory for name in nlp.pipe_names}
    return {name: factory for name, factory in factories.items() if factory in SCORERS}


def _has_input(example: Example, name: str) -> bool:
    gold = example.reference
    return bool(gold.ents) if name == ENTS else bool(gold.spans.get(name))


class _Recorder:
    """Scores as a component's scorer does, and keeps what it was given: the component may have
    asked the gold pairs or questions first, in copies of the Examples."""

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
def _recorded(nlp: Language) -> Iterator[dict[str, _Recorder]]:
    """Record what the scorers of our components are given."""
    recorders: dict[str, _Recorder] = {}
    try:
        for name in own_components(nlp):
            pipe: Any = nlp.get_pipe(name)
            if pipe.scorer is not None:
                pipe.scorer = recorders[name] = _Recorder(pipe.scorer)
        yield recorders
    finally:
        for name, recorder in recorders.items():
            pipe = nlp.get_pipe(name)
            pipe.scorer = recorder.scorer


def _evaluate_component(
    name: str, factory: str, recorder: _Recorder
) -> tuple[ComponentEvaluation, list[str]]:
    """Evaluate one component; also say what is to be known about it."""
    notices = []
    scorer = recorder.scorer
    if scorer not in OUTCOMES:
        scorer = SCORERS[factory]
        notices.append(Warnings.W142.format(name=name, scorer=scorer.__name__))
    outcomes = list(OUTCOMES[scorer](recorder.examples, **recorder.cfg))
    confusions: dict[Kind, Confusion] = {}
    for kind in _kinds(scorer, recorder.cfg):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        # A gold "no answer" is an annotation, a gold "no relation" is none.
        if kind != "answer" and not any(outcome.gold for outcome in own) or not own:
            notices.append(
                Warnings.W140.format(name=name, what=PLURALS[kind], n_predicted=len(own))
            )
            outcomes = [outcome for outcome in outcomes if outcome.kind != kind]
            continue
        notices += _unknown(name, kind, recorder)
        none, negatives = f"no {kind}", None
        if scorer is score_pairs:
            none = recorder.cfg.get("negative_label") or none
            negatives = count_true_negatives(recorder.examples, **recorder.cfg)
        confusions[kind] = confuse(own, kind, none, negatives)
    part = ComponentEvaluation(name, factory, recorder.scores, tuple(outcomes), confusions)
    return part, notices


def _kinds(scorer: Scorer, cfg: Mapping[str, Any]) -> list[Kind]:
    """What a scorer scores."""
    if scorer is score_answers:
        return ["answer"]
    if scorer is score_pairs or cfg.get("entities") == "doc":
        return ["relation"]
    return [kind for kind in KINDS if kind != "answer"]


def _unknown(name: str, kind: Kind, recorder: _Recorder) -> list[str]:
    """Say where it is not known what is right: gold Docs without that annotation."""
    docs = [example.reference for example in recorder.examples]
    cfg = recorder.cfg
    what, consequence = "Docs", "what was predicted in them counts as wrong, as in spaCy's scores"
    if kind == "answer":
        key = cfg.get("qa_key", QA_KEY)
        what, consequence = "questions", "they count nowhere"
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
