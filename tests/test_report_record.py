"""`doc._.spanrel_report`: what components did with a Doc, as a user finds it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from spacy_spanrel import get_report, register_report_extension

from .extractive_qa.util import make_nlp as make_qa_nlp
from .relation_classifier.conftest import make_examples as make_pair_examples
from .relation_classifier.conftest import make_nlp as make_pair_nlp
from .span_relation.util import TEXTS, make_examples, make_nlp, model_config
from .util import initialize, tiny_checkpoint


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """All three components, untrained; `span_relation` reads windows of ten pieces."""
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("report") / "bert")
    encoder = {"max_length": 12, "window_overlap": 2}
    nlp, _ = make_nlp(checkpoint, model=model_config(checkpoint, encoder), max_pairs=2)
    initialize(nlp, make_examples(nlp))
    return nlp


LONG = " ".join(TEXTS[:2])  # 13 tokens


def test_span_relation(pipeline: Language) -> None:
    doc = pipeline(LONG)
    entities = doc.spans["entities"]
    n = len(entities)
    report = doc._.spanrel_report["span_relation"]
    assert report["windows"] == 2
    assert report["spans"] == n
    assert report["pairs"] == min(n * (n - 1), 2)
    assert report["pairs_left_out"]["max_pairs"] == n * (n - 1) - report["pairs"]
    assert report["tokens_without_pieces"] == 0
    # White space is nothing that one would look for.
    odd = Doc(pipeline.vocab, words=["Mary", "\u200b", "\n", "lives", "\u200b"])
    assert pipeline(odd)._.spanrel_report["span_relation"]["tokens_without_pieces"] == 2
    assert pipeline("")._.spanrel_report["span_relation"]["windows"] == 0


def test_overlapping_spans_are_counted(pipeline: Language) -> None:
    pipe = pipeline.get_pipe("span_relation")
    kept = dict(pipe.cfg)
    pipe.cfg["overlaps"] = "allow"
    everything = pipeline(LONG)._.spanrel_report["span_relation"]
    assert everything["spans_left_out"] == {"overlaps": 0}
    pipe.cfg["overlaps"] = "best"
    best = pipeline(LONG)._.spanrel_report["span_relation"]
    assert best["spans"] + best["spans_left_out"]["overlaps"] == everything["spans"]
    pipe.cfg = kept


def copies(doc: Doc) -> Iterator[Doc]:
    yield doc.copy()
    yield Doc(doc.vocab).from_bytes(doc.to_bytes())
    yield pickle.loads(pickle.dumps(doc))
    data = DocBin(store_user_data=True, docs=[doc]).to_bytes()
    yield from DocBin(store_user_data=True).from_bytes(data).get_docs(doc.vocab)


def test_survives(pipeline: Language) -> None:
    for text in (LONG, "", TEXTS[0]):
        doc = pipeline(text)
        report = doc._.spanrel_report
        assert set(report) == {"span_relation"}
        assert json.loads(json.dumps(report)) == report
        assert srsly.msgpack_loads(srsly.msgpack_dumps(report)) == report
        for copy in copies(doc):
            assert copy._.spanrel_report == report


def test_two_processes(pipeline: Language) -> None:
    texts = [LONG, TEXTS[0], ""] * 2
    expected = [doc._.spanrel_report for doc in pipeline.pipe(texts)]
    assert [doc._.spanrel_report for doc in pipeline.pipe(texts, n_process=2, batch_size=2)] == (
        expected
    )


def test_each_component_replaces_its_own_record(pipeline: Language) -> None:
    doc = pipeline(LONG)
    first = doc._.spanrel_report
    doc._.spanrel_report["span_relation"] = {"changed": 1}  # a copy: the Doc's own stays
    assert doc._.spanrel_report == first
    pipe = pipeline.get_pipe("span_relation")
    pipe.name = "other"
    kept = pipe.cfg["max_pairs"]
    pipe.cfg["max_pairs"] = 10**6
    try:
        pipe(doc)
        both = doc._.spanrel_report
        assert both["span_relation"] == first["span_relation"]
        assert both["other"]["pairs_left_out"]["max_pairs"] == 0
        pipe.cfg["max_pairs"] = kept
        pipe(doc)
        assert doc._.spanrel_report["other"] == first["span_relation"]
    finally:
        pipe.name, pipe.cfg["max_pairs"] = "span_relation", kept


def test_a_doc_that_nothing_has_read() -> None:
    doc = Doc(spacy.blank("en").vocab, words=["a"])
    assert doc._.spanrel_report == get_report(doc) == {}
    assert not doc.user_data


def test_merged_docs_have_none(pipeline: Language) -> None:
    docs = [pipeline(TEXTS[0]), pipeline(TEXTS[1])]
    with pytest.warns(UserWarning, match=r"W101.*spanrel_report"):
        assert Doc.from_docs(docs)._.spanrel_report == {}


def test_prefix(bert_checkpoint: Path, fresh_extensions: object) -> None:
    nlp, _ = make_nlp(bert_checkpoint, extension_prefix="our_")
    initialize(nlp, make_examples(nlp))
    doc = nlp("Mary")
    assert doc._.our_spanrel_report == get_report(doc) != {}
    Doc.set_extension("their_spanrel_report", default="theirs")
    with pytest.raises(ValueError, match=r"E_SR101.*their_spanrel_report"):
        register_report_extension("their_")


def test_relation_classifier(bert_checkpoint: Path) -> None:
    nlp, pipe = make_pair_nlp(bert_checkpoint)
    nlp.initialize(lambda: make_pair_examples(nlp))
    known = pipe.cfg["head_types"][0]
    tail = pipe.cfg["tail_types"][0]
    pipe.cfg.update(type_constraints="off", max_pairs=3)
    words = ["Mary"] * 200
    doc = Doc(nlp.vocab, words=words)
    places = [(0, known), (5, tail), (150, known), (160, "Unknown")]
    doc.set_ents([Span(doc, i, i + 1, label=label) for i, label in places])
    pipe(doc)
    report = doc._.spanrel_report["relation_classifier"]
    left_out = report["pairs_left_out"]
    assert report["pairs"] == 3
    # A row has 64 pieces: none of them shows the whole text.
    assert report["pairs_cut"] == 3
    assert left_out["unknown_types"] >= 6
    assert left_out["too_long"] == left_out["type_constraints"] == 0
    assert sum(left_out.values()) + report["pairs"] == 4 * 3
    short = Doc(nlp.vocab, words=["Mary", "in", "Paris"])
    short.set_ents([Span(short, 0, 1, label=known), Span(short, 2, 3, label=tail)])
    assert pipe(short)._.spanrel_report["relation_classifier"]["pairs_cut"] == 0
    # Arguments that alone are longer than a row.
    long = Doc(nlp.vocab, words=words)
    long.set_ents([Span(long, 0, 90, label=known), Span(long, 95, 96, label=tail)])
    lost = pipe(long)._.spanrel_report["relation_classifier"]
    assert lost["pairs"] == 0
    assert lost["pairs_left_out"]["too_long"] > 0


def test_extractive_qa(bert_checkpoint: Path) -> None:
    nlp, pipe = make_qa_nlp(bert_checkpoint)
    nlp.initialize()
    limit = pipe.model.attrs["max_question_length"]
    docs = [nlp.make_doc(text) for text in ("Mary lives in London . " * 30, "Mary", "John")]
    docs[0]._.questions = ["who ?", "who " * (limit + 5)]
    docs[1]._.questions = ["who ?"]
    with pytest.warns(UserWarning, match="W_SR109"):
        reports = [doc._.spanrel_report["extractive_qa"] for doc in pipe.pipe(docs)]
    assert [r["questions"] for r in reports] == [2, 1, 0]
    assert [r["questions_cut"] for r in reports] == [1, 0, 0]
    assert reports[0]["windows"] > 4
    assert [r["windows"] for r in reports[1:]] == [1, 0]
    docs[0]._.questions = "who ?"
    assert pipe(docs[0])._.spanrel_report["extractive_qa"]["questions"] == 1
