from __future__ import annotations

import re
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.tokens import Span
from typer.testing import CliRunner

from spacy_spanrel.annotations import (
    Relation,
    get_clusters,
    get_entities,
    get_relations,
    set_relations,
)
from spacy_spanrel.cli import app, convert
from spacy_spanrel.converters import (
    BratDocument,
    ConversionError,
    ConversionReport,
    ExportReport,
    TypeNames,
    brat_to_docs,
    docs_to_brat,
    get_orig_id,
)
from spacy_spanrel.converters.common import Edge, Entity, split_clusters
from spacy_spanrel.converters.offsets import OFFSET_UNITS, Offsets
from tests.converters.texts import (
    NLP,
    TEXTS,
    annotate,
    bounds,
    gold_docs,
    view,
)

TEXT = "Ann Lee lives in Oslo.\nShe likes the alpha and beta actin.\n"
ANN = "T1\tPerson 0 7\tAnn Lee\nT2\tCity 17 21\tOslo\nR1\tLives_In Arg1:T1 Arg2:T2\t\n"
AS_ONE = "a line end of two as one"
VIEW = {
    "id": "doc",
    "text": TEXT,
    "entities": [(0, 7, "Person"), (17, 21, "City")],
    "relations": [((0, 7, "Person"), "Lives_In", (17, 21, "City"), None)],
}


@pytest.fixture
def pair(tmp_path):
    """Write a pair of files and return the path of the .ann file."""

    def _pair(ann=ANN, text=TEXT, name="doc"):
        path = tmp_path / "data" / f"{name}.ann"
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in ((path, ann), (path.with_name(f"{path.stem}.txt"), text)):
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                target.write_bytes(data)
        return path

    return _pair


def triples(doc):
    return [r.to_triple() for r in get_relations(doc)]


def test_pair_survives_default_docbin(pair, reload, nlp, report):
    path = pair()
    (doc,) = reload(brat_to_docs(path, nlp=nlp, report=report))
    assert view(doc) == VIEW
    assert not doc.has_unknown_spaces
    assert (report.docs, report.n_entities, report.n_relations) == (1, 2, 1)
    assert not report.notes
    # Either file of the pair, or its folder.
    for source in (path.with_suffix(".txt"), path.parent):
        assert [view(doc) for doc in brat_to_docs(source, nlp=nlp)] == [VIEW]


