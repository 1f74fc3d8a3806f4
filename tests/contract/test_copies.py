"""Every copy of a trained component predicts what the component itself predicts."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from ..encoders.util import (
    ROWS,
    SETTINGS,
    annotations_of,
    assert_same,
    make_pipeline,
    predictions,
    train,
    with_entities,
)
from ..util import run_python
from .conftest import ALONE, Trained

# A process that imports spaCy and no more loads the pipelines from disk and bytes, and passes Docs to
# processes of its own, which start by the given method. (Those that are spawned import this file again.)
ELSEWHERE = """
import json, multiprocessing, sys
from pathlib import Path

import spacy

if __name__ == "__main__":
    home = Path(sys.argv[1])
    pipelines = {name: spacy.load(home / name) for name in sys.argv[3:]}
    assert any(name.startswith("spacy_spanrel") for name in sys.modules)

    import torch
    from tests.encoders.util import predictions

    torch.set_num_threads(1)
    said = {}
    for name, nlp in pipelines.items():
        said[name] = {"disk": predictions(nlp)}
        data = (home / f"{name}.bytes").read_bytes()
        said[name]["bytes"] = predictions(spacy.blank("xx").from_config(nlp.config).from_bytes(data))
        said[name]["devices"] = sorted(
            {str(shim.device) for node in nlp.get_pipe(name).model.walk() for shim in node.shims}
        )

    # All in one pipeline, so that few processes are started.
    together = spacy.blank("xx")
    for name, nlp in pipelines.items():
        together.add_pipe(name, source=nlp)
    multiprocessing.set_start_method(sys.argv[2], force=True)
    said["one process"] = predictions(together)
    said["two processes"] = predictions(together, batch_size=2, n_process=2)
    print(json.dumps(said))
"""


def run_elsewhere(
    all_trained: dict[str, Trained], folder: Path, method: str
) -> dict[str, dict[str, Any]]:
    """Return what another process predicts with the pipelines, by component and way."""
    script = folder / "script.py"
    script.write_text(ELSEWHERE)
    home = next(iter(all_trained.values())).path.parent
    root = Path(__file__).parents[2]
    env = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
    printed = run_python(script, home, method, *all_trained, cwd=root, **env)
    said: dict[str, dict[str, Any]] = json.loads(printed.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def elsewhere(
    all_trained: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    return run_elsewhere(all_trained, tmp_path_factory.mktemp("elsewhere"), "fork")


@pytest.mark.parametrize("way", ["disk", "bytes"])
def test_another_process(
    trained: Trained, component: str, elsewhere: dict[str, dict[str, Any]], way: str
) -> None:
    assert_same(elsewhere[component][way], trained.predictions)


def test_two_processes(elsewhere: dict[str, dict[str, Any]]) -> None:
    assert_same(elsewhere["two processes"], elsewhere["one process"])


@pytest.mark.slow
def test_two_processes_that_are_spawned(all_trained: dict[str, Trained], tmp_path: Path) -> None:
    said = run_elsewhere(all_trained, tmp_path, "spawn")
    assert_same(said["two processes"], said["one process"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="the pipelines were trained on its GPU")
def test_a_process_without_a_gpu(component: str, elsewhere: dict[str, dict[str, Any]]) -> None:
    assert elsewhere[component]["devices"] == ["cpu"]


@pytest.mark.parametrize("way", ["disk", "bytes", "pickle", "deepcopy"])
def test_this_process(trained: Trained, component: str, way: str) -> None:
    if way == "disk":
        nlp = spacy.load(trained.path)
    elif way == "bytes":
        nlp = spacy.util.load_model_from_config(trained.nlp.config)
        nlp.from_bytes(trained.nlp.to_bytes())
    elif way == "pickle":
        nlp = pickle.loads(pickle.dumps(trained.nlp))
    else:
        nlp = copy.deepcopy(trained.nlp)
    assert predictions(nlp) == trained.predictions
    assert nlp.get_pipe(component).cfg == trained.nlp.get_pipe(component).cfg


def test_docs_keep_what_was_found(trained: Trained) -> None:
    """In a DocBin with default settings, which drops extensions, in bytes and pickled."""
    docs = list(trained.nlp.pipe(with_entities(trained.nlp, row) for row in ROWS))
    restored = DocBin().from_bytes(DocBin(docs=docs).to_bytes()).get_docs(Vocab())
    for doc, other in zip(docs, restored, strict=True):
        copies = (other, Doc(Vocab()).from_bytes(doc.to_bytes()), pickle.loads(pickle.dumps(doc)))
        for again in copies:
            assert_same([annotations_of(again)], [annotations_of(doc)], 1e-9)
            assert [r.to_dict() for r in again._.relations] == [
                r.to_dict() for r in doc._.relations
            ]
            assert [a.to_dict() for a in again._.answers] == [a.to_dict() for a in doc._.answers]
        assert all(type(number) is float for number in annotations_of(other)["numbers"])
    merged = Doc.from_docs(docs)
    assert len(merged._.relations) == sum(len(doc._.relations) for doc in docs)


def test_renamed(loaded: Language, trained: Trained, component: str, tmp_path: Path) -> None:
    loaded.rename_pipe(component, "mine")
    loaded.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    assert again.pipe_names == ["mine"]
    assert predictions(again) == trained.predictions


def test_same_seed_same_training(folder: Path, component: str) -> None:
    model = dict(SETTINGS[component]["model"], dropout=0.1)
    runs = []
    for _ in range(2):
        nlp = make_pipeline(folder, [component], **{component: {"model": model}})
        runs.append((train(nlp, steps=3), predictions(nlp)))
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("cfg", b""),
        ("cfg", b"[1, 2]"),
        ("model", b""),
        ("model", b"\x80"),  # an empty table
        ("model", b"\x93\x01\x02\x03"),  # a list
        ("model", b"\xc1"),  # what msgpack never writes
    ],
)
def test_damaged_files(
    loaded: Language, component: str, tmp_path: Path, file: str, data: bytes
) -> None:
    pipe = loaded.get_pipe(component)
    pipe.to_disk(tmp_path)
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ValueError):
        pipe.from_disk(tmp_path)


def test_loading_imports_little(component: str, trained: Trained) -> None:
    printed = run_python(ALONE, trained.path, cwd=Path.cwd())
    # The network is a BERT, which needs no transformers.
    assert printed.strip() == "['tokenizers', 'spacy_spanrel']"
