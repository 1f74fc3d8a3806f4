"""Pipelines of spaCy's own components on one encoder, for the tests of `HFTok2Vec`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import TorchShim, get_shim

from ..span_relation.util import ROWS, make_examples, ner_model
from ..util import run_python

WIDTH = 32
LISTENER = {"@architectures": "spacy.Tok2VecListener.v1", "width": WIDTH, "upstream": "*"}
COMPONENTS = ["tagger", "parser", "ner", "textcat", "spancat"]


def tok2vec_model(checkpoint: Path, pooling: str = "mean", **encoder: Any) -> dict[str, Any]:
    """Settings of a model that computes in float32 on the CPU, without dropout."""
    return {
        "@architectures": "spacy-spanrel.HFTok2Vec.v1",
        "pooling": pooling,
        "width": WIDTH,
        "encoder": {
            "@architectures": "spacy-spanrel.HFEncoder.v1",
            "name": str(checkpoint),
            "precision": "float32",
            "device": "cpu",
            "dropout": 0.0,
            **encoder,
        },
    }


def component_model(name: str, tok2vec: dict[str, Any]) -> dict[str, Any]:
    """Settings of a small network of one of spaCy's components."""
    if name == "ner":
        return ner_model(tok2vec)
    if name == "parser":
        return {**ner_model(tok2vec), "state_type": "parser"}
    if name == "tagger":
        return {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}
    if name == "textcat":
        return {
            "@architectures": "spacy.TextCatReduce.v1",
            "exclusive_classes": True,
            "use_reduce_first": False,
            "use_reduce_last": False,
            "use_reduce_max": False,
            "use_reduce_mean": True,
            "tok2vec": tok2vec,
        }
    assert name == "spancat"
    return {
        "@architectures": "spacy.SpanCategorizer.v1",
        "reducer": {"@layers": "spacy.mean_max_reducer.v1", "hidden_size": 32},
        "scorer": {"@layers": "spacy.LinearLogistic.v1"},
        "tok2vec": tok2vec,
    }


def make_pipeline(
    model: dict[str, Any], components: Sequence[str], tok2vec: dict[str, Any] | None = LISTENER
) -> Language:
    """Make a pipeline, not yet initialized.

    model (dict): Settings of the `tok2vec` component.
    components (Sequence[str]): The others.
    tok2vec (dict | None): What stands in their models for `tok2vec`; None for `model` itself, without
        a component `tok2vec`.
    RETURNS (Language): The pipeline.
    """
    nlp = spacy.blank("xx")
    if tok2vec is not None:
        nlp.add_pipe("tok2vec", config={"model": model})
    for name in components:
        add_component(nlp, name, tok2vec or model)
    return nlp


def add_component(nlp: Language, name: str, tok2vec: dict[str, Any]) -> None:
    """Add one of spaCy's components to a pipeline. tok2vec (dict): The settings in its model."""
    config: dict[str, Any] = {"model": component_model(name, tok2vec)}
    if name == "parser":
        config["min_action_freq"] = 1
    nlp.add_pipe(name, config=config)


def annotate(doc: Doc) -> Doc:
    """Add to a Doc with entities gold annotations for the other components."""
    dep, root = (doc.vocab.strings.add(label) for label in ("dep", "ROOT"))
    # The head of each token is the token before it. Set one by one, they would end sentences.
    rows = [[0, root], *([-1 % 2**64, dep] for _ in doc[1:])]
    doc.from_array(["HEAD", "DEP"], np.asarray(rows, dtype=np.uint64))
    for token in doc:
        token.tag_ = "NAME" if token.is_title else "WORD"
    doc.cats = {"born": float("born" in doc.text), "other": float("born" not in doc.text)}
    doc.spans["sc"] = list(doc.ents)
    return doc


def gold_examples(nlp: Language) -> list[Example]:
    examples = make_examples(nlp, ROWS)
    for example in examples:
        annotate(example.reference)
    return examples


def predictions_of(doc: Doc) -> dict[str, Any]:
    """Return the annotations of all components as plain data."""
    return {
        "tagger": [token.tag_ for token in doc],
        "parser": [(token.head.i, token.dep_) for token in doc],
        "ner": [(ent.start, ent.end, ent.label_) for ent in doc.ents],
        "textcat": max(doc.cats, key=lambda label: doc.cats[label]) if doc.cats else None,
        "spancat": sorted((s.start, s.end, s.label_) for s in doc.spans.get("sc", ())),
    }


def shim_of(model: Model[Any, Any]) -> TorchShim:
    """Return the shim of the encoder in a model."""
    (node,) = (node for node in model.walk() if node.name == "hf_encoder")
    return get_shim(node)


def weights_of(model: Model[Any, Any]) -> Any:
    """Return the first weights of the encoder in a model."""
    module = shim_of(model).module
    assert isinstance(module, HFModule)
    return next(module.transformer.parameters())


def print_in_two_processes(module: str, function: str, pipeline: Path, folder: Path) -> str:
    """Run a pipeline in two processes on `TEXTS`, forked and then spawned; return two printed lines.

    module (str), function (str): The function of this package that is called for each Doc.
    pipeline (Path): The saved pipeline.
    folder (Path): Folder for the program.
    """
    program = folder / "program.py"
    program.write_text(
        "import multiprocessing, sys, spacy\n"
        f"from {module} import {function}\n"
        "from tests.span_relation.util import TEXTS\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        multiprocessing.set_start_method(method, force=True)\n"
        "        nlp = spacy.load(sys.argv[1])\n"
        "        docs = nlp.pipe(TEXTS, n_process=2, batch_size=2)\n"
        f"        print([{function}(doc) for doc in docs])\n"
    )
    root = Path(__file__).parents[2]
    return run_python(program, pipeline, cwd=root, PYTHONPATH=str(root))
