from __future__ import annotations

import webbrowser
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import pytest
import spacy
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc

from spacy_spanrel.cli import graph, visualize
from spacy_spanrel.converters import ConversionError
from tests.cli.util import assert_fails, one_line, run, succeed
from tests.extractive_qa.util import make_nlp as make_qa
from tests.span_relation.util import ROWS, make_examples, make_nlp
from tests.util import initialize, make_doc, write_docs

TEXT = "John Smith works for Google in Paris ."
SVG = "{http://www.w3.org/2000/svg}"


def parse(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text("utf8").removeprefix("<!DOCTYPE html>\n"))


def by_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if name in (element.get("class") or "").split()]


def words(root: ET.Element) -> list[str | None]:
    return [element.text for element in by_class(root, "word")]


@pytest.fixture(scope="module")
def relations_path(tmp_path_factory: pytest.TempPathFactory, bert_checkpoint: Path) -> Path:
    """A pipeline with a ruler for its entities, which relates every pair of them."""
    nlp, _ = make_nlp(bert_checkpoint, entities="doc", relation_threshold=0.0, spans_key="found")
    initialize(nlp, make_examples(nlp))
    ruler = nlp.add_pipe("entity_ruler", first=True)
    ruler.add_patterns(
        [
            {"label": "Per", "pattern": "John Smith"},
            {"label": "Org", "pattern": "Google"},
            {"label": "Loc", "pattern": "Paris"},
        ]
    )
    path = tmp_path_factory.mktemp("relations") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def qa_path(tmp_path_factory: pytest.TempPathFactory, bert_checkpoint: Path) -> Path:
    nlp, _ = make_qa(bert_checkpoint)
    nlp.initialize()
    path = tmp_path_factory.mktemp("qa") / "pipeline"
    nlp.to_disk(path)
    return path


# visualize


