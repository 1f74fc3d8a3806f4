"""A picture of a graph of relations: an SVG with positions by networkx.

`spring_layout` of networkx takes nodes for points. So the labels of edges are laid out as nodes too,
and afterwards boxes that still overlap are pushed apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Errors
from ..markup import escape
from .layout import SMALL as LABEL_FONT
from .layout import label_width
from .page import N_HUES, Theme, entity_colors, make_svg, px, spread_labels, text_at, themed
from .text import NARROW, em_width, one_line, shorten

if TYPE_CHECKING:
    import networkx as nx

MAX_NODES = 50
# Most nodes and edges in a picture. From 500 on, networkx needs scipy for the layout, which is not
# required otherwise; and nobody can read such a picture.
MAX_THINGS = 499
SEED = 7
FONT, SMALL = 13.0, 10.0
NODE_HEIGHT, LABEL_HEIGHT = 38.0, 16.0
MAX_TEXT = 26 * NARROW  # in em
WIDTH = 1150.0
GAP = 26.0  # between components
BOX_GAP = 8.0  # between boxes
LINE_GAP = 10.0  # in addition, between boxes that a line connects
MARGIN = 20.0
NOTE = 26.0

Box = tuple[float, float]  # width and height
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Edge:
    """A relation between two nodes, given by their indices."""

    head: int
    tail: int
    label: str
    attrs: dict[str, Any]


def choose_nodes(graph: nx.MultiDiGraph, max_nodes: int) -> list[Any]:
    """Return the best-connected nodes, in the order of the graph.

    Nodes are taken in pairs that are connected, those with most relations first, so that no node is
    shown without a neighbour.

    graph (nx.MultiDiGraph): A graph that `relation_graph` made.
    max_nodes (int): Most nodes; fewer are returned if there are too many edges for a picture.
    RETURNS (list): The nodes.
    """
    degree = dict(graph.degree(weight="count"))
    order = {node: i for i, node in enumerate(graph)}
    pairs = sorted(
        {(head, tail) for head, tail in graph.edges()},
        key=lambda p: (-degree[p[0]] - degree[p[1]], order[p[0]], order[p[1]]),
    )
    kept: dict[Any, None] = {}
    n_edges = 0
    for pair in pairs:
        new = [node for node in dict.fromkeys(pair) if node not in kept]
        if not new or len(kept) + len(new) > max_nodes:
            continue
        grown = kept | dict.fromkeys(new)
        touching = {*graph.out_edges(new, keys=True), *graph.in_edges(new, keys=True)}
        n_edges += sum(head in grown and tail in grown for head, tail, _ in touching)
        if len(grown) + n_edges > MAX_THINGS:
            break
        kept = grown
    return sorted(kept, key=order.__getitem__)


def draw_graph(graph: nx.MultiDiGraph, *, max_nodes: int = MAX_NODES, theme: Theme = "auto") -> str:
    """Draw the best-connected nodes of a graph and all relations between them.

    graph (nx.MultiDiGraph): A graph that `relation_graph` made.
    max_nodes (int): Most nodes to draw, at least 2.
    theme ("auto" | "light" | "dark"): The colours.
    RETURNS (str): An SVG element that loads nothing.
    RAISES (ValueError): If `max_nodes` is not an integer of at least 2.
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 2:
        raise ValueError(
            Errors.E912.format(name="max_nodes", found=max_nodes, expected="a number from 2")
        )
    nodes = choose_nodes(graph, max_nodes)
    number = {node: i for i, node in enumerate(nodes)}
    edges = [
        Edge(number[head], number[tail], str(attrs["label"]), attrs)
        for head, tail, attrs in graph.edges(data=True)
        if head in number and tail in number
    ]
    return _Drawing(graph, nodes, edges, theme).svg()


