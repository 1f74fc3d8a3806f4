"""SciERC dev scores of `span_relation` trained on sentences, on sentences in context, and on abstracts.

    python benchmarks/scierc.py --data ../shared/data/scierc --seeds 1 2 3 --variants best
    python benchmarks/scierc.py --start MODELS/sentences-1 --epochs 1 --frozen 3

Each variant is trained on the training abstracts, and its last model is scored on the development
abstracts, which keep their sentence borders and coreference clusters. All relations of SciERC lie within
a sentence, so the variants have the same gold relations to find; those that a pipeline finds across
sentences are counted, and the strict score is given without them too. `best` trains on sentences with the
recipe of `configs/span_relation_minilm.cfg`. The other variants are compared with each other: a batch of
abstracts has about as many words as a batch of sentences, so that all see each word equally often in
equally many steps. With `--start`, variants continue from the same trained pipeline. Other options and
output as in `conll04.py`.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import spacy
from recipes import (
    CONFIGS,
    NO_PAIRS,
    PAIRS,
    Recipe,
    Row,
    fit,
    linear_schedule,
    make_parser,
    percent,
    run_all,
    write_docs,
)
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import dot_to_dict, fix_random_seed, minibatch

from spacy_spanrel import get_relations, set_relations
from spacy_spanrel.converters.scierc import scierc_to_docs
from spacy_spanrel.pairing import sentence_of_tokens
from spacy_spanrel.scoring.entities import score_entity_relations
from spacy_spanrel.scoring.relations import score_relations
from spacy_spanrel.training.corpus import read_examples

CONFIG = CONFIGS / "span_relation_minilm.cfg"
PIPE = "components.span_relation"
INPUTS = ["sents"]
SCORES = ("ents_f", "rel_p", "rel_r", "rel_f", "rel_strict_p", "rel_strict_r", "rel_strict_f")


@dataclass(frozen=True)
class SentenceRecipe(Recipe):
    """A recipe, and what a Doc of the training data is: "sentence" or "document"."""

    unit: Literal["sentence", "document"] = "sentence"


def abstracts(**settings: Any) -> SentenceRecipe:
    """Return a recipe that trains on abstracts."""
    dotted = {f"{PIPE}.{name}": value for name, value in settings.items()} | NO_PAIRS
    return SentenceRecipe(10, 2, 2e-4, 1e-3, dotted, unit="document")


# An abstract has 5.3 sentences, and a step draws negatives for each Doc.
FIVEFOLD = {"neg_entity_count": 530, "neg_relation_count": 530}
SENTENCES = {f"{PIPE}.scope": "doc", **NO_PAIRS}

VARIANTS = {
    "best": SentenceRecipe(12, 8, 2e-4, 1e-3, {**SENTENCES, **PAIRS}),
    "base size": SentenceRecipe(8, 8, 5e-5, 1e-3, SENTENCES),
    "without distance and types": SentenceRecipe(12, 8, 2e-4, 1e-3, SENTENCES),
    "sentences": SentenceRecipe(10, 11, 2e-4, 1e-3, SENTENCES),
    "sentences with context": abstracts(scope="sentence", context=64),
    "abstracts": abstracts(scope="doc", max_distance=30, **FIVEFOLD),
    # About as many pairs as within its sentences: an abstract has 48 there, 9 of them related.
    "abstracts, 40 negative pairs": abstracts(
        scope="doc", max_distance=30, **{**FIVEFOLD, "neg_relation_count": 40}
    ),
}


def run(recipe: Recipe, folder: Path, args: argparse.Namespace) -> list[Row]:
    """Train by a recipe, or train the pipeline of `--start` further, and score the result."""
    assert isinstance(recipe, SentenceRecipe)
    n_docs = write_docs(
        folder / "train.spacy", scierc_to_docs(args.data / "train.json", unit=recipe.unit)
    )
    write_docs(folder / "dev.spacy", scierc_to_docs(args.data / "dev.json", unit="document"))
    settings = {
        f"{PIPE}.model.encoder.frozen_layers": args.frozen,
        f"{PIPE}.symmetric": ["COMPARE", "CONJUNCTION"],
    }
    if args.start is None:
        settings |= {f"corpora.{name}.inputs": INPUTS for name in ("train", "dev")}
        settings["corpora.dev.limit"] = 1  # it is scored here
        nlp = fit(CONFIG, recipe, args, folder, n_docs, settings)
    else:
        nlp = continue_training(recipe, args, folder, n_docs, settings)
    if recipe.unit == "sentence":
        nlp.get_pipe("span_relation").cfg["scope"] = "sentence"
    return [score(nlp, list(read_examples(folder / "dev.spacy", nlp, INPUTS)))]


def continue_training(
    recipe: Recipe, args: argparse.Namespace, folder: Path, n_docs: int, settings: dict[str, Any]
) -> Language:
    """Train the pipeline of `--start` further, at half of the recipe's learning rates."""
    schedule = linear_schedule(
        recipe.epochs, recipe.batch, n_docs, recipe.rate / 2, recipe.rate * 2.5
    )
    fix_random_seed(args.seed)
    nlp = spacy.load(args.start / "model-last", config=dot_to_dict({**settings, **recipe.settings}))
    for name in ("learn_rate", "head_learn_rate"):
        nlp.config["training"]["optimizer"][name] = schedule[f"training.optimizer.{name}"]
    optimizer = nlp.resume_training()
    examples = list(read_examples(folder / "train.spacy", nlp, INPUTS))
    for _ in range(recipe.epochs):
        random.shuffle(examples)
        for batch in minibatch(examples, recipe.batch):
            nlp.update(batch, sgd=optimizer)
            optimizer.step_schedules()
    nlp.to_disk(folder / "model-last")
    return nlp


