"""Pictures of Docs: their contents, and that any text can be drawn."""

from __future__ import annotations

import re
import sys
import types
import xml.etree.ElementTree as ET
from contextlib import suppress
from html.parser import HTMLParser

import pytest
import spacy
from catalogue import REGISTRY
from hypothesis import given
from hypothesis import strategies as st
from spacy import displacy
from spacy.displacy.render import DEFAULT_LABEL_COLORS
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from spacy_spanrel import (
    Answer,
    Question,
    Relation,
    set_answers,
    set_entities,
    set_questions,
    set_relations,
)
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.markup import clean
from spacy_spanrel.visualize import render
from spacy_spanrel.visualize.answers import Highlight, mark_text
from spacy_spanrel.visualize.page import PASTELS, entity_colors, spread_labels
from spacy_spanrel.visualize.text import one_line

from ..util import make_doc

NLP = spacy.blank("en")
SVG = "{http://www.w3.org/2000/svg}"
RAW = {"jupyter": False}
TEXT = st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp"]), min_size=1, max_size=12)
LABEL = st.text(st.characters(), min_size=1, max_size=12)


def ada() -> Doc:
    return make_doc(
        NLP.vocab,
        "Ada Bergstrom works for Kelvin Labs in Oslo .",
        [(0, 2, "Peop"), (4, 6, "Org"), (7, 8, "Loc")],
        [(0, 1, "Work_For"), (1, 2, "OrgBased_In"), (0, 2, "Live_In")],
        key="entities",
    )


def asked(text: str = "Two doctors on Great Osk met in August.") -> Doc:
    doc = NLP(text)
    questions = [Question(f"q{i}", f"Question {i}?") for i in range(5)]
    answers = [
        found(doc, questions[0], "Two doctors", score=0.81),
        found(doc, questions[1], "doctors on Great Osk", score=0.5),
        Answer(
            questions[2],
            score=0.66,
            null_score=1.0,
            alternatives=(found(doc, questions[2], "August", score=0.2),),
        ),
        found(doc, questions[3], "doctors", score=0.25),
    ]
    set_answers(doc, answers)
    return doc


def found(doc: Doc, question: Question, text: str, **more: float) -> Answer:
    start = doc.text.index(text)
    return make_answer(doc, question, start, start + len(text), **more)


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def draw(target: Doc | Span, style: str = "relations", **options: object) -> ET.Element:
    """Return a picture as parsed markup."""
    return parse(render(target, style, options=options, **RAW))


def texts(root: ET.Element, name: str) -> list[str | None]:
    """Return the texts of the elements of a class."""
    return [element.text for element in by_class(root, name)]


def by_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [element for element in root.iter() if name in (element.get("class") or "").split()]


def words(root: ET.Element) -> list[str]:
    """Return the words as drawn, or in full if they are shortened."""
    return [
        element.findtext(f"{SVG}title") or "".join(element.itertext())
        for element in by_class(root, "word")
    ]


def arcs(root: ET.Element) -> list[tuple[str, str]]:
    """Return label and title of each arc."""
    return [
        (by_class(arc, "label")[0].text or "", arc.findtext(f"{SVG}title") or "")
        for arc in by_class(root, "arc")
    ]