class _Drawing:
    """Computes positions of nodes and labels, and writes them as SVG."""

    def __init__(
        self, graph: nx.MultiDiGraph, nodes: list[Any], edges: list[Edge], theme: Theme
    ) -> None:
        self.theme, self.edges = theme, edges
        self.nodes = [graph.nodes[node] for node in nodes]
        self.texts = [shorten(one_line(attrs["text"]), MAX_TEXT) for attrs in self.nodes]
        self.types = [_with_count(attrs["type"], attrs["count"]) for attrs in self.nodes]
        self.labels = [
            shorten(_with_count(one_line(edge.label), edge.attrs["count"]), MAX_TEXT)
            for edge in edges
        ]
        self.boxes: list[Box] = [
            (max(em_width(text) * FONT, em_width(kind) * SMALL) + 18.0, NODE_HEIGHT)
            for text, kind in zip(self.texts, self.types, strict=True)
        ]
        self.boxes += [(max(label_width(label), 12.0), LABEL_HEIGHT) for label in self.labels]
        self.note = _note(graph, len(nodes), len(edges))
        self.summary = "; ".join(
            f"{self.nodes[e.head]['text']} \u2192 {e.label} \u2192 {self.nodes[e.tail]['text']}"
            for e in edges
        )
        links = [(edge.head, edge.tail) for edge in edges]
        self.points, size = place(self.boxes, links, len(nodes))
        self.width = max(size[0], em_width(self.note) * FONT) + 2 * MARGIN
        self.height = size[1] + 2 * MARGIN + NOTE
        self.points += (MARGIN, MARGIN + NOTE)
        self.hues = spread_labels((edge.label for edge in edges), N_HUES)
        self.colors = entity_colors((attrs["type"] for attrs in self.nodes), {})

    def svg(self) -> str:
        parts = [text_at(MARGIN, MARGIN + FONT / 2, self.note, FONT, "note")]
        parts += [self.edge(i) for i in range(len(self.edges))]
        parts += [self.label(i) for i in range(len(self.edges))]
        parts += [self.node(i) for i in range(len(self.nodes))]
        return make_svg(
            "".join(parts),
            name="spanrel-graph",
            size=(self.width, self.height),
            title=self.note,
            description=self.summary or "No relations.",
            rules={
                " .note": f"font-size:{px(FONT)}px;text-anchor:start;{themed('fill', 'muted')}",
                " .name": f"font-size:{px(FONT)}px;{themed('fill', 'fg')}",
                " .type": f"font-size:{px(SMALL)}px;{themed('fill', 'muted')}",
                " .box": "fill-opacity:.28;stroke-width:1.5;",
                " .line": "fill:none;stroke:currentColor;stroke-opacity:.75;",
            },
            hues=self.hues.values(),
            theme=self.theme,
        )

    def node(self, i: int) -> str:
        attrs, (x, y), (width, height) = self.nodes[i], self.points[i], self.boxes[i]
        color = self.colors[attrs["type"]]
        left, top = px(x - width / 2), px(y - height / 2)
        box = f'x="{left}" y="{top}" width="{px(width)}" height="{px(height)}" rx="7"'
        kind = self.types[i]
        lift = 2.0 if kind else -4.5
        return (
            f'<g class="node" data-node="{i}"><title>{escape(attrs["text"])}'
            f" ({escape(attrs['type'] or 'no type')})</title>"
            f'<rect class="back" {box}/><rect class="box" {box} fill="{color}" stroke="{color}"/>'
            + text_at(x, y - lift, self.texts[i], FONT, "name")
            + (text_at(x, y + 12.0, kind, SMALL, "type") if kind else "")
            + "</g>"
        )

    def edge(self, i: int) -> str:
        edge, at = self.edges[i], self.points[len(self.nodes) + i]
        start, end = self.points[edge.head], self.points[edge.tail]
        # Straight from box to label and on to the other box; the label hides the bend.
        back, forth = at, at
        if edge.head == edge.tail:
            away = at - start
            side = np.array([-away[1], away[0]]) / max(math.hypot(*away), 1.0) * 9.0
            back, forth = at + side, at - side
        first = border(start, back, self.boxes[edge.head], 0.0)
        last = border(end, forth, self.boxes[edge.tail], 2.0)
        path = f"M{_p(first)}L{_p(back)}L{_p(forth)}L{_p(last)}"
        stroke = 1.4 + min(math.log2(edge.attrs["count"]), 4.0) * 0.6
        score = edge.attrs["score"]
        shown_score = "" if score is None else f" {score:.2f}"
        docs = ", ".join(map(str, edge.attrs["docs"]))
        tooltip = (
            f"{self.nodes[edge.head]['text']} \u2192 {edge.label}{shown_score} \u2192 "
            f"{self.nodes[edge.tail]['text']} (Docs: {docs})"
        )
        return (
            f'<g class="edge r{self.hues[edge.label]}" data-edge="{i}"><title>{escape(tooltip)}</title>'
            f'<path class="line" stroke-width="{px(stroke)}" d="{path}"/>'
            f'<path class="tip" d="{_arrow(last, last - forth)}"/>'
            "</g>"
        )

    def label(self, i: int) -> str:
        """Return the label of an edge, drawn above all lines."""
        (x, y), (width, height) = self.points[len(self.nodes) + i], self.boxes[len(self.nodes) + i]
        return (
            f'<g class="r{self.hues[self.edges[i].label]}" data-label="{i}">'
            f'<rect class="back" x="{px(x - width / 2)}" y="{px(y - height / 2)}"'
            f' width="{px(width)}" height="{px(height)}" rx="4"/>'
            + text_at(x, y + 3.8, self.labels[i], LABEL_FONT, "label")
            + "</g>"
        )


