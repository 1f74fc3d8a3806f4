"""SQuAD scores of `extractive_qa`, one row for each recipe.

    python benchmarks/squad.py --train ../shared/data/squad/en-v2-train.json \
        --dev ../shared/data/squad/en-v2-dev.json --variants "3 epochs" --seeds 1

A recipe is trained by `spacy train` with `configs/extractive_qa_minilm.cfg` or, after training with
automatically made questions, with `configs/extractive_qa_continue.cfg`. The last model is scored on dev
by the official rules. Results are appended to `--output` as JSON lines; an interrupted run continues
where it stopped.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import spacy
from recipes import Row, linear_schedule, make_parser, run_all
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel import get_questions
from spacy_spanrel.cli import make_questions
from spacy_spanrel.converters import squad_to_docs

CONFIGS = Path(__file__).parent.parent / "configs"
CONFIG = CONFIGS / "extractive_qa_minilm.cfg"
CONTINUE = CONFIGS / "extractive_qa_continue.cfg"
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
BATCH = 16


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    epochs (int), learn_rate (float), head_learn_rate (float | None): The schedule.
    plausible_weight (float): The setting of the component.
    casing (bool): The setting of the architecture.
    made (Recipe | None): The training with automatically made questions before this one.
    """

    epochs: int
    learn_rate: float
    head_learn_rate: float | None = None
    plausible_weight: float = 0.0
    casing: bool = False
    made: Recipe | None = None


VARIANTS = {
    # The recipes of the baselines.
    "3 epochs": Recipe(3, 1e-4),
    "6 epochs": Recipe(6, 3e-4),
    # The configs extractive_qa_minilm.cfg and extractive_qa_continue.cfg, one after the other.
    "made questions, then 6 epochs": Recipe(
        6, 2e-4, 5e-4, 0.25, casing=True, made=Recipe(1, 3e-4, 1e-3, 1.0, casing=True)
    ),
}


def count_questions(path: Path) -> int:
    vocab = spacy.blank("en").vocab
    return sum(len(get_questions(doc)) for doc in DocBin().from_disk(path).get_docs(vocab))


def train_reader(recipe: Recipe, seed: int, paths: dict[str, Path], folder: Path) -> Path:
    """Train one recipe with one seed.

    paths (dict): Training ("train") and dev ("dev") questions.
    folder (Path): Folder for intermediate files and the pipeline.
    RETURNS (Path): The folder of the trained pipeline.
    """
    settings = {"paths.train": str(paths["train"]), "paths.dev": str(paths["dev"])}
    settings |= {
        "system.seed": seed,
        **linear_schedule(
            recipe.epochs,
            BATCH,
            count_questions(paths["train"]),
            recipe.learn_rate,
            recipe.head_learn_rate,
        ),
    }
    config = CONFIG
    if recipe.made is None:
        settings[f"{PIPE}.model.casing"] = recipe.casing
        settings[f"{PIPE}.plausible_weight"] = recipe.plausible_weight
    else:
        config, made = CONTINUE, folder / "made.spacy"
        make_questions(paths["train"], made)
        before = train_reader(recipe.made, seed, {**paths, "train": made}, folder / "made")
        changed = {"components": {"extractive_qa": {"plausible_weight": recipe.plausible_weight}}}
        spacy.load(before, config=changed).to_disk(folder / "reader")
        settings["paths.reader"] = str(folder / "reader")
    train(config, folder / "trained", overrides=settings)
    return folder / "trained" / "model-last"


def run(variant: str, seed: int, paths: dict[str, Path]) -> Row:
    """Train one recipe with one seed, and score it on dev."""
    recipe = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = train_reader(recipe, seed, paths, Path(folder))
        seconds = time.perf_counter() - start
        nlp = spacy.load(model)
        scores = nlp.evaluate(list(Corpus(paths["dev"])(nlp)))
    return {
        "variant": variant,
        "seed": seed,
        "epochs": recipe.epochs,
        "learn_rate": recipe.learn_rate,
        "head_learn_rate": recipe.head_learn_rate,
        "train_seconds": round(seconds),
        **{key: 100 * scores[key] for key in SCORES},
    }


KEYS = {"recipe": "variant", "epochs": "epochs"}
COLUMNS = {key.removeprefix("qa_"): key for key in SCORES}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, [1], "metrics/squad_benchmark.jsonl")
    parser.add_argument("--train", type=Path, required=True, help="SQuAD JSON")
    parser.add_argument("--dev", type=Path, required=True, help="SQuAD JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for part, source in (("train", args.train), ("dev", args.dev)):
            paths[part] = Path(folder) / f"{part}.spacy"
            DocBin(docs=squad_to_docs(source)).to_disk(paths[part])
        run_all(args, lambda variant, seed: [run(variant, seed, paths)], KEYS, COLUMNS)


if __name__ == "__main__":
    main()