class Strict(HTMLParser):
    """A parser that fails if tags do not match."""

    void = ("meta", "rect", "path", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.ids.extend(value for name, value in attrs if name == "id")
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        assert tag in self.void
        self.ids.extend(value for name, value in attrs if name == "id")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(markup: str) -> list[str]:
    parser = Strict()
    parser.feed(markup)
    parser.close()
    assert not parser.open
    return parser.ids


# Relations


def test_relations() -> None:
    root = draw(ada())
    assert root.tag == f"{SVG}svg"
    assert words(root) == [token.text for token in ada()]
    assert texts(root, "type") == ["Peop", "Org", "Loc"]
    assert sorted(label for label, _ in arcs(root)) == ["Live_In", "OrgBased_In", "Work_For"]
    titles = {title for _, title in arcs(root)}
    assert "Ada Bergstrom \u2192 Work_For \u2192 Kelvin Labs" in titles


def test_arrow_points_at_the_tail() -> None:
    """The arrow is above the tail and the dot above the head, whichever comes first."""
    doc = make_doc(
        NLP.vocab, "Rome has Ada", [(0, 1, "A"), (2, 3, "B")], [(1, 0, "in")], "entities"
    )
    root = draw(doc)
    (arc,) = by_class(root, "arc")
    circle, arrow = arc.find(f"{SVG}circle"), by_class(arc, "tip")[1]
    rome, _, ada = (float(text.get("x")) for text in by_class(root, "word"))
    assert float(circle.get("cx")) == pytest.approx(ada, abs=2)
    # The path begins at the left corner of the arrow's base.
    assert float(re.match(r"M([\d.]+)", arrow.get("d"))[1]) + 4.5 == pytest.approx(rome, abs=2)


@given(st.lists(TEXT, min_size=1, max_size=6), LABEL, LABEL)
def test_any_text_and_label(texts: list[str], kind: str, label: str) -> None:
    doc = Doc(Vocab(), words=texts)
    head, tail = Span(doc, 0, 1, label=kind), Span(doc, len(doc) - 1, len(doc), label=kind)
    set_relations(doc, [Relation(head, tail, label, 0.5)])
    markup = render(doc, **RAW)
    page = render(doc, page=True, **RAW)
    root = parse(markup)
    drawn = [text for text in map(one_line, texts) if text.strip()]
    # Words may be in visual order.
    assert sorted(words(root)) == sorted(clean(t) if len(t) > 90 else t for t in drawn)
    (title,) = {title for _, title in arcs(root)}
    assert title == clean(f"{texts[0]} \u2192 {label} \u2192 {texts[-1]}").replace("\r", "\n")
    check_html(markup)
    assert parse(page.removeprefix("<!DOCTYPE html>\n")).tag == "html"


def test_markup_in_the_text_is_text() -> None:
    doc = make_doc(
        NLP.vocab,
        ["<script>", "]]>", "'\"&amp;"],
        [(0, 1, "</text>"), (2, 3, '"x"')],
        [(0, 1, "<b>")],
    )
    doc.user_data["title"] = "<h1>"
    root = draw(doc)
    assert words(root) == ["<script>", "]]>", "'\"&amp;"]
    assert texts(root, "type") == ["</text>", '"x"']
    assert arcs(root)[0][0] == "<b>"
    assert by_class(root, "heading")[0].text == "<h1>"


def test_every_relation_once_over_rows() -> None:
    doc = make_doc(
        NLP.vocab,
        " ".join(f"word{i}" for i in range(40)),
        [(i, i + 1, "X") for i in range(0, 40, 4)],
        [(i, (i + 3) % 10, f"r{i}") for i in range(10)] + [(2, 2, "self"), (3, 6, "r3")],
        key="entities",
    )
    root = draw(doc, width=40)
    assert len(by_class(root, "row")) > 3
    assert words(root) == [token.text for token in doc]
    parts: dict[str, list[str]] = {}
    for arc in by_class(root, "arc"):
        parts.setdefault(arc.get("data-relation"), []).append(arc.get("data-part"))
    assert len(parts) == 12
    assert all(part in (["whole"], ["head", "tail"], ["tail", "head"]) for part in parts.values())
    labels = [label for label, _ in arcs(root)]
    # The part at the head names the tail, and the part at the tail names the head.
    assert any(label.startswith("r0 \u2192 ") and "word12" in label for label in labels)
    assert any(label.startswith("r0 \u2190 ") and "word0" in label for label in labels)


def test_scores() -> None:
    doc = ada()
    set_entities(doc, list(doc.spans["entities"]), [0.9, 0.8, 0.7])
    relation = doc._.relations[0]
    doc._.relations = [Relation(relation.head, relation.tail, "Work_For", 0.931)]
    assert arcs(draw(doc))[0][0] == "Work_For"
    root = draw(doc, scores=True)
    assert arcs(root)[0][0] == "Work_For 0.93"
    assert texts(root, "type") == ["Peop 0.90", "Org 0.80", "Loc 0.70"]


def test_choice_of_labels() -> None:
    root = draw(ada(), exclude=["Live_In"], ents=["Peop"])
    assert sorted(label for label, _ in arcs(root)) == ["OrgBased_In", "Work_For"]
    # Arguments of relations are still drawn.
    assert texts(root, "type") == ["Peop", "Org", "Loc"]
    root = draw(ada(), exclude={"Live_In", "OrgBased_In"}, ents=[])
    assert texts(root, "type") == ["Peop", "Org"]


def test_entities_of_the_doc_and_untyped_arguments() -> None:
    doc = make_doc(NLP.vocab, "Ada met Bo in Oslo", [(0, 1, "PERSON"), (2, 3, "PERSON")])
    arguments = [Span(doc, 0, 1), Span(doc, 4, 5)]
    set_relations(doc, [Relation(*arguments, "in")])
    root = draw(doc)
    # The first argument is the entity; the other is drawn without a label.
    assert texts(root, "type") == ["PERSON", "PERSON"]
    assert len(by_class(root, "span")) == 3
    other = {"entities_key": "mine", "relations_key": "theirs"}
    doc.spans["mine"] = [Span(doc, 4, 5, label="Loc")]
    root = draw(doc, **other)
    assert texts(root, "type") == ["Loc"]
    assert not arcs(root)


def test_nested_and_overlapping_spans_have_bars_of_their_own() -> None:
    doc = make_doc(
        NLP.vocab,
        "University of Oslo Press house",
        [(0, 4, "Org"), (2, 3, "Loc"), (0, 3, "Org"), (3, 5, "X")],
        key="entities",
    )
    root = draw(doc)
    bars = [bar for span in by_class(root, "span") for bar in by_class(span, "chip")]
    assert len(bars) == 4
    places = [tuple(float(bar.get(k)) for k in ("x", "y", "width")) for bar in bars]
    for i, (x, y, width) in enumerate(places):
        for other_x, other_y, other_width in places[i + 1 :]:
            apart = x + width <= other_x or other_x + other_width <= x
            assert y != other_y or apart


def test_a_span_of_a_doc() -> None:
    doc = ada()
    root = draw(doc[3:6])
    assert words(root) == ["for", "Kelvin", "Labs"]
    labels = [label for label, _ in arcs(root)]
    assert len(labels) == 2  # both cross a border of the span
    assert any(re.match("Work_For \u2190 .*Ada Bergstrom", label) for label in labels)
    assert any(re.match("OrgBased_In \u2192 .*Oslo", label) for label in labels)
    # Cut at the border.
    assert texts(draw(doc[1:3]), "type") == ["Peop"]


def test_right_to_left() -> None:
    text = ["\u05de\u05e9\u05d4", "\u05d2\u05e8", "\u05d1\u05d7\u05d9\u05e4\u05d4"]
    for vocab in (spacy.blank("he").vocab, Vocab()):
        doc = make_doc(vocab, text, [(0, 1, "PER"), (2, 3, "LOC")], [(0, 1, "in")], "entities")
        root = draw(doc)
        xs = [float(word.get("x")) for word in by_class(root, "word")]
        assert xs == sorted(xs, reverse=True)
        circle = by_class(root, "arc")[0].find(f"{SVG}circle")
        assert float(circle.get("cx")) == pytest.approx(xs[0], abs=3)
        assert max(xs) < float(root.get("width"))
    page = render(make_doc(spacy.blank("ar").vocab, text, [(0, 1, "X")]), page=True, **RAW)
    assert '<html lang="ar" dir="rtl">' in page


def test_nothing_to_draw() -> None:
    with pytest.warns(UserWarning, match="W_SR130"):
        root = draw(NLP(""))
    assert by_class(root, "note")[0].text == "(empty text)"
    doc = NLP("No entities")
    doc.spans["other"] = []
    with pytest.warns(UserWarning, match="Its span groups: other"):
        root = draw(doc)
    assert words(root) == ["No", "entities"]
    assert render([], **RAW) == ""
    assert not arcs(draw(make_doc(NLP.vocab, "Ada sings", [(0, 1, "Peop")])))


def test_no_text_has_a_negative_width() -> None:
    doc = make_doc(NLP.vocab, "Ada met Bo", [(0, 1, ""), (2, 3, "")], [(0, 1, "")], "entities")
    widths = [text.get("textLength") for text in draw(doc).iter(f"{SVG}text")]
    assert widths.count(None) == 1  # the label of the relation
    assert all(float(width) > 0 for width in widths if width)


def test_accessible() -> None:
    root = draw(ada())
    assert root.get("role") == "img"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "Ada Bergstrom works for Kelvin Labs" in description.text
    assert "Kelvin Labs \u2192 OrgBased_In \u2192 Oslo" in description.text
    doc = ada()
    doc.user_data["title"] = "A title"
    assert draw(doc).findtext(f"{SVG}title") == "A title"


# Colours and options


def test_colors() -> None:
    doc = ada()
    root = draw(doc, colors={"PEOP": "#123456", "live_in": "teal"})
    fills = [chip.get("fill") for chip in by_class(root, "chip")]
    assert fills == ["#123456", DEFAULT_LABEL_COLORS["ORG"], DEFAULT_LABEL_COLORS["LOC"]]
    styles = {arc.get("style") for arc in by_class(root, "arc")}
    assert styles == {None, "color:teal"}


def test_colors_that_packages_register() -> None:
    colors = spacy.registry.displacy_colors
    colors.register("spanrel_test", func={"Drug": "#abcdef", "Gene": "linear-gradient(#fff, #000)"})
    try:
        assert entity_colors(["Drug"], {})["Drug"] == "#abcdef"
        with pytest.warns(UserWarning, match="W_SR132"):
            assert entity_colors(["Gene"], {})["Gene"] in PASTELS
    finally:
        # Entries of a registry cannot be removed through its interface.
        del REGISTRY[(*colors.namespace, "spanrel_test")]


def test_colors_of_other_types_differ() -> None:
    labels = [f"type {i}" for i in range(len(PASTELS))]
    assert len(set(entity_colors(labels, {}).values()) - {"#ddd"}) == len(PASTELS)
    assert spread_labels(["a", "b"], 8) == spread_labels(["b", "a"], 8)
    assert len(spread_labels(map(str, range(100)), 8)) == 100


@pytest.mark.parametrize(
    "color",
    ["red;}", "url(x)", "expression(1)", '"/><script>', "", 3, "linear-gradient(red, blue)"],
)
def test_what_is_no_color(color: object) -> None:
    with pytest.raises(ValueError, match="E_SR911.*'Loc'"):
        render(ada(), options={"colors": {"Loc": color}}, **RAW)


@pytest.mark.parametrize(
    "color", ["red", "#abc", "#AABBCC", "#aabbccdd", "rgb(1, 2, 3)", "hsl(120deg 50% 50% / .5)"]
)
def test_what_is_a_color(color: str) -> None:
    root = draw(ada(), colors={"Loc": color})
    assert by_class(root, "chip")[2].get("fill") == color


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"colours": {}}, "E_SR910.*colours"),
        ({"width": 3}, "E_SR912.*width"),
        ({"width": True}, "E_SR912.*width"),
        ({"exclude": "Live_In"}, "E_SR912.*exclude"),
        ({"ents": [1]}, "E_SR912.*ents"),
        ({"colors": ["red"]}, "E_SR912.*colors"),
        ({"theme": "blue"}, "E_SR912.*theme"),
        ({"scores": "yes"}, "E_SR912.*scores"),
        ({"alternatives": None}, "E_SR912.*alternatives"),
        ({"qa_key": None}, "E_SR912.*qa_key"),
    ],
)
def test_wrong_options(options: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        render(ada(), options=options, **RAW)


@pytest.mark.parametrize("docs", ["a text", b"x", 3, None, ["a text"], {"text": "x"}])
def test_what_cannot_be_drawn(docs: object) -> None:
    with pytest.raises(ValueError, match="E_SR914"):
        render(docs, **RAW)


def test_wrong_style() -> None:
    with pytest.raises(ValueError, match="E_SR913.*relations, answers"):
        render(ada(), "dep", **RAW)


@pytest.mark.parametrize("style", ["relations", "answers"])
def test_theme(style: str) -> None:
    doc = ada() if style == "relations" else asked()
    auto = render(doc, style, **RAW)
    assert "prefers-color-scheme:dark" in auto
    assert '[data-jp-theme-light="false"]' in auto
    light = render(doc, style, options={"theme": "light"}, **RAW)
    dark = render(doc, style, options={"theme": "dark"}, **RAW)
    assert "prefers-color-scheme" not in light + dark
    assert "color-scheme:light" in light
    assert "color-scheme:dark" in dark


# Pages, notebooks


@pytest.mark.parametrize("style", ["relations", "answers"])
def test_many_docs_on_a_page(style: str) -> None:
    docs = [ada(), ada()] if style == "relations" else [asked(), asked()]
    page = render((doc for doc in docs), style, page=True, **RAW)
    ids = check_html(page.removeprefix("<!DOCTYPE html>\n"))
    ids += check_html(render(docs, style, **RAW))
    assert len(ids) == len(set(ids)) >= 4
    root = parse(page.removeprefix("<!DOCTYPE html>\n"))
    assert len(root.findall(".//figure")) == 2
    # The page loads nothing and runs nothing.
    assert "<script" not in page
    assert not re.search(r"\b(?:href|src)=|url\(|@import", page)
    assert set(re.findall(r"https?://[^\"]+", page)) <= {"http://www.w3.org/2000/svg"}
    # CSS rules apply to this picture only.
    for picture in root.findall(".//figure"):
        style_of = next(e for e in picture.iter() if e.tag.endswith("style"))
        own = next(e.get("id") for e in picture.iter() if e.get("id"))
        for rule in re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style_of.text)):
            assert all(f"#{own}" in part for part in rule.split(","))


