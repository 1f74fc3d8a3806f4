from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc, DocBin, Span

from spacy_spanrel.annotations import Relation, get_answers, get_relations, set_relations
from spacy_spanrel.cli import convert
from spacy_spanrel.converters import ConversionError, ConversionReport, add_negatives, get_orig_id
from tests.cli.util import assert_fails, run, succeed, words

CONLL04 = Path(__file__).parents[2].parent / "shared" / "data" / "conll04"
GOOD = {
    "tokens": ["Ann", "lives", "in", "New", "York"],
    "entities": [
        {"type": "Peop", "start": 0, "end": 1},
        {"type": "Loc", "start": 3, "end": 5},
    ],
    "relations": [{"type": "Live_In", "head": 0, "tail": 1}],
    "orig_id": "good-1",
}
PLAIN = {"tokens": ["It", "rains"], "entities": [], "relations": [], "orig_id": "plain-1"}
BAD = {**PLAIN, "entities": [{"type": "Loc", "start": 1, "end": 9}], "orig_id": "bad-1"}
SCIERC = {
    "doc_key": "A7",
    "sentences": [["a", "b"], ["c"]],
    "ner": [[[0, 0, "X"]], [[2, 2, "X"]]],
    "relations": [[], [[0, 0, 2, 2, "R"]]],
}
TACRED = {
    "id": "good-1",
    "relation": "no_relation",
    "token": ["Ann", "saw", "Oslo"],
    "subj_start": 0,
    "subj_end": 0,
    "subj_type": "PERSON",
    "obj_start": 2,
    "obj_end": 2,
    "obj_type": "CITY",
}
ANSWERED = {
    "id": "good-1",
    "question": "Where?",
    "answers": [{"text": "Oslo", "answer_start": 9}, {"text": "in Oslo", "answer_start": 10}],
}
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Oslo",
            "paragraphs": [
                {
                    "context": "Ann lives in Oslo-West.",
                    "qas": [
                        ANSWERED,
                        {"id": "good-2", "question": "Why?", "answers": [], "is_impossible": True},
                        {**ANSWERED, "id": "bad-1", "answers": [{"text": "Bo", "answer_start": 0}]},
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def write(tmp_path):
    def _write(records, name="in.json"):
        path = tmp_path / name
        path.write_text(json.dumps(records), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "data.spacy"


def read(path):
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_command_hangs_on_spacys_app(write, output):
    succeed("spanrel", "convert", "spert", write([GOOD, PLAIN]), output, main=spacy_app)
    docs = read(output)
    assert [get_orig_id(doc) for doc in docs] == ["good-1", "plain-1"]
    assert docs[0]._.relations[0].to_triple() == ("Ann", "Live_In", "New York")
    assert os.listdir(output.parent) == [output.name]


def test_report_is_printed(write, output):
    result = succeed("convert", "spert", write([GOOD, PLAIN]), output, "--max-span-size", 1)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "Docs 2",
        "Docs without relations 1",
        "Entities longer than 1 tokens 1",
        "good-1 'New York' (Loc, 2 tokens)",
        "Peop 1",
        "Loc 1",
        "Live_In 1",
    ):
        assert expected in lines
    assert not any(text in result.stdout for text in ("uestion", "nswer"))
    assert not result.stderr


def test_quiet_prints_nothing(write, output):
    result = run("convert", "spert", write([GOOD]), output, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert output.exists()


def test_several_inputs_go_into_one_output(write, output):
    train, dev = write([GOOD], "train.json"), write([PLAIN, GOOD], "dev.json")
    result = succeed("convert", "spert", train, dev, output)
    assert [get_orig_id(doc) for doc in read(output)] == ["good-1", "plain-1", "good-1"]
    assert "Repeated ids, kept" in result.stdout


@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_leaves_the_output_as_it_was(write, output, old):
    if old is not None:
        output.write_bytes(old)
    source = write([GOOD, BAD])
    result = run("convert", "spert", source, output)
    assert result.exit_code == 1
    assert not result.stdout
    for part in (str(source), "record 1", "'bad-1'", "start 1, end 9", "<= 2", "E_SR606"):
        assert part in result.stderr
    assert "Traceback" not in result.output
    assert os.listdir(output.parent) == ([] if old is None else [output.name])
    assert old is None or output.read_bytes() == old


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failure_while_writing_leaves_nothing(write, output, monkeypatch, failing):
    def fail(*args):
        raise OSError("disk full")

    output.write_bytes(b"old")
    monkeypatch.setattr(os, failing, fail)
    assert_fails(run("convert", "spert", write([GOOD]), output), "disk full")
    assert os.listdir(output.parent) == [output.name]
    assert output.read_bytes() == b"old"


def test_output_has_usual_permissions_and_its_folder_is_made(write, tmp_path):
    output = tmp_path / "a" / "b" / "x.spacy"
    convert("spert", [write([GOOD])], output)
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_skip_invalid_lists_every_id(write, output):
    source = write([BAD, GOOD, {**BAD, "orig_id": "bad-2"}, {"orig_id": "bad-3"}])
    result = succeed("convert", "spert", source, output, "--skip-invalid")
    assert "3 record(s) skipped" in result.stderr
    for stream in (result.stderr, result.stdout):
        assert all(name in stream for name in ("bad-1", "bad-2", "bad-3"))
    assert len(read(output)) == 1
    # The count is never silenced.
    assert (
        "3 record(s) skipped"
        in run("convert", "spert", source, output, "--skip-invalid", "--quiet").output
    )


def test_all_records_invalid_is_an_error(write, output):
    assert_fails(
        run("convert", "spert", write([BAD, BAD]), output, "--skip-invalid"),
        "E_SR612",
        "2 bad record(s)",
        "bad-1",
    )
    assert not os.listdir(output.parent)


def test_no_records_is_an_error(write, output):
    for content in ("", "[]"):
        source = write([])
        source.write_text(content)
        assert_fails(
            run("convert", "spert", source, output, "--skip-invalid"), "nothing to convert"
        )
    assert not os.listdir(output.parent)


def test_types(write, output):
    types = write({"entities": {"Peop": {}, "Loc": {}}, "relations": {"Kill": {}}}, "types.json")
    assert_fails(
        run("convert", "spert", write([GOOD]), output, "--types", types), "'Live_In'", "Kill"
    )


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize("source", ["in.spacy", "types.spacy"])
def test_no_input_is_overwritten(write, tmp_path, source, link):
    data = write([GOOD], "in.spacy")
    names = {"entities": {"Peop": {}, "Loc": {}}, "relations": {"Live_In": {}}}
    types = write(names, "types.spacy")
    output = tmp_path / source
    if link is not None:
        output = tmp_path / "link.spacy"
        link(tmp_path / source, output)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert_fails(run("convert", "spert", data, output, "--types", types), "E_SR951")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("option", "value", "formats"),
    [
        ("--unit", "paragraph", "sentence, document"),
        ("--offsets", "bytes", "auto, utf-16, code-points"),
    ],
)
def test_values_of_options(write, output, option, value, formats):
    result = run("convert", "spert", write([GOOD]), output, option, value)
    assert result.exit_code == 2
    assert f"'{value}' is not one of {formats}" in " ".join(result.output.replace("│", " ").split())


def test_unit(write, output):
    source = write(SCIERC)
    assert run("convert", "scierc", source, output).exit_code == 0
    assert len(read(output)) == 2
    succeed("convert", "scierc", source, output, "--unit", "document")
    (doc,) = read(output)
    assert len(list(doc.sents)) == 2
    assert len(doc._.relations) == 1
    assert_fails(run("convert", "spert", source, output, "--unit", "document"), "--unit", "scierc")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data_format": "conllu"}, "FORMAT"),
        ({"output": "x.json"}, "OUTPUT"),
        ({"inputs": []}, "INPUT"),
        ({"lang": "zz"}, "--lang"),
        ({"inputs": ["none.json"]}, "none.json"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, changes, name):
    monkeypatch.chdir(tmp_path)
    Path("in.json").write_text(json.dumps([GOOD]))
    arguments = {"data_format": "spert", "inputs": ["in.json"], "output": "x.spacy", **changes}
    with pytest.raises(ConversionError) as info:
        convert(**arguments)
    for part in (name, "Found", "Expected"):
        assert part in str(info.value)
    assert os.listdir() == ["in.json"]


def test_language(tmp_path):
    source = tmp_path / "in.rel"
    source.write_text("1|Exantema d'aspirina.|Exantema|0|8|aspirina|11|19\n")
    for lang, tokens in (("it", ["d'", "aspirina"]), ("en", ["d'aspirina"])):
        report = convert("ade", [source], tmp_path / "x.spacy", lang=lang)
        assert isinstance(report, ConversionReport)
        assert [token.text for token in read(tmp_path / "x.spacy")[0]][1:-1] == tokens
        assert len(report.misaligned) == 2 - len(tokens)


def gold_doc(n_words, entities, relations, sent_starts=None):
    """Make a gold Doc; relations are (head, label, tail) by indices of entities."""
    doc = Doc(spacy.blank("en").vocab, words=["w"] * n_words, sent_starts=sent_starts)
    spans = [Span(doc, start, end, label=label) for start, end, label in entities]
    doc.spans["entities"] = spans
    set_relations(doc, [Relation(spans[h], spans[t], label) for h, label, t in relations])
    return doc


def keys(doc):
    return [
        (
            (r.head.start, r.head.end, r.head.label_),
            r.label,
            (r.tail.start, r.tail.end, r.tail.label_),
        )
        for r in get_relations(doc)
    ]


A, B, C = (0, 1, "A"), (2, 4, "B"), (4, 5, "C")


def test_negatives_go_to_pairs_without_a_relation():
    doc = gold_doc(5, [B, A, C], [(0, "R", 1), (1, "S", 2)])
    assert add_negatives(doc, "none") == 4
    old = [(B, "R", A), (A, "S", C)]
    assert keys(doc) == [
        *old,
        (A, "none", B),
        (B, "none", C),
        (C, "none", A),
        (C, "none", B),
    ]
    assert all(relation.score is None for relation in get_relations(doc))
    # Every pair has a relation now.
    assert add_negatives(doc, "none") == add_negatives(doc, "other") == 0


def test_negatives_are_told_by_boundaries():
    other = (0, 1, "Z")
    doc = gold_doc(5, [A, other, B, A], [(0, "R", 2)])
    assert add_negatives(doc, "none") == 2
    # The first has a relation, whatever its type, and none with itself.
    assert keys(doc)[1:] == [(B, "none", A), (B, "none", other)]


def test_overlapping_entities_are_different():
    inner = (3, 4, "B")
    doc = gold_doc(5, [B, inner], [])
    assert add_negatives(doc, "none") == 2
    assert keys(doc) == [(B, "none", inner), (inner, "none", B)]


def test_negatives_stay_within_sentences():
    starts = [True, False, False, False, True]
    crossing = (3, 5, "D")
    doc = gold_doc(5, [A, B, C, crossing], [(0, "R", 2)], starts)
    assert add_negatives(doc, "none") == 2
    # The gold relation across sentences stays.
    assert keys(doc) == [(A, "R", C), (A, "none", B), (B, "none", A)]
    # A Doc of one sentence, and one that does not know its sentences.
    for one in ([True, False, False, False, False], None):
        doc = gold_doc(5, [A, B, C, crossing], [], one)
        assert add_negatives(doc, "none") == 12


def test_negatives_of_symmetric_relations():
    doc = gold_doc(5, [B, A, C], [(1, "Near", 0)])
    assert add_negatives(doc, "none", symmetric={"Near"}) == 4
    assert (B, "none", A) not in keys(doc)
    # A symmetric label itself has one direction, that of the text.
    doc = gold_doc(5, [B, A, C], [])
    assert add_negatives(doc, "none", symmetric={"none"}) == 3
    assert keys(doc) == [(A, "none", B), (A, "none", C), (B, "none", C)]


def test_negatives_are_counted():
    report = ConversionReport(docs=3, docs_without_relations=2)
    for entities, relations in (([A, B], []), ([A, B], [(0, "R", 1)]), ([A], [])):
        add_negatives(gold_doc(5, entities, relations), "none", report=report)
    assert report.relations == {"none": 3}
    assert report.notes == {"negative relations added": 3}
    assert report.docs_without_relations == 1


@pytest.mark.parametrize("label", ["", " \t"])
def test_empty_negative_label(write, output, label):
    doc = gold_doc(5, [A, B], [])
    with pytest.raises(ConversionError, match="E_SR613") as info:
        add_negatives(doc, label)
    assert repr(label) in str(info.value)
    assert not keys(doc)
    assert_fails(
        run("convert", "spert", write([GOOD]), output, "--negatives", label),
        "E_SR613",
        "'--negatives'",
        f"Found: {label!r}",
        "a label that is not empty",
    )
    assert not output.exists()


SPANS = st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("AB")).map(
    lambda key: (key[0], min(key[0] + key[1], 6), key[2])
)


@given(
    st.lists(SPANS, min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["R", "none"]), st.integers(0, 4))),
    st.none() | st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_every_pair_has_a_relation_after(entities, relations, sent_starts):
    n = len(entities)
    gold = dict.fromkeys((h % n, label, t % n) for h, label, t in relations)
    doc = gold_doc(6, entities, gold, sent_starts)
    before = keys(doc)
    n_added = add_negatives(doc, "none")
    after = keys(doc)
    assert after[: len(before)] == before
    added = after[len(before) :]
    assert len(added) == len(set(added)) == n_added
    related = {(head[:2], tail[:2]) for head, _, tail in before}
    sentence_of = {}
    if sent_starts is not None:
        # The first token always starts a sentence.
        sentence_of = {i: sum(sent_starts[1 : i + 1]) for i in range(6)}
    wanted = {
        (head, "none", tail)
        for head in entities
        for tail in entities
        if head[:2] != tail[:2]
        and (head[:2], tail[:2]) not in related
        and len({sentence_of.get(i) for s in (head, tail) for i in range(*s[:2])}) == 1
    }
    assert set(added) == wanted


def test_negatives_option(write, output):
    records = [GOOD, PLAIN, {**GOOD, "relations": [], "orig_id": "good-2"}]
    # The label need not be in the types file.
    types = write({"entities": {"Peop": {}, "Loc": {}}, "relations": {"Live_In": {}}}, "types.json")
    result = succeed(
        "convert", "spert", write(records), output, "--negatives", "no_relation", "-t", types
    )
    triples = [[r.to_triple() for r in doc._.relations] for doc in read(output)]
    back = ("New York", "no_relation", "Ann")
    assert triples == [
        [("Ann", "Live_In", "New York"), back],
        [],
        [("Ann", "no_relation", "New York"), back],
    ]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "Docs without relations 1",
        "Relations 4",
        "Negative relations added 3",
        "no_relation 3",
        "Live_In 1",
    ):
        assert expected in lines


