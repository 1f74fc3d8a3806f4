"""Pipelines that version 0.1.0 saved load, and predict what they predicted then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spacy_spanrel.encoding.shim import library_versions

from ..encoders.util import COMPONENTS, assert_same
from ..util import run_python

HERE = Path(__file__).parent

# A stranger's process: it imports spaCy, and loads. Only then do the helpers come.
PREDICT = """
import json
import sys
from pathlib import Path

import spacy

pipelines = {name: spacy.load(Path(sys.argv[1], name, "pipeline")) for name in sys.argv[2:]}

import torch

from tests.encoders.util import predictions

torch.set_num_threads(1)
print(json.dumps({name: predictions(nlp) for name, nlp in pipelines.items()}))
"""


@pytest.fixture(scope="module")
def predicted() -> dict[str, list[dict[str, Any]]]:
    """What the saved pipelines predict today, by the name of the component."""
    printed = run_python(PREDICT, HERE, *COMPONENTS, cwd=HERE.parents[1], CUDA_VISIBLE_DEVICES="")
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("component", COMPONENTS)
def test_saved_by_version_0_1_0(component: str, predicted: dict[str, list[dict[str, Any]]]) -> None:
    record = json.loads((HERE / component / "predictions.json").read_text(encoding="utf-8"))
    made_with = record["made_with"]
    assert made_with.pop("spacy-spanrel") == "0.1.0"
    here = {**library_versions(), "cpu": torch.backends.cpu.get_cpu_capability()}
    if made_with == here:
        assert predicted[component] == record["predictions"]
    else:  # Other sums of the same products.
        assert_same(predicted[component], record["predictions"], tolerance=1e-5)
