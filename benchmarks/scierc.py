"""SciERC dev scores of `span_relation` trained on sentences, on sentences in context, and on abstracts.

    python benchmarks/scierc.py --data ../shared/data/scierc --seeds 1 2 3 --variants sentences abstracts
    python benchmarks/scierc.py --start MODELS/sentences-1-of-4-epochs-0-frozen --epochs 1 --rate 1e-4

Each variant is trained on the training abstracts, and its last model is scored on the development
abstracts, which keep their sentence borders and coreference clusters. All relations of SciERC lie within
a sentence, so the variants have the same gold relations to find; those that a pipeline finds across
sentences are counted, and the strict score is given without them too. A batch of abstracts has about as
many words as a batch of sentences, so that all variants see each word equally often in equally many
steps. With `--start`, all variants continue from the same trained pipeline. Results are appended to
`--output` as JSON lines; an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import spacy
from recipes import Row, linear_schedule, make_parser, run_all
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import dot_to_dict, fix_random_seed, minibatch

from spacy_spanrel import get_relations, set_relations
from spacy_spanrel.converters.scierc import scierc_to_docs
from spacy_spanrel.pairing import sentence_of_tokens
from spacy_spanrel.scoring.entities import score_entity_relations
from spacy_spanrel.scoring.relations import score_relations
from spacy_spanrel.training.corpus import read_examples

CONFIG = Path(__file__).parent.parent / "configs" / "span_relation_minilm.cfg"
PIPE = "components.span_relation"
INPUTS = ["sents"]
SCORES = ("ents_f", "rel_p", "rel_r", "rel_f", "rel_strict_p", "rel_strict_r", "rel_strict_f")


@dataclass(frozen=True)
class Variant:
    """A way to train.

    unit ("sentence" | "document"): What a Doc of the training data is.
    batch (int): Number of Docs in a batch.
    settings (dict[str, Any]): Settings of the component in training and prediction.
    """

    unit: Literal["sentence", "document"]
    batch: int
    settings: dict[str, Any] = field(default_factory=dict)


# An abstract has 5.3 sentences, and a step draws negatives for each Doc.
FIVEFOLD = {"neg_entity_count": 530, "neg_relation_count": 530}

VARIANTS = {
    "sentences": Variant("sentence", 11, {"scope": "doc"}),
    "sentences with context": Variant("document", 2, {"scope": "sentence", "context": 64}),
    "abstracts": Variant("document", 2, {"scope": "doc", "max_distance": 30, **FIVEFOLD}),
    # About as many pairs as within its sentences: an abstract has 48 there, 9 of them related.
    "abstracts, 40 negative pairs": Variant(
        "document", 2, {"scope": "doc", "max_distance": 30, **FIVEFOLD, "neg_relation_count": 40}
    ),
}


def run(variant: str, seed: int, args: argparse.Namespace) -> list[Row]:
    """Train a variant with one seed, and score it."""
    chosen = VARIANTS[variant]
    name = f"{variant} {seed} of {args.epochs} epochs, {args.frozen} frozen"
    if args.start is not None:
        name += f", from {args.start.name}"
    folder = args.models / name.replace(",", "").replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    docs = list(scierc_to_docs(args.data / "train.json", unit=chosen.unit))
    DocBin(docs=docs).to_disk(folder / "train.spacy")
    DocBin(docs=scierc_to_docs(args.data / "dev.json", unit="document")).to_disk(
        folder / "dev.spacy"
    )
    schedule = linear_schedule(args.epochs, chosen.batch, len(docs), args.rate, 5 * args.rate)
    settings = {
        f"{PIPE}.model.encoder.frozen_layers": args.frozen,
        f"{PIPE}.symmetric": ["COMPARE", "CONJUNCTION"],
        **{f"{PIPE}.{name}": value for name, value in chosen.settings.items()},
    }
    start = time.process_time()
    if args.start is None:
        train(
            CONFIG,
            folder,
            overrides={
                "paths.train": str(folder / "train.spacy"),
                "paths.dev": str(folder / "dev.spacy"),
                "system.seed": seed,
                "corpora.train.inputs": INPUTS,
                "corpora.dev.inputs": INPUTS,
                **settings,
                **schedule,
                # One evaluation, at the end, of one Doc: the last model is scored afterwards.
                "corpora.dev.limit": 1,
                "training.eval_frequency": args.epochs * schedule["training.eval_frequency"],
            },
        )
    else:
        continue_training(args.start, folder, seed, settings, schedule)
    seconds = time.process_time() - start
    nlp = spacy.load(folder / "model-last")
    if chosen.unit == "sentence":
        nlp.get_pipe("span_relation").cfg["scope"] = "sentence"
    examples = list(read_examples(folder / "dev.spacy", nlp, INPUTS))
    return [
        {
            "variant": variant,
            "seed": seed,
            "epochs": args.epochs,
            "frozen": args.frozen,
            "start": None if args.start is None else args.start.name,
            "steps": schedule["training.optimizer.learn_rate"]["total_steps"],
            "train_cpu_seconds": round(seconds),
            **score(nlp, examples),
        }
    ]


def continue_training(
    start: Path, folder: Path, seed: int, settings: dict[str, Any], schedule: dict[str, Any]
) -> None:
    """Train the last model in a folder further, and save it in another one."""
    fix_random_seed(seed)
    nlp = spacy.load(start / "model-last", config=dot_to_dict(settings))
    for name in ("learn_rate", "head_learn_rate"):
        nlp.config["training"]["optimizer"][name] = schedule[f"training.optimizer.{name}"]
    optimizer = nlp.resume_training()
    examples = list(read_examples(folder / "train.spacy", nlp, INPUTS))
    for _ in range(schedule["training.max_epochs"]):
        random.shuffle(examples)
        for batch in minibatch(examples, schedule["training.batcher.size"]):
            nlp.update(batch, sgd=optimizer)
            optimizer.step_schedules()
    nlp.to_disk(folder / "model-last")


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
    row = {key: 100 * scores[key] for key in SCORES}
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


KEYS = {"trained on": "variant", "epochs": "epochs", "frozen layers": "frozen", "after": "start"}
COLUMNS = {
    "NER F1": "ents_f",
    "relation F1": "rel_f",
    "strict": "rel_strict_f",
    "strict, within sentences": "rel_strict_f_within",
    "entity-level, gold clusters": "rel_entity_f",
    "entity-level, equal texts": "rel_entity_f_no_clusters",
    "across": "crossing",
    "training, seconds": "train_cpu_seconds",
}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, [1, 2, 3], "metrics/scierc_benchmark.jsonl")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scierc"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frozen", type=int, default=0, help="layers of the encoder to freeze")
    parser.add_argument("--rate", type=float, default=2e-4, help="the encoder's; 5 times for heads")
    parser.add_argument("--start", type=Path, help="folder of a trained pipeline to continue from")
    parser.add_argument("--models", type=Path, default=Path("training/scierc_benchmark"))
    args = parser.parse_args()
    run_all(
        args,
        lambda variant, seed: run(variant, seed, args),
        KEYS,
        COLUMNS,
        epochs=args.epochs,
        frozen=args.frozen,
        start=None if args.start is None else args.start.name,
    )


if __name__ == "__main__":
    main()
