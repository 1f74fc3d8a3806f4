"""Behaviour that all readers share; the file of a format tests the details of that format."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from spacy.tokens import Doc, Span

from spacy_spanrel.annotations import (
    Question,
    Relation,
    get_answers,
    make_answer,
    set_answers,
    set_relations,
)
from spacy_spanrel.cli.convert import CONVERTERS
from spacy_spanrel.cli.export import WRITERS
from spacy_spanrel.converters import ConversionError, ConversionReport, ExportReport, get_orig_id
from tests.converters.texts import (
    NLP,
    PREDICTED_VIEW,
    annotate,
    check_predicted_report,
    predicted_doc,
    view,
)

# brat is a folder of files, and an .ann file may be empty.
FILES = sorted(set(CONVERTERS) - {"brat"})
JSON = [
    *("doccano", "labelstudio", "langextract", "prodigy", "scierc", "spert", "squad", "tacred"),
    "triples",
]
WITH_TYPES = sorted(set(CONVERTERS) - {"squad"})


def gold(name: str) -> Doc:
    """Make a Doc that every format can hold: the only relation of ADE, and a question."""
    doc = NLP.make_doc("Ann had a rash after zinc")
    spans = [Span(doc, 3, 4, "Adverse-Effect"), Span(doc, 5, 6, "Drug")]
    annotate(doc, spans, name)
    set_relations(doc, [Relation(*spans, "Adverse-Effect")])
    set_answers(doc, [make_answer(doc, Question(name, "Who?"), 0, 3)])
    return doc


def extractions(doc: Doc) -> dict[str, Any]:
    """Return the record that LangExtract would save."""
    items = [
        {
            "extraction_class": span.label_,
            "extraction_text": span.text,
            "char_interval": {"start_pos": span.start_char, "end_pos": span.end_char},
            "alignment_status": "match_exact",
        }
        for span in doc.spans["entities"]
    ]
    arguments = {"head": "rash", "tail": "zinc"}
    relation = {"extraction_class": "Adverse-Effect", "extraction_text": "rash after zinc"}
    items.append({**relation, "attributes": arguments})
    return {"document_id": get_orig_id(doc), "text": doc.text, "extractions": items}


@pytest.fixture
def sample(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of the test's format with two records."""
    return save(request.getfixturevalue("data_format"), [gold("1:0"), gold("2:0")], tmp_path)


def save(data_format: str, docs: list[Doc], folder: Path) -> Path:
    path = folder / "sample"
    if data_format == "langextract":  # which is only read
        path.write_text("".join(f"{json.dumps(extractions(doc))}\n" for doc in docs), "utf-8")
        return path
    writer = WRITERS[data_format]
    options = {"squad": {"source": "docs"}, "triples": {"text": True}}.get(data_format, {})
    writer.write(writer.records(docs, ExportReport(), **options), path)
    return path