def test_folder_is_read_to_its_bottom_in_order(pair, tmp_path, nlp, report):
    for name in ("b", "a.1", "sub/c", "sub/deep/a", "B", ".hidden", ".cache/x"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        text = tmp_path / "data" / f"{name}.txt"
        text.write_text(f"Text {name}")
        text.with_name(f"{text.stem}.ann").write_text("")
    docs = list(brat_to_docs(tmp_path / "data", nlp=nlp, report=report))
    names = ["B", "a.1", "b", "sub/c", "sub/deep/a"]
    assert [(get_orig_id(doc), doc.text) for doc in docs] == [(n, f"Text {n}") for n in names]
    assert report.docs_without_entities == 5


def test_texts_without_annotations(pair, tmp_path, nlp, assert_fails):
    pair()
    text = tmp_path / "data" / "README.txt"
    text.write_text("Read me")
    report = ConversionReport()
    docs = list(brat_to_docs(tmp_path / "data", nlp=nlp, report=report))
    assert [get_orig_id(doc) for doc in docs] == ["doc"]
    assert report.notes == {"texts without an .ann file, left out": 1}
    report = ConversionReport()
    folder = tmp_path / "data"
    docs = list(brat_to_docs(folder, nlp=nlp, keep_unannotated=True, report=report))
    assert [(get_orig_id(doc), len(get_entities(doc))) for doc in docs] == [
        ("README", 0),
        ("doc", 2),
    ]
    assert report.notes == {"texts without an .ann file, kept": 1}
    assert_fails(brat_to_docs, text, "625", "README.ann", "--keep-unannotated", nlp=nlp)
    assert [doc.text for doc in brat_to_docs(text, nlp=nlp, keep_unannotated=True)] == ["Read me"]


def test_empty_text(pair, reload, nlp):
    (doc,) = reload(brat_to_docs(pair("", ""), nlp=nlp))
    assert (doc.text, len(doc), get_orig_id(doc)) == ("", 0, "doc")


def test_roles(pair, nlp, report):
    lines = "R1\tA Arg2:T2 Arg1:T1\nR2\tB City:T2 Person:T1\nR3\tC Arg1:T1 Arg2:T1\n"
    (doc,) = brat_to_docs(pair(lines + ANN.splitlines(True)[0] + ANN.splitlines(True)[1]), nlp=nlp)
    assert triples(doc) == [
        ("Ann Lee", "A", "Oslo"),
        ("Oslo", "B", "Ann Lee"),
        ("Ann Lee", "C", "Ann Lee"),
    ]
    assert not report.notes


def test_equivalences_relate_all_pairs_in_the_order_of_the_text(pair, nlp):
    ann = "T3\tX 23 26\tShe\n" + ANN + "*\tEquiv T3 T2 T1 T2\n*\tAlias T2 T1\n"
    (doc,) = brat_to_docs(pair(ann), nlp=nlp)
    assert triples(doc)[1:] == [
        ("Ann Lee", "Equiv", "Oslo"),
        ("Ann Lee", "Equiv", "She"),
        ("Oslo", "Equiv", "She"),
        ("Ann Lee", "Alias", "Oslo"),
    ]


def test_large_equivalence_is_refused(pair, nlp, assert_fails):
    # 3,000 entities would be 4.5 million relations, and gigabytes of memory.
    n = 3000
    text = "a " * n
    spans = "".join(f"T{i}\tX {2 * i} {2 * i + 1}\ta\n" for i in range(n))
    line = "*\tEquiv " + " ".join(f"T{i}" for i in range(n)) + "\n"
    path = pair(spans + line, text)
    tracemalloc.start()
    assert_fails(brat_to_docs, path, "626", "4498500 pairs", "line 3001", "20000", nlp=nlp)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    # The limit is that of a text: many equivalences of a moderate size are no way around it.
    lines = ("*\tEquiv " + " ".join(f"T{i}" for i in range(101)) + "\n") * 4
    assert_fails(brat_to_docs, pair(spans + lines, text), "626", "20200 pairs", nlp=nlp)
    (doc,) = brat_to_docs(pair(spans + lines[: len(lines) // 4], text), nlp=nlp)
    assert len(doc._.relations) == 5050


def test_other_annotations_are_counted(pair, nlp, report):
    ann = ANN + (
        "T3\tLike 27 32\tlikes\n"
        "E1\tLike:T3 Theme:T2\n"
        "A1\tNegation E1\n"
        "A2\tConfidence T1 high\n"
        "M1\tSpeculation E1\n"
        "N1\tReference T2 Wikipedia:18\tOslo\n"
        "#1\tAnnotatorNotes T1\ta note\n"
        "\n"
        "R2\tCause Arg1:E1 Arg2:T1\n"
    )
    (doc,) = brat_to_docs(pair(ann), nlp=nlp, report=report)
    assert view(doc)["relations"] == VIEW["relations"]
    assert [e.label_ for e in get_entities(doc)] == ["Person", "City", "Like"]
    assert report.notes == {
        "events of brat, not read": 1,
        "attributes of brat, not read": 2,
        "attributes of the old form of brat, not read": 1,
        "normalizations of brat, not read": 1,
        "comments of brat, not read": 1,
    }
    (finding,) = report.lost_relations
    assert finding.record == "doc"
    assert finding.text == "R2 Cause of E1, T1: E1 is one of the events, which are not read"


def test_discontinuous_entities_are_left_out_with_their_relations(pair, nlp, report):
    ann = ANN + (
        "T3\tProtein 37 42;52 57\talpha actin\n"
        "T4\tProtein 47 57\tbeta actin\n"
        "R2\tPart Arg1:T4 Arg2:T3\n"
        "*\tEquiv T4 T3 T2\n"
    )
    (doc,) = brat_to_docs(pair(ann), nlp=nlp, report=report)
    assert [e.text for e in get_entities(doc)] == ["Ann Lee", "Oslo", "beta actin"]
    assert triples(doc)[1:] == [("Oslo", "Equiv", "beta actin")]
    assert [(f.record, f.text) for f in report.lost_entities] == [
        ("doc", "T3 'alpha ... actin' (Protein) is discontinuous")
    ]
    assert [f.text for f in report.lost_relations] == [
        "R2 Part of T4, T3: T3 is discontinuous",
        "* Equiv of T4, T3, T2: T3 is discontinuous",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "T1\tX 17 22;23 26\tOslo. She",
        "T1\tX 23 26;17 22\tShe Oslo.",
        "T1\tX 17 22;23 26\tOslo.She",
        "T1\tX 17 21;21 22;22 26\tOslo . \\nShe",
    ],
)
def test_fragments_at_a_line_end_are_one_entity(pair, nlp, line, report):
    (doc,) = brat_to_docs(pair(line), nlp=nlp, report=report)
    assert [e.text for e in get_entities(doc)] == ["Oslo.\nShe"]
    assert report.notes == {"entities in fragments with only blanks between them, read as one": 1}


def test_misaligned_entities(pair, nlp, report):
    (doc,) = brat_to_docs(pair("T1\tX 1 8\tnn Lee \nT2\tX 21 23\t. \n"), nlp=nlp, report=report)
    # An entity that ends at a token border stays as it is, even if the last token is a line end.
    assert [e.text for e in get_entities(doc)] == ["Ann Lee", ".\n"]
    assert [f.text for f in report.misaligned] == ["'nn Lee' (X) widened to 'Ann Lee'"]
    assert report.notes == {"entities with blanks around them, cut off": 1}


def test_line_without_its_text(pair, nlp):
    (doc,) = brat_to_docs(pair("T1\tPerson 0 7\r\nT2\tCity 17 21 \n"), nlp=nlp)
    assert view(doc)["entities"] == VIEW["entities"]


@pytest.mark.parametrize(
    ("text", "ann", "unit"),
    [
        ("😀 Ann\n𝒜 Bo", "T1\tX 2 5\tAnn\nT2\tX 8 10\tBo\n", None),
        ("😀 Ann\n𝒜 Bo", "T1\tX 3 6\tAnn\nT2\tX 10 12\tBo\n", "UTF-16 units"),
        ("A\r\nAnn\r\nBo", "T1\tX 3 6\tAnn\nT2\tX 8 10\tBo\n", None),
        ("A\r\nAnn\r\nBo", "T1\tX 2 5\tAnn\nT2\tX 6 8\tBo\n", f"code points, {AS_ONE}"),
        ("😀\r\nAnn\r\nBo", "T1\tX 3 6\tAnn\nT2\tX 7 9\tBo\n", f"UTF-16 units, {AS_ONE}"),
        ("e\u0301a Ann\u2028Bo", "T1\tX 4 7\tAnn\nT2\tX 8 10\tBo\n", None),
    ],
)
def test_units_of_offsets(pair, nlp, text, ann, unit, report):
    (doc,) = brat_to_docs(pair(ann, text), nlp=nlp, report=report)
    assert doc.text == text
    assert [e.text for e in get_entities(doc)] == ["Ann", "Bo"]
    note = f"texts whose offsets count {unit}, converted"
    assert report.notes == ({} if unit is None else {note: 1})


@pytest.mark.parametrize(
    ("line", "code", "parts"),
    [
        ("T3 City 17 21 Oslo", "610", ["a tab"]),
        ("X3\tCity 17 21\tOslo", "610", ["'X3"]),
        ("\tCity 17 21\tOslo", "610", []),
        ("T3\tCity\tOslo", "610", ["start and end"]),
        ("T3\t 17 21\tOslo", "610", ["a type without blanks"]),
        ("T3\tBig City 17 21\tOslo", "610", ["'Big City 17 21"]),
        ("T3\tCity 17 21;\tOslo", "610", []),
        ("T3\tCity -1 21\tOslo", "610", []),
        ("T3\tCity ١ ٢\tOslo", "610", []),
        ("T3\tCity 17 " + "9" * 5000 + "\tOslo", "610", []),
        ("T3\tCity 17 99\tOslo", "606", ["end 99", "<= 59"]),
        ("T3\tCity 21 17\tOslo", "606", ["start 21, end 17"]),
        ("T3\tCity 17 17\t", "606", ["start 17, end 17"]),
        ("T3\tCity 16 20\tOslo", "623", ["' Osl' at 16 20", "'Oslo'"]),
        ("T3\tCity 7 8\t ", "606", ["only blanks"]),
        ("T1\tCity 17 21\tOslo", "621", ["'T1' again"]),
        ("A1\tX T1\nA1\tX T1", "621", ["line 5", "'A1' again"]),
        ("R2\tX Arg1:T1", "610", ["Arg1:T1"]),
        ("R2\tX Arg1:T1 Arg2:T2 Arg3:T1", "610", []),
        ("R2\tX T1 T2", "610", ["Origin Arg1:T1 Arg2:T2"]),
        ("R2\tX Arg1: Arg2:T2", "610", []),
        ("R2\t", "610", []),
        ("R2\tX Arg1:T1 Arg2:T9", "607", ["R2 with the argument 'T9'"]),
        ("*\tEquiv T1", "610", ["two or more"]),
        ("*\t", "610", []),
        ("*\tEquiv T1 T9", "607", ["'T9'"]),
    ],
)
def test_wrong_lines(pair, nlp, assert_fails, report, line, code, parts):
    bad = pair(f"{ANN}{line}\n", name="bad")
    place = [] if any(part.startswith("line ") for part in parts) else ["line 4"]
    error = assert_fails(brat_to_docs, bad, code, *place, *parts, nlp=nlp)
    assert error.id == "bad"
    assert len(str(error)) < 700
    pair()
    docs = brat_to_docs(bad.parent, nlp=nlp, on_error=lambda error: None, report=report)
    assert [view(doc) for doc in docs] == [VIEW]
    assert len(report.skipped) == 1


def test_wrong_files(pair, tmp_path, nlp, assert_fails, report):
    assert_fails(brat_to_docs, tmp_path / "none", "601", "no such file or folder", nlp=nlp)
    assert_fails(brat_to_docs, tmp_path, "609", "no .ann files", nlp=nlp)
    other = tmp_path / "x.json"
    other.write_text("{}")
    assert_fails(brat_to_docs, other, "613", "'.json'", nlp=nlp)
    lonely = pair(text=None, name="lonely")
    assert_fails(brat_to_docs, lonely, "625", "lonely.txt", nlp=nlp)
    latin = pair(text="né".encode("latin-1"), name="latin")
    assert_fails(brat_to_docs, latin.parent / "latin.txt", "602", "byte 1", nlp=nlp)
    wide = pair(ann=ANN.encode("utf-16"), name="wide")
    assert_fails(brat_to_docs, wide, "602", "byte 0", nlp=nlp)
    long = pair(ann="", text="x " * 600_000, name="long")
    assert_fails(brat_to_docs, long.with_suffix(".txt"), "617", "1200000", nlp=nlp)
    # One bad text does not spoil the others.
    pair()
    docs = brat_to_docs(latin.parent, nlp=nlp, on_error=lambda error: None, report=report)
    assert [view(doc) for doc in docs] == [VIEW]
    assert {error.id for error in report.skipped} == {"latin", "lonely", "long", "wide"}


def test_huge_line_is_a_short_error(pair, nlp, assert_fails):
    error = assert_fails(brat_to_docs, pair("T1\tX 0 3\t" + "x" * 50_000_000), "623", nlp=nlp)
    assert len(str(error)) < 700


# The way back


def write_pair(document, folder):
    """Write a pair of files as the command does."""
    for suffix, content in ((".txt", document.text), (".ann", document.ann)):
        path = Path(folder) / f"{document.name}{suffix}"
        path.write_text(content, encoding="utf-8", newline="")
    return path


def test_document_that_is_written(pair, nlp):
    report = ExportReport()
    (document,) = docs_to_brat(brat_to_docs(pair(), nlp=nlp), report)
    assert document == BratDocument("doc", TEXT, ANN.replace("\t\n", "\n"))
    assert (report.docs, report.entities, report.relations, report.notes) == (1, 2, 1, {})


def test_equivalences_are_written_without_direction(tmp_path, nlp):
    doc = nlp("Ann and Bo")
    ann, bo = Span(doc, 0, 1, label="X"), Span(doc, 2, 3, label="X")
    annotate(doc, [ann, bo])
    set_relations(doc, [Relation(bo, ann, "Equiv"), Relation(ann, ann, "Equiv")])
    report = ExportReport()
    (document,) = docs_to_brat([doc], report)
    assert document.ann.splitlines()[2:] == ["*\tEquiv T2 T1", "R2\tEquiv Arg1:T1 Arg2:T1"]
    assert report.notes == {"relations Equiv, written without direction": 1}
    (back,) = brat_to_docs(write_pair(document, tmp_path), nlp=nlp)
    assert triples(back) == [("Ann", "Equiv", "Bo"), ("Ann", "Equiv", "Ann")]


def test_losses_of_brat_are_counted(tmp_path, nlp):
    doc = nlp("\nAnn\r\n\nLee\tBo\n x")
    tokens = [token.text for token in doc]
    assert tokens == ["\n", "Ann", "\r\n\n", "Lee", "\t", "Bo", "\n ", "x"]
    spans = [
        Span(doc, 0, 4, label="Full Name"),
        Span(doc, 2, 3, label="X"),
        Span(doc, 5, 7, label="X"),
        Span(doc, 3, 6, label="X"),
    ]
    annotate(doc, spans)
    relations = [Relation(spans[0], spans[1], "r"), Relation(spans[0], spans[3], "is a")]
    set_relations(doc, relations)
    report = ExportReport()
    (document,) = docs_to_brat([doc], report)
    assert document.ann == (
        "T1\tFull_Name 1 4;7 10\tAnn Lee\n"
        "T2\tX 11 13\tBo\n"
        "T3\tX 7 13\tLee\tBo\n"
        "R1\tis_a Arg1:T1 Arg2:T3\n"
    )
    assert report.notes == {
        "entities that are only blanks, left out": 1,
        "entities with line ends around them, cut off": 2,
        "relations of entities left out": 1,
        "labels 'Full Name', written as Full_Name": 1,
        "labels 'is a', written as is_a": 1,
    }
    assert (report.docs, report.entities, report.relations) == (1, 3, 1)
    (back,) = brat_to_docs(write_pair(document, tmp_path), nlp=nlp)
    assert [e.text for e in get_entities(back)] == ["Ann\r\n\nLee", "Bo", "Lee\tBo"]


def test_names_are_safe_and_different(nlp):
    ids = ["a", "A", "a", "../../etc/x", "..", "c d/e", "漢" * 200, "", 7, None, "a-2", "x."]
    docs = []
    for orig_id in ids:
        doc = nlp("x")
        annotate(doc, [], orig_id)
        docs.append(doc)
    report = ExportReport()
    names = [document.name for document in docs_to_brat(docs, report)]
    assert names[:6] == ["a", "A-2", "a-3", "_.._etc_x", "doc-000004", "c_d_e"]
    assert names[6:] == ["漢" * 50, "doc-000007", "7", "doc-000009", "a-2-2", "x"]
    assert report.notes == {"ids that cannot name a file or are repeated, changed": 9}


LINE_ENDS = "\n\r\u2028"


def expected_view(doc):
    """Return the content that brat keeps: entities lose blanks with line ends at their borders."""
    kept = {}
    for span in get_entities(doc):
        start, end, label = bounds(span)
        part = doc.text[start:end]
        front, back = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
        if not part.strip():
            continue
        start += len(front) if set(front) & set(LINE_ENDS) else 0
        end -= len(back) if set(back) & set(LINE_ENDS) else 0
        kept[bounds(span)] = (start, end, label)
    relations = [
        (kept[bounds(r.head)], r.label, kept[bounds(r.tail)], None)
        for r in get_relations(doc)
        if bounds(r.head) in kept and bounds(r.tail) in kept
    ]
    # Cut entities may become equal.
    return {
        "text": doc.text,
        "entities": list(dict.fromkeys(kept.values())),
        "relations": list(dict.fromkeys(relations)),
    }


@given(gold_docs(TEXTS.map(NLP)))
def test_nothing_is_lost_that_brat_can_hold(doc):
    with tempfile.TemporaryDirectory() as folder:
        (document,) = docs_to_brat([doc], ExportReport())
        (back,) = brat_to_docs(write_pair(document, folder), nlp=NLP)
        assert {**view(back), **expected_view(doc)} == view(back)
        assert get_orig_id(back) == document.name
        # And from the files to a Doc and back.
        again = list(docs_to_brat([back], ExportReport()))
        (twice,) = brat_to_docs(write_pair(again[0], folder), nlp=NLP)
        assert view(twice) == view(back)


@given(st.lists(st.sampled_from(["😀", "a", "\r\n", " b"]), max_size=12).map("".join))
@example("😀\r\n😀a")
def test_offsets_of_every_unit_come_back(text):
    for unit in OFFSET_UNITS:
        offsets = Offsets(text, unit)
        counted = text.replace("\r\n", "\n") if "line end" in unit.name else text
        size = len(counted.encode("utf-16-le")) // 2 if "UTF-16" in unit.name else len(counted)
        found = [offsets.to_char(n) for n in range(-1, size + 2)]
        assert found[0] is found[-1] is None
        inside = [char for char in found[1:-1] if char is not None]
        # Every border of a character, in order, and back.
        assert inside == sorted(set(inside))
        assert [offsets.to_unit(c) for c in inside] == [
            n for n, char in enumerate(found[1:-1]) if char is not None
        ]
        borders = {0}
        for i, char in enumerate(text):
            if not (char == "\r" and "line end" in unit.name):
                borders.add(i + 1)
        assert set(inside) == borders


COREF_TEXT = (
    "The firm grew. Ann Lee left the firm; she likes its rival, Bo & Co., in Oslo. Bo is old.\n"
)
COREF_ANN = """\
T1	Person 15 22	Ann Lee
T2	Coref 38 41	she
T3	Coref 48 51	its
T4	Org 59 67	Bo & Co.
T5	City 72 76	Oslo
T6	Org 78 80	Bo
T7	Coref 0 8	The firm
T8	Coref 28 36	the firm
R1	Lives_In Arg1:T2 Arg2:T5
R2	Works_For Arg1:T1 Arg2:T8
R3	Coref Arg1:T7 Arg2:T3
*	Coref T2 T1
*	Coref T4 T6
*	Coref T8 T7
"""


def test_coreference_becomes_clusters(pair, reload, nlp):
    path = pair(COREF_ANN, COREF_TEXT)
    types = TypeNames(("Person", "Org", "City"), ("Lives_In", "Works_For"))
    report = ConversionReport()
    (doc,) = reload(brat_to_docs(path, nlp=nlp, types=types, coref="Coref", report=report))
    assert [[span.text for span in cluster] for cluster in get_clusters(doc)] == [
        ["The firm", "the firm", "its"],
        ["Ann Lee", "she"],
        ["Bo & Co.", "Bo"],
    ]
    # Mentions are no entities, but have the type of their cluster where they are arguments.
    names = ["Ann Lee", "Bo & Co.", "Oslo", "Bo"]
    assert [span.text for span in get_entities(doc)] == names == [e.text for e in doc.ents]
    assert [(r.head.label_, r.to_triple(), r.tail.label_) for r in get_relations(doc)] == [
        ("Person", ("she", "Lives_In", "Oslo"), "City"),
        ("Person", ("Ann Lee", "Works_For", "the firm"), ""),
    ]
    assert (report.clusters, report.n_entities, report.n_relations) == (3, 4, 2)
    assert report.entities.keys() == {"Person", "Org", "City"}
    assert not report.notes


def test_coreference_is_a_relation_unless_it_is_named(pair, nlp, assert_fails):
    path = pair(COREF_ANN, COREF_TEXT)
    (doc,) = brat_to_docs(path, nlp=nlp)
    assert not get_clusters(doc)
    assert [r.label for r in get_relations(doc)].count("Coref") == 4
    assert len(get_entities(doc)) == 8
    types = TypeNames(("Person", "Org", "City"), ("Lives_In", "Works_For"))
    assert_fails(brat_to_docs, path, "608", "'Coref'", nlp=nlp, types=types)


def test_clusters_may_be_large(pair, nlp):
    # Of an equivalence, as many spans would be too many pairs.
    n = 300
    lines = [f"T{i}\tCoref {2 * i} {2 * i + 1}\tx\n" for i in range(n)]
    path = pair("".join(lines) + "*\tCoref " + " ".join(f"T{i}" for i in range(n)), "x " * n)
    (doc,) = brat_to_docs(path, nlp=nlp, coref="Coref")
    assert [len(cluster) for cluster in get_clusters(doc)] == [n]


def test_coreference_on_the_command_line(pair, tmp_path):
    path, output = pair(COREF_ANN, COREF_TEXT), tmp_path / "out.spacy"
    arguments = ["convert", "brat", str(path), str(output), "--coref", "Coref"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"Coreference clusters +3\n", result.output)
    with pytest.raises(ConversionError, match="--coref.*brat"):
        convert("spert", [path], output, coref="Coref")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("ABC")), min_size=1),
    st.data(),
)
def test_clusters_are_the_connected_mentions(spans, data):
    entities = [Entity(start, start + length, label) for start, length, label in spans]
    index = st.integers(0, len(entities) - 1)
    edges = data.draw(st.lists(st.builds(Edge, index, index, st.sampled_from("CR"))))
    typed, others, clusters = split_clusters(entities, edges, "C")
    assert others == [edge for edge in edges if edge.label == "R"]
    assert [(e.start, e.end) for e in typed] == [(e.start, e.end) for e in entities]
    # By search from each mention.
    places = [(e.start, e.end) for e in entities]
    links = {frozenset((places[e.head], places[e.tail])) for e in edges if e.label == "C"}
    for place, old, new in zip(places, entities, typed, strict=True):
        reached = {place}
        while more := {p for link in links if link & reached for p in link} - reached:
            reached |= more
        assert [set(c) for c in clusters if place in c] == [reached] * (len(reached) > 1)
        types = {e.label for e in entities if (e.start, e.end) in reached} - {"C"}
        expected = old.label if old.label != "C" else types.pop() if len(types) == 1 else ""
        assert new.label == expected
    assert [sorted(cluster) for cluster in sorted(clusters)] == clusters
