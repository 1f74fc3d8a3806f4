"""The relations of many Docs as one graph."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy.tokens import Doc, Span

from ..annotations import (
    CLUSTERS_PREFIX,
    RELATIONS_KEY,
    EntityRelation,
    Relation,
    get_entity_relations,
    get_relations,
)
from ..annotations.clusters import normalize
from ..annotations.relations import get_orig_id
from ..errors import Errors
from ..files import write_whole
from ..markup import clean
from .network import MAX_NODES, draw_graph
from .page import Theme, make_page

if TYPE_CHECKING:
    import networkx as nx

SUFFIXES = (".graphml", ".html")
NODE_ATTRS = ("text", "type", "count", "mentions")
EDGE_ATTRS = ("label", "count", "score", "docs")

NodeKey = tuple[str, str]


def relation_graph(
    docs: Iterable[Doc],
    *,
    key: str = RELATIONS_KEY,
    exclude: Collection[str] = (),
    entities: bool = False,
    clusters_prefix: str = CLUSTERS_PREFIX,
) -> nx.MultiDiGraph:
    """Gather the relations of Docs.

    All arguments with the same text (apart from case and spacing) and the same type are one node,
    whose name is (normalized text, type). An edge is a relation between two nodes, with its label as
    key.

    docs (Iterable[Doc]): The Docs. Their ids are those of their records, or else their indices.
    key (str): Span group of the relations.
    exclude (Collection[str]): Labels to leave out, such as "no_relation".
    entities (bool): Take the relations between entities that `get_entity_relations` gathers in each
        Doc, each once. Nodes are named by the best mentions of their clusters, and "mentions" are the
        arguments that were found ("she").
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`.
    RETURNS (nx.MultiDiGraph): Nodes with "text" (the most frequent form), "type", "count" (number of
        mentions) and "mentions" (dicts with "doc", "start_char", "end_char" and "text"); edges with
        "label", "count", "score" (the best, or None) and "docs" (ids). The graph itself has "docs",
        the number of Docs.
    """
    # Imported late: networkx takes time, and spaCy loads this module for every command.
    import networkx as nx

    mentions: defaultdict[NodeKey, dict[tuple[int, int, int], dict[str, Any]]] = defaultdict(dict)
    names: defaultdict[NodeKey, Counter[str]] = defaultdict(Counter)
    edges: dict[tuple[NodeKey, NodeKey, str], dict[str, Any]] = {}
    n_docs = 0
    for place, doc in enumerate(docs):
        n_docs += 1
        orig_id = get_orig_id(doc)
        name = str(place if orig_id is None else orig_id)
        relations: tuple[Relation, ...] | tuple[EntityRelation, ...] = (
            get_entity_relations(doc, key, clusters_prefix) if entities else get_relations(doc, key)
        )
        for relation in relations:
            if relation.label in exclude:
                continue
            ends = []
            for end, span in (("head", relation.head), ("tail", relation.tail)):
                node = (normalize(span.text), span.label_)
                names[node][span.text] += 1
                for evidence in getattr(relation, "evidence", (relation,)):
                    argument = getattr(evidence, end)
                    offsets = (place, argument.start_char, argument.end_char)
                    mentions[node].setdefault(offsets, _mention(argument, name))
                ends.append(node)
            edge = edges.setdefault(
                (ends[0], ends[1], relation.label),
                {"label": relation.label, "count": 0, "score": None, "docs": []},
            )
            edge["count"] += 1
            if relation.score is not None:
                edge["score"] = max(relation.score, edge["score"] or 0.0)
            if name not in edge["docs"]:
                edge["docs"].append(name)
    graph = nx.MultiDiGraph(docs=n_docs)
    for node, by_offsets in mentions.items():
        forms = Counter(mention["text"] for mention in by_offsets.values())
        if entities:
            forms = names[node]
        graph.add_node(
            node,
            text=forms.most_common(1)[0][0],
            type=node[1],
            count=len(by_offsets),
            mentions=list(by_offsets.values()),
        )
    for (head, tail, label), attrs in edges.items():
        graph.add_edge(head, tail, key=label, **attrs)
    return graph


def _mention(argument: Span, doc: str) -> dict[str, Any]:
    return {
        "doc": doc,
        "start_char": argument.start_char,
        "end_char": argument.end_char,
        "text": argument.text,
    }


def write_graph(
    graph: nx.MultiDiGraph, path: str | Path, *, max_nodes: int = MAX_NODES, theme: Theme = "auto"
) -> None:
    """Write a graph to a file that is complete or as it was before.

    A `.graphml` file holds the whole graph, for other programs and `networkx.read_graphml`: nodes are
    called n0, n1, ..., "mentions" and "docs" are JSON, and a "score" of None is left out. An `.html`
    file is a page with a picture of the best-connected nodes, which says how many it leaves out.

    graph (nx.MultiDiGraph): A graph that `relation_graph` made.
    path (str | Path): The file; the suffix decides on the format.
    max_nodes (int): Most nodes in the picture.
    theme ("auto" | "light" | "dark"): Colours of the picture.
    RAISES (ValueError): If the suffix is another one, or the graph lacks attributes.
    """
    path = Path(path)
    check_suffix(path)
    _check(graph)
    if path.suffix.lower() == ".graphml":
        data = _graphml(graph)
    else:
        picture = draw_graph(graph, max_nodes=max_nodes, theme=theme)
        page = make_page(
            f"<figure>{picture}</figure>",
            title="Relations",
            lang="en",
            direction="ltr",
            theme=theme,
        )
        data = page.encode()
    write_whole(path, data)


def check_suffix(path: Path) -> None:
    """Check that a graph can be written to a file. RAISES (ValueError): If its suffix is another one."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(Errors.E915.format(path=path, known=" or ".join(SUFFIXES)))


def _check(graph: nx.MultiDiGraph) -> None:
    rows = [(f"node {node!r}", attrs, NODE_ATTRS) for node, attrs in graph.nodes(data=True)]
    rows += [
        (f"edge {head!r} to {tail!r}", attrs, EDGE_ATTRS)
        for head, tail, attrs in graph.edges(data=True)
    ]
    for what, attrs, required in rows:
        missing = [name for name in required if name not in attrs]
        if missing:
            raise ValueError(Errors.E916.format(what=what, missing=", ".join(missing)))


def _graphml(graph: nx.MultiDiGraph) -> bytes:
    """Return the graph as GraphML, with attributes of other kinds as JSON."""
    import networkx as nx

    plain = nx.MultiDiGraph(**{key: _plain(value) for key, value in graph.graph.items()})
    names = {node: f"n{i}" for i, node in enumerate(graph)}
    for node, attrs in graph.nodes(data=True):
        plain.add_node(names[node], **{key: _plain(value) for key, value in attrs.items()})
    for i, (head, tail, attrs) in enumerate(graph.edges(data=True)):
        present = {key: _plain(value) for key, value in attrs.items() if value is not None}
        # networkx writes the keys of edges as their ids, which must differ in GraphML.
        plain.add_edge(names[head], names[tail], key=f"e{i}", **present)
    buffer = BytesIO()
    nx.write_graphml_xml(plain, buffer)
    return buffer.getvalue()


def _plain(value: Any) -> str | int | float | bool:
    if isinstance(value, (bool, int, float)):
        return value
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