def test_negatives_know_symmetric_relations(write, output):
    types = {"entities": {"Peop": {}, "Loc": {}}, "relations": {"Live_In": {"symmetric": True}}}
    report = convert(
        "spert",
        [write([GOOD])],
        output,
        types=write(types, "types.json"),
        negatives="no_relation",
    )
    assert report.relations == {"Live_In": 1}
    assert not report.notes


def test_negatives_of_a_label_that_the_data_has(write, output):
    report = convert("tacred", [write([TACRED])], output, negatives="no_relation")
    (doc,) = read(output)
    assert [r.to_triple() for r in doc._.relations] == [
        ("Ann", "no_relation", "Oslo"),
        ("Oslo", "no_relation", "Ann"),
    ]
    assert report.relations == {"no_relation": 2}


def test_negatives_of_documents(write, output):
    document = {**SCIERC, "ner": [[[0, 0, "X"], [1, 1, "X"]], [[2, 2, "X"]]]}
    report = convert("scierc", [write(document)], output, unit="document", negatives="none")
    assert report.relations == {"R": 1, "none": 2}
    (doc,) = read(output)
    assert [r.to_triple() for r in doc._.relations][1:] == [("a", "none", "b"), ("b", "none", "a")]


def test_squad(write, output):
    source = write(SQUAD)
    result = run("convert", "squad", source, output)
    assert result.exit_code == 1
    place = "data[0], paragraphs[0], qas[2]"
    for text in ("E_SR616", str(source), place, "(id 'bad-1')", "Found: ", "Expected: "):
        assert text in result.stderr
    assert not output.exists()
    result = succeed("convert", "squad", source, output, "--skip-invalid")
    assert "1 record(s) skipped" in result.stderr
    (doc,) = read(output)
    first, second = get_answers(doc)
    assert [answer.text for answer in (first, *first.alternatives)] == ["Oslo", "in Oslo"]
    assert not second
    assert doc.text == "Ann lives in Oslo-West."
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "Docs 1",
        "Questions 2",
        "Questions without an answer 1",
        "Reference answers 2",
        "Answers not at their offset, taken from the nearest place 1",
        "good-1 'Oslo' at 13 instead of 9",
        "Records skipped 1",
    ):
        assert expected in lines
    assert "entit" not in result.stdout.lower()
    assert "relation" not in result.stdout.lower()
    assert "Answers that are not" not in result.stdout  # only what happened


