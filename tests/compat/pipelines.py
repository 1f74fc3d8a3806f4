"""Save pipelines with their predictions, and compare these with predictions made elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import spacy
import torch
from spacy.language import Language

from spacy_spanrel.cli import import_transformer
from spacy_spanrel.encoding.shim import library_versions

from ..encoders.util import (
    ENCODERS,
    Encoder,
    assert_same,
    make_pipeline,
    predictions,
    train,
)
from ..util import tiny_checkpoint
from .imported import foreign_pipeline, imported_predictions

PREDICTIONS, VERSIONS = "predictions.json", "versions.json"
# Begin of the names of folders.
IMPORTED = "imported"


def save_all(folder: Path, encoders: Iterable[Encoder] = tuple(ENCODERS)) -> None:
    """Save a trained pipeline of all components on each encoder, and its predictions.

    folder (Path): Folder to create; existing files are overwritten.
    encoders (Iterable[Encoder]): Encoders to use.
    """
    torch.set_num_threads(1)
    if find_spec("spacy_transformers"):
        save_imported(folder)
    for encoder in encoders:
        nlp = make_pipeline(encoder.save(folder / encoder.slug / "checkpoint"))
        train(nlp)
        save(nlp, folder, encoder)
        print(f"saved: {encoder.name}")


def save(nlp: Language, folder: Path, encoder: Encoder) -> None:
    """Save a pipeline and its predictions.

    nlp (Language): From `make_pipeline`.
    folder (Path): Folder of all pipelines.
    encoder (Encoder): The encoder of the pipeline.
    """
    place = folder / encoder.slug
    place.mkdir(parents=True, exist_ok=True)
    nlp.to_disk(place / "pipeline")
    text = json.dumps(predictions(nlp), ensure_ascii=False)
    (place / PREDICTIONS).write_text(text, encoding="utf-8")
    (folder / VERSIONS).write_text(json.dumps(library_versions()))


def save_imported(folder: Path) -> None:
    """Import pipelines on spacy-transformers, and save them with the predictions of the originals.

    folder (Path): Folder of all pipelines.
    """
    for kind in ("bert", "roberta"):
        place = folder / f"{IMPORTED}-{kind}"
        checkpoint = tiny_checkpoint(place / "checkpoint", kind)
        nlp = foreign_pipeline(checkpoint)
        nlp.to_disk(place / "original")
        import_transformer(place / "original", place / "pipeline", force=True)
        text = json.dumps(imported_predictions(nlp), ensure_ascii=False)
        (place / PREDICTIONS).write_text(text, encoding="utf-8")
        # The new pipeline needs neither.
        shutil.rmtree(checkpoint)
        shutil.rmtree(place / "original")
        print(f"imported: {kind}")


def check_all(folder: Path) -> list[str]:
    """Load the pipelines saved by `save_all`, and compare their predictions with the saved ones.

    folder (Path): Folder given to `save_all`.
    RETURNS (list[str]): A message for each pipeline that fails or predicts something else.
    RAISES (FileNotFoundError): If nothing was saved there.
    """
    torch.set_num_threads(1)
    saved = json.loads((folder / VERSIONS).read_text())
    print(f"saved with {saved}, loaded with {library_versions()}")
    problems = []
    for place in sorted(path.parent for path in folder.glob(f"*/{PREDICTIONS}")):
        wanted = json.loads((place / PREDICTIONS).read_text(encoding="utf-8"))
        predict = imported_predictions if place.name.startswith(IMPORTED) else predictions
        try:
            assert_same(predict(spacy.load(place / "pipeline")), wanted)
        except (AssertionError, ValueError, OSError) as error:
            problems.append(f"{place.name}: {error}")
        else:
            print(f"equal: {place.name}")
    return problems
