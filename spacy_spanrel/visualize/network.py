"""A picture of a graph of relations: places by networkx, drawn as SVG."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Errors
from ..markup import escape
from .layout import SMALL as LABEL_FONT
from .layout import label_width
from .page import (
    MONOSPACE,
    N_HUES,
    Theme,
    entity_colors,
    new_id,
    spread_labels,
    theme_css,
    themed,
)
from .text import NARROW, em_width, one_line, shorten

if TYPE_CHECKING:
    import networkx as nx

MAX_NODES = 50
# Nodes and edges of one picture: above, networkx needs scipy for their places, and nobody sees
# anything any more.
MAX_THINGS = 499
SEED = 7
FONT, SMALL = 13.0, 10.0
NODE_HEIGHT, LABEL_HEIGHT = 38.0, 16.0
MAX_TEXT = 26 * NARROW  # in em
WIDTH = 1150.0
GAP = 26.0  # between components
BOX_GAP = 8.0  # between boxes
LINE_GAP = 10.0  # in addition, where a line leads from one to the other
MARGIN = 20.0
NOTE = 26.0

Box = tuple[float, float]  # width and height
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Edge:
    """A relation between two nodes, by their numbers."""

    head: int
    tail: int
    label: str
    attrs: dict[str, Any]


def choose_nodes(graph: nx.MultiDiGraph, max_nodes: int) -> list[Any]:
    """Return the best-connected nodes, in the order of the graph.

    Edges are taken in the order of how often their two nodes take part in relations, so that no node
    is shown without a neighbour.

    graph (nx.MultiDiGraph): As `relation_graph` makes it.
    max_nodes (int): How many at most; fewer if their edges are too many for a picture.
    RETURNS (list): The nodes.
    """
    degree = Counter(dict.fromkeys(graph, 0))
    for head, tail, attrs in graph.edges(data=True):
        degree[head] += attrs["count"]
        degree[tail] += attrs["count"]
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

    graph (nx.MultiDiGraph): As `relation_graph` makes it.
    max_nodes (int): How many nodes at most, 2 or more.
    theme ("auto" | "light" | "dark"): Its colours.
    RETURNS (str): An SVG element that needs nothing else.
    RAISES (ValueError): If `max_nodes` is no such number.
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
    """Places nodes and labels, and turns them into SVG."""

    def __init__(
        self, graph: nx.MultiDiGraph, nodes: list[Any], edges: list[Edge], theme: Theme
    ) -> None:
        self.id, self.theme, self.edges = new_id(), theme, edges
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
        width, height = _n(self.width), _n(self.height)
        parts = [self.edge(i) for i in range(len(self.edges))]
        parts += [self.label(i) for i in range(len(self.edges))]
        parts += [self.node(i) for i in range(len(self.nodes))]
        note = _text(MARGIN, MARGIN + FONT / 2, self.note, FONT, "note")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{self.id}" class="spanrel-graph"'
            f' width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            f' style="max-width:none;width:{width}px;height:{height}px" role="img"'
            f' aria-labelledby="{self.id}-title {self.id}-desc">'
            f'<title id="{self.id}-title">{escape(self.note)}</title>'
            f'<desc id="{self.id}-desc">{escape(self.summary) or "No relations."}</desc>'
            f"<style>{self.css()}</style>"
            f'<rect class="back" width="100%" height="100%" rx="6"/>{note}{"".join(parts)}</svg>'
        )

    def css(self) -> str:
        own = f"#{self.id}"
        rules = {
            "": f"font-family:{MONOSPACE};font-variant-ligatures:none;",
            " text": "white-space:pre;text-anchor:middle;stroke:none;",
            " .back": themed("fill", "bg"),
            " .note": f"font-size:{_n(FONT)}px;text-anchor:start;{themed('fill', 'muted')}",
            " .name": f"font-size:{_n(FONT)}px;{themed('fill', 'fg')}",
            " .type": f"font-size:{_n(SMALL)}px;{themed('fill', 'muted')}",
            " .back2": themed("fill", "bg"),
            " .box": "fill-opacity:.28;stroke-width:1.5;",
            " .line": "fill:none;stroke:currentColor;stroke-opacity:.75;",
            " .tip": "fill:currentColor;stroke:none;",
            " .plate": themed("fill", "bg"),
            " .label": f"font-size:{_n(LABEL_FONT)}px;font-weight:600;fill:currentColor;",
        }
        rules |= {f" .r{i}": themed("color", f"r{i}") for i in sorted(set(self.hues.values()))}
        return theme_css(own, self.theme) + "".join(
            f"{own}{name}{{{rule}}}" for name, rule in rules.items()
        )

    def node(self, i: int) -> str:
        attrs, (x, y), (width, height) = self.nodes[i], self.points[i], self.boxes[i]
        color = self.colors[attrs["type"]]
        left, top = _n(x - width / 2), _n(y - height / 2)
        box = f'x="{left}" y="{top}" width="{_n(width)}" height="{_n(height)}" rx="7"'
        kind = self.types[i]
        lift = 2.0 if kind else -4.5
        return (
            f'<g class="node" data-node="{i}"><title>{escape(attrs["text"])}'
            f" ({escape(attrs['type'] or 'no type')})</title>"
            f'<rect class="back2" {box}/><rect class="box" {box} fill="{color}" stroke="{color}"/>'
            + _text(x, y - lift, self.texts[i], FONT, "name")
            + (_text(x, y + 12.0, kind, SMALL, "type") if kind else "")
            + "</g>"
        )

    def edge(self, i: int) -> str:
        edge, at = self.edges[i], self.points[len(self.nodes) + i]
        start, end = self.points[edge.head], self.points[edge.tail]
        # Straight from box to label to box; the bend is behind the label.
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
        told = "" if score is None else f" {score:.2f}"
        docs = ", ".join(map(str, edge.attrs["docs"]))
        say = (
            f"{self.nodes[edge.head]['text']} \u2192 {edge.label}{told} \u2192 "
            f"{self.nodes[edge.tail]['text']} (Docs: {docs})"
        )
        return (
            f'<g class="edge r{self.hues[edge.label]}" data-edge="{i}"><title>{escape(say)}</title>'
            f'<path class="line" stroke-width="{_n(stroke)}" d="{path}"/>'
            f'<path class="tip" d="{_arrow(last, last - forth)}"/>'
            "</g>"
        )

    def label(self, i: int) -> str:
        """Return the label of an edge, which stands over all lines."""
        (x, y), (width, height) = self.points[len(self.nodes) + i], self.boxes[len(self.nodes) + i]
        return (
            f'<g class="r{self.hues[self.edges[i].label]}" data-label="{i}">'
            f'<rect class="plate" x="{_n(x - width / 2)}" y="{_n(y - height / 2)}"'
            f' width="{_n(width)}" height="{_n(height)}" rx="4"/>'
            + _text(x, y + 3.8, self.labels[i], LABEL_FONT, "label")
            + "</g>"
        )


def _with_count(text: str, count: int) -> str:
    return f"{text} \u00d7{count}".strip() if count > 1 else text


def _note(graph: nx.MultiDiGraph, nodes: int, edges: int) -> str:
    """Say what is in the picture, and what is not."""
    all_nodes, all_edges = graph.number_of_nodes(), graph.number_of_edges()
    if nodes == all_nodes and edges == all_edges:
        return f"{nodes} entities, {edges} relations"
    return (
        f"The {nodes} best-connected of {all_nodes} entities; left out: {all_nodes - nodes} entities, "
        f"{all_edges - edges} of {all_edges} relations"
    )


def place(boxes: list[Box], links: list[tuple[int, int]], n_nodes: int) -> tuple[Points, Box]:
    """Find places where no box overlaps with another.

    Labels of edges are placed like nodes that lie between the two ends, so that parallel edges, both
    directions and loops come apart by themselves. Components are placed one by one, and then set in
    rows, the greatest first.

    boxes (list[Box]): Sizes of the nodes, then of the labels of the edges.
    links (list[tuple[int, int]]): The edges' nodes.
    n_nodes (int): How many of the boxes are nodes.
    RETURNS (tuple[Points, Box]): Middle of each box; Shape: (n_boxes, 2). And width and height of
        all.
    """
    import networkx as nx

    between = nx.Graph()
    between.add_nodes_from(range(len(boxes)))
    for i, (head, tail) in enumerate(links, start=n_nodes):
        between.add_edge(head, i)
        between.add_edge(i, tail)
    points = np.zeros((len(boxes), 2))
    sizes = np.array(boxes, dtype=float).reshape(-1, 2)
    components = sorted(
        (sorted(part) for part in nx.connected_components(between)), key=lambda p: (-len(p), p)
    )
    x = y = height = width = 0.0
    for part in components:
        found = _place_component(between.subgraph(part), part, sizes[part], n_nodes)
        lo = (found - sizes[part] / 2).min(axis=0)
        hi = (found + sizes[part] / 2).max(axis=0)
        if x and x + (hi - lo)[0] > WIDTH:
            x, y, height = 0.0, y + height + GAP, 0.0
        points[part] = found - lo + (x, y)
        x += float((hi - lo)[0]) + GAP
        height = max(height, float((hi - lo)[1]))
        width = max(width, x - GAP)
    return points, (width, y + height)


def _place_component(between: nx.Graph, part: list[int], sizes: Points, n_nodes: int) -> Points:
    if len(part) == 1:
        return np.zeros((1, 2))
    nodes = [i for i in part if i < n_nodes]
    loops = any(between.degree(i) < 2 for i in part if i >= n_nodes)
    if len(nodes) == 2 and not loops:
        # A pair: side by side, the labels between them, below each other.
        labels = len(part) - 2
        widest = sizes[2:, 0].max()
        apart = (sizes[0, 0] + sizes[1, 0]) / 2 + widest + 36.0
        rows = (np.arange(labels) - (labels - 1) / 2) * (LABEL_HEIGHT + 10.0)
        middle = (sizes[0, 0] + widest) / 2 + 18.0
        return np.array([(0.0, 0.0), (apart, 0.0), *((middle, row) for row in rows)])
    import networkx as nx

    found = nx.spring_layout(between, seed=SEED, iterations=300, scale=None)
    points = np.array([found[i] for i in part], dtype=float)
    # The longer side lies flat.
    points -= points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    points = points @ axes.T
    lengths = [math.dist(found[a], found[b]) for a, b in between.edges()]
    # Wider than high, as the boxes are.
    points *= np.array([95.0, 58.0]) / max(float(np.median(lengths)), 1e-6)
    # A long chain is bent rather than wider than the picture.
    points[:, 0] *= min(1.0, (WIDTH - 200.0) / max(float(np.ptp(points[:, 0])), 1.0))
    row = {i: k for k, i in enumerate(part)}
    return separate(points, sizes, [(row[a], row[b]) for a, b in between.edges()])


def separate(
    points: Points, sizes: Points, linked: list[tuple[int, int]], rounds: int = 500
) -> Points:
    """Push boxes apart that overlap, each pair along the shorter way.

    points (Points): Their middles; Shape: (n, 2).
    sizes (Points): Their widths and heights; Shape: (n, 2).
    linked (list[tuple[int, int]]): Pairs that need room for a line between them.
    rounds (int): How often to try.
    RETURNS (Points): The new middles; Shape: (n, 2).
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
            own = apart[i, j] - np.abs(points[i] - points[j])
            if (own <= 0).any():
                continue  # others have moved them apart
            axis = int(own[1] < own[0])
            sign = 1.0 if points[i, axis] >= points[j, axis] else -1.0
            step = (own[axis] / 2 + 0.01) * sign
            points[i, axis] += step
            points[j, axis] -= step
    return points


def border(middle: Points, towards: Points, box: Box, gap: float) -> Points:
    """Return where a line from the middle of a box to a point leaves the box.

    middle (Points), towards (Points): Points; Shape: (2,).
    box (Box): Its size.
    gap (float): Distance to keep.
    RETURNS (Points): The point; Shape: (2,).
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


def _text(x: float, y: float, text: str, size: float, kind: str) -> str:
    width = em_width(text) * size
    length = f' textLength="{_n(width)}" lengthAdjust="spacingAndGlyphs"' if width else ""
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}"{length}>{escape(text)}</text>'


def _p(point: Points) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
