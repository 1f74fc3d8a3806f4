"""Each component that reads the pass of a `tok2vec`, and the table of them in docs/sharing.md.

    WRITE_RESULTS=1 python -m pytest tests/tok2vec/test_matrix.py

enters the installed version of transformers into the table, for each component that passes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
import transformers
from spacy.language import Language

from spacy_spanrel.training.optimizer import create_adamw

from ..compat.imported import imported_predictions
from ..encoders.util import assert_same
from ..span_relation.util import train_step
from ..util import initialize
from .util import (
    COMPONENTS,
    LISTENER,
    WIDTH,
    add_component,
    gold_examples,
    tok2vec_model,
    weights_of,
)

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "components.jsonl"
if not RESULTS.is_file():
    pytest.skip("source distributions have no docs", allow_module_level=True)

ALL = [*COMPONENTS, "span_relation"]
COLUMN = f"transformers_{transformers.__version__.split('.')[0]}"


def rows() -> dict[str, dict[str, Any]]:
    lines = RESULTS.read_text().splitlines()
    return {row["component"]: row for row in map(json.loads, lines)}


def make_nlp(checkpoint: Path, name: str) -> Language:
    nlp = spacy.blank("xx")
    nlp.add_pipe("tok2vec", config={"model": tok2vec_model(checkpoint)})
    if name == "span_relation":
        encoder = {"@architectures": "spacy-spanrel.Tok2VecListenerEncoder.v1", "width": WIDTH}
        model = {"size_embedding": 4, "dropout": 0.0, "encoder": encoder}
        nlp.add_pipe(name, config={"max_span_size": 4, "model": model})
    else:
        add_component(nlp, name, LISTENER)
    return nlp


@pytest.mark.parametrize("name", ALL)
def test_component(name: str, checkpoint: Path, tmp_path: Path) -> None:
    """It trains the encoder, frozen or not; saved, and with a copy of the encoder, it predicts the same."""
    nlp = make_nlp(checkpoint, name)
    examples = gold_examples(nlp)
    initialize(nlp, examples)
    before = weights_of(nlp.get_pipe("tok2vec").model).detach().clone()
    sgd = create_adamw(learn_rate=3e-3, head_learn_rate=3e-2, weight_decay=0.0)
    losses = [train_step(nlp, examples, sgd)[name] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(weights_of(nlp.get_pipe("tok2vec").model), before)
    predictions = imported_predictions(nlp)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert_same(imported_predictions(loaded), predictions)
    path = "model.encoder" if name == "span_relation" else "model.tok2vec"
    loaded.replace_listeners("tok2vec", name, [path])
    assert_same(imported_predictions(loaded), predictions)
    if "WRITE_RESULTS" in os.environ:
        table = rows()
        table.setdefault(name, {"component": name})[COLUMN] = transformers.__version__
        ordered = [table[key] for key in ALL if key in table]
        RESULTS.write_text("".join(f"{json.dumps(row)}\n" for row in ordered))


def test_table_has_all_components_with_both_versions() -> None:
    table = rows()
    assert list(table) == ALL
    for row in table.values():
        assert row["transformers_4"].startswith("4.")
        assert row["transformers_5"].startswith("5.")
