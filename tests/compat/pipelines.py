"""Save pipelines with their predictions, and compare these with predictions made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import spacy
import torch
from spacy.language import Language

from spacy_spanrel.encoding.shim import library_versions

from ..encoders.util import (
    ENCODERS,
    Encoder,
    assert_same,
    make_pipeline,
    predictions,
    train,
)

PREDICTIONS, VERSIONS = "predictions.json", "versions.json"


def save_all(folder: Path, encoders: Iterable[Encoder] = tuple(ENCODERS)) -> None:
    """Save a trained pipeline of all components on each encoder, and its predictions.

    folder (Path): Folder to create; existing files are overwritten.
    encoders (Iterable[Encoder]): Encoders to use.
    """
    torch.set_num_threads(1)
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
        try:
            assert_same(predictions(spacy.load(place / "pipeline")), wanted)
        except (AssertionError, ValueError, OSError) as error:
            problems.append(f"{place.name}: {error}")
        else:
            print(f"equal: {place.name}")
    return problems
