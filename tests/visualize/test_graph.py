"""The graph of a corpus."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.annotations.relations import ORIG_ID_ATTR
from spacy_spanrel.visualize import relation_graph, write_graph
from spacy_spanrel.visualize.network import MAX_THINGS, choose_nodes, draw_graph, place

from ..util import make_doc

NLP = spacy.blank("en")


def doc(text: str, entities: list, relations: list, score: float | None = None) -> Doc:
    made = make_doc(NLP.vocab, text, entities, relations, key="entities")
    set_relations(made, [Relation(r.head, r.tail, r.label, score) for r in made._.relations])
    return made


def corpus() -> list[Doc]:
    docs = [
        doc("Ada of Oslo", [(0, 1, "P"), (2, 3, "L")], [(0, 1, "in"), (1, 0, "of")], 0.5),
        doc("ADA of OSLO", [(0, 1, "P"), (2, 3, "L")], [(0, 1, "in")], 0.9),
        doc("ada of Oslo", [(0, 1, "Org"), (2, 3, "L")], [(0, 1, "in"), (0, 0, "self")]),
        doc("nobody", [(0, 1, "P")], []),
    ]
    docs[1].spans["entities"].attrs[ORIG_ID_ATTR] = "second"
    return docs


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup.removeprefix("<!DOCTYPE html>\n"))


def numbers(root: ET.Element, name: str) -> list[int]:
    return [int(e.get(f"data-{name}")) for e in root.iter() if e.get(f"data-{name}")]


def test_nodes_and_edges() -> None:
    graph = relation_graph(corpus())
    assert graph.graph == {"docs": 4}
    assert set(graph) == {("ada", "P"), ("oslo", "L"), ("ada", "Org")}
    oslo = graph.nodes["oslo", "L"]
    assert (oslo["text"], oslo["type"], oslo["count"]) == ("Oslo", "L", 3)
    assert oslo["mentions"][1] == {"doc": "second", "start_char": 7, "end_char": 11, "text": "OSLO"}
    edge = graph.edges[("ada", "P"), ("oslo", "L"), "in"]
    assert edge == {"label": "in", "count": 2, "score": 0.9, "docs": ["0", "second"]}
    assert graph.edges[("oslo", "L"), ("ada", "P"), "of"]["count"] == 1
    assert graph.edges[("ada", "Org"), ("ada", "Org"), "self"]["score"] is None
    assert graph.number_of_edges() == 4


def test_spacing_does_not_count() -> None:
    first = doc("New York is in York", [(0, 2, "L"), (4, 5, "L")], [(0, 1, "in")])
    second = Doc(NLP.vocab, words=["New", "\n", "York", "York"])
    spans = [second[0:3], second[3:4]]
    for span in spans:
        span.label_ = "L"
    set_relations(second, [Relation(*spans, "in")])
    assert relation_graph([first, second]).nodes["new york", "L"]["count"] == 2


def test_exclude_and_key() -> None:
    assert relation_graph(corpus(), exclude=["in", "of"]).number_of_edges() == 1
    assert len(relation_graph(corpus(), key="other")) == 0


def test_graphml(tmp_path: Path) -> None:
    graph = relation_graph(corpus())
    path = tmp_path / "new" / "graph.graphml"
    write_graph(graph, path)
    again = nx.read_graphml(path, force_multigraph=True)
    assert again.is_directed()
    assert again.graph["docs"] == 4
    # Nodes and edges keep their order.
    for found, attrs in zip(again.nodes.values(), graph.nodes.values(), strict=True):
        assert {**found, "mentions": json.loads(found["mentions"])} == attrs
    assert again.number_of_edges() == graph.number_of_edges() == 4
    names = dict(zip(graph, again, strict=True))
    for head, tail, attrs in graph.edges(data=True):
        saved = [dict(edge) for edge in again.get_edge_data(names[head], names[tail]).values()]
        saved = [{"score": None, **edge, "docs": json.loads(edge["docs"])} for edge in saved]
        assert attrs in saved


@settings(max_examples=25)
@given(st.text(st.characters(), min_size=1), st.text(st.characters(), min_size=1))
def test_any_text_in_files(tmp_path_factory: pytest.TempPathFactory, text: str, label: str) -> None:
    made = Doc(NLP.vocab, words=[text, "b"])
    set_relations(made, [Relation(made[0:1], made[1:2], label)])
    graph = relation_graph([made])
    folder = tmp_path_factory.mktemp("any")
    write_graph(graph, folder / "graph.graphml")
    assert len(nx.read_graphml(folder / "graph.graphml")) == len(graph)
    write_graph(graph, folder / "graph.html")
    root = parse((folder / "graph.html").read_text("utf8"))
    assert len(numbers(root, "edge")) == 1


def test_picture(tmp_path: Path) -> None:
    graph = relation_graph(corpus())
    write_graph(graph, tmp_path / "graph.html")
    page = (tmp_path / "graph.html").read_text("utf8")
    root = parse(page)
    assert numbers(root, "node") == [0, 1, 2]
    assert numbers(root, "edge") == numbers(root, "label") == [0, 1, 2, 3]
    assert "3 entities, 4 relations" in page
    assert "L \u00d73" in page
    assert "in \u00d72" in page
    assert "<script" not in page
    assert not re.search(r"\b(?:href|src)=|url\(|@import", page)
    # The picture is the same each time.
    first, second = (re.sub(r"spanrel-[0-9a-f]{12}", "id", draw_graph(graph)) for _ in range(2))
    assert first == second


def star(n: int) -> nx.MultiDiGraph:
    text = " ".join(f"w{i}" for i in range(n + 1))
    made = doc(
        text, [(i, i + 1, "X") for i in range(n + 1)], [(0, i, "r") for i in range(1, n + 1)]
    )
    return relation_graph([made, doc("p q", [(0, 1, "X"), (1, 2, "X")], [(0, 1, "r")])])


def test_the_best_connected_nodes_are_kept() -> None:
    graph = star(20)
    kept = choose_nodes(graph, 6)
    assert kept == [(f"w{i}", "X") for i in range(6)]
    markup = draw_graph(graph, max_nodes=6)
    assert (
        "The 6 best-connected of 23 entities; left out: 17 entities, 16 of 21 relations" in markup
    )
    # No node is without a neighbour.
    assert all(
        graph.subgraph(choose_nodes(graph, n)).degree(node)
        for n in range(2, 24)
        for node in choose_nodes(graph, n)
    )


def test_a_picture_has_its_limits() -> None:
    graph = star(400)
    kept = choose_nodes(graph, 1000)
    assert len(kept) + graph.subgraph(kept).number_of_edges() <= MAX_THINGS


@pytest.mark.parametrize("seed", range(3))
def test_boxes_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = 20, 30
    links = [(int(a), int(b)) for a, b in rng.integers(0, n, (m, 2))]
    boxes = [(float(w), 38.0) for w in rng.integers(30, 200, n)] + [(60.0, 16.0)] * m
    points, (width, height) = place(boxes, links, n)
    sizes = np.array(boxes)
    for i in range(n + m):
        assert (points[i] - sizes[i] / 2 >= -0.1).all()
        assert (points[i] + sizes[i] / 2 <= np.array([width, height]) + 0.1).all()
        for j in range(i + 1, n + m):
            apart = np.abs(points[i] - points[j]) - (sizes[i] + sizes[j]) / 2
            assert apart.max() > -0.5


def test_empty_graph(tmp_path: Path) -> None:
    graph = relation_graph([])
    write_graph(graph, tmp_path / "graph.html")
    write_graph(graph, tmp_path / "graph.graphml")
    assert len(nx.read_graphml(tmp_path / "graph.graphml")) == 0
    assert "0 entities, 0 relations" in (tmp_path / "graph.html").read_text()


def test_errors(tmp_path: Path) -> None:
    graph = relation_graph(corpus())
    with pytest.raises(ValueError, match=r"E_SR915.*\.graphml or \.html"):
        write_graph(graph, tmp_path / "graph.png")
    with pytest.raises(ValueError, match="E_SR912.*max_nodes"):
        write_graph(graph, tmp_path / "graph.html", max_nodes=1)
    foreign = nx.MultiDiGraph()
    foreign.add_node("a")
    with pytest.raises(ValueError, match="E_SR916.*node 'a' lacks text, type"):
        write_graph(foreign, tmp_path / "graph.html")
    assert not list(tmp_path.iterdir())