def read(data_format: str, path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the content of the Docs of a file."""
    docs = CONVERTERS[data_format](path, **{"nlp": NLP, **options})
    return [{**view(doc), "answers": [a.text for a in get_answers(doc)]} for doc in docs]


def ignore(error: ConversionError) -> None:
    """Go on."""


@pytest.mark.parametrize("data_format", CONVERTERS)
def test_sample_is_read_with_every_default(data_format, sample):
    records = list(CONVERTERS[data_format](sample))
    assert len(records) == 2
    assert read(data_format, sample) == read(data_format, sample, report=ConversionReport())


@pytest.mark.parametrize("data_format", FILES)
@pytest.mark.parametrize("content", ["", "\n \r\n"])
def test_empty_file(data_format, content, write, assert_fails):
    path = write(content)
    assert_fails(CONVERTERS[data_format], path, "609", "an empty file", on_error=ignore)


@pytest.mark.parametrize("data_format", FILES)
def test_file_that_cannot_be_read(data_format, tmp_path, assert_fails):
    to_docs = CONVERTERS[data_format]
    assert_fails(to_docs, tmp_path / "none", "601", "No such file", on_error=ignore)
    assert_fails(to_docs, tmp_path, "601", "directory", on_error=ignore)


@pytest.mark.parametrize("data_format", FILES)
def test_wrong_encoding_is_about_the_whole_file(data_format, sample, assert_fails):
    content = sample.read_bytes()
    sample.write_bytes(content + "é".encode("latin-1"))
    parts = ["byte", "0xe9", "UTF-8"]
    assert_fails(CONVERTERS[data_format], sample, "602", *parts, on_error=ignore)


@pytest.mark.parametrize("data_format", FILES)
def test_byte_order_mark_and_line_ends_are_no_content(data_format, sample):
    wanted = read(data_format, sample)
    content = sample.read_bytes()
    for odd in (codecs.BOM_UTF8 + content, content.replace(b"\n", b"\r\n"), content.rstrip()):
        sample.write_bytes(odd)
        assert read(data_format, sample) == wanted


@pytest.mark.parametrize("data_format", JSON)
@pytest.mark.parametrize("broken", ['"', "[" * 100_000, '{"a": ' * 100_000, "9" * 5000 + "]"])
def test_broken_json(data_format, sample, broken, assert_fails):
    text = sample.read_text("utf-8").rstrip()
    sample.write_text(text[:-1] + "," + broken if text.endswith("]") else f"{text}\n{broken}")
    assert_fails(CONVERTERS[data_format], sample, "603", "valid JSON", nlp=NLP)


@pytest.mark.parametrize("data_format", JSON)
def test_json_that_is_cut_off(data_format, sample, assert_fails):
    text = sample.read_text("utf-8").rstrip()
    sample.write_text(text[:-9], "utf-8")
    assert_fails(CONVERTERS[data_format], sample, "603", "valid JSON", nlp=NLP)


@pytest.mark.parametrize("data_format", sorted({*JSON} - {"squad"}))
def test_record_that_is_no_object(data_format, sample, assert_fails, report):
    text = sample.read_text("utf-8").rstrip()
    bad = '["a"]'
    sample.write_text(f"{text[:-1]},{bad}]" if text.endswith("]") else f"{text}\n{bad}", "utf-8")
    place = "record 2" if text.endswith("]") else "line 3"
    error = assert_fails(CONVERTERS[data_format], sample, "604", "(list)", "{...}", nlp=NLP)
    assert error.place == place
    # The others are read all the same.
    assert len(read(data_format, sample, on_error=ignore, report=report)) == 2
    assert [str(skipped) for skipped in report.skipped] == [str(error)]


@pytest.mark.parametrize(
    ("data_format", "key"),
    [
        *(("doccano", key) for key in ("text", "entities")),
        *(("scierc", key) for key in ("doc_key", "sentences", "ner", "relations")),
        *(("spert", key) for key in ("tokens", "entities", "relations")),
        *(("tacred", key) for key in ("relation", "token", "subj_start", "subj_end", "subj_type")),
        *(("tacred", key) for key in ("obj_start", "obj_end", "obj_type")),
    ],
)
def test_missing_keys(data_format, key, sample, assert_fails):
    text = sample.read_text("utf-8").replace(f'"{key}"', '"other"', 1)
    sample.write_text(text, "utf-8")
    error = assert_fails(CONVERTERS[data_format], sample, "605", f"'{key}'", nlp=NLP)
    assert error.place in ("record 0", "line 1")


@pytest.mark.parametrize("data_format", ["labelstudio", "spert", "tacred"])
def test_json_list_is_expected(data_format, write, assert_fails):
    to_docs = CONVERTERS[data_format]
    assert_fails(to_docs, write("[]"), "609", "an empty list", on_error=ignore)
    assert_fails(to_docs, write({"id": 1}), "604", "top level", "(dict)", "a list", on_error=ignore)


@pytest.mark.parametrize("data_format", WITH_TYPES)
@pytest.mark.parametrize("missing", ["entities", "relations"])
def test_labels_that_are_not_in_the_types_file(data_format, sample, missing, tmp_path):
    report = ConversionReport()
    docs = list(CONVERTERS[data_format](sample, nlp=NLP, report=report))
    types = {"entities": dict.fromkeys(report.entities, {})}
    types["relations"] = dict.fromkeys(report.relations, {})
    path = tmp_path / "types.json"
    path.write_text(json.dumps(types))
    assert len(list(CONVERTERS[data_format](sample, nlp=NLP, types=path))) == len(docs)
    label = sorted(types[missing])[0]
    types[missing] = {"Known": {}}
    path.write_text(json.dumps(types))
    with pytest.raises(ConversionError) as info:
        list(CONVERTERS[data_format](sample, nlp=NLP, types=path))
    for part in ("E_SR608", f"{missing}[0]", repr(label), "one of Known", "(id "):
        assert part in str(info.value)
    skipped = ConversionReport()
    assert not read(data_format, sample, types=path, on_error=ignore, report=skipped)
    assert (len(skipped.skipped), skipped.docs) == (len(docs), 0)


@pytest.mark.parametrize("data_format", CONVERTERS)
def test_docs_are_made_one_by_one(data_format, sample, report):
    docs = CONVERTERS[data_format](sample, nlp=NLP, report=report)
    assert report.docs == 0
    next(docs)
    assert report.docs == 1


@pytest.mark.parametrize("data_format", CONVERTERS)
def test_repeated_ids_are_counted(data_format, sample, report):
    for _ in range(2):
        list(CONVERTERS[data_format](sample, nlp=NLP, report=report))
    assert (report.docs, report.duplicate_ids) == (4, 2)


@pytest.mark.parametrize("data_format", ["brat", "doccano", "labelstudio", "prodigy"])
def test_predicted_doc_is_written(data_format, tmp_path):
    path = save(data_format, [predicted_doc()], tmp_path)
    report = ExportReport()
    list(WRITERS[data_format].records([predicted_doc()], report))
    check_predicted_report(report)
    overlaps = [note for note in report.notes if "overlapping" in note]
    assert len(overlaps) == (data_format in ("doccano", "prodigy"))
    (doc,) = CONVERTERS[data_format](path, nlp=NLP)
    assert view(doc) == {"id": "doc-000000" if data_format == "brat" else None, **PREDICTED_VIEW}