def score(nlp: Language, examples: Sequence[Example]) -> Row:
    """Score a pipeline in percent.

    nlp (Language): The pipeline.
    examples (Sequence[Example]): Gold Docs, and Docs with sentence borders, which are annotated.
    RETURNS (dict[str, Any]): The scores of entities and relations; `rel_entity_f` and
        `rel_entity_f_no_clusters`, with entities told apart by gold clusters and by their texts; the
        number of relations found across sentences (`crossing`), and `rel_strict_f_within`, the score
        without these.
    """
    start = time.process_time()
    docs = list(nlp.pipe([example.predicted for example in examples]))
    seconds = time.process_time() - start
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
    cfg = nlp.get_pipe("span_relation").cfg
    scores = score_relations(examples, **cfg)
    row = percent(scores, *SCORES)
    for column, clusters in (("rel_entity_f", "gold"), ("rel_entity_f_no_clusters", "none")):
        entity_scores = score_entity_relations(examples, clusters=clusters, **cfg)
        row[column] = 100 * entity_scores["rel_entity_f"]
    row["crossing"] = sum(remove_crossing(doc) for doc in docs)
    row["rel_strict_f_within"] = 100 * score_relations(examples, **cfg)["rel_strict_f"]
    row["words_per_cpu_second"] = sum(map(len, docs)) / seconds
    return row


def remove_crossing(doc: Doc) -> int:
    """Remove the relations of a Doc whose arguments lie in different sentences.

    doc (Doc): The Doc, with sentence borders.
    RETURNS (int): Their number.
    """
    sentences = sentence_of_tokens(doc)
    relations = get_relations(doc)
    within = [r for r in relations if sentences[r.head.start] == sentences[r.tail.start]]
    set_relations(doc, within)
    return len(relations) - len(within)


KEYS = {
    "encoder": "encoder",
    "trained on": "variant",
    "epochs": "epochs",
    "frozen layers": "frozen",
    "after": "start",
}
COLUMNS = {
    "NER F1": "ents_f",
    "relation F1": "rel_f",
    "strict": "rel_strict_f",
    "strict, within sentences": "rel_strict_f_within",
    "entity-level, gold clusters": "rel_entity_f",
    "entity-level, equal texts": "rel_entity_f_no_clusters",
    "across": "crossing",
    "CPU seconds": "cpu_seconds",
}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, "best", [1, 2, 3], "scierc")
    parser.add_argument("--frozen", type=int, default=0, help="layers of the encoder to freeze")
    parser.add_argument("--start", type=Path, help="folder of a trained pipeline to continue from")
    args = parser.parse_args()
    start = None if args.start is None else args.start.name
    run_all(args, run, KEYS, COLUMNS, frozen=args.frozen, start=start)


if __name__ == "__main__":
    main()
