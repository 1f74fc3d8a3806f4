"""ONNX Runtime computes every family of encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import transformers

from spacy_spanrel.encoding.graph import GRAPH_FILE
from spacy_spanrel.encoding.shim import torch_shims

from .conftest import TrainedPipeline
from .util import COMPONENTS, Encoder, assert_same, predictions

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'spacy-spanrel[onnx]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'spacy-spanrel[onnx]'")

# Families whose layers are exported without padding, with attention as one operation of ONNX Runtime.
PACKED = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}


def test_predictions_are_the_same(
    encoder: Encoder, trained: TrainedPipeline, tmp_path: Path
) -> None:
    trained.nlp.to_disk(tmp_path)
    inner = {"span_relation": "model.encoder"}
    names = [f"components.{name}.{inner.get(name, 'model')}.runtime" for name in COMPONENTS]
    nlp = spacy.load(tmp_path, config=dict.fromkeys(names, "onnxruntime"))
    assert_same(predictions(nlp), predictions(trained.nlp), 1e-4)
    operations = [
        node.op_type
        for shim in torch_shims(nlp.get_pipe("span_relation").model)
        if GRAPH_FILE in shim.files
        for node in onnx.load_model_from_string(shim.files[GRAPH_FILE]).graph.node
    ]
    assert operations.count("LayerNormalization") > 0
    assert "SkipLayerNormalization" not in operations
    if encoder.name in PACKED:
        assert operations.count("MultiHeadAttention") == 2
        assert operations.count("Softmax") == 0
    # ONNX Runtime finds the attention itself as transformers 4 computes it.
    elif encoder.name == "distilbert" and transformers.__version__.startswith("4."):
        assert operations.count("Attention") == 2
