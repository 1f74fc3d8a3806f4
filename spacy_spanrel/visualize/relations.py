"""An SVG picture of a Doc: labels of entities below the words, arcs of relations above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from spacy.displacy import get_doc_settings
from spacy.tokens import Doc, Span

from ..annotations import (
    Relation,
    get_clusters,
    get_entities,
    get_entity_scores,
    get_relations,
)
from ..annotations.clusters import Entities, normalize
from ..errors import Warnings, warn
from ..markup import escape
from .layout import (
    CORNER,
    FONT,
    SMALL,
    Layout,
    Link,
    Mark,
    PlacedArc,
    PlacedMark,
    Row,
    Word,
    label_width,
    lay_out,
)
from .options import Options
from .page import N_HUES, entity_colors, make_svg, px, spread_labels, text_at, themed
from .text import em_width, one_line, runs_left, shorten

# Heights in px. A row is measured from the baseline of its words.
MARGIN = 18.0
ASCENT, DESCENT = 16.0, 6.0  # of a span's box
SLOT, CHIP = 18.0, 15.0  # of a span's label, with and without the gap below
LEVEL, FIRST_LEVEL = 25.0, 22.0
NEST = 4.0  # difference in height between the box of a span and that of a span inside it
ROW_GAP = 20.0
TITLE = 28.0
EMPTY = "(empty text)"
# The name of an entity below another mention of it is cut to this width, in em.
LONGEST_NAME = 16.0


@dataclass(frozen=True)
class Scene:
    """The contents of a picture, as plain data.

    words, marks, links: Arguments of `lay_out`.
    types (list[str]): Entity types of the marks, for their colours.
    entities (list[str]): The best mentions of the entities that the marks stand for; "" for a mark that
        is the best mention itself, or if they are not asked for.
    relations (list[Relation]): The relations that the links stand for.
    rtl (bool): Whether the text runs from right to left.
    lang, title (str): Language and title of the text; "" for none.
    """

    words: list[Word]
    marks: list[Mark]
    links: list[Link]
    types: list[str]
    entities: list[str]
    relations: list[Relation]
    rtl: bool
    lang: str
    title: str


def get_title(doc: Doc) -> str:
    """Return the title that displaCy would show; "" for none."""
    return str(doc.user_data.get("title") or "")


def get_scene(target: Doc | Span, options: Options) -> Scene:
    """Collect the annotations to draw of a Doc, or of a part of it.

    Arguments of relations that are no entities are drawn as spans of their own. At the borders of a
    Span, entities are cut, and a relation that crosses a border is drawn at its inner end.

    target (Doc | Span): The text.
    options (Options): Annotations to draw.
    RETURNS (Scene): The contents of the picture.
    """
    doc = target if isinstance(target, Doc) else target.doc
    first, last = (0, len(doc)) if isinstance(target, Doc) else (target.start, target.end)

    def touches(span: Span) -> bool:
        return span.start < last and first < span.end

    relations = [
        relation
        for relation in get_relations(doc, options.relations_key)
        if relation.label not in options.exclude
        and (touches(relation.head) or touches(relation.tail))
    ]
    entities = get_entities(doc, options.entities_key)
    scores = get_entity_scores(doc, options.entities_key)
    labels: dict[tuple[int, int, str], str] = {}
    spans: dict[tuple[int, int, str], Span] = {}
    for span, score in zip(entities, scores, strict=True):
        if touches(span) and (options.ents is None or span.label_ in options.ents):
            key = (span.start, span.end, span.label_)
            spans.setdefault(key, span)
            labels.setdefault(key, _with_score(span.label_, score, options))
    by_bounds = {key[:2]: key for key in reversed(spans)}

    def key_of(argument: Span) -> tuple[int, int, str]:
        key = (argument.start, argument.end, argument.label_)
        if key not in spans and not argument.label_:
            key = by_bounds.get(key[:2], key)
        if key not in spans:
            spans[key], labels[key] = argument, argument.label_
            by_bounds.setdefault(key[:2], key)
        return key

    pairs = [(key_of(relation.head), key_of(relation.tail)) for relation in relations]
    keys = list(spans)
    places = {key: i for i, key in enumerate(keys)}
    names = _entity_names(doc, list(spans.values()), options)
    marks = []
    for (key, span), entity in zip(spans.items(), names, strict=True):
        start, end = span.start - first, span.end - first
        if touches(span):
            start, end = max(start, 0), min(end, last - first)
            end = max(end, start + 1)  # an empty span is drawn at the word behind it
        label = f"{labels[key]} = {shorten(entity, LONGEST_NAME)}" if entity else labels[key]
        marks.append(Mark(start, end, label.strip(), span.text))
    words = [Word(token.text, bool(token.whitespace_)) for token in doc[first:last]]
    settings = get_doc_settings(doc)
    return Scene(
        words=words,
        marks=marks,
        links=[
            Link(places[head], places[tail], _with_score(relation.label, relation.score, options))
            for relation, (head, tail) in zip(relations, pairs, strict=True)
        ],
        types=[key[2] for key in keys],
        entities=names,
        relations=relations,
        rtl=runs_left([word.text for word in words], settings["direction"]),
        lang=settings["lang"] or "",
        title=get_title(doc),
    )


def _entity_names(doc: Doc, spans: list[Span], options: Options) -> list[str]:
    """Return the name of the entity behind each span; "" where the span is the name."""
    if not options.entities:
        return [""] * len(spans)
    typed = [*get_entities(doc, options.entities_key), *spans]
    entities = Entities(get_clusters(doc, options.clusters_prefix), typed)
    best = map(entities.best, spans)
    return [
        "" if normalize(b.text) == normalize(s.text) else one_line(b.text)
        for s, b in zip(spans, best, strict=True)
    ]


def _with_score(label: str, score: float | None, options: Options) -> str:
    return f"{label} {score:.2f}".strip() if options.scores and score is not None else label


def draw_relations(target: Doc | Span, options: Options) -> str:
    """Draw entities and relations.

    target (Doc | Span): The text.
    options (Options): Options of the picture.
    RETURNS (str): An SVG element that loads nothing: a file by itself, or a part of a page.
    """
    scene = get_scene(target, options)
    if not scene.marks and not scene.links:
        doc = target if isinstance(target, Doc) else target.doc
        warn(
            Warnings.W130.format(
                entities=options.entities_key,
                relations=options.relations_key,
                groups=", ".join(doc.spans) or "none",
            )
        )
    layout = lay_out(scene.words, scene.marks, scene.links, columns=options.width, rtl=scene.rtl)
    return _Drawing(scene, layout, options).svg()


class _Drawing:
    """Writes a layout as SVG."""

    def __init__(self, scene: Scene, layout: Layout, options: Options) -> None:
        self.scene, self.layout, self.options = scene, layout, options
        self.empty = not any(row.words for row in layout.rows)
        title = em_width(scene.title) * FONT
        note = em_width(EMPTY) * FONT if self.empty else 0.0
        self.width = max(layout.width, title, note, 40.0) + 2 * MARGIN
        self.types = entity_colors(scene.types, options.colors)
        labels = [relation.label for relation in scene.relations]
        self.hues = spread_labels(labels, N_HUES)
        self.colors = {label.upper(): color for label, color in options.colors.items()}

    def x(self, x: float) -> float:
        """Return the x in the picture for an x in the layout."""
        return self.width - MARGIN - x if self.scene.rtl else MARGIN + x

    def svg(self) -> str:
        parts: list[str] = []
        y = MARGIN
        if self.scene.title:
            parts.append(text_at(self.width / 2, y + FONT, self.scene.title, FONT, "heading"))
            y += TITLE
        if self.empty:
            parts.append(text_at(self.width / 2, y + FONT, EMPTY, FONT, "note"))
            y += ASCENT + DESCENT
        for number, row in enumerate(self.layout.rows):
            base = y + _above(row)
            parts.append(f'<g class="row" data-row="{number}">{self.row(row, base)}</g>')
            y = base + _below(row) + (ROW_GAP if number + 1 < len(self.layout.rows) else 0.0)
        return make_svg(
            "".join(parts),
            name="spanrel-relations",
            size=(self.width, y + MARGIN),
            title=self.title(),
            description=self.description(),
            rules={
                " .word": f"font-size:{px(FONT)}px;{themed('fill', 'fg')}",
                " .heading": f"font-size:{px(FONT)}px;font-weight:bold;{themed('fill', 'fg')}",
                " .note": f"font-size:{px(FONT)}px;{themed('fill', 'muted')}",
                " .type": f"font-size:{px(SMALL)}px;font-weight:bold;{themed('fill', 'fg')}",
                " .box": "fill-opacity:.22;stroke-opacity:.55;",
                " .chip": "fill-opacity:.5;",
                " .line": "fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round;",
                " .halo": f"fill:none;stroke-width:6;{themed('stroke', 'bg')}",
                " .out": "stroke-dasharray:2 3;",
            },
            hues=self.hues.values(),
            theme=self.options.theme,
            lang=self.scene.lang,
        )

    def title(self) -> str:
        if self.scene.title:
            return self.scene.title
        text = _text(self.scene.words)
        return f"Entities and relations in: {shorten(text, 60.0)}" if text else EMPTY

    def description(self) -> str:
        """Describe the picture in words, for screen readers."""
        parts = [_text(self.scene.words) or EMPTY]
        spans = [f"{mark.name} ({mark.label or 'no type'})" for mark in self.scene.marks]
        parts.append("Entities: " + ("; ".join(spans) or "none"))
        parts.append("Relations: " + ("; ".join(map(self.in_words, self.scene.links)) or "none"))
        return "\n".join(parts)

    def in_words(self, link: Link) -> str:
        head, tail = map(self.name, (link.head, link.tail))
        return f"{head} \u2192 {link.label} \u2192 {tail}"

    def name(self, index: int) -> str:
        """Return the text of a mark and, if it is asked for, the name of the entity behind it."""
        name, entity = self.scene.marks[index].name, self.scene.entities[index]
        return f"{name} = {entity}" if entity else name

    def row(self, row: Row, base: float) -> str:
        marks = sorted(row.marks, key=lambda mark: -mark.slot)
        top = {mark.index: base - ASCENT - NEST * mark.slot for mark in row.marks}
        parts = [self.box(mark, top[mark.index], base) for mark in marks]
        for word in row.words:
            if word.text.strip():
                middle = self.x(word.x + word.width / 2)
                full = self.scene.words[word.index].text
                title = full if word.text.endswith("\u2026") and word.text != full else ""
                parts.append(text_at(middle, base, word.text, FONT, "word", title))
        parts.extend(self.chip(mark, base) for mark in marks)
        # Lower arcs are drawn last, so that they interrupt the higher ones that they cross.
        first = base - ASCENT - NEST * max(row.slots - 1, 0) - FIRST_LEVEL
        for arc in sorted(row.arcs, key=lambda arc: (-arc.level, arc.index)):
            link = self.scene.links[arc.index]
            draw = partial(self.arc, arc, y=first - LEVEL * arc.level)
            if arc.part == "whole":
                parts.append(draw(top[link.head], top[link.tail]))
            else:
                at = top[link.head if arc.part == "head" else link.tail]
                parts.append(draw(at, at))
        return "".join(parts)

    def bars(self, mark: PlacedMark, kind: str, y: float, height: float, style: str) -> str:
        """Return a rectangle for each box of a span."""
        return "".join(
            f'<rect class="{kind}" x="{px(min(self.x(lo), self.x(hi)))}" y="{px(y)}"'
            f' width="{px(hi - lo)}" height="{px(height)}" {style}/>'
            for lo, hi in mark.boxes
        )

    def box(self, mark: PlacedMark, top: float, base: float) -> str:
        color = self.types[self.scene.types[mark.index]]
        style = f'rx="4" fill="{color}" stroke="{color}"'
        return self.bars(mark, "box", top, base + DESCENT - top, style)

    def chip(self, mark: PlacedMark, base: float) -> str:
        """Return the bars below the words of a span, with its label in the widest one."""
        data = self.scene.marks[mark.index]
        color = self.types[self.scene.types[mark.index]]
        y = base + DESCENT + 2.0 + SLOT * mark.slot
        parts = [
            f'<g class="span" data-span="{mark.index}">',
            f"<title>{escape(f'{data.name} ({data.label})')}</title>",
            self.bars(mark, "chip", y, CHIP if data.label else 4.0, f'rx="3" fill="{color}"'),
        ]
        lo, hi = mark.boxes[0]
        # The part of a span in a row may be narrower than the label.
        room = (hi - lo - 2.0) / SMALL
        text = shorten(data.label, room) if label_width(data.label) > hi - lo + 1 else data.label
        if text:
            parts.append(text_at(self.x((lo + hi) / 2), y + CHIP - 4.0, text, SMALL, "type"))
        return "".join(parts) + "</g>"

    def arc(self, arc: PlacedArc, start_y: float, end_y: float, *, y: float) -> str:
        relation = self.scene.relations[arc.index]
        color = self.colors.get(relation.label.upper())
        style = f' style="color:{color}"' if color else ""
        start, end = self.x(arc.start), self.x(arc.end)
        whole = arc.part == "whole"
        path = _bracket(start, start_y, end, end_y, y) if whole else _hook(start, start_y, end, y)
        # The head of the arrow is a path of its own.
        tip_x, tip_y = (end, end_y) if whole else (start, start_y)
        middle = self.x(arc.middle)
        dot = f'<circle class="tip" cx="{px(start)}" cy="{px(start_y)}" r="2.6"/>'
        arrow = f'<path class="tip" d="M{px(tip_x - 4.5)} {px(tip_y - 8)}h9l-4.5 8z"/>'
        tips = {"whole": dot + arrow, "head": dot, "tail": arrow}[arc.part]
        return (
            f'<g class="arc r{self.hues[relation.label]}"{style} data-relation="{arc.index}"'
            f' data-part="{arc.part}" data-level="{arc.level}">'
            f"<title>{escape(self.in_words(self.scene.links[arc.index]))}</title>"
            f'<path class="halo" d="{path}"/><path class="line{"" if whole else " out"}" d="{path}"/>'
            f"{tips}"
            f'<rect class="back" x="{px(middle - arc.width / 2)}" y="{px(y - 8)}"'
            f' width="{px(arc.width)}" height="16" rx="3"/>'
            + text_at(middle, y + 3.8, arc.text, SMALL, "label")
            + "</g>"
        )


def _above(row: Row) -> float:
    """Return the height of a row above its baseline."""
    nested = NEST * max(row.slots - 1, 0)
    arcs = FIRST_LEVEL + LEVEL * (row.levels - 1) + 10.0 if row.levels else 0.0
    return ASCENT + nested + arcs


def _below(row: Row) -> float:
    return DESCENT + (2.0 + SLOT * row.slots if row.slots else 0.0)


def _text(words: Sequence[Word]) -> str:
    return "".join(word.text + " " * word.space for word in words).strip()


def _bracket(x0: float, y0: float, x1: float, y1: float, y: float) -> str:
    """Return the path of an arc: up, across with round corners, and down to the arrow."""
    r = min(CORNER, abs(x1 - x0) / 2)
    side = r if x1 > x0 else -r
    return (
        f"M{px(x0)} {px(y0)}V{px(y + r)}Q{px(x0)} {px(y)} {px(x0 + side)} {px(y)}"
        f"H{px(x1 - side)}Q{px(x1)} {px(y)} {px(x1)} {px(y + r)}V{px(y1 - 6)}"
    )


def _hook(x0: float, y0: float, x1: float, y: float) -> str:
    """Return the path from a span to the label of an arc that continues in another row."""
    side = CORNER if x1 > x0 else -CORNER
    return f"M{px(x0)} {px(y0 - 6)}V{px(y + CORNER)}Q{px(x0)} {px(y)} {px(x0 + side)} {px(y)}"
