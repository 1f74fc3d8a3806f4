"""Hostile texts, labels, ids and names through everything that writes for readers, browsers,
spreadsheets and terminals."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import markdown
import networkx as nx
import spacy
import srsly
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab
from typer.testing import CliRunner

from spacy_spanrel.annotations import Question, Relation, make_answer, set_answers, set_relations
from spacy_spanrel.annotations.relations import ORIG_ID_ATTR
from spacy_spanrel.cli import app
from spacy_spanrel.evaluation.report import render_report
from spacy_spanrel.visualize import relation_graph, render, write_graph

from ..evaluation.util import evaluation_of, pair_up
from .mutate import TAG, text

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "path", "circle", "line", "col"}
# A terminal obeys what follows these.
CONTROLS = {chr(i) for i in (*range(32), *range(127, 160))} - {"\n", "\t", "\r"}
COLORS = re.compile(r"\x1b\[(0|1|38;5;\d+)m")  # wasabi's
RISKY = ("=", "+", "-", "@", "\t", "\r")

Check = Callable[[Random, Path], None]


def make_check(folder: Path):
    def check(rng: Random) -> None:
        rng.choice(CHECKS)(rng, folder)

    return check


class Reader(HTMLParser):
    """Reads a page, and fails where a text became markup or tags do not match."""

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert TAG not in tag, f"the tag {tag!r}"
        for name, value in attrs:
            assert TAG not in name, f"the attribute {name!r}"
            address = name in ("href", "src", "xlink:href", "action")
            assert not address or not (value or "").strip().lower().startswith("javascript"), value

    def handle_endtag(self, tag: str) -> None:
        if self.strict and tag not in VOID:
            assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        assert TAG not in data, "a comment"


def read_html(page: str, strict: bool = True) -> None:
    reader = Reader(strict)
    reader.feed(page)
    reader.close()
    assert not (strict and reader.open)


def label(rng: Random) -> str:
    return text(rng, 4) or "x"


def hostile_doc(rng: Random, labels: list[str]) -> Doc:
    """A Doc with entities, relations and answers."""
    words = [text(rng, 3) or "x" for _ in range(rng.randint(1, 8))]
    doc = Doc(Vocab(), words=words, spaces=[rng.random() < 0.8 for _ in words])
    spans = []
    for _ in range(rng.randrange(5)):
        start = rng.randrange(len(doc))
        end = rng.randint(start + 1, len(doc))
        spans.append(Span(doc, start, end, label=rng.choice(labels)))
    doc.spans["entities"] = spans
    doc.spans["entities"].attrs.update(
        {ORIG_ID_ATTR: text(rng, 3), "scores": [rng.random() for _ in spans]}
    )
    relations = {}
    for _ in range(rng.randrange(4) if spans else 0):
        head, tail, name = rng.choice(spans), rng.choice(spans), rng.choice(labels)
        relations[head.start, head.end, tail.start, tail.end, name] = Relation(
            head, tail, name, rng.random()
        )
    set_relations(doc, list(relations.values()))
    answers = []
    for i in range(rng.randrange(3)):
        token = rng.choice(doc)
        start = token.idx + rng.randrange(len(token))
        end = rng.randint(start + 1, len(doc.text))
        asked = Question(f"{i}{text(rng, 2)}", text(rng, 5))
        answers.append(make_answer(doc, asked, start, end, score=rng.random()))
    set_answers(doc, answers)
    doc.user_data["title"] = text(rng, 4)
    return doc


def some_docs(rng: Random) -> list[Doc]:
    labels = [label(rng) for _ in range(3)]
    return [hostile_doc(rng, labels) for _ in range(rng.randint(1, 3))]


def saved(rng: Random, folder: Path) -> Path:
    path = folder / "docs.spacy"
    DocBin(docs=some_docs(rng), store_user_data=True).to_disk(path)
    return path


# What is written


def check_pictures(rng: Random, folder: Path) -> None:
    docs = some_docs(rng)
    style = rng.choice(["relations", "answers"])
    options = {"scores": rng.choice([None, True]), "width": rng.choice([10, 90])}
    page = rng.random() < 0.5
    read_html(render(docs, style, page=page, jupyter=False, options=options))


def check_graph(rng: Random, folder: Path) -> None:
    graph = relation_graph(some_docs(rng))
    if not graph.number_of_edges():
        return
    write_graph(graph, folder / "graph.html")
    read_html((folder / "graph.html").read_text(encoding="utf-8"))
    write_graph(graph, folder / "graph.graphml")
    again = nx.read_graphml(folder / "graph.graphml", force_multigraph=True)
    assert again.number_of_edges() == graph.number_of_edges()


def check_report(rng: Random, folder: Path) -> None:
    labels = [label(rng) for _ in range(3)]
    gold = hostile_doc(rng, labels)
    predicted = gold.copy()
    set_relations(predicted, predicted._.relations[:1])
    evaluation = evaluation_of(pair_up((gold, predicted)), name=label(rng))
    read_html(render_report(evaluation))


def check_tables(rng: Random, folder: Path) -> None:
    """CSV: a reader finds the rows and texts again, and no cell is a formula."""
    path, output = saved(rng, folder), folder / "relations.csv"
    output.unlink(missing_ok=True)
    run("export", "csv", path, output)
    if not output.exists():
        return  # without relations
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    docs = DocBin().from_disk(path).get_docs(Vocab())
    assert len(rows) == sum(len(doc._.relations) for doc in docs)
    for row in rows:
        for cell in row.values():
            number = cell.lstrip("-").replace(".", "", 1).isdigit()
            assert number or not cell.startswith(RISKY), f"the cell {cell!r}"
    # Some open files the short way: a line end inside a cell must not become a row.
    with output.open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def check_card(rng: Random, folder: Path) -> None:
    """A model card, as a program that reads Markdown shows it."""
    model = folder / "model"
    nlp = spacy.blank("xx", meta={"name": "reader"})
    nlp.to_disk(model)
    meta = srsly.read_json(model / "meta.json")
    for key in ("name", "description", "author", "license", "version", "url"):
        if rng.random() < 0.5:
            meta[key] = text(rng, 4)
    name = label(rng)
    meta["labels"] = {name: [label(rng)], "qa": {label(rng): [label(rng)]}}
    srsly.write_json(model / "meta.json", meta)
    config = spacy.util.load_config(model / "config.cfg")
    config["nlp"]["pipeline"] = ["qa"]
    config["components"]["qa"] = {
        "factory": "extractive_qa",
        "model": {"name": text(rng, 4).replace("$", "")},
    }
    config.to_disk(model / "config.cfg")
    scores = {"rel_f": 0.5, "rel_per_type": {label(rng): {"p": 1, "r": 1, "f": 1}}}
    srsly.write_json(folder / "scores.json", scores)
    title = ["--title", text(rng, 4).replace("\x00", "")] if rng.random() < 0.5 else []
    run("model-card", model, "-m", f"{name.split('=')[0] or 'x'}={folder / 'scores.json'}", *title)
    card = model / "README.md"
    if card.exists():
        page = markdown.markdown(card.read_text(encoding="utf-8"), extensions=["extra"])
        read_html(page, strict=False)
        card.unlink()


def check_terminal(rng: Random, folder: Path) -> None:
    """What is printed of a corpus."""
    run("debug-data", saved(rng, folder))


def run(*arguments: Any) -> None:
    """Run a command. It may refuse what it was given, but never by a traceback, and prints nothing
    that a terminal obeys."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = CliRunner().invoke(app, [str(a).replace("\x00", "") for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    shown = COLORS.sub("", printed.getvalue() + result.output)
    controls = CONTROLS & set(shown)
    assert not controls, f"{arguments[0]} printed: {sorted(controls)} in {shown[:2000]!r}"


CHECKS: list[Check] = [
    check_pictures,
    check_graph,
    check_report,
    check_tables,
    check_card,
    check_terminal,
]
