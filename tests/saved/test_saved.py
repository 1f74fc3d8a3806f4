"""Pipelines that version 0.1.0 saved load, and predict what they predicted then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy
import torch

from spacy_spanrel.encoding.shim import library_versions

from ..encoders.util import COMPONENTS, assert_same, predictions

HERE = Path(__file__).parent


@pytest.mark.parametrize("component", COMPONENTS)
def test_saved_by_version_0_1_0(component: str, fresh_extensions: None) -> None:
    predicted = predictions(spacy.load(HERE / component / "pipeline"))
    record = json.loads((HERE / component / "predictions.json").read_text(encoding="utf-8"))
    made_with = record["made_with"]
    assert made_with.pop("spacy-spanrel") == "0.1.0"
    here = {**library_versions(), "cpu": torch.backends.cpu.get_cpu_capability()}
    if made_with == here:
        assert predicted == record["predictions"]
    else:  # Other sums of the same products.
        assert_same(predicted, record["predictions"], tolerance=1e-5)
