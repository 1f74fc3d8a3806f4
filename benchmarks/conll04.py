r"""CoNLL04 scores of `span_relation` for several recipes and decoding settings.

    python benchmarks/conll04.py --data ../shared/data/conll04 --seeds 1 2 3 --variants original best
    python benchmarks/conll04.py --data ../shared/data/conll04 --seeds 1 --tune --device cuda \
        --set "averaged weights" training.optimizer.average_decay=0.999

Each variant is trained on train and dev by `spacy train`, and its last model, as in the original
program, is scored on test with each of the decoding settings. With `--tune` it is trained on train and
scored on dev instead; the settings were chosen in this way. `--set` names a further variant and its
settings on top of the best recipe (or of `--on`). Results are appended to `--output` as JSON lines, also
by several processes at once; an interrupted run continues where it stopped.

    python benchmarks/conll04.py --texts ../shared/data/kbp37/train.json --keep training

writes a thousand sentences without labels to `training/texts.spacy`, for `corpora.train.unlabelled`.
"""

from __future__ import annotations

import argparse
import random
from itertools import islice
from pathlib import Path
from typing import Any

from recipes import (
    CONFIGS,
    NO_PAIRS,
    PAIRS,
    Recipe,
    Row,
    fit,
    make_parser,
    percent,
    run_all,
    write_docs,
)
from spacy.tokens import Doc
from spacy.training import Corpus

from spacy_spanrel.converters import tacred_to_docs
from spacy_spanrel.converters.spert import spert_to_docs

CONFIG = CONFIGS / "span_relation_minilm.cfg"
SCORES = ("ents_p", "ents_r", "ents_f", "rel_f", "rel_strict_p", "rel_strict_r", "rel_strict_f")

PIPE = "components.span_relation"
ARCH = f"{PIPE}.model"

# Decoding settings, which are all applied to the same trained model.
DECODING: dict[str, dict[str, Any]] = {
    "original": {"overlaps": "allow", "type_constraints": "off", "relation_threshold": 0.4},
    "+ type constraints": {
        "overlaps": "allow",
        "type_constraints": "learned",
        "relation_threshold": 0.4,
    },
    "+ best overlap": {
        "overlaps": "best",
        "type_constraints": "learned",
        "relation_threshold": 0.4,
    },
    "+ threshold 0.5": {
        "overlaps": "best",
        "type_constraints": "learned",
        "relation_threshold": 0.5,
    },
}


CASED = {f"{ARCH}.encoder.casing": True, f"{ARCH}.boundaries": True, **NO_PAIRS}
UNCASED = {f"{ARCH}.encoder.casing": False, f"{ARCH}.boundaries": False, **NO_PAIRS}
FLOAT32 = {**UNCASED, f"{ARCH}.encoder.precision": "float32"}

VARIANTS = {
    # The recipe of the paper. At its learning rate a bias moves by about 0.3 in the whole training, so
    # the biases of the relation types stay close to their initial value.
    "original": Recipe(20, 2, 5e-5, None, {**UNCASED, "training.optimizer.correct_bias": False}),
    "original, float32, relations from -4": Recipe(
        20, 2, 5e-5, None, {**FLOAT32, f"{ARCH}.relation_bias": -4.0}
    ),
    "original, float32, relations from -2": Recipe(20, 2, 5e-5, None, FLOAT32),
    # Includes the defaults of the libraries that the original program used.
    "original, float32, relations from 0, Adam of its time": Recipe(
        20,
        2,
        5e-5,
        None,
        {
            **FLOAT32,
            f"{ARCH}.relation_bias": 0.0,
            "training.optimizer.correct_bias": False,
            "training.optimizer.eps": 1e-6,
        },
    ),
    "batch 8, higher rates, boundaries": Recipe(
        20, 8, 2e-4, 1e-3, {**UNCASED, f"{ARCH}.boundaries": True}
    ),
    # The settings of configs/span_relation_minilm.cfg, and of configs/span_relation_mpnet.cfg.
    "best": Recipe(20, 8, 2e-4, 1e-3, {**CASED, **PAIRS}),
    "base size": Recipe(12, 8, 1e-4, 1e-3, CASED),
    # That of version 0.1.0, which other settings were added to one by one.
    "without distance and types": Recipe(20, 8, 2e-4, 1e-3, CASED),
    "batch 16, still higher rates": Recipe(20, 16, 4e-4, 2e-3, CASED),
}
for _n in (0, 2, 3, 4):
    _FROZEN = {**CASED, f"{ARCH}.encoder.frozen_layers": _n}
    VARIANTS[f"best, 8 epochs, {_n} frozen layers"] = Recipe(8, 8, 2e-4, 1e-3, _FROZEN)


def run(recipe: Recipe, folder: Path, args: argparse.Namespace) -> list[Row]:
    """Train by a recipe, and score the result with each decoding setting."""
    train_files = args.trained_on.split("+")
    n_docs, _ = (
        write_docs(
            folder / f"{name}.spacy",
            (doc for file in files for doc in spert_to_docs(args.data / f"{file}.json")),
        )
        for name, files in (("train", train_files), ("dev", [args.scored_on]))
    )
    # Sentences as in the original program.
    nlp = fit(CONFIG, recipe, args, folder, n_docs, {f"{PIPE}.scope": "doc"})
    examples = list(Corpus(folder / "dev.spacy")(nlp))
    rows = []
    for decoding, settings in DECODING.items():
        nlp.get_pipe("span_relation").cfg.update(settings)
        rows.append({"decoding": decoding, **percent(nlp.evaluate(examples), *SCORES)})
    return rows


def write_texts(source: Path, output: Path) -> None:
    """Write a thousand different sentences of a file in TACRED's format, without labels."""
    docs = list(tacred_to_docs(source))
    random.Random(0).shuffle(docs)
    texts = dict.fromkeys(tuple(token.text for token in doc) for doc in docs if len(doc) <= 60)
    vocab = docs[0].vocab
    write_docs(
        output,
        (
            Doc(vocab, words=list(words), sent_starts=[i == 0 for i in range(len(words))])
            for words in islice(texts, 1000)
        ),
    )


KEYS = {
    "scored on": "scored_on",
    "encoder": "encoder",
    "recipe": "variant",
    "epochs": "epochs",
    "decoding": "decoding",
}
COLUMNS = {
    "NER F1": "ents_f",
    "relation F1": "rel_f",
    "strict relation F1": "rel_strict_f",
    "seconds": "seconds",
}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, "best", [1, 2, 3], "conll04")
    parser.add_argument("--tune", action="store_true", help="train on train, score on dev")
    parser.add_argument("--texts", type=Path, help="write texts of this file to --keep, and stop")
    args = parser.parse_args()
    if args.texts is not None:
        write_texts(args.texts, (args.keep or Path()) / "texts.spacy")
        return
    args.trained_on, args.scored_on = ("train", "dev") if args.tune else ("train+dev", "test")
    run_all(args, run, KEYS, COLUMNS, trained_on=args.trained_on, scored_on=args.scored_on)


if __name__ == "__main__":
    main()