def _with_count(text: str, count: int) -> str:
    return f"{text} \u00d7{count}".strip() if count > 1 else text


def _note(graph: nx.MultiDiGraph, nodes: int, edges: int) -> str:
    """Return a sentence about what the picture shows, and what it leaves out."""
    all_nodes, all_edges = graph.number_of_nodes(), graph.number_of_edges()
    if nodes == all_nodes and edges == all_edges:
        return f"{nodes} entities, {edges} relations"
    return (
        f"The {nodes} best-connected of {all_nodes} entities; left out: {all_nodes - nodes} entities, "
        f"{all_edges - edges} of {all_edges} relations"
    )


def place(boxes: list[Box], links: list[tuple[int, int]], n_nodes: int) -> tuple[Points, Box]:
    """Position boxes so that none overlaps another.

    The label of an edge is a node between the two ends in the layout, so that parallel edges, opposite
    edges and loops separate without further rules. Connected components are laid out one by one and
    then put in rows, the largest first.

    boxes (list[Box]): Sizes of the nodes, then of the labels of the edges.
    links (list[tuple[int, int]]): The indices of each edge's two nodes.
    n_nodes (int): Number of nodes.
    RETURNS (tuple[Points, Box]): The centre of each box. Shape: (n_boxes, 2). And the width and
        height of the whole picture.
    """
    import networkx as nx

    layout = nx.Graph()
    layout.add_nodes_from(range(len(boxes)))
    for i, (head, tail) in enumerate(links, start=n_nodes):
        layout.add_edge(head, i)
        layout.add_edge(i, tail)
    points = np.zeros((len(boxes), 2))
    sizes = np.array(boxes, dtype=float).reshape(-1, 2)
    components = sorted(
        (sorted(nodes) for nodes in nx.connected_components(layout)), key=lambda c: (-len(c), c)
    )
    x = y = height = width = 0.0
    for component in components:
        centres = _place_component(layout.subgraph(component), component, sizes[component], n_nodes)
        lo = (centres - sizes[component] / 2).min(axis=0)
        hi = (centres + sizes[component] / 2).max(axis=0)
        if x and x + (hi - lo)[0] > WIDTH:
            x, y, height = 0.0, y + height + GAP, 0.0
        points[component] = centres - lo + (x, y)
        x += float((hi - lo)[0]) + GAP
        height = max(height, float((hi - lo)[1]))
        width = max(width, x - GAP)
    return points, (width, y + height)