@pytest.mark.parametrize("style", ["relations", "answers"])
def test_jupyter(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    # A stand-in, because IPython may not be installed.
    module = types.ModuleType("IPython.display")
    module.HTML = lambda data: data  # type: ignore[attr-defined]
    module.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    doc = ada() if style == "relations" else asked()
    assert render(doc, style, jupyter=True) is None
    (html,) = shown
    assert html.startswith('<div class="tex2jax_ignore">')
    check_html(html)
    # Outside of notebooks, None means False.
    assert isinstance(render(doc, style), str)
    assert len(shown) == 1


def test_render_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displacy, "RENDER_WRAPPER", lambda html: f"<!-- mine -->{html}")
    assert render(ada(), **RAW).startswith("<!-- mine --><svg")


# Answers


def context(root: ET.Element) -> ET.Element:
    return by_class(root, "context")[0]


def test_answers() -> None:
    doc = asked()
    asked_texts = [question.text for question in doc._.questions]
    root = draw(doc, "answers")
    assert "".join(context(root).itertext()) == doc.text
    items = root.findall("ol/li")
    assert [by_class(item, "question")[0].text for item in items] == asked_texts
    shown = ["".join(by_class(item, "answer")[0].itertext()) for item in items]
    assert shown == [
        "Two doctors 0.81",
        "doctors on Great Osk 0.50",
        "No answer in this text 0.66",
        "doctors 0.25",
    ]
    (heading,) = by_class(root, "heading")
    assert heading.text == "Rejected candidates"
    assert [b.text for b in items[2].findall("ul/li/span/b")] == ["August"]


