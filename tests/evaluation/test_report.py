from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from spacy.training import Example

from spacy_spanrel.cli import evaluate
from spacy_spanrel.evaluation import (
    Evaluation,
    Outcome,
    component_tables,
    other_scores,
    render_report,
)
from spacy_spanrel.evaluation.evaluate import PLURALS
from spacy_spanrel.evaluation.report import choose_rows

from .conftest import NAMES
from .util import ACME, JOHN, PARIS, evaluation_of, make, pair_up

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('1')</script>&\"]]>"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


parse = ElementTree.fromstring  # a strict parser


def rows_of(root: ElementTree.Element) -> list[ElementTree.Element]:
    (body,) = (node for node in root.iter(f"{HTML}tbody") if node.get("id") == "rows")
    return list(body)


def text_of(node: ElementTree.Element, *, roles: bool = False) -> str:
    if not roles and node.get("class") == "role":
        return node.tail or ""
    inner = (node.text or "") + "".join(text_of(child, roles=roles) for child in node)
    return inner + (node.tail or "")


def marked(row: ElementTree.Element) -> list[tuple[str | None, str | None]]:
    """Return class and text of the marked parts of a row's sentence."""
    spans = [node for node in row[5].iter(f"{HTML}span") if node.get("class") in "bgp"]
    return [(node.get("class"), node.text) for node in spans]


