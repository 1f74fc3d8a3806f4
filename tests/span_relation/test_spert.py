"""Checkpoints of the original SpERT program predict the same here as there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from safetensors.torch import save_file
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from transformers import AutoModel

from spacy_spanrel import get_relations
from spacy_spanrel.cli.import_spert import import_spert, write_pipeline
from spacy_spanrel.converters.spert import spert_to_docs
from spacy_spanrel.encoding.shim import get_module
from spacy_spanrel.span_relation.network import SpERTHeads

from ..util import tiny_checkpoint
from .util import TEXTS, annotations_of, scores_of

TYPES = {
    "entities": {name: {"short": name, "verbose": name} for name in ("Loc", "Per")},
    "relations": {
        "lives": {"short": "l", "verbose": "l", "symmetric": False},
        "knows": {"short": "k", "verbose": "k", "symmetric": True},
        "based": {"short": "b", "verbose": "b", "symmetric": False},
    },
}


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> Path:
    return shared_dir / "golden" / "spert_checkpoint"


@pytest.fixture(scope="module")
def predictions(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "predictions.json").read_text())


@pytest.fixture(scope="module")
def imported(golden: Path, predictions: dict[str, Any]) -> Language:
    return import_spert(
        golden,
        golden / "types.json",
        settings={"max_span_size": predictions["max_span_size"]},
        precision="float32",
        device="cpu",
    )


def as_dict(doc: Doc) -> tuple[dict[Any, float], dict[Any, float]]:
    group = doc.spans["entities"]
    entities = {
        (s.start, s.end, s.label_): score
        for s, score in zip(group, group.attrs["scores"], strict=True)
    }
    relations = {
        (*((a.start, a.end, a.label_) for a in (r.head, r.tail)), r.label): r.score
        for r in get_relations(doc)
    }
    return entities, relations


def test_golden_entities_and_relations(imported: Language, predictions: dict[str, Any]) -> None:
    assert len(predictions["documents"]) == 80
    docs = [Doc(imported.vocab, words=row["tokens"]) for row in predictions["documents"]]
    for doc, row in zip(imported.pipe(docs), predictions["documents"], strict=True):
        entities, relations = as_dict(doc)
        expected = {(s, e, kind): score for s, e, kind, score in row["entities"]}
        assert entities == pytest.approx(expected, abs=1e-4)
        expected = {(tuple(h), tuple(t), label): score for h, t, label, score in row["relations"]}
        assert relations == pytest.approx(expected, abs=1e-4)


def test_golden_span_probabilities(imported: Language, predictions: dict[str, Any]) -> None:
    rows = [row for row in predictions["documents"] if "span_probabilities" in row]
    assert len(rows) == 8
    pipe = imported.get_pipe("span_relation")
    for row in rows:
        doc = Doc(imported.vocab, words=row["tokens"])
        logits = get_module(pipe.model, SpERTHeads).predict_spans(
            pipe.model.predict([doc]), predictions["max_span_size"]
        )
        probabilities = torch.softmax(logits, dim=-1).numpy()
        room = len(doc) - np.arange(len(doc))
        assert len(row["span_probabilities"]) == np.minimum(room, 8).sum()
        for start, end, *values in row["span_probabilities"]:
            assert probabilities[start, end - start - 1].tolist() == pytest.approx(values, abs=1e-4)


def test_golden_scores(imported: Language, shared_dir: Path) -> None:
    path = shared_dir / "data" / "conll04" / "dev.json"
    gold = list(spert_to_docs(path, nlp=imported))
    words = [([t.text for t in doc], [bool(t.whitespace_) for t in doc]) for doc in gold]
    docs = [Doc(imported.vocab, words=w, spaces=s) for w, s in words]
    scores = imported.evaluate([Example(*pair) for pair in zip(docs, gold, strict=True)])
    rounded = {
        name: [round(100 * scores[f"{name}_{x}"], 2) for x in "prf"]
        for name in ("ents", "rel", "rel_strict")
    }
    assert rounded == {
        "ents": [54.23, 49.50, 51.76],
        "rel": [17.29, 22.74, 19.65],
        "rel_strict": [16.85, 22.16, 19.14],
    }


def test_golden_pipeline_is_saved(
    imported: Language, predictions: dict[str, Any], tmp_path: Path
) -> None:
    imported.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    assert loaded.get_pipe("span_relation").labels == imported.get_pipe("span_relation").labels
    for row in predictions["documents"][:10]:
        docs = [nlp(Doc(nlp.vocab, words=row["tokens"])) for nlp in (imported, loaded)]
        assert as_dict(docs[0]) == as_dict(docs[1])


# A checkpoint made here


def write_checkpoint(
    folder: Path,
    *,
    safe: bool = False,
    pooler: bool = True,
    without: str = "",
    n_relations: int = 3,
) -> tuple[Path, Path]:
    """Save a tiny encoder and heads in the format of the original program, and a types file."""
    tiny_checkpoint(folder)
    body = AutoModel.from_pretrained(folder)
    width = body.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    weights = {f"bert.{k}": v.contiguous() for k, v in body.state_dict().items()}
    if not pooler:
        weights = {k: v for k, v in weights.items() if "pooler" not in k}
    shapes = {
        "entity_classifier.weight": (3, 2 * width + 5),
        "entity_classifier.bias": (3,),
        "rel_classifier.weight": (n_relations, 3 * width + 10),
        "rel_classifier.bias": (n_relations,),
        "size_embeddings.weight": (100, 5),
    }
    weights.update({k: 0.3 * torch.randn(v, generator=generator) for k, v in shapes.items()})
    weights.pop(without, None)
    # Older versions of the original program saved this buffer.
    weights["bert.embeddings.position_ids"] = torch.arange(64)[None]
    for path in folder.glob("*.safetensors"):
        path.unlink()
    if safe:
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    types = folder / "types.json"
    types.write_text(json.dumps(TYPES))
    return folder, types


def predict(nlp: Language) -> list[Any]:
    return [(annotations_of(doc), scores_of(doc)) for doc in nlp.pipe(TEXTS)]


def test_formats_of_checkpoints(tmp_path: Path) -> None:
    results = []
    for safe in (False, True):
        for pooler in (False, True):
            folder, types = write_checkpoint(tmp_path / f"{safe}{pooler}", safe=safe, pooler=pooler)
            nlp = import_spert(folder, types, precision="float32", device="cpu")
            results.append(predict(nlp))
    assert any(entities for (entities, _), _ in results[0])
    assert any(relations for (_, relations), _ in results[0])
    assert results[1:] == results[:-1]


def test_imported_pipeline(tmp_path: Path) -> None:
    folder, types = write_checkpoint(tmp_path / "spert")
    nlp = import_spert(
        folder,
        types,
        name="joint",
        settings={"overlaps": "best"},
        precision="float32",
        device="cpu",
    )
    pipe = nlp.get_pipe("joint")
    assert pipe.entity_labels == ("Loc", "Per")
    assert pipe.relation_labels == ("lives", "knows", "based")
    assert pipe.cfg["symmetric"] == ["knows"]
    assert (pipe.cfg["overlaps"], pipe.cfg["type_constraints"]) == ("best", "off")
    before = predict(nlp)
    folder.rename(tmp_path / "elsewhere")
    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    assert predict(loaded) == before
    # The pipeline can be trained further.
    doc = nlp.make_doc(TEXTS[0])
    losses = loaded.update([Example(doc, doc.copy())], sgd=loaded.resume_training())
    assert losses["joint"] > 0
    assert predict(loaded) != before


def test_incomplete_checkpoint(tmp_path: Path) -> None:
    folder, types = write_checkpoint(tmp_path / "spert", without="rel_classifier.weight")
    with pytest.raises(ValueError, match=r"E_SR401.*rel_classifier\.weight"):
        import_spert(folder, types)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"E_SR401.*pytorch_model\.bin"):
        import_spert(folder, types)
    with pytest.raises(ValueError, match=r"E_SR401.*config\.json"):
        import_spert(tmp_path, types)


def test_wrong_types_file(tmp_path: Path) -> None:
    folder, types = write_checkpoint(tmp_path / "spert")
    entities, relations = TYPES["entities"], TYPES["relations"]
    types.write_text(json.dumps({"entities": {"Loc": entities["Loc"]}, "relations": relations}))
    with pytest.raises(ValueError, match=r"E_SR402.* 3 entity classes .* 2\."):
        import_spert(folder, types)
    types.write_text(json.dumps({"entities": entities, "relations": {"lives": relations["lives"]}}))
    with pytest.raises(ValueError, match=r"E_SR402.* 3 relation types.* 1\."):
        import_spert(folder, types)
    types.write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match=str(types)):
        import_spert(folder, types)


def test_folder_with_other_files_is_not_replaced(tmp_path: Path):
    output, checkpoint, types = tmp_path / "out", tmp_path / "checkpoint", tmp_path / "types.json"
    output.mkdir()
    (output / "notes").write_text("x")
    checkpoint.mkdir()
    types.write_text("{}")
    with pytest.raises(FileExistsError, match="E_SR641"):
        write_pipeline(checkpoint, output, types=types, force=True)
    assert (output / "notes").read_text() == "x"


@pytest.mark.parametrize("data", [b"", b"\xff" * 100])
def test_error_on_damaged_weights_names_the_path(tmp_path: Path, bert_checkpoint: Path, data):
    checkpoint = Path(shutil.copytree(bert_checkpoint, tmp_path / "checkpoint"))
    (checkpoint / "model.safetensors").write_bytes(data)
    types = tmp_path / "types.json"
    types.write_text(
        json.dumps(
            {
                "entities": {"Per": {"short": "Per", "verbose": "Per"}},
                "relations": {"In": {"short": "In", "verbose": "In", "symmetric": False}},
            }
        )
    )
    with pytest.raises(OSError, match="E_SR202") as caught:
        import_spert(checkpoint, types)
    assert str(checkpoint) in str(caught.value)