def test_answers_that_overlap() -> None:
    root = draw(asked(), "answers")
    marks = context(root).findall("mark")
    assert [mark.text for mark in marks] == ["Two ", "doctors", " on Great Osk"]
    assert [mark.get("data-n") for mark in marks] == ["1", "2 4", None]
    lines = [re.findall(r"--r(\d)", mark.get("style")) for mark in marks]
    assert [sorted(line) for line in lines] == [["0"], ["0", "1", "3"], ["1"]]
    # The line of an answer has the same height in all of its runs.
    height = re.compile(r"0 (\d+)px 0 var\(--r1\)")
    assert height.search(marks[1].get("style"))[1] == height.search(marks[2].get("style"))[1]


def test_unanswered_questions_and_none() -> None:
    doc = NLP("A text.")
    set_questions(doc, ["Who?", ""])
    root = draw(doc, "answers")
    assert [answer.text[:12] for answer in by_class(root, "answer")] == ["Not answered"] * 2
    assert by_class(root, "question")[1].text == "(q2)"
    with pytest.warns(UserWarning, match="W_SR131"):
        root = draw(NLP(""), "answers")
    assert context(root).text == "(empty text)"
    assert "No questions." in "".join(root.itertext())


def test_gold_answers() -> None:
    doc = NLP("Two doctors met.")
    question = Question("a", "Who?")
    best = found(doc, question, "Two doctors", alternatives=(found(doc, question, "doctors"),))
    set_answers(doc, [best])
    root = draw(doc, "answers")
    assert by_class(root, "heading")[0].text == "Also right"
    assert not by_class(root, "score")
    assert not by_class(draw(doc, "answers", alternatives=False), "heading")
    assert not by_class(draw(asked(), "answers", scores=False), "score")


