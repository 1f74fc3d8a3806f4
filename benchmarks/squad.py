"""SQuAD scores of `extractive_qa`, one row for each recipe.

    python benchmarks/squad.py --data ../shared/data/squad --variants "3 epochs" --seeds 1

A recipe is trained by `spacy train` with `configs/extractive_qa_minilm.cfg` or, after training with
automatically made questions, with `configs/extractive_qa_continue.cfg`. The last model is scored on dev
by the official rules. Options and output as in `conll04.py`.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import spacy
from recipes import CONFIGS, Recipe, Row, fit, make_parser, percent, run_all, write_docs
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.util import dot_to_dict

from spacy_spanrel import get_questions
from spacy_spanrel.cli import make_questions
from spacy_spanrel.converters import squad_to_docs

PIPE = "components.extractive_qa"
SCORES = (
    "qa_exact",
    "qa_f1",
    "qa_has_ans_exact",
    "qa_has_ans_f1",
    "qa_no_ans_exact",
    "qa_no_ans_f1",
    "qa_best_exact",
    "qa_best_f1",
)


@dataclass(frozen=True)
class QuestionRecipe(Recipe):
    """A recipe that may begin with automatically made questions.

    plausible_weight (float): The setting of the component.
    made (Recipe | None): The training with automatically made questions before this one.
    """

    plausible_weight: float = 0.0
    made: QuestionRecipe | None = None


CASED = {f"{PIPE}.model.casing": True}
UNCASED = {f"{PIPE}.model.casing": False}


def after_made(rate: float, made_rate: float) -> QuestionRecipe:
    """Return the recipe that reads made questions first."""
    made = QuestionRecipe(1, 16, made_rate, 1e-3, CASED, plausible_weight=1.0)
    return QuestionRecipe(6, 16, rate, 5e-4, plausible_weight=0.25, made=made)


VARIANTS: dict[str, Recipe] = {
    # The recipes of the baselines.
    "3 epochs": QuestionRecipe(3, 16, 1e-4, settings=UNCASED),
    "6 epochs": QuestionRecipe(6, 16, 3e-4, settings=UNCASED),
    # The configs extractive_qa_minilm.cfg and extractive_qa_continue.cfg, one after the other.
    "made questions, then 6 epochs": after_made(2e-4, 3e-4),
    "base size": after_made(5e-5, 5e-5),
}


def train_reader(recipe: Recipe, folder: Path, args: argparse.Namespace) -> Language:
    """Train by a recipe, on made questions first if the recipe says so.

    recipe (Recipe): The recipe. Settings of the network belong to the first training.
    folder (Path): A folder with `train.spacy` and `dev.spacy`.
    args (Namespace): The command line.
    RETURNS (Language): The trained pipeline.
    """
    assert isinstance(recipe, QuestionRecipe)
    settings: dict[str, Any] = {f"{PIPE}.plausible_weight": recipe.plausible_weight}
    config = CONFIGS / "extractive_qa_minilm.cfg"
    if recipe.made is not None:
        made, reader = folder / "made", folder / "reader"
        made.mkdir(exist_ok=True)
        make_questions(folder / "train.spacy", made / "train.spacy")
        shutil.copy(folder / "dev.spacy", made / "dev.spacy")
        # The network is made in the first training; the second one can change the component alone.
        of_both = {k: v for k, v in recipe.settings.items() if k.startswith(PIPE)}
        before = replace(recipe.made, settings={**recipe.made.settings, **of_both})
        train_reader(before, made, args)
        settings |= {k: v for k, v in of_both.items() if not k.startswith(f"{PIPE}.model")}
        spacy.load(made / "model-last", config=dot_to_dict(settings)).to_disk(reader)
        rest = {k: v for k, v in recipe.settings.items() if k not in of_both}
        recipe, settings = replace(recipe, settings=rest), {"paths.reader": str(reader)}
        config = CONFIGS / "extractive_qa_continue.cfg"
    docs = DocBin().from_disk(folder / "train.spacy").get_docs(spacy.blank("en").vocab)
    n_questions = sum(len(get_questions(doc)) for doc in docs)
    return fit(config, recipe, args, folder, n_questions, settings)


def run(recipe: Recipe, folder: Path, args: argparse.Namespace) -> list[Row]:
    """Train by a recipe, and score the result on dev."""
    for name, source in (("train", args.train), ("dev", args.dev)):
        path = source or args.data / f"en-v2-{name}.json"
        write_docs(folder / f"{name}.spacy", squad_to_docs(path))
    nlp = train_reader(recipe, folder, args)
    scores = nlp.evaluate(list(Corpus(folder / "dev.spacy")(nlp)))
    return [percent(scores, *SCORES)]


KEYS = {"encoder": "encoder", "recipe": "variant", "epochs": "epochs"}
COLUMNS = {**{key.removeprefix("qa_"): key for key in SCORES}, "seconds": "seconds"}


def main() -> None:
    best = "made questions, then 6 epochs"
    parser = make_parser(__doc__, VARIANTS, best, [1], "squad")
    parser.add_argument(
        "--train", type=Path, help="SQuAD JSON (default: en-v2-train.json of --data)"
    )
    parser.add_argument("--dev", type=Path, help="SQuAD JSON (default: en-v2-dev.json of --data)")
    run_all(parser.parse_args(), run, KEYS, COLUMNS)


if __name__ == "__main__":
    main()