def examples() -> list[Example]:
    return pair_up(
        (make([JOHN, ACME], [(JOHN, ACME, "works")]), make([JOHN], [(JOHN, ACME, "owns")])),
        (make([JOHN], []), make([(1, 3, "Per"), PARIS], [], score=0.25)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_all_outcomes_are_rows(
    name: str, pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    found = evaluate(pipelines[name], corpora[name])
    root = parse(render_report(found))
    outcomes = found.components[0].outcomes
    rows = rows_of(root)
    assert len(rows) == len(outcomes) > 0
    assert sorted(row.get("data-status") for row in rows) == sorted(o.status for o in outcomes)
    for row, outcome in zip(rows, outcomes, strict=True):
        assert row.get("data-kind") == outcome.kind
        assert row.get("data-doc") == str(outcome.source.number)
        sentence = text_of(row[5])
        assert outcome.source.text.strip() in sentence
        if outcome.answer is not None:
            assert outcome.answer.question.text in sentence
            assert outcome.answer.predicted in text_of(row[3])
            assert all(text in text_of(row[2]) for text in outcome.answer.references)
    part = found.components[0]
    titles = [table.title for table in component_tables(part)]
    captions = [caption.text or "" for caption in root.iter(f"{HTML}caption")]
    assert captions[: len(titles)] == titles
    for name, value in other_scores(found).rows:
        assert f"{name} {value}" in text_of(root)
    assert len([text for text in captions if text.startswith("Confusion")]) == len(part.confusions)


def test_relations_with_both_directions_together() -> None:
    gold = make([], [(JOHN, ACME, "A(e1,e2)"), (ACME, JOHN, "A(e2,e1)")])
    found = evaluation_of(pair_up((gold, make([], [(JOHN, ACME, "A(e1,e2)")]))), pairs=True)
    (scores, *_) = component_tables(found.components[0])
    assert scores.rows == [
        ("Relations", "100.00", "50.00", "66.67", "50.00", "1", "0", "1"),
        (
            "Relations, both directions of a label together",
            *("100.00", "50.00", "66.67", "66.67", "1", "0", "1"),
        ),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_compared_with_right_predictions(
    name: str, pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    evaluation = evaluate(pipelines[name], corpora[name])
    (component,) = evaluation.components
    data = json.loads(json.dumps(evaluation.to_dict()))["calibration"][name]
    drawn = [
        node for node in parse(render_report(evaluation)).iter(f"{SVG}rect") if node.get("class")
    ]
    n_bins = 0
    for kind, plural in PLURALS.items():
        scored = [o for o in component.outcomes if o.kind == kind and o.score is not None]
        assert (plural in data) == bool(scored)
        if not scored:
            continue
        found = data[plural]
        n_right = sum(o.status == "correct" for o in scored)
        assert found["predictions"] == len(scored) == sum(each["n"] for each in found["bins"])
        assert found["correct"] == pytest.approx(n_right / len(scored))
        gaps = [each["n"] * abs(each["score"] - each["correct"]) for each in found["bins"]]
        assert found["ece"] == pytest.approx(sum(gaps) / len(scored))
        assert 0 <= found["ece_equal_mass"] <= 1
        n_bins += len(found["bins"])
        (row,) = (
            row
            for table in component_tables(component)
            if table.title == "Calibration of scores"
            for row in table.rows
            if row[0] == plural
        )
        assert row[1] == str(len(scored))
        assert float(row[4]) == pytest.approx(100 * found["ece"], abs=0.01)
    assert n_bins
    assert len(drawn) == 2 * n_bins


def test_no_diagram_without_scores() -> None:
    gold = make([JOHN, ACME], [(JOHN, ACME, "works")])
    evaluation = evaluation_of(
        pair_up((gold, make([JOHN, ACME], [(JOHN, ACME, "works")], score=None))), pairs=True
    )
    assert evaluation.to_dict()["calibration"] == {"part": {}}
    assert "Reliability of the scores" not in render_report(evaluation)


def test_spans_are_marked() -> None:
    rows = rows_of(parse(render_report(evaluation_of(examples()))))
    by_status = {row.get("data-status"): row for row in rows}
    assert [row.get("data-doc") for row in rows] == ["0"] * 3 + ["1"] * 2
    assert marked(by_status["correct"]) == [("b", "John Smith")]
    assert marked(by_status["missed"]) == [("g", "Acme")]
    assert marked(by_status["wrong type"]) == [("b", "John Smith"), ("b", "Acme")]
    assert marked(by_status["spurious"]) == [("p", "Paris")]
    boundaries = marked(by_status["wrong boundaries"])
    assert boundaries == [("g", "John "), ("b", "Smith"), ("p", " works")]
    assert "John Smithhead works for Acmetail" in text_of(by_status["wrong type"][5], roles=True)
    assert by_status["spurious"].get("data-score") == "0.2500"
    assert by_status["missed"].get("data-score") == ""


def test_the_page_needs_nothing_else() -> None:
    page = render_report(evaluation_of(examples()))
    root = parse(page)
    for node in root.iter():
        for name, value in node.items():
            assert name not in ("src", "srcset", "action", "data")
            assert name != "href" or value.startswith("#")
    assert page.count("http") == page.count("http-equiv") + page.count("xmlns=")
    assert "url(" not in page
    assert "@import" not in page
    policy = next(n for n in root.iter(f"{HTML}meta") if n.get("http-equiv"))
    assert policy.get("content").startswith("default-src 'none'")


def test_templates_are_in_the_wheel() -> None:
    root = Path(__file__).parents[2]
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    package = root / "spacy_spanrel"
    patterns = config["options.package_data"]["spacy_spanrel"].split()
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    templates = set(package.rglob("*.j2"))
    assert templates
    assert templates <= packaged


def test_everything_is_escaped() -> None:
    words = [NASTY, "a\x00b\x1b", "works", "for", "Acme", "in", "Paris"]
    entity = (0, 2, NASTY)
    gold = make([entity], [(entity, ACME, NASTY)], words)
    predicted = make([], [(entity, ACME, 'x" onclick="y')], words)
    gold.spans["entities"].attrs["orig_id"] = NASTY
    found = evaluation_of(pair_up((gold, predicted)), name=NASTY)
    found = Evaluation(NASTY, NASTY, 1, (NASTY,), found.scores, found.components, (NASTY,))
    page = render_report(found)
    root = parse(page)
    # One in the head and one at the end; none from the data.
    assert len(list(root.iter(f"{HTML}script"))) == page.count("<script>") == 2
    assert not any("onclick" in node.attrib for node in root.iter())
    row = rows_of(root)[-1]
    assert row.get("data-gold") == NASTY
    assert row.get("data-predicted") == 'x" onclick="y'
    assert f"{NASTY} a\u2400b\u241b works" in text_of(row[5])


def test_text_may_run_from_right_to_left() -> None:
    words = ["ولد", "أحمد", "في", "القاهرة"]
    found = evaluation_of(pair_up((make([(1, 2, "Per")], [], words), make([], [], words))))
    (row,) = rows_of(parse(render_report(found)))
    assert row[5].get("dir") == "auto"
    assert marked(row) == [("g", "أحمد")]
    assert [node.text for node in row[2].iter(f"{HTML}bdi")] == ["أحمد"]


def test_rows_that_are_left_out_are_said() -> None:
    found = evaluation_of(examples())
    page = render_report(found, max_rows=2)
    rows = rows_of(parse(page))
    assert "3 of 5 rows were left out, correct ones first" in page
    assert {row.get("data-status") for row in rows}.isdisjoint({"correct"})
    outcomes = found.components[0].outcomes
    chosen = [outcomes[i].status for i in choose_rows(outcomes, 5)]
    assert chosen[-1] == "correct"
    assert "left out" not in render_report(found, max_rows=5)
    assert rows_of(parse(render_report(found, max_rows=0))) == []


def test_nothing_found_and_nothing_wanted() -> None:
    found = evaluation_of(pair_up((make([], []), make([], []))))
    assert rows_of(parse(render_report(found))) == []
    assert component_tables(found.components[0]) == []


def test_long_texts_are_shown_around_their_spans() -> None:
    words = ["John", *["dull"] * 300, "Acme", *["words"] * 300]
    head, tail = (0, 1, "Per"), (301, 302, "Org")
    found = evaluation_of(pair_up((make(None, [(head, tail, "x")], words), make(None, [], words))))
    (row,) = rows_of(parse(render_report(found)))
    assert marked(row) == [("g", "John"), ("g", "Acme")]
    shown = text_of(row[5]).strip()
    assert 300 < len(shown) < 700
    # No word is cut, and ellipses show what is left out.
    assert set(re.findall(r"\w+", shown)) == {"John", "dull", "Acme", "words"}
    assert shown.count("…") == 2
    assert shown.endswith("…")


def test_confusion_cells_lead_to_their_rows() -> None:
    page = parse(render_report(evaluation_of(examples())))
    links = [n for n in page.iter(f"{HTML}a") if n.get("href", "").startswith("#cell=")]
    assert len(links) == len({link.get("href") for link in links})
    for link in links:
        name = link.get("href").removeprefix("#cell=")
        rows = [row for row in rows_of(page) if name in row.get("data-cells").split()]
        assert len(rows) == int(link.text)


class _Rows(HTMLParser):
    """The rows of a page after its script has run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.found = ""
        self._in_found = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "tr" and "data-status" in values:
            self.rows.append(values)
        self._in_found = values.get("id") == "found"

    def handle_data(self, data: str) -> None:
        if self._in_found:
            self.found, self._in_found = data, False


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """A report of 250 outcomes."""
    pairs = []
    for i in range(50):
        gold = make([JOHN, ACME], [(JOHN, ACME, "works")])
        label = "works" if i % 2 else "owns"
        predicted = make([JOHN, PARIS], [(JOHN, ACME, label)], score=i / 50)
        pairs.append((gold, predicted))
    found = evaluation_of(pair_up(*pairs))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(found), encoding="utf-8")
    return path, list(found.components[0].outcomes)


def scores(rows: list[dict[str, Any]]) -> list[float]:
    return [float(row["data-score"]) for row in rows]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's script")
@pytest.mark.parametrize(
    ("fragment", "total", "check"),
    [
        ("", 200, lambda rows: [int(row["data-doc"]) for row in rows] == sorted([*range(25)] * 4)),
        (
            "kind=relation&status=wrong+type&sort=score&desc=1",
            25,
            lambda rows: scores(rows) == [i / 50 for i in range(48, -1, -2)],
        ),
        (
            "label=Per&min=0.5&max=0.6",
            6,
            lambda rows: set(scores(rows)) == {i / 50 for i in range(25, 31)},
        ),
        ("q=%20PARIS&status=spurious,missed&page=9", 100, lambda rows: len(rows) == 100),
    ],
)
def test_sorting_and_filtering(
    fragment: str, total: int, check: Any, many: tuple[Path, list[Outcome]], tmp_path: Path
) -> None:
    path, outcomes = many
    assert len(outcomes) == 200
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --dump-dom "
        "--disable-background-networking --disable-component-update --disable-sync"
    )
    places = (f"--user-data-dir={tmp_path}", f"{path.as_uri()}#{fragment}")
    command = [str(CHROMIUM), *options.split(), *places]
    page = _Rows()
    page.feed(subprocess.check_output(command, stderr=subprocess.PIPE, text=True, timeout=300))
    assert page.found.startswith(f"{total} of 200 rows")
    assert len(page.rows) == min(total, 100)
    assert check(page.rows)
