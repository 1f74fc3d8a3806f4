from __future__ import annotations

import pickle
import random

import pyarrow as pa
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_spanrel.streams import annotate, annotator, arrow
from spacy_spanrel.streams.arrow import ArrowAnnotator, output_schema
from spacy_spanrel.streams.writers import parquet_schema

from .util import TEXTS, numbered, read_jsonl, rules, write_jsonl

RESULTS = ("entities", "relations", "answers")


@pytest.fixture(scope="session")
def rules_path(tmp_path_factory):
    """Return the folder of a pipeline of rules, in which some texts fail."""
    path = tmp_path_factory.mktemp("rules") / "pipeline"
    rules("raise_on_boom").to_disk(path)
    return path


def table(texts, **columns) -> pa.Table:
    ids = [f"r{i}" for i in range(len(texts))]
    return pa.table(
        {"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string()), **columns}
    )


def rounded(value):
    """Return results with scores to five digits: the sixth depends on the padding."""
    if isinstance(value, dict):
        return {
            key: round(item, 4) if key == "score" and item is not None else rounded(item)
            for key, item in value.items()
        }
    return [rounded(item) for item in value] if isinstance(value, list) else value


def test_the_same_rows_as_annotate(full_path, tmp_path):
    rows = [
        {"id": f"r{i}", "text": text, "questions": ["Who?"]} for i, text in enumerate(TEXTS * 3)
    ]
    annotate(full_path, write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "x.jsonl")
    expected = read_jsonl(tmp_path / "x.jsonl")
    given = pa.Table.from_pylist(rows)
    annotator = ArrowAnnotator(full_path, questions="questions")
    for data in (given, given.to_batches()[0]):
        result = annotator(data)
        assert type(result) is type(data)
        assert result.schema == annotator.output_schema(given.schema)
        assert result.select(given.column_names).equals(data)
        assert result["error"].null_count == len(rows)
        for name in RESULTS:
            assert rounded(result[name].to_pylist()) == rounded([row[name] for row in expected])
    assert annotator.counts.rows == annotator.counts.annotated == 2 * len(rows)
    assert annotator.counts.entities == 2 * sum(len(row["entities"]) for row in expected)
    assert annotator.counts.answers == 2 * len(rows)


def test_schema(full_path, rules_path):
    added = output_schema(full_path)
    assert added == output_schema(rules_path)  # no row and no component changes it
    assert added.names == [*RESULTS, "error"]
    for name in RESULTS:  # one home for the types
        assert added.field(name).type == parquet_schema().field(name).type
    given = pa.schema([("n", pa.int8()), ("text", pa.large_string())])
    assert output_schema(rules_path, given).names == ["n", "text", *added.names]
    assert output_schema(rules_path, entities=True).names[3] == "entity_relations"
    assert ArrowAnnotator(rules_path, keep=["n"]).output_schema(given).names == ["n", *added.names]
    with pytest.raises(ValueError, match="E_SR967.*'x'"):
        ArrowAnnotator(rules_path, keep=["x"]).output_schema(given)
    with pytest.raises(ValueError, match="E_SR966.*'answers'"):
        output_schema(rules_path, pa.schema([("answers", pa.int8())]))


@settings(max_examples=6)
@given(cuts=st.lists(st.integers(0, 21), max_size=6), seed=st.integers(0, 5))
def test_the_division_into_batches_does_not_matter(full_path, cuts, seed):
    texts = [*TEXTS, None, ""] * 3
    random.Random(seed).shuffle(texts)
    whole = table(texts)
    borders = [0, *sorted(cuts), len(texts)]
    batches = [
        batch
        for a, b in zip(borders, borders[1:], strict=False)
        for batch in whole.slice(a, b - a).to_batches()
    ]
    annotator = ArrowAnnotator(full_path, batch_size=1 + seed)
    divided = pa.Table.from_batches(annotator.iterate(batches))
    assert rounded(divided.to_pylist()) == rounded(annotator(whole).to_pylist())


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_rows_that_fail(rules_path, batch_size):
    texts = numbered(40)
    for i in (0, 7, 8, 39):
        texts[i] = f"boom {i}"
    texts[20] = None
    annotator = ArrowAnnotator(rules_path, batch_size=batch_size, max_chars=100)
    texts[30] = "x" * 101
    result = annotator(table(texts))
    errors = result["error"].to_pylist()
    failed = [0, 7, 8, 20, 30, 39]
    assert [i for i, error in enumerate(errors) if error is not None] == failed
    assert errors[7] == "RuntimeError: cannot take 'boom 7'"
    assert "id 'r20'" in errors[20]
    assert "E_SR929" in errors[30]
    for name in RESULTS:
        column = result[name].to_pylist()
        assert [i for i, value in enumerate(column) if value is None] == failed
    assert all(len(row["entities"]) == 3 for row in result.to_pylist() if not row["error"])
    counts = annotator.counts
    assert (counts.rows, counts.annotated, counts.failed) == (40, 34, 6)
    with pytest.raises(ValueError, match="E_SR964.*'r0'.*cannot take 'boom 0'"):
        ArrowAnnotator(rules_path, errors="raise")(table(texts))


def test_bad_rows_cost_little(rules_path, monkeypatch):
    nlp = ArrowAnnotator(rules_path).load()
    sizes = []
    pipe = nlp.pipe
    monkeypatch.setattr(
        nlp, "pipe", lambda docs, **k: (sizes.append(len(docs)), pipe(docs, **k))[1]
    )
    texts = numbered(256)
    texts[100] = "boom"
    assert ArrowAnnotator(rules_path, batch_size=256)(table(texts))["error"].null_count == 255
    assert len(sizes) == 1 + 2 * 8
    assert sum(sizes) < 3 * 256


def test_long_texts_come_in_small_batches(rules_path, monkeypatch):
    monkeypatch.setattr(annotator, "BATCH_TOKENS", 50)
    annotate = ArrowAnnotator(rules_path)
    sizes = []
    nlp, pipe = annotate.load(), annotate.load().pipe
    monkeypatch.setattr(
        nlp, "pipe", lambda docs, **k: (sizes.append(list(docs)), pipe(docs, **k))[1]
    )
    assert annotate(table(["John " * n for n in (1, 200, 3, 30, 30, 2)])).num_rows == 6
    assert [len(docs) for docs in sizes] == [2, 3, 1]


def test_what_is_pickled(full_path):
    annotator = ArrowAnnotator(full_path, questions=["Who?"])
    annotator(table(TEXTS))
    data = pickle.dumps(annotator)
    assert len(data) < 2000
    copy = pickle.loads(data)
    assert (annotator.counts.rows, copy.counts.rows) == (len(TEXTS), 0)
    assert copy.load() is annotator.load()


def test_loaded_once_a_process_and_not_before(rules_path, monkeypatch):
    loaded = []
    load = spacy.load
    monkeypatch.setattr(arrow, "_pipelines", {})
    monkeypatch.setattr(spacy, "load", lambda *a, **k: (loaded.append(a), load(*a, **k))[1])
    annotate = ArrowAnnotator(rules_path)
    annotate.output_schema(table(TEXTS).schema)
    assert not loaded
    for _ in range(3):
        pickle.loads(pickle.dumps(annotate))(table(TEXTS))
    assert len(loaded) == 1


def test_a_model_that_is_missing(full_path, tmp_path, monkeypatch):
    for model in (tmp_path / "nowhere", "no_such_package", spacy.blank("en")):
        with pytest.raises(ValueError, match="E_SR960.*(nowhere|no_such_package|Language|English)"):
            ArrowAnnotator(model)
        with pytest.raises(ValueError, match="E_SR960"):
            output_schema(model)
    # It was there when the annotator was made, and is not where it is used.
    (tmp_path / "config.cfg").touch()
    annotator = ArrowAnnotator(tmp_path)
    (tmp_path / "config.cfg").unlink()
    with pytest.raises(ValueError, match=f"E_SR961.*{tmp_path}.*E_SR960"):
        annotator(table(TEXTS))
    # A relative folder is the same one in processes that work elsewhere.
    monkeypatch.chdir(full_path.parent)
    assert ArrowAnnotator("pipeline").model == str(full_path)


def test_wrong_settings_and_columns(rules_path):
    for wrong in ({"threads": 0}, {"batch_size": 0}, {"max_chars": 0}, {"errors": "ignore"}):
        with pytest.raises(ValueError, match=f"E_SR962.*{next(iter(wrong))}"):
            ArrowAnnotator(rules_path, **wrong)
    with pytest.raises(ValueError, match="E_SR106"):
        ArrowAnnotator(rules_path, questions=[7])
    annotate = ArrowAnnotator(rules_path, questions="q")
    with pytest.raises(ValueError, match="E_SR967.*'q'.*'id', 'text'"):
        annotate(table(TEXTS))
    with pytest.raises(ValueError, match="E_SR967.*'text'.*'x'"):
        annotate(pa.table({"x": [1]}))
    with pytest.raises(ValueError, match="E_SR965.*'text'.*int64"):
        ArrowAnnotator(rules_path)(pa.table({"text": [1]}))
    with pytest.raises(TypeError, match="E_SR963.*list"):
        annotate(["John"])
    with pytest.raises(ValueError, match="E_SR961.*'no_such'"):
        ArrowAnnotator(rules_path, disable=["no_such"])(table(TEXTS))


def test_columns_of_many_types(rules_path):
    annotate = ArrowAnnotator(rules_path, text="body", id=None)
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        given = pa.table({"body": pa.array(["John", None], pa.string()).cast(kind), "n": [1, 2]})
        result = annotate(given)
        assert result.schema.field("body").type == kind
        assert [e["text"] for e in result["entities"].to_pylist()[0]] == ["John"]
        assert "E_SR604" in result["error"].to_pylist()[1]
    assert annotate(given.slice(0, 0)).num_rows == 0
    assert annotate(given.slice(0, 0)).schema == annotate(given).schema
    assert annotate(given.slice(1).to_batches()[0]).num_rows == 1


def test_devices_and_settings(full_path):
    annotate = ArrowAnnotator(
        full_path,
        device="cpu",
        disable=["extractive_qa"],
        config={"components.span_relation.relation_threshold": 1.0},
    )
    result = annotate(table(TEXTS, questions=[["Who?"]] * len(TEXTS)))
    assert not any(result["relations"].to_pylist())
    assert not any(result["answers"].to_pylist())
    assert annotate.load() is not ArrowAnnotator(full_path).load()
    assert torch.get_num_threads() == 1
    assert arrow.find_pipeline(full_path) == str(full_path)
