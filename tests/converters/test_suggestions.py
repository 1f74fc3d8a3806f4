"""Predictions go to annotation tools as suggestions with scores, and come back as gold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import Doc, Span

from spacy_spanrel import Relation, get_entities, get_relations, set_entities, set_relations
from spacy_spanrel.annotations import get_entity_scores
from spacy_spanrel.annotations.relations import ORIG_ID_ATTR
from spacy_spanrel.cli import export
from spacy_spanrel.cli.convert import CONVERTERS
from spacy_spanrel.converters import ConversionError, ConversionReport
from tests.util import write_docs

NLP = spacy.blank("en")
TOOLS = ["brat", "doccano", "labelstudio", "prodigy"]


def predicted(name: str, *scores: float) -> Doc:
    doc = NLP.make_doc("Ann Lee lives in Oslo.")
    spans = [Span(doc, 0, 2, label="PER"), Span(doc, 4, 5, label="CITY")]
    set_entities(doc, spans, [0.9, 0.8])
    doc.spans["entities"].attrs[ORIG_ID_ATTR] = name
    set_relations(doc, [Relation(*spans, f"r{i}", score) for i, score in enumerate(scores)])
    return doc


@pytest.fixture
def sent(tmp_path: Path, data_format: str) -> tuple[list[Doc], Path]:
    """Docs, and the file or folder that they were written to."""
    docs = [predicted("b", 0.12345, 0.7), predicted("a"), predicted("c", 1.0)]
    path = tmp_path / "tasks"
    report = export(data_format, write_docs(tmp_path / "x.spacy", docs), path, suggestions=True)
    assert not [note for note in report.notes if "score" in note]
    assert report.relations == 3
    return docs, path


def answer(data_format: str, path: Path) -> None:
    """Let somebody accept every suggestion, as the tool would save it."""
    if data_format == "labelstudio":
        tasks = json.loads(path.read_text())
        for task in tasks:
            (prediction,) = task["predictions"]
            task["annotations"] = [{"id": 1, "result": prediction["result"]}]
        path.write_text(json.dumps(tasks))
    elif data_format == "prodigy":
        records = map(json.loads, path.read_text().splitlines())
        path.write_text("".join(json.dumps({**r, "answer": "accept"}) + "\n" for r in records))


def facts(doc: Doc) -> Any:
    entities = sorted((e.start, e.end, e.label_) for e in get_entities(doc))
    return entities, [(r.head.text, r.label, r.tail.text) for r in get_relations(doc)]


@pytest.mark.parametrize("data_format", TOOLS)
def test_suggestions_come_back_as_gold(data_format: str, sent: tuple[list[Doc], Path]) -> None:
    docs, path = sent
    answer(data_format, path)
    again = list(CONVERTERS[data_format](path, nlp=NLP))
    # A folder is read in the order of its names.
    if data_format == "brat":
        docs = [docs[1], docs[0], docs[2]]
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]
    for doc in again:
        assert set(get_entity_scores(doc)) == {None}
        assert all(relation.score is None for relation in get_relations(doc))


@pytest.mark.parametrize("data_format", ["labelstudio", "prodigy"])
def test_suggestions_without_an_answer_are_no_gold(
    data_format: str, sent: tuple[list[Doc], Path]
) -> None:
    report = ConversionReport()
    if data_format == "labelstudio":
        with pytest.raises(ConversionError, match="E_SR605"):  # no annotations, as in JSON-MIN
            list(CONVERTERS[data_format](sent[1], nlp=NLP))
    else:
        assert not list(CONVERTERS[data_format](sent[1], nlp=NLP, report=report))
        assert report.notes["suggestions that nobody has answered, left out"] == 3


@pytest.mark.parametrize("data_format", ["labelstudio"])
def test_tasks_of_label_studio(data_format: str, sent: tuple[list[Doc], Path]) -> None:
    first, second, _ = json.loads(sent[1].read_text())
    assert "annotations" not in first
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.1235  # the lowest
    assert [item["score"] for item in prediction["result"]] == [0.9, 0.8, 0.1235, 0.7]
    assert prediction["model_version"].startswith("spacy-spanrel")
    assert second["predictions"][0]["score"] == 0.8


@pytest.mark.parametrize("data_format", ["prodigy"])
def test_tasks_of_prodigy(data_format: str, sent: tuple[list[Doc], Path]) -> None:
    first = json.loads(sent[1].read_text().splitlines()[0])
    assert "answer" not in first
    assert first["meta"] == {"suggested": True, "score": 0.1235}
    assert [relation["score"] for relation in first["relations"]] == [0.1235, 0.7]


@pytest.mark.parametrize("data_format", ["doccano"])
def test_records_of_doccano(data_format: str, sent: tuple[list[Doc], Path]) -> None:
    records = [json.loads(line) for line in sent[1].read_text().splitlines()]
    assert records[0]["score"] == 0.1235
    assert records[0]["scores"]["relations"] == {"0": 0.1235, "1": 0.7}
    assert records[2]["scores"] == {"entities": {"4": 0.9, "5": 0.8}, "relations": {"2": 1.0}}


@pytest.mark.parametrize("data_format", ["brat"])
def test_notes_of_brat(data_format: str, sent: tuple[list[Doc], Path]) -> None:
    lines = (sent[1] / "b.ann").read_text().splitlines()
    assert lines[-4:] == [
        "#1\tAnnotatorNotes T1\tsuggested, score 0.9",
        "#2\tAnnotatorNotes T2\tsuggested, score 0.8",
        "#3\tAnnotatorNotes R1\tsuggested, score 0.1235",
        "#4\tAnnotatorNotes R2\tsuggested, score 0.7",
    ]


def test_other_formats_have_no_suggestions(tmp_path: Path) -> None:
    path = write_docs(tmp_path / "x.spacy", [predicted("a", 0.5)])
    with pytest.raises(ConversionError, match="--suggestions"):
        export("spert", path, tmp_path / "y", suggestions=True)