@pytest.mark.parametrize(
    "option", [("--types", "types.json"), ("--max-span-size", 3), ("--negatives", "none")]
)
def test_options_of_entities_do_not_fit_squad(write, output, option):
    assert_fails(
        run("convert", "squad", write(SQUAD), output, *option), "E_SR613", option[0], "'squad'"
    )
    assert not output.exists()


# Options of one format

CITIES = {"id": 1, "data": {"title": "x", "body": "Oslo"}, "annotations": [{"result": []}]}


@pytest.mark.parametrize(
    ("data_format", "record", "option", "text"),
    [
        # Of two texts that fit, the option chooses one.
        ("labelstudio", [CITIES], ["--text-key", "title"], "x"),
        ("labelstudio", [CITIES], ["--text-key", "body"], "Oslo"),
        ("doccano", {"text": "😀😀 A B", "label": [[5, 6, "X"]]}, ["--offsets", "utf-16"], "A"),
        (
            "doccano",
            {"text": "😀😀 A B", "label": [[5, 6, "X"]]},
            ["--offsets", "code-points"],
            "B",
        ),
    ],
)
def test_options_of_one_format(write, output, data_format, record, option, text):
    source = write(record)
    succeed("convert", data_format, source, output, *option)
    (doc,) = read(output)
    assert text in [doc.text, *(entity.text for entity in doc.ents)]
    assert_fails(
        run("convert", "spert", source, output, *option),
        f"'{option[0]}'",
        "format 'spert'",
        f"one of the formats {data_format}",
    )


def test_brat(tmp_path, output):
    source = tmp_path / "texts"
    source.mkdir()
    (source / "a.txt").write_text("A")
    (source / "b.txt").write_text("B and B")
    # An entity that no Doc can hold is lost together with its relations.
    (source / "b.ann").write_text("T1\tX 0 1;6 7\tB B\nR1\tis Arg1:T1 Arg2:T1\n")
    for options, texts in (([], ["B and B"]), (["--keep-unannotated"], ["A", "B and B"])):
        result = succeed("convert", "brat", source, output, *options)
        assert [doc.text for doc in read(output)] == texts
        for part in ("Entities lost 1", "Relations lost 1", "T1 'B ... B' (X) is discontinuous"):
            assert part in words(result.stdout)
    assert run("convert", "spert", source, output, "--keep-unannotated").exit_code == 1


def test_conll04(output):
    if not CONLL04.exists():
        pytest.skip(f"needs the CoNLL04 data in {CONLL04}")
    report = convert("spert", [CONLL04 / "test.json"], output, types=CONLL04 / "types.json")
    assert (report.docs, report.n_entities, report.n_relations) == (288, 1079, 422)
    docs = read(output)
    assert len(docs) == 288
    assert sum(len(doc._.relations) for doc in docs) == 422
