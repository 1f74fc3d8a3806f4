"""The benchmark on SciERC counts and removes relations across sentences, and sums up its rows."""

from __future__ import annotations

import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.training import Example

from spacy_spanrel import get_relations, set_clusters

from .util import make_doc

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "scierc.py"
if not SCRIPT.is_file():
    pytest.skip("source distributions have no benchmarks", allow_module_level=True)

TEXT = "Parsers parse English . They beat taggers ."
ENTITIES = [(0, 1, "Method"), (2, 3, "Material"), (4, 5, "Generic"), (6, 7, "Method")]
GOLD = [(0, 1, "USED-FOR"), (2, 3, "COMPARE")]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return runpy.run_path(str(SCRIPT))


def annotated(nlp, relations):
    doc = make_doc(nlp.vocab, TEXT, ENTITIES, relations)
    for token in doc:
        token.is_sent_start = token.i in (0, 4)
    return doc


def test_scores_with_and_without_relations_across_sentences(script):
    nlp = spacy.blank("en")
    nlp.add_pipe("span_relation", config={"symmetric": []})
    # An annotated Doc is its own prediction here.
    nlp.disable_pipe("span_relation")
    predicted = annotated(nlp, [*GOLD[:1], (0, 3, "COMPARE")])
    row = script["score"](nlp, [Example(predicted, annotated(nlp, GOLD))])
    assert row["crossing"] == 1
    assert row["ents_f"] == 100
    # One of two predictions, and one of two gold relations.
    assert row["rel_strict_f"] == row["rel_f"] == pytest.approx(50)
    # One of one.
    assert row["rel_strict_f_within"] == pytest.approx(100 * 2 / 3)
    assert [r.label for r in get_relations(predicted)] == ["USED-FOR"]
    # With gold clusters "They" would be the parsers, and the relation across sentences right.
    gold = annotated(nlp, GOLD)
    set_clusters(gold, [[gold[0:1], gold[4:5]]])
    row = script["score"](nlp, [Example(annotated(nlp, [*GOLD[:1], (0, 3, "COMPARE")]), gold)])
    assert (row["rel_entity_f"], row["rel_entity_f_no_clusters"]) == (100, pytest.approx(50))


def test_table(script):
    columns = ("ents_f", "rel_f", "rel_strict_f", "rel_strict_f_within", "rel_entity_f")
    same = {
        "encoder": "minilm",
        "variant": "sentences",
        "epochs": 4,
        "frozen": 3,
        "start": None,
        "crossing": 0,
    }
    rows = [
        {
            **same,
            "cpu_seconds": 9,
            **dict.fromkeys((*columns, "rel_entity_f_no_clusters"), score),
        }
        for score in (30.0, 32.0)
    ]
    seeds_table = import_module("recipes").seeds_table
    table = seeds_table(rows, script["KEYS"], script["COLUMNS"])
    assert "| minilm | sentences | 4 | 3 | None | 2 | 31.00 ± 1.41 |" in table
