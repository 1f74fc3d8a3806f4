"""KBP37 dev scores of `relation_classifier`: one row per recipe, averaged over seeds.

    python benchmarks/kbp37.py --data ../shared/data/kbp37 --seeds 1 2 3 --variants typed_markers text

The data is KBP37 in TACRED's JSON format (`train.json`, `dev.json`). Each recipe trains with `spacy train`
and the config `configs/relation_classifier_minilm.cfg` on 4,000 sentences (shuffled with seed 0) or
on all of them, and the last model is scored on dev: micro F1 over all labels but `no_relation`.
Results are appended to `--output` as JSON Lines, so that an interrupted benchmark can be resumed.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import spacy
from recipes import Row, linear_schedule, make_parser, run_all
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel.converters import tacred_to_docs

CONFIG = Path(__file__).parent.parent / "configs" / "relation_classifier_minilm.cfg"
PIPE = "components.relation_classifier"
BATCH = 32
SUBSET = 4000
MODES = ("text", "ner", "text_ner", "ner_text")

# name: (epochs, learning rate, learning rate of the head, all sentences?, other overrides)
VARIANTS: dict[str, tuple[int, float, float | None, bool, dict[str, Any]]] = {
    # configs/relation_classifier_minilm.cfg unchanged.
    "typed_markers": (5, 3e-4, 1e-3, False, {}),
    **{mode: (5, 3e-4, 1e-3, False, {f"{PIPE}.mode": mode}) for mode in MODES},
    "typed_markers, head no faster": (5, 3e-4, None, False, {}),
    "typed_markers, all sentences": (3, 3e-4, 1e-3, True, {}),
}


def prepare(data: Path, folder: Path) -> dict[str, Path]:
    """Convert all training sentences, the subset, and dev."""
    records = json.loads((data / "train.json").read_text(encoding="utf-8"))
    docs = list(tacred_to_docs(data / "train.json"))
    order = list(range(len(records)))
    random.seed(0)
    random.shuffle(order)
    splits = {
        "all": docs,
        "subset": [docs[i] for i in order[:SUBSET]],
        "dev": list(tacred_to_docs(data / "dev.json")),
    }
    paths = {}
    for name, split in splits.items():
        paths[name] = folder / f"{name}.spacy"
        DocBin(docs=split).to_disk(paths[name])
    return paths


def run(variant: str, seed: int, paths: dict[str, Path], n_docs: dict[str, int]) -> Row:
    """Train one recipe with one seed, and score it on dev."""
    epochs, lr, head_lr, everything, overrides = VARIANTS[variant]
    split = "all" if everything else "subset"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(
            CONFIG,
            folder,
            overrides={
                "paths.train": str(paths[split]),
                "paths.dev": str(paths["dev"]),
                "system.seed": seed,
                **linear_schedule(epochs, BATCH, n_docs[split], lr, head_lr),
                **overrides,
            },
        )
        seconds = time.perf_counter() - start
        nlp = spacy.load(f"{folder}/model-last")
        scores = nlp.evaluate(list(Corpus(paths["dev"])(nlp)))
    return {
        "variant": variant,
        "seed": seed,
        "sentences": n_docs[split],
        "epochs": epochs,
        "learn_rate": lr,
        "train_seconds": round(seconds),
        **{key: 100 * scores[key] for key in ("rel_p", "rel_r", "rel_f", "rel_macro_f")},
    }


KEYS = {"recipe": "variant", "sentences": "sentences", "epochs": "epochs"}
COLUMNS = {"P": "rel_p", "R": "rel_r", "micro F1": "rel_f", "training, seconds": "train_seconds"}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, [1, 2, 3], "metrics/kbp37_benchmark.jsonl")
    parser.add_argument("--data", type=Path, default=Path("assets/kbp37"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = prepare(args.data, Path(folder))
        n_docs = {name: len(DocBin().from_disk(path)) for name, path in paths.items()}
        run_all(args, lambda variant, seed: [run(variant, seed, paths, n_docs)], KEYS, COLUMNS)


if __name__ == "__main__":
    main()
