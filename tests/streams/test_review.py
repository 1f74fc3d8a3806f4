"""Predicted Docs are divided into those to keep and those to correct."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.reading import ConversionError
from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.review import (
    REPORT,
    ReviewSettings,
    features,
    lower_thresholds,
    order,
    review,
)

from ..cli.util import succeed

NLP = spacy.blank("en")
SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 0.8, 1.0]), max_size=3)


def predicted(text: str, *scores: float, label: str = "r") -> Doc:
    doc = NLP.make_doc(text)
    head, tail = Span(doc, 0, 1, label="A"), Span(doc, 1, 2, label="B")
    set_relations(doc, [Relation(head, tail, f"{label}{i}", s) for i, s in enumerate(scores)])
    return doc


def read(path: Path) -> list[tuple[str, list[float | None]]]:
    paths = sorted(path.glob("*.spacy")) if path.is_dir() else [path] if path.exists() else []
    return [
        (doc.text, [relation.score for relation in get_relations(doc)])
        for file in paths
        for doc in DocBin().from_disk(file).get_docs(NLP.vocab)
    ]


def test_texts_are_divided(tmp_path: Path) -> None:
    docs = [
        predicted("kept entirely", 0.9),
        predicted("nothing found"),
        predicted("slight doubt", 0.85, 0.25),
        predicted("largest doubt", 0.5),
        predicted("only dropped", 0.05),
        predicted("some doubt", 0.7),
    ]
    counts = review(docs, tmp_path, ReviewSettings(0.2, 0.9, size=2))
    assert read(tmp_path / "kept") == [
        ("kept entirely", [0.9]),
        ("nothing found", []),
        ("only dropped", []),
    ]
    assert read(tmp_path / "doubtful.spacy") == [
        ("slight doubt", [0.85, 0.25]),  # twice
        ("largest doubt", [0.5]),
    ]
    assert read(tmp_path / "later") == [("some doubt", [0.7])]
    assert json.loads((tmp_path / REPORT).read_text()) == vars(counts)
    assert vars(counts) == {
        "kept_texts": 3,
        "empty_texts": 2,
        "doubtful_texts": 2,
        "later_texts": 1,
        "kept": 1,
        "doubtful": 4,
        "dropped": 1,
    }


def test_the_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_spanrel.streams.review._IN_FILE", 1)
    review([predicted("kept entirely", 0.9)], tmp_path / "new", ReviewSettings(0.2, 0.9))
    assert read(tmp_path / "new" / "kept") == [("kept entirely", [0.9])]


@settings(max_examples=50, deadline=None)
@given(st.lists(SCORES, max_size=12), st.integers(1, 5))
def test_every_text_goes_to_one_place(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("review")
    docs = [predicted(f"text {i}", *scores) for i, scores in enumerate(rows)]
    review(docs, folder, ReviewSettings(0.3, 0.8, size))
    kept, doubtful, later = (read(folder / name) for name in ("kept", "doubtful.spacy", "later"))
    assert sorted(text for text, _ in kept + doubtful + later) == sorted(doc.text for doc in docs)
    expected = [s for scores in rows for s in scores if s >= 0.3]
    assert sorted(s for _, scores in kept + doubtful + later for s in scores) == sorted(expected)
    assert all(s >= 0.8 for _, scores in kept for s in scores)
    assert all(any(s < 0.8 for s in scores) for _, scores in doubtful + later)
    assert len(doubtful) == min(size, len(doubtful + later))


@given(st.integers(0, 20), st.integers(0, 1000))
def test_order_is_a_permutation_that_begins_with_the_most_doubt(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    doubts = rng.random(n).astype(np.float32)
    ordered = order(doubts, vectors)
    assert sorted(ordered) == list(range(n))
    assert not n or ordered[0] == doubts.argmax()


def test_like_texts_are_not_reviewed_one_after_the_other() -> None:
    texts = ["Ann visited the large museum"] * 3 + ["Shares of Acme rose sharply"]
    docs = [predicted(text, 0.5) for text in texts[:3]]
    docs.append(predicted(texts[3], 0.5, label="other"))
    vectors = np.stack([features(doc, get_relations(doc)) for doc in docs])
    doubts = np.asarray([1.0, 0.99, 0.98, 0.5], dtype=np.float32)
    assert order(doubts, vectors) == [0, 3, 1, 2]


def test_annotate_with_review(full_path: Path, tmp_path: Path) -> None:
    nlp = spacy.load(full_path)
    pipe = nlp.get_pipe("span_relation")
    pipe.cfg["relation_threshold"] = 0.999
    source, output = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("John Smith works for Google in Paris.\nNothing here.\n")
    report = annotate(nlp, source, output, review=ReviewSettings(0.001, 0.99))
    assert pipe.cfg["relation_threshold"] == 0.999
    assert report.review is not None
    assert (report.review["doubtful_texts"], report.review["kept_texts"]) == (1, 1)
    ((text, scores),) = read(output / "doubtful.spacy")
    assert text == "John Smith works for Google in Paris."
    assert len(scores) == report.review["doubtful"] > 0
    # The folder is ours: it may be replaced, and nothing is left beside it.
    annotate(nlp, source, output, review=ReviewSettings(0.001, 0.99), force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out"]


def test_review_on_the_command_line(full_path: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out"
    source.write_text("John Smith works for Google in Paris.\nNothing here.\n")
    result = succeed("annotate", full_path, source, output, "--review", "0.01", "0.99")
    words = " ".join(result.stdout.split())
    assert "Doubtful texts 1" in words
    assert "Kept texts 1" in words
    tasks = tmp_path / "tasks.json"
    succeed("export", "labelstudio", output / "doubtful.spacy", tasks, "--suggestions")
    assert "predictions" in json.loads(tasks.read_text())[0]


def test_a_pipeline_without_relations(ruler: Language, tmp_path: Path) -> None:
    """Else all texts would be kept, as if they had no relations."""
    (tmp_path / "in.txt").write_text("John\n")
    with pytest.raises(ConversionError, match="MODEL.*entity_ruler.*--review"):
        annotate(ruler, tmp_path / "in.txt", tmp_path / "out", review=ReviewSettings(0, 1))
    assert not (tmp_path / "out").exists()


def test_thresholds_are_lowered_and_never_raised() -> None:
    settings = {"relations_key": "r", "relation_threshold": 0.4, "thresholds": {"a": 0.9, "b": 0.1}}
    assert lower_thresholds(settings, 0.3) == {
        "relation_threshold": 0.3,
        "thresholds": [["a", 0.3], ["b", 0.1]],
    }
    settings = {"relations_key": "r", "threshold": 0.0, "thresholds": [["a", 0.9]]}
    assert lower_thresholds(settings, 0.3) == {"threshold": 0.0, "thresholds": [["a", 0.3]]}
    assert lower_thresholds({"threshold": 0.5}, 0.3) == {}


@pytest.mark.parametrize("borders", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_wrong_borders(borders: tuple[float, float]) -> None:
    with pytest.raises(ConversionError, match="--review"):
        ReviewSettings(*borders)


@pytest.mark.parametrize(
    ("output", "options", "part"),
    [
        ("out.jsonl", {}, "OUTPUT"),
        ("out", {"output_format": "jsonl"}, "OUTPUT"),
        ("out", {"shard": "1/2"}, "--shard"),
    ],
)
def test_options_that_do_not_fit(
    ruler: object, tmp_path: Path, output: str, options: dict[str, str], part: str
) -> None:
    (tmp_path / "in.txt").write_text("John\n")
    with pytest.raises(ConversionError, match=part):
        annotate(
            ruler, tmp_path / "in.txt", tmp_path / output, review=ReviewSettings(0, 1), **options
        )
