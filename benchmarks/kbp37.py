"""KBP37 dev scores of `relation_classifier`: one row per recipe, averaged over seeds.

    python benchmarks/kbp37.py --data ../shared/data/kbp37 --seeds 1 2 3 --variants typed_markers text

The data is KBP37 in TACRED's JSON format (`train.json`, `dev.json`). Each recipe trains with `spacy train`
and the config `configs/relation_classifier_minilm.cfg` on all sentences or on a number of them
(`--sentences`, shuffled with seed 0), and the last model is scored on dev: micro F1 over all labels but
`no_relation`, and the customary macro F1 over the 18 relations, each with both directions. Options and
output as in `conll04.py`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recipes import CONFIGS, Recipe, Row, fit, make_parser, percent, run_all, write_docs
from spacy.tokens import Doc
from spacy.training import Corpus

from spacy_spanrel.converters import tacred_to_docs

CONFIG = CONFIGS / "relation_classifier_minilm.cfg"
PIPE = "components.relation_classifier"
MODES = ("text", "ner", "text_ner", "ner_text")
SCORES = ("rel_p", "rel_r", "rel_f", "rel_macro_f", "rel_semeval_macro_f")

VARIANTS = {
    # configs/relation_classifier_minilm.cfg unchanged, and relation_classifier_mpnet.cfg.
    "typed_markers": Recipe(5, 32, 3e-4, 1e-3),
    "base size": Recipe(5, 32, 5e-5, 1e-3),
    **{mode: Recipe(5, 32, 3e-4, 1e-3, {f"{PIPE}.mode": mode}) for mode in MODES},
    "typed_markers, head no faster": Recipe(5, 32, 3e-4),
}


def run(
    recipe: Recipe,
    folder: Path,
    args: argparse.Namespace,
    read: Callable[[Path], Iterable[Doc]],
    suffix: str,
    settings: Mapping[str, Any],
) -> list[Row]:
    """Train by a recipe, and score the result on dev."""
    docs = list(read(args.data / f"train{suffix}"))
    if args.sentences:
        random.Random(0).shuffle(docs)
        docs = docs[: args.sentences]
    write_docs(folder / "train.spacy", docs)
    write_docs(folder / "dev.spacy", read(args.data / f"dev{suffix}"))
    nlp = fit(CONFIG, recipe, args, folder, len(docs), settings)
    scores = nlp.evaluate(list(Corpus(folder / "dev.spacy")(nlp)))
    return [{"sentences": len(docs), **percent(scores, *SCORES)}]


KEYS = {"encoder": "encoder", "recipe": "variant", "sentences": "sentences", "epochs": "epochs"}
COLUMNS = {
    "P": "rel_p",
    "R": "rel_r",
    "micro F1": "rel_f",
    "macro F1": "rel_semeval_macro_f",
    "seconds": "seconds",
}


def main(
    description: str = __doc__,
    name: str = "kbp37",
    read: Callable[[Path], Iterable[Doc]] = tacred_to_docs,
    suffix: str = ".json",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Run the benchmark on data of a form of its own.

    description (str): For `--help`.
    name (str): Name of the data.
    read (Callable[[Path], Iterable[Doc]]): Reads a file.
    suffix (str): End of the names of the files.
    settings (Mapping[str, Any]): Settings of the config.
    """
    parser = make_parser(description, VARIANTS, "typed_markers", [1, 2, 3], name)
    parser.add_argument("--sentences", type=int, help="of train (default: all)")
    args = parser.parse_args()
    run_all(
        args,
        partial(run, read=read, suffix=suffix, settings=settings),
        KEYS,
        COLUMNS,
        trained_on=f"{args.sentences} of train" if args.sentences else "train",
    )


if __name__ == "__main__":
    main()
