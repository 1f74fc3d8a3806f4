"""Commands with relations between entities, on a text with clusters set by hand."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow.parquet
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from typer.testing import CliRunner

from spacy_spanrel import Relation, get_clusters, get_entities, set_clusters, set_relations
from spacy_spanrel.cli import app
from spacy_spanrel.evaluation import component_tables, evaluate_examples, render_report
from spacy_spanrel.streams import annotate
from spacy_spanrel.training.corpus import read_docs
from spacy_spanrel.visualize import relation_graph, render
from tests.util import make_doc, write_docs

TEXT = "Ada Berg , a chemist , works for Kelvin Labs . She likes the company . It is in Oslo ."
ENTITIES = [(0, 2, "Per"), (8, 10, "Org"), (11, 12, "Per"), (14, 15, "Org"), (19, 20, "Loc")]
RELATIONS = [(0, 1, "works"), (2, 3, "works"), (3, 4, "based")]
CLUSTERS = [[(0, 5), (11, 12)], [(8, 10), (13, 15), (16, 17)]]
SCORES = [0.5, 0.75, None]


def annotated(prefix: str = "coref_clusters") -> Doc:
    doc = make_doc(spacy.blank("en").vocab, TEXT, ENTITIES, RELATIONS)
    scored = [
        Relation(r.head, r.tail, r.label, score)
        for r, score in zip(doc._.relations, SCORES, strict=True)
    ]
    set_relations(doc, scored)
    set_clusters(doc, [[doc[i:j] for i, j in cluster] for cluster in CLUSTERS], prefix)
    return doc


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_docs(tmp_path / "docs.spacy", [annotated()])


def run(*args: Any) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


def triple(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["head"], row["relation"], row["tail"]


@Language.factory("write_fastcoref")
class WriteFastcoref:
    """Leave clusters as fastcoref does, and know the span group of relations."""

    cfg: dict[str, Any] = {"relations_key": "relations"}

    def __init__(self, nlp: Language, name: str) -> None:
        pass

    def __call__(self, doc: Doc) -> Doc:
        doc._.coref_clusters = [[(0, 8), (doc[11].idx, doc[11].idx + 3)]]
        return doc


FACTS = [("Ada Berg", "works", "Kelvin Labs"), ("Kelvin Labs", "based", "Oslo")]


@pytest.mark.parametrize("prefix", [None, "chains"])
def test_triples(prefix: str | None, tmp_path: Path) -> None:
    source = write_docs(tmp_path / "docs.spacy", [annotated(prefix or "coref_clusters")])
    options = [] if prefix is None else ["--clusters-prefix", prefix]
    output = run("export", "triples", source, tmp_path / "out.jsonl", "--entities", *options)
    assert "1 Docs, 3 entities and 2 relations" in output
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [triple(row) for row in rows] == FACTS
    assert [row["score"] for row in rows] == [0.75, None]
    assert (rows[0]["head_label"], rows[0]["head_start"], rows[0]["head_end"]) == ("Per", 0, 8)
    found = [(TEXT[e["head_start"] : e["head_end"]], e["score"]) for e in rows[0]["evidence"]]
    assert found == [("Ada Berg", 0.5), ("She", 0.75)]


def test_tables(path: Path, tmp_path: Path) -> None:
    run("export", "csv", path, tmp_path / "out.csv", "--entities")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [triple(row) for row in rows] == FACTS
    assert [len(json.loads(row["evidence"])) for row in rows] == [2, 1]


def test_other_formats_have_no_entities(path: Path, tmp_path: Path) -> None:
    args = ["export", "spert", str(path), str(tmp_path / "out.json"), "--entities"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1
    assert "--entities" in result.output
    assert "triples" in result.output


@pytest.mark.parametrize("data_format", ["brat", "doccano", "labelstudio", "prodigy"])
def test_clusters_in_the_formats_of_annotation_tools(data_format: str, tmp_path: Path) -> None:
    source = write_docs(tmp_path / "docs.spacy", [annotated("chains")])
    exported, again = tmp_path / "exported", tmp_path / "again.spacy"
    options = ["--coref", "Coref", "--clusters-prefix", "chains"]
    output = run("export", data_format, source, exported, *options)
    assert (
        "5 entities and 3 relations, with 2 clusters of coreferent mentions, written"
        in " ".join(output.split())
    )
    run("convert", data_format, exported, again, "--coref", "Coref")
    (doc,) = read_docs(again)
    assert [[(m.start, m.end) for m in cluster] for cluster in get_clusters(doc)] == CLUSTERS
    assert [(e.start, e.end, e.label_) for e in get_entities(doc)] == ENTITIES
    assert "(--coref)" in run(
        "export", data_format, source, exported, "--clusters-prefix", "chains"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["brat", "--coref", " "], "a name"),
        (["spert", "--coref", "C"], "brat, doccano, labelstudio, prodigy"),
        (["brat", "--clusters-prefix", "chain"], "--clusters-prefix"),
    ],
)
def test_wrong_options_of_clusters(
    options: list[str], expected: str, path: Path, tmp_path: Path
) -> None:
    name, *rest = options
    args = ["export", name, str(path), str(tmp_path / "out"), *rest]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1
    assert expected in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_graph(path: Path, tmp_path: Path) -> None:
    output = run("graph", path, tmp_path / "out.graphml", "--entities")
    assert "3 nodes and 2 edges" in output
    graph = nx.read_graphml(tmp_path / "out.graphml")
    nodes = {attrs["text"]: attrs for _, attrs in graph.nodes(data=True)}
    assert set(nodes) == {"Ada Berg", "Kelvin Labs", "Oslo"}
    texts = [mention["text"] for mention in json.loads(nodes["Kelvin Labs"]["mentions"])]
    assert texts == ["Kelvin Labs", "company"]
    edges = {attrs["label"]: attrs for _, _, attrs in graph.edges(data=True)}
    assert (edges["works"]["count"], edges["works"]["score"]) == (1, 0.75)
    assert "score" not in edges["based"]


def test_graph_of_several_texts() -> None:
    graph = relation_graph([annotated(), annotated()], entities=True)
    counts = [attrs["count"] for _, _, attrs in graph.edges(data=True)]
    assert counts == [2, 2]  # once in each text
    assert graph.number_of_nodes() == 3
    plain = relation_graph([annotated(), annotated()])
    assert plain.number_of_nodes() == 5
    assert {node[0] for node in plain} == {"ada berg", "kelvin labs", "she", "company", "oslo"}


def test_pictures() -> None:
    doc = annotated()
    picture = render(doc, page=False, jupyter=False, options={"entities": True, "width": 200})
    assert "<title>She = Ada Berg \u2192 works \u2192 company = Kelvin Labs</title>" in picture
    assert "<title>Ada Berg \u2192 works \u2192 Kelvin Labs</title>" in picture
    assert ">Org = Kelvin Labs</text>" in picture
    assert "=" not in "".join(re.findall(r"<title>[^<]*", render(doc, page=False, jupyter=False)))


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.spacy"])
def test_annotated_files(name: str, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("write_fastcoref")
    Doc.set_extension("coref_clusters", default=None)
    try:
        docs = [annotated(), annotated()]
        for key in ("coref_clusters_0", "coref_clusters_1"):
            del docs[1].spans[key]
        source = write_docs(tmp_path / "docs.spacy", docs)
        annotate(nlp, source, tmp_path / name, entities=True)
    finally:
        Doc.remove_extension("coref_clusters")
    if name == "out.spacy":
        clusters = [list(map(str, get_clusters(doc)[0])) for doc in read_docs(tmp_path / name)]
        assert clusters == [["Ada Berg , a chemist", "She"], ["Ada Berg", "She"]]
        return
    if name == "out.jsonl":
        rows = [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
    else:
        rows = pyarrow.parquet.read_table(tmp_path / name).to_pylist()
    first = rows[0]["entity_relations"]
    assert [(r["head"]["text"], r["label"], r["tail"]["text"]) for r in first] == FACTS
    assert [r["score"] for r in first] == [0.75, None]
    assert [r["head"]["text"] for r in first[0]["evidence"]] == ["Ada Berg", "She"]
    assert first[0]["evidence"] == rows[0]["relations"][:2]
    assert [r["head"]["text"] for r in rows[1]["entity_relations"]][0] == "Ada Berg"


def test_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("span_relation")
    gold = annotated()

    def predict(docs: Any, **_: Any) -> Any:
        for doc in docs:
            she, company = Span(doc, 11, 12, label="Per"), Span(doc, 8, 10, label="Org")
            set_relations(doc, [Relation(she, company, "works", 0.5)])
            yield doc

    monkeypatch.setattr(
        type(nlp.get_pipe("span_relation")), "pipe", lambda self, docs, **_: predict(docs)
    )
    examples = [Example(Doc(nlp.vocab, TEXT.split()), gold)]
    found = evaluate_examples(nlp, examples)
    (component,) = found.components
    assert (found.scores["rel_f"], found.scores["rel_entity_p"]) == (0.0, 1.0)
    assert (found.scores["rel_entity_r"], component.scores["rel_entity_r"]) == (0.5, 0.5)
    assert component.counts()["rel_entity"] == {"tp": 1, "fp": 0, "fn": 1}
    tables = {table.title: table.rows for table in component_tables(component)}
    assert (
        "Relations between entities",
        *["100.00", "50.00", "66.67", "50.00"],
        "1",
        "0",
        "1",
    ) in (tables["Scores"])
    assert tables["Relations between entities, by label"] == [
        ("based", "0.00", "0.00", "0.00", "1", "0"),
        ("works", "100.00", "100.00", "100.00", "1", "1"),
    ]
    # The report says who "She" is, by the gold clusters.
    report = render_report(found)
    assert "<bdi>She</bdi> <small>= <bdi>Ada Berg</bdi></small>" in report
    assert "<bdi>Ada Berg</bdi> <small>=" not in report
    none = evaluate_examples(nlp, examples, clusters="none")
    assert none.scores["rel_entity_f"] == 0.0
    # A scorer of this kind is one of ours: nothing is said of it.
    nlp.get_pipe("span_relation").scorer = spacy.registry.scorers.get(
        "spacy-spanrel.entity_relation_scorer.v1"
    )(clusters="none")
    assert evaluate_examples(nlp, examples).scores["rel_entity_p"] == 1.0
    assert nlp.evaluate(examples)["rel_entity_p"] == 0.0