def test_answers_in_a_part_of_a_doc() -> None:
    doc = asked()
    span = doc[1:5]
    root = draw(span, "answers")
    assert "".join(context(root).itertext()) == span.text == "doctors on Great Osk"
    assert [mark.text for mark in context(root).findall("mark")] == ["doctors", " on Great Osk"]
    assert by_class(root.findall("ol/li")[0], "where")[0].text == "(outside this excerpt)"


@given(st.text(st.characters(), max_size=30), LABEL, st.data())
def test_any_answer(text: str, asking: str, data: st.DataObject) -> None:
    doc = NLP(text)
    question = Question("q", asking)
    answers = []
    if text.strip():
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        # Whitespace between tokens cannot be an answer.
        with suppress(ValueError):
            answers.append(make_answer(doc, question, start, end, score=0.5))
    set_answers(doc, answers or [Answer(question)])
    markup = render(doc, "answers", **RAW)
    check_html(markup)
    root = parse(markup)
    assert "".join(context(root).itertext()) == (clean(text) or "(empty text)")
    wanted = clean(asking) if asking.strip() else "(q)"
    assert by_class(root, "question")[0].text == wanted
    if answers:
        assert "".join(m.text for m in context(root).findall("mark")) == clean(answers[0].text)


@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(1, 8)), max_size=8).map(
        lambda pairs: [Highlight(s, min(s + n, 20), i) for i, (s, n) in enumerate(pairs)]
    )
)
def test_marks_cover_what_they_should(highlights: list[Highlight]) -> None:
    text = "abcdefghijklmnopqrst"
    root = parse(f"<p>{mark_text(text, highlights, [''] * len(highlights))}</p>")
    assert "".join(root.itertext()) == text
    place = len(root.text or "")
    lines: dict[int, str] = {}
    for mark in root:
        covering = {
            h.number for h in highlights if h.start <= place and place + len(mark.text) <= h.end
        }
        assert {int(n) for n in re.findall(r"--r(\d)", mark.get("style"))} == covering
        for n in covering:
            lines[n] = lines.get(n, "") + mark.text
        place += len(mark.text) + len(mark.tail or "")
    assert lines == {h.number: text[h.start : h.end] for h in highlights}