def test_relations(relations_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "picture.html"
    result = succeed("spanrel", "visualize", relations_path, TEXT, "-o", output, main=spacy_app)
    assert one_line(str(output)) in one_line(result.output)
    root = parse(output)
    assert words(root) == TEXT.split()
    assert by_class(root, "arc")
    scored = tmp_path / "scored.svg"
    visualize(relations_path, TEXT, output=scored, scores=True, width=20)
    picture = parse(scored)
    assert picture.tag == f"{SVG}svg"
    assert len(by_class(picture, "row")) > 1
    assert any(char.isdigit() for char in by_class(picture, "label")[0].text)


def test_a_file_and_standard_input(relations_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf8")
    root = parse(visualize(relations_path, str(source), output=tmp_path / "file.svg"))
    assert words(root) == TEXT.split()
    assert by_class(root, "heading")[0].text == "text.txt"
    output = tmp_path / "stdin.svg"
    succeed("visualize", relations_path, "-", "-o", output, input="Google läuft .".encode())
    assert words(parse(output)) == ["Google", "läuft", "."]


def test_a_temporary_file(
    relations_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[str] = []
    # Tests must not start a browser.
    monkeypatch.setattr(webbrowser, "open", opened.append)
    result = succeed("visualize", relations_path, TEXT)
    (written,) = tmp_path.iterdir()
    assert result.stdout == f"{written}\n"
    assert not opened
    result = run("visualize", relations_path, TEXT, "--open")
    assert opened == [Path(result.stdout.strip()).as_uri()]


def test_answers(qa_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.html"
    succeed("visualize", qa_path, TEXT, "-q", "Who works?", "-q", "Where?", "-o", output)
    root = parse(output)
    assert "".join(by_class(root, "context")[0].itertext()) == TEXT
    assert [question.text for question in by_class(root, "question")] == ["Who works?", "Where?"]
    assert len(by_class(root, "answer")) == 2
    assert not any("Not answered" in (answer.text or "") for answer in by_class(root, "answer"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "picture.png"], "filenamethatendsin.htmlor.svg"),
        (["-q", "Who?"], "acomponentthatanswersquestions"),
        (["-q", "Who?", "-s", "relations"], "--styleanswers"),
        (["-q", "Who?", "-o", "x.svg"], "filenamethatendsin.html."),
    ],
)
def test_wrong_arguments(
    relations_path: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    arguments = [str(tmp_path / a) if "." in a else a for a in arguments]
    result = run("visualize", relations_path, TEXT, *arguments)
    assert result.exit_code == 1
    assert expected in one_line(result.stderr)
    assert not list(tmp_path.iterdir())


def test_wrong_texts_and_pipelines(relations_path: Path, qa_path: Path, tmp_path: Path) -> None:
    for text, error in ((" \n", ConversionError), ("missing.txt", FileNotFoundError)):
        with pytest.raises(error):
            visualize(relations_path, text)
    with pytest.raises(ConversionError, match="--question"):
        visualize(qa_path, TEXT, style="answers")
    with pytest.raises(ConversionError, match="a component that finds relations"):
        visualize(qa_path, TEXT)
    with pytest.raises(OSError, match="missing_model"):
        visualize("missing_model", TEXT)
    with pytest.raises(ConversionError, match="relations or answers"):
        visualize(relations_path, TEXT, style="dep")
    source = tmp_path / "text.html"
    source.write_text("x", encoding="utf8")
    with pytest.raises(ValueError, match="E_SR951"):
        visualize(relations_path, str(source), output=source)
    assert source.read_text() == "x"
    assert_fails(run("visualize", relations_path, "-", input=b"\xff\xfe"), "UTF-8")
    assert run("visualize", relations_path).exit_code == 2


# graph


def gold() -> list[Doc]:
    vocab = spacy.blank("en").vocab
    return [make_doc(vocab, *row, key="entities") for row in ROWS]


def test_graph(tmp_path: Path) -> None:
    first = write_docs(tmp_path / "first.spacy", gold()[:2])
    second = write_docs(tmp_path / "second.spacy", gold()[2:])
    output = tmp_path / "new" / "graph.graphml"
    result = succeed("spanrel", "graph", first, second, output, main=spacy_app)
    made = nx.read_graphml(output, force_multigraph=True)
    assert made.graph["docs"] == len(ROWS)
    wanted = sorted(label for _, _, relations in ROWS for _, _, label in relations)
    assert sorted(attrs["label"] for *_, attrs in made.edges(data=True)) == wanted
    assert f"{len(made)} nodes and {len(wanted)} edges" in " ".join(result.output.split())
    page = tmp_path / "graph.html"
    result = succeed("graph", first, page, "--max-nodes", 3, "-x", "lives", "-q")
    assert not result.output
    assert len([e for e in parse(page).iter() if e.get("data-edge")]) == 2


def test_graph_of_wrong_files(tmp_path: Path) -> None:
    docs = write_docs(tmp_path / "docs.spacy", gold())
    broken = tmp_path / "broken.spacy"
    broken.write_bytes(b"no docs")
    output = tmp_path / "graph.html"
    for arguments, expected in (
        ([docs, tmp_path / "graph.png"], ".graphmlor.html"),
        ([broken, output], "broken.spacy"),
        ([tmp_path / "missing.spacy", output], "missing.spacy"),
        ([docs, output, "--key", "other"], f"{len(ROWS)}Docswithoutrelationsindoc.spans['other']"),
        (
            [docs, output, *(a for x in ("works", "based", "lives", "killed") for a in ("-x", x))],
            "withoutrelations",
        ),
    ):
        result = run("graph", *arguments)
        assert result.exit_code == 1
        assert expected in one_line(result.stderr)
        assert not output.exists()
    assert run("graph", docs, output, "--max-nodes", 1).exit_code == 2
    same = tmp_path / "same.html"
    same.write_bytes(docs.read_bytes())
    with pytest.raises(ValueError, match="E_SR951"):
        graph([same], same)