def _place_component(layout: nx.Graph, component: list[int], sizes: Points, n_nodes: int) -> Points:
    """Return the centres of the boxes of a connected component. Shape: (n_boxes, 2)."""
    if len(component) == 1:
        return np.zeros((1, 2))
    nodes = [i for i in component if i < n_nodes]
    loops = any(layout.degree(i) < 2 for i in component if i >= n_nodes)
    if len(nodes) == 2 and not loops:
        # Two nodes stand side by side, with the labels stacked between them.
        labels = len(component) - 2
        widest = sizes[2:, 0].max()
        apart = (sizes[0, 0] + sizes[1, 0]) / 2 + widest + 36.0
        rows = (np.arange(labels) - (labels - 1) / 2) * (LABEL_HEIGHT + 10.0)
        middle = (sizes[0, 0] + widest) / 2 + 18.0
        return np.array([(0.0, 0.0), (apart, 0.0), *((middle, row) for row in rows)])
    import networkx as nx

    positions = nx.spring_layout(layout, seed=SEED, iterations=300, scale=None)
    points = np.array([positions[i] for i in component], dtype=float)
    # Turn the longer side so that it lies flat.
    points -= points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    points = points @ axes.T
    lengths = [math.dist(positions[a], positions[b]) for a, b in layout.edges()]
    # Stretch it sideways, as boxes are wider than high.
    points *= np.array([95.0, 58.0]) / max(float(np.median(lengths)), 1e-6)
    # Long chains must not be wider than the picture.
    points[:, 0] *= min(1.0, (WIDTH - 200.0) / max(float(np.ptp(points[:, 0])), 1.0))
    row = {i: k for k, i in enumerate(component)}
    return separate(points, sizes, [(row[a], row[b]) for a, b in layout.edges()])


def separate(
    points: Points, sizes: Points, linked: list[tuple[int, int]], rounds: int = 500
) -> Points:
    """Push overlapping boxes apart, each pair in the direction in which they overlap less.

    points (Points): Centres of the boxes. Shape: (n, 2).
    sizes (Points): Widths and heights. Shape: (n, 2).
    linked (list[tuple[int, int]]): Pairs that need room for a line between them.
    rounds (int): Most passes over all pairs.
    RETURNS (Points): The new centres. Shape: (n, 2).
    """
    points = points.copy()
    apart = (sizes[:, None] + sizes[None]) / 2 + BOX_GAP  # (n, n, 2)
    for i, j in linked:
        apart[i, j] += LINE_GAP
        apart[j, i] += LINE_GAP
    rows, columns = np.triu_indices(len(points), 1)
    for _ in range(rounds):
        away = points[rows] - points[columns]
        overlap = apart[rows, columns] - np.abs(away)
        hits = np.flatnonzero((overlap > 0.01).all(axis=1))
        if not len(hits):
            break
        for hit in hits:
            i, j = rows[hit], columns[hit]
            left = apart[i, j] - np.abs(points[i] - points[j])
            if (left <= 0).any():
                continue  # pushing other pairs has separated this one
            axis = int(left[1] < left[0])
            sign = 1.0 if points[i, axis] >= points[j, axis] else -1.0
            step = (left[axis] / 2 + 0.01) * sign
            points[i, axis] += step
            points[j, axis] -= step
    return points


def border(middle: Points, towards: Points, box: Box, gap: float) -> Points:
    """Return the point at which a line from the centre of a box to another point leaves the box.

    middle, towards (Points): The centre, and the other point. Shape: (2,).
    box (Box): Size of the box.
    gap (float): Distance to keep from the box.
    RETURNS (Points): The point. Shape: (2,).
    """
    away = towards - middle
    half = np.array(box) / 2 + gap
    with np.errstate(divide="ignore"):
        steps = np.where(away == 0, np.inf, half / np.abs(away))
    step = float(steps.min())
    return middle + away * (step if math.isfinite(step) else 0.0)


def _arrow(tip: Points, along: Points) -> str:
    along = along / max(math.hypot(*along), 1e-6)
    side = np.array([-along[1], along[0]])
    base = tip - along * 8.0
    return f"M{_p(tip)}L{_p(base + side * 4.0)}L{_p(base - side * 4.0)}z"


def _p(point: Points) -> str:
    return f"{px(point[0])} {px(point[1])}"
