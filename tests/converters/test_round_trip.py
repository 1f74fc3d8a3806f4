"""Docs to the files of other programs and back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import spacy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup
from spacy.vocab import Vocab

from spacy_spanrel import (
    Relation,
    get_clusters,
    get_entities,
    get_relations,
    set_clusters,
    set_entities,
    set_relations,
)
from spacy_spanrel.annotations import set_pair_scores
from spacy_spanrel.cli import convert, export
from spacy_spanrel.cli.convert import CONVERTERS
from spacy_spanrel.cli.export import WRITERS
from spacy_spanrel.converters import (
    ConversionReport,
    ExportReport,
    docs_to_conll04,
    docs_to_scierc,
    docs_to_triples,
    get_orig_id,
)
from spacy_spanrel.converters.common import DocMaker, Edge, Entity, one_relation
from spacy_spanrel.reading import Place

EXAMPLES = settings(max_examples=25)
NLP = spacy.blank("en")
VOCAB = NLP.vocab
TYPES = ["Peop", "Loc", "Größe 2"]
LABELS = ["Live_In", "per:title(e2,e1)", "no_relation", "☂ label"]

# No white space, but what else may be in a text: case that changes length, marks without width,
# right to left, beyond 16 bits; and what the formats use themselves.
CHARS = st.sampled_from(
    "aZ09.,:;'\"()[]<>|/_-#%&*éßİǆΩжאب日本한☂𝒳👩🏽\u0301\u200b\u200d\u00ad\ufeff"
)
MARKUP = ["(", ")", ",", "|", '"', "<", "e1>", "/", "1/2", "COMMA", "-LRB-", "-rrb-", "<e1>", "O"]
WORD = st.text(CHARS, min_size=1, max_size=5) | st.sampled_from([*MARKUP, "Ann", "é", "日本"])
PLAIN = st.sampled_from("aZ09.,:;'()_-&*éßİǆΩжאب日本한☂𝒳👩🏽\u0301\u200b\u200d\u00ad")
PLAIN_WORD = st.text(PLAIN, min_size=1, max_size=5) | st.sampled_from(["(", ")", ",", '"', ">"])
# Blanks and line breaks too.
TEXT = st.text(CHARS | st.sampled_from(' \n\t|"<>/().'), min_size=1, max_size=40)


@st.composite
def entities_of(draw, n, *, overlaps=True, types=TYPES, max_size=5):
    """Draw some entities in n tokens, with different places or types."""
    found = []
    for _ in range(draw(st.integers(0, max_size))):
        start = draw(st.integers(0, n - 1))
        entity = Entity(start, draw(st.integers(start + 1, n)), draw(st.sampled_from(types)))
        free = all(entity.end <= e.start or e.end <= entity.start for e in found)
        if entity not in found and (overlaps or free):
            found.append(entity)
    return found


@st.composite
def edges_of(draw, entities, labels=LABELS):
    if not entities:
        return []
    index = st.integers(0, len(entities) - 1)
    edge = st.builds(Edge, index, index, st.sampled_from(labels))
    return draw(st.lists(edge, max_size=4, unique=True))


IDS = st.none() | st.integers(-5, 10**20) | st.text(CHARS, min_size=1, max_size=5)
TEXT_IDS = st.text(CHARS, min_size=1, max_size=5).map(lambda text: text.replace("\ufeff", "_"))


def gold(words, entities, edges, name=None, **more) -> Doc:
    return DocMaker(NLP).from_words(words, entities, edges, Place("test", "", name), **more)


def gold_text(text, entities, edges, name=None) -> Doc:
    doc = NLP.make_doc(text)
    DocMaker(NLP).annotate(doc, entities, edges, Place("test", "", name))
    return doc


def facts(doc, *, in_order=False) -> dict:
    """Return everything that a format may keep of a gold Doc."""
    arrange = list if in_order else sorted

    def key(span):
        return (span.start, span.end, span.label_)

    return {
        "id": get_orig_id(doc),
        "words": [token.text for token in doc],
        "entities": arrange(map(key, get_entities(doc))),
        "relations": arrange(
            (key(r.head), key(r.tail), r.label, r.score) for r in get_relations(doc)
        ),
    }


def write(data_format, docs, path, **options) -> ExportReport:
    report = ExportReport()
    writer = WRITERS[data_format]
    writer.write(writer.records(docs, report, **options), path)
    return report


def read(data_format, path, **options) -> list[Doc]:
    return list(CONVERTERS[data_format](path, nlp=NLP, **options))


def there_and_back(data_format, docs, path, **options) -> tuple[list[Doc], Counter]:
    report = write(data_format, docs, path, **options)
    if not report.docs:
        return [], report.notes
    again = read(data_format, path, **options)
    assert (report.docs, report.relations) == (
        len(again),
        sum(len(get_relations(d)) for d in again),
    )
    # After one round trip, nothing changes any more.
    before = path.read_bytes()
    write(data_format, again, path, **options)
    assert path.read_bytes() == before
    return again, report.notes


# A format gives back everything that it can hold, without a note.


@EXAMPLES
@given(data=st.data())
def test_spert(data, tmp_path):
    docs = []
    for _ in range(data.draw(st.integers(1, 3))):
        words = data.draw(
            st.lists(WORD | st.sampled_from([" ", "\n", "a b"]), min_size=1, max_size=8)
        )
        entities = data.draw(entities_of(len(words)))
        docs.append(gold(words, entities, data.draw(edges_of(entities)), data.draw(IDS)))
    again, notes = there_and_back("spert", docs, tmp_path / "x.json")
    assert [facts(doc, in_order=True) for doc in again] == [
        facts(doc, in_order=True) for doc in docs
    ]
    assert not notes


@st.composite
def one_type_a_place(draw, n):
    found = {(e.start, e.end): e for e in draw(entities_of(n))}
    return list(found.values())


@EXAMPLES
@given(data=st.data())
def test_scierc_documents(data, tmp_path):
    docs = []
    for i in range(data.draw(st.integers(1, 3))):
        words = data.draw(st.lists(WORD, min_size=1, max_size=8))
        starts = [True, *(data.draw(st.booleans()) for _ in words[1:])]
        entities = data.draw(one_type_a_place(len(words)))
        edges = data.draw(edges_of(entities))
        name = data.draw(st.integers(0, 10**9) | TEXT_IDS.map(lambda text, i=i: f"{i}{text}"))
        docs.append(gold(words, entities, edges, name, sent_starts=starts))
    again, notes = there_and_back("scierc", docs, tmp_path / "x.json", unit="document")
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]
    assert [[t.is_sent_start for t in doc] for doc in again] == [
        [t.is_sent_start for t in doc] for doc in docs
    ]
    # These are only listed elsewhere.
    assert all("across sentences, listed" in note for note in notes if "an earlier one" not in note)


@EXAMPLES
@given(data=st.data())
def test_scierc_sentences(data, tmp_path):
    docs, keys = [], data.draw(st.lists(TEXT_IDS, min_size=1, max_size=3, unique=True))
    for key in keys:
        numbers = data.draw(st.sets(st.integers(0, 6), min_size=1, max_size=4))
        for number in sorted(numbers):
            words = data.draw(st.lists(WORD, min_size=1, max_size=4))
            entities = data.draw(one_type_a_place(len(words)))
            edges = data.draw(edges_of(entities))
            docs.append(gold(words, entities, edges, f"{key}:{number}"))
    again, notes = there_and_back("scierc", docs, tmp_path / "x.json")
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]
    assert set(notes) <= {"empty sentences, in the place of missing ones"}
    lines = (tmp_path / "x.json").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line)["doc_key"] for line in lines] == keys


@st.composite
def single_relations(draw, n, types=TYPES):
    spans = []
    for _ in range(2):
        start = draw(st.integers(0, n - 1))
        spans.append(Entity(start, draw(st.integers(start + 1, n)), draw(st.sampled_from(types))))
    return one_relation(*spans, draw(st.sampled_from(LABELS)))


@EXAMPLES
@given(data=st.data())
def test_tacred(data, tmp_path):
    word = (WORD | st.just("a b")).filter(lambda text: not text.upper().startswith("-"))
    words = data.draw(st.lists(word, min_size=1, max_size=8))
    name = data.draw(st.integers(0, 10**9) | TEXT_IDS)
    doc = gold(words, *data.draw(single_relations(len(words))), name)
    (again,), notes = there_and_back("tacred", [doc], tmp_path / "x.json")
    assert facts(again) == facts(doc)
    assert not notes


@EXAMPLES
@given(data=st.data())
def test_kbp37(data, tmp_path):
    words = data.draw(st.lists(PLAIN_WORD, min_size=1, max_size=8))
    doc = gold(words, *data.draw(single_relations(len(words), ["ENTITY"])), data.draw(TEXT_IDS))
    (again,), notes = there_and_back("kbp37", [doc], tmp_path / "x.txt")
    assert facts(again) == facts(doc)
    assert not notes


@EXAMPLES
@given(data=st.data())
def test_semeval(data, tmp_path):
    blank = st.sampled_from([" ", "  ", ""])
    parts = data.draw(st.lists(st.tuples(PLAIN_WORD, blank), min_size=1, max_size=8))
    doc = NLP.make_doc("".join(word + space for word, space in parts).strip())
    words = [(i, i + 1) for i, token in enumerate(doc) if not token.is_space]
    (s1, _), (s2, _) = (data.draw(st.sampled_from(words)) for _ in range(2))
    _, e1 = data.draw(st.sampled_from([end for end in words if end[0] >= s1]))
    _, e2 = data.draw(st.sampled_from([end for end in words if end[0] >= s2]))
    label = data.draw(st.sampled_from(LABELS))
    relation = one_relation(Entity(s1, e1, "ENTITY"), Entity(s2, e2, "ENTITY"), label)
    doc = gold_text(doc.text, *relation, data.draw(TEXT_IDS))
    (again,), notes = there_and_back("semeval", [doc], tmp_path / "x.txt")
    assert facts(again) == facts(doc)
    assert again.text == doc.text
    assert not notes


@EXAMPLES
@given(data=st.data())
def test_conll04(data, tmp_path):
    docs = []
    for _ in range(data.draw(st.integers(1, 3))):
        words = data.draw(st.lists(PLAIN_WORD, min_size=1, max_size=8))
        entities = data.draw(entities_of(len(words), overlaps=False))
        docs.append(gold(words, entities, data.draw(edges_of(entities)), data.draw(TEXT_IDS)))
    again, notes = there_and_back("conll04", docs, tmp_path / "x.corp")
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]
    assert set(notes) == {"Docs without parts of speech"}


@EXAMPLES
@given(data=st.data())
def test_ade(data, tmp_path):
    words = data.draw(st.lists(PLAIN_WORD, min_size=2, max_size=8))
    doc = NLP.make_doc(" ".join(words))
    mentions = st.integers(0, len(doc) - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, len(doc)))
    )
    types = ["Adverse-Effect", "Drug"]
    entities = [
        Entity(*data.draw(mentions), types[i % 2]) for i in range(2 * data.draw(st.integers(1, 2)))
    ]
    edges = [Edge(i, i + 1, "Adverse-Effect") for i in range(0, len(entities), 2)]
    other = "_".join(data.draw(TEXT_IDS).split("|")) or "x"
    docs = [gold_text(doc.text, entities, edges, f"{other}:0")]
    docs.append(gold_text(f"{doc.text} again", entities, edges, f"{other}:1"))
    report = write("ade", docs, tmp_path / "x.rel")
    again = read("ade", tmp_path / "x.rel")
    if report.notes:
        assert set(report.notes) == {
            "relations read at the first of several places with the same texts"
        }
        return
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]
    assert [doc.text for doc in again] == [doc.text for doc in docs]


# Coreference

TOOLS = ["brat", "doccano", "labelstudio", "prodigy"]


@st.composite
def with_clusters(draw, *, exact: bool) -> Doc:
    """Draw a Doc with clusters; if `exact`, one that the formats of annotation tools give back."""
    words = draw(st.lists(st.sampled_from(["Ann", "she", "it", "x"]), min_size=2, max_size=8))
    doc = NLP.make_doc(" ".join(words))
    places = st.integers(0, len(doc) - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, len(doc)))
    )
    clusters = draw(st.lists(st.lists(places, min_size=0 if exact else 1, max_size=4), max_size=3))
    if exact:
        clusters = [[*dict.fromkeys(cluster)] for cluster in clusters]
        taken = [place for cluster in clusters for place in cluster]
        assume(len(taken) == len(set(taken)) and all(len(c) != 1 for c in clusters))
    set_clusters(doc, [[doc[start:end] for start, end in cluster] for cluster in clusters])
    entities = draw(one_type_a_place(len(doc)))
    doc.spans["entities"] = [Span(doc, e.start, e.end, e.label) for e in entities]
    arguments = list(doc.spans["entities"])
    if exact:
        # A mention has the type of its cluster.
        for cluster in clusters:
            types = {e.label for e in entities if (e.start, e.end) in cluster}
            label = types.pop() if len(types) == 1 else ""
            arguments += [Span(doc, *m, label) for m in cluster if not by_place(entities, m)]
    else:
        arguments += [Span(doc, *draw(places), draw(st.sampled_from(["", *TYPES])))]
    if arguments:
        spans = st.sampled_from(arguments)
        relation = st.builds(Relation, spans, spans, st.sampled_from(LABELS[:3]))
        set_relations(doc, draw(st.lists(relation, max_size=4)))
    return doc


def by_place(entities, place):
    return [entity for entity in entities if (entity.start, entity.end) == place]


def clusters_of(doc):
    return [[(m.start, m.end) for m in cluster] for cluster in get_clusters(doc)]


def write_tool(data_format, docs, path):
    return write(data_format, docs, path, coref="Coref the same")


def read_tool(data_format, path):
    name = "Coref_the_same" if data_format == "brat" else "Coref the same"
    return read(data_format, path, coref=name)


@pytest.mark.parametrize("data_format", TOOLS)
@EXAMPLES
@given(data=st.data())
def test_clusters(data_format, data, tmp_path):
    docs = [data.draw(with_clusters(exact=True)) for _ in range(data.draw(st.integers(1, 2)))]
    with TemporaryDirectory(dir=tmp_path) as folder:
        path = Path(folder) / "x"
        report = write_tool(data_format, docs, path)
        again = read_tool(data_format, path)
    assert [clusters_of(doc) for doc in again] == [clusters_of(doc) for doc in docs]
    assert report.clusters == sum(len(get_clusters(doc)) for doc in docs)
    kept = [note for note in report.notes if "overlap" not in note and "written as" not in note]
    assert not [note for note in kept if note != "duplicate relations, written once"]
    if data_format == "brat":  # which has no blanks in labels, and changes those of the other test
        return
    for doc, copy in zip(docs, again, strict=True):
        expected, found = facts(doc), facts(copy)
        assert found["entities"] == expected["entities"]
        assert found["relations"] == sorted(set(expected["relations"]))


@pytest.mark.parametrize("data_format", TOOLS)
@EXAMPLES
@given(data=st.data())
def test_no_cluster_is_lost_without_a_note(data_format, data, tmp_path):
    doc = data.draw(with_clusters(exact=False))
    with TemporaryDirectory(dir=tmp_path) as folder:
        path = Path(folder) / "x"
        report = write_tool(data_format, [doc], path)
        (again,) = read_tool(data_format, path)
    assert report.clusters == len(get_clusters(again))
    several = [set(cluster) for cluster in clusters_of(doc) if len(cluster) > 1]
    assert all(any(c <= set(other) for other in clusters_of(again)) for c in several)
    n_joined = report.notes["clusters that share a mention, written as one"]
    n_single = report.notes["clusters of one mention, left out"]
    assert len(get_clusters(again)) == len(get_clusters(doc)) - n_joined - n_single
    # Types of arguments stay: mentions of another type than their cluster become entities.
    relations = {key[:3] for key in facts(doc)["relations"]}
    typed = all(head[2] and tail[2] for head, tail, _ in relations)
    if typed and data_format != "brat":
        assert {key[:3] for key in facts(again)["relations"]} == relations


@pytest.mark.parametrize(
    "data_format", [*TOOLS, "ade", "conll04", "kbp37", "spert", "tacred", "csv"]
)
def test_clusters_without_a_place_are_noted(data_format, tmp_path):
    doc = gold_text("Ann sings . She shines .", [Entity(0, 1, "P"), Entity(3, 4, "P")], [])
    head, tail = doc.spans["entities"]
    set_relations(doc, [Relation(head, tail, "Adverse-Effect")])
    set_clusters(doc, [[head, tail], [doc[1:2], doc[4:5]]])
    report = write(data_format, [doc], tmp_path / "x")
    (n,) = (n for note, n in report.notes.items() if "clusters of coreferent mentions" in note)
    assert (n, report.clusters) == (2, 0)


# Everything else that is lost is noted.

TROUBLES = ["text", "tokens", "types", "labels", "overlaps"]
TROUBLES += ["relations", "argument", "scores", "id", "borders"]


@st.composite
def any_doc(draw, data_format, number):
    """Draw a Doc with up to two properties that some format cannot hold."""
    has = draw(st.sets(st.sampled_from(TROUBLES), max_size=2))
    words = draw(st.lists(PLAIN_WORD, min_size=2, max_size=8))
    if "tokens" in has:
        words = draw(st.lists(WORD | st.sampled_from([" ", "\n", "a b"]), min_size=2, max_size=8))
    doc = Doc(VOCAB, words=words)
    if "text" in has:
        doc = NLP.make_doc(draw(TEXT))
    elif data_format in ("ade", "semeval"):
        doc = NLP.make_doc(" ".join(words))
    n = len(doc)
    effect, drug = "Adverse-Effect", "Drug"
    if data_format in ("kbp37", "semeval"):
        effect = drug = "ENTITY"
    entities = [Entity(0, 1, effect), Entity(n - 1, n, drug)]
    if "overlaps" in has:
        entities += draw(entities_of(n, types=[effect, drug]))
    types = ["", "O", "a\tb", "a ", "Peop"]
    spans = [
        Span(doc, e.start, e.end, draw(st.sampled_from(types)) if "types" in has else e.label)
        for e in entities
    ]
    arguments = [*spans, Span(doc, 0, 1, "Peop")] if "argument" in has else spans
    scores, label = st.none(), st.just("Adverse-Effect")
    if "labels" in has:
        label = st.sampled_from(["", "x\ny", "Comment: no", "x\ty", " x", "Live_In"])
    if "scores" in has:
        scores = st.none() | st.floats(0, 1)
    relations = [Relation(arguments[0], arguments[-1 if n > 1 else 0], draw(label), draw(scores))]
    if "relations" in has:
        pairs = st.tuples(*[st.sampled_from(arguments)] * 2)
        rest = draw(st.lists(pairs, max_size=3))
        relations = [Relation(*pair, draw(label), draw(scores)) for pair in rest]
    doc.spans["entities"] = SpanGroup(doc, name="entities", spans=spans)
    if "scores" in has and draw(st.booleans()):
        set_entities(doc, spans, [draw(st.floats(0, 1)) for _ in spans])
    set_relations(doc, relations)
    name = f"{number}:0"
    if "id" in has:
        name = draw(st.sampled_from([None, 7, "a b", "1|2", "\t", "1:4", "k:9999999", "\ufeff"]))
    if name is not None:
        doc.spans["entities"].attrs["orig_id"] = name
    for token in doc[1:]:
        token.is_sent_start = "borders" in has and draw(st.booleans())
    return doc


def text_of(doc) -> str:
    return doc.text.removesuffix(" ") if doc.has_unknown_spaces else doc.text


ROUND = ["ade", "conll04", "kbp37", "scierc", "semeval", "spert", "tacred"]


@pytest.mark.parametrize("data_format", ROUND)
@settings(max_examples=50)
@given(data=st.data())
def test_nothing_is_lost_without_a_note(data_format, data, tmp_path):
    docs = [data.draw(any_doc(data_format, i)) for i in range(data.draw(st.integers(1, 2)))]
    path = tmp_path / "x"
    report = write(data_format, docs, path)
    if not report.docs:
        assert any("left out" in note for note in report.notes)
        return
    # Whatever the Docs are, the file is one that can be read.
    conversion = ConversionReport()
    again = list(CONVERTERS[data_format](path, nlp=NLP, report=conversion))
    if not conversion.misaligned:  # which depends on the tokenizer of the reader
        n_relations = conversion.n_relations + conversion.duplicate_relations
        assert n_relations == report.relations
    if set(report.notes) <= {"Docs without parts of speech"}:
        assert [facts(doc) | {"id": str(get_orig_id(doc))} for doc in again] == [
            facts(doc) | {"id": str(get_orig_id(doc))} for doc in docs
        ]
        if data_format in ("ade", "semeval"):
            assert [doc.text for doc in again] == [text_of(doc) for doc in docs]


# Text to Docs to text


CONLL04 = (
    "7\tPeop\t0\tO\tX/X\tAnn/Lee\tO\tO\tO\n"
    "7\tO\t1\tO\tX\tCOMMA\tO\tO\tO\n"
    "7\tO\t2\tO\tX\t1/2\tO\tO\tO\n"
    "7\tLoc\t3\tO\tX\t-LRB-\tO\tO\tO\n"
    "\n"
    "0\t3\tLive_In\n"
    "3\t0\tKill\n"
    "\n"
    "8\tO\t0\tO\tX\tRain\tO\tO\tO\n"
    "\n"
    "\n"
)
KBP37 = (
    '7\t"<e1> Ann Lee </e1> runs <e2> the <e3> Crumb & Co </e2> ."\n'
    "per:employee_of(e1,e2)\n"
    "\n"
    '8\t"<e2> Oslo <e1> läuft </e2> ☂ </e1>"\n'
    "no_relation\n"
    "\n"
)
SEMEVAL = (
    '12\t"The <e1>smoke</e1> came from a "damp"  <e2>candle</e2>."\n'
    "Cause-Effect(e2,e1)\n"
    "\n"
    '13\t"<e2>Our <e1>boat</e1></e2> (old)"\n'
    "Other\n"
    "\n"
)
ADE = (
    "1|Rash after a|b and aspirin.|Rash|0|4|aspirin|19|26\n"
    "1|Rash after aspirin, rash after zinc.|rash|20|24|zinc|31|35\n"
    "1|Rash after aspirin, rash after zinc.|Rash|0|4|aspirin|11|18\n"
    "2|☂ läuft.|läuft|2|7|☂|0|1\n"
)
SPERT = [
    {
        "tokens": ["Ann", "Lee", "(", "é", ")"],
        "entities": [
            {"type": "Loc", "start": 4, "end": 5},
            {"type": "Peop", "start": 0, "end": 2},
            {"type": "Peop", "start": 0, "end": 1},
        ],
        "relations": [
            {"type": "Live_In", "head": 1, "tail": 0},
            {"type": "Kill", "head": 1, "tail": 0},
        ],
        "orig_id": 7,
    },
    {"tokens": ["Rain"], "entities": [], "relations": []},
]
SCIERC = [
    {
        "doc_key": "A7",
        "sentences": [["Ann", "Lee", "lives", "in", "Oslo"], [], ["She", "sings"]],
        "ner": [[[0, 1, "Person"], [4, 4, "Place"]], [], [[5, 5, "Person"]]],
        "relations": [[[0, 1, 4, 4, "LIVES-IN"]], [], []],
    },
    {"doc_key": "B:1", "sentences": [["Rain"]], "ner": [[]], "relations": [[]]},
]
TACRED = [
    {
        "id": "a7",
        "relation": "no_relation",
        "token": ["Ann", "(", "34", ")", "in", "Oslo"],
        "subj_start": 0,
        "subj_end": 1,
        "obj_start": 5,
        "obj_end": 5,
        "subj_type": "PERSON",
        "obj_type": "CITY",
    }
]


@pytest.mark.parametrize(
    ("data_format", "content"),
    [("conll04", CONLL04), ("kbp37", KBP37), ("semeval", SEMEVAL), ("ade", ADE)],
)
def test_text_is_written_as_it_was_read(data_format, content, tmp_path):
    (tmp_path / "old").write_text(content, "utf-8")
    docs = read(data_format, tmp_path / "old")
    report = write(data_format, docs, tmp_path / "new")
    assert (tmp_path / "new").read_text("utf-8") == content
    assert set(report.notes) <= {"Docs without parts of speech"}


@pytest.mark.parametrize(
    ("data_format", "records"), [("spert", SPERT), ("scierc", SCIERC), ("tacred", TACRED)]
)
def test_json_is_written_as_it_was_read(data_format, records, tmp_path):
    source = tmp_path / "old"
    if data_format == "scierc":
        source.write_text("\n".join(map(json.dumps, records)), "utf-8")
    else:
        source.write_text(json.dumps(records), "utf-8")
    docs = read(data_format, source)
    write(data_format, docs, tmp_path / "new")
    text = (tmp_path / "new").read_text("utf-8")
    assert text.endswith("}\n" if data_format == "scierc" else "}\n]\n")
    if data_format == "scierc":
        assert [json.loads(line) for line in text.splitlines()] == records
    else:
        assert json.loads(text) == records


def test_parts_of_speech_of_conll04(tmp_path):
    doc = gold(["Ann", "Lee", "sings", "1/2"], [Entity(0, 2, "Peop")], [], 7)
    for token, tag in zip(doc, ["NNP", "", "V/B", "CD"], strict=True):
        token.tag_ = tag
    report = ExportReport()
    lines = list(docs_to_conll04([doc], report))
    assert [line.split("\t")[4] for line in lines if line] == ["NNP/X", "X", "CD"]
    assert not report.notes


# Notes on losses


def notes_of(data_format, *docs, **options) -> dict[str, int]:
    report = ExportReport()
    list(WRITERS[data_format].records(docs, report, **options))
    return dict(report.notes)


def predicted() -> Doc:
    doc = NLP.make_doc("Ann Lee lives in Oslo.")
    spans = [Span(doc, 0, 2, label="Peop"), Span(doc, 4, 5, label="Loc")]
    set_entities(doc, spans, [0.5, 0.75])
    set_relations(doc, [Relation(*spans, "Live_In", 0.25)])
    set_pair_scores(doc, [tuple(spans)], ["Live_In", "Kill"], [[0.25, 0.75]])
    return doc


def test_predictions_lose_their_scores_and_are_numbered():
    lost = {
        "scores of entities, left out": 2,
        "scores of relations, left out": 1,
        "pairs whose scores for all labels are left out": 1,
    }
    blanks = {"Docs whose blanks between tokens are lost": 1}
    numbered = {"Docs without an id, numbered from 0": 1}
    types = {"types of entities, left out": 2}
    assert notes_of("spert", predicted()) == lost | blanks
    assert notes_of("tacred", predicted()) == lost | blanks | numbered
    assert notes_of("kbp37", predicted()) == lost | blanks | numbered | types
    assert notes_of("semeval", predicted()) == lost | numbered | types
    assert notes_of("scierc", predicted()) == lost | blanks | numbered | {
        "ids that get ':0', as they name no sentence": 1
    }
    del lost["scores of relations, left out"]
    assert notes_of("triples", predicted()) == lost | numbered


A, B = Entity(0, 1, "A"), Entity(1, 2, "B")


def test_triples_of_tokens_joined_by_blanks():
    doc = gold(["a", "é"], *one_relation(A, B, "r"), "x")
    (row,) = docs_to_triples([doc], ExportReport())
    assert (row["doc"], row["tail"], row["tail_start"], row["score"]) == ("x", "é", 2, None)
    joined = "pretokenized Docs, whose offsets count in the tokens joined by blanks"
    assert notes_of("triples", doc) == {joined: 1}


def test_one_record_a_relation(tmp_path):
    entities = [A, B, Entity(2, 3, "C")]
    edges = [Edge(0, 1, "r"), Edge(1, 0, "r"), Edge(0, 1, "no_relation")]
    doc = gold(["x", "y", "z"], entities, edges, 7)
    assert notes_of("tacred", doc, gold(["x"], [], [])) == {
        "Docs with several relations, whose records get ids of their own": 1,
        "pairs with several relations, in one record each": 1,
        "entities in no relation, left out": 1,
        "Docs without relations, left out": 1,
    }
    for data_format in ("tacred", "kbp37", "semeval"):
        report = write(data_format, [doc], tmp_path / "x")
        assert (report.docs, report.entities, report.relations) == (1, 2, 3)
        again = read(data_format, tmp_path / "x")
        assert [get_orig_id(d) for d in again] == ["7:0", "7:1", "7:2"]
        ((first,), (second,), (third,)) = map(get_relations, again)
        assert (first.head.text, second.head.text, third.label) == ("x", "y", "no_relation")


def test_overlaps_in_conll04(tmp_path):
    entities = [A, Entity(0, 2, "Long"), Entity(0, 2, "Second"), Entity(2, 3, "C")]
    edges = [Edge(1, 3, "kept"), Edge(0, 3, "lost"), Edge(2, 3, "lost")]
    doc = gold(["x", "y", "z"], entities, edges, "d")
    (again,), notes = there_and_back("conll04", [doc], tmp_path / "x")
    assert [e.label_ for e in get_entities(again)] == ["Long", "C"]
    assert [r.label for r in get_relations(again)] == ["kept"]
    assert notes == {
        "overlapping entities, left out": 2,
        "relations of entities left out": 2,
        "Docs without parts of speech": 1,
    }


def test_slashes_in_conll04():
    doc = gold(["1/2", "x", "y/z"], [Entity(1, 3, "A"), Entity(0, 1, "B")], [])
    # A slash in a row of one token divides nothing.
    assert notes_of("conll04", doc) == {
        "tokens with slashes in entities of several tokens, which are divided there": 1,
        "Docs without parts of speech": 1,
        "Docs without an id, numbered from 0": 1,
    }
    names = gold(["COMMA", "x"], [], [], 1)
    note = "tokens such as COMMA and -LRB-, which are read as the characters they stand for"
    assert notes_of("conll04", names)[note] == 1
    assert notes_of("tacred", gold(["-lrb-", "x"], *one_relation(A, B, "r"), 1)) == {
        "tokens such as -LRB-, which are read as brackets": 1
    }


def test_white_space_between_tokens(tmp_path):
    words = ["New York", "\n", "is", " "]
    doc = gold(words, *one_relation(Entity(0, 2, "ENTITY"), Entity(2, 3, "ENTITY"), "r"), "a b")
    (again,), notes = there_and_back("kbp37", [doc], tmp_path / "x")
    assert facts(again) == {
        "id": "a_b",
        "words": ["New", "York", "is"],
        "entities": [(0, 2, "ENTITY"), (2, 3, "ENTITY")],
        "relations": [((0, 2, "ENTITY"), (2, 3, "ENTITY"), "r", None)],
    }
    assert notes == {
        "whitespace tokens, left out": 2,
        "tokens containing white space, divided or trimmed": 1,
        "ids with characters that the format cannot hold, changed": 1,
    }
    blank = gold(words, *one_relation(Entity(1, 2, "ENTITY"), Entity(2, 3, "ENTITY"), "r"), "d")
    lost = [note for note in notes_of("kbp37", blank) if note.startswith("relations with an empty")]
    assert len(lost) == 1
    assert notes_of("conll04", blank)["entities that are only white space, left out"] == 1


@pytest.mark.parametrize("data_format", ["kbp37", "semeval"])
@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["<e1>", "x"], "r"),
        (["x", "</e2>y"], "r"),
        (["x", "y"], "r\n"),
        (["x", "y"], "Comment: r"),
        (["x", "y"], "r\tr"),
        (["x", "y"], " r"),
    ],
)
def test_relations_that_would_break_the_lines_are_left_out(data_format, words, label):
    doc = gold(words, *one_relation(A, B, label), "d")
    report = ExportReport()
    assert not list(WRITERS[data_format].records([doc], report))
    assert sum(n for note, n in report.notes.items() if note.startswith("relations with an")) == 1
    assert (report.docs, report.relations, report.entities) == (0, 0, 0)


def test_line_breaks_in_texts(tmp_path):
    entities = [Entity(0, 1, "Adverse-Effect"), Entity(3, 4, "Drug")]
    relation = [Edge(0, 1, "Adverse-Effect")]
    doc = gold_text("Rash\nafter zinc.\r\n", entities, relation, "1:0")
    assert [t.text for t in doc][3] == "zinc"
    for data_format in ("ade", "semeval"):
        report = write(data_format, [doc], tmp_path / data_format)
        assert report.notes["Docs whose line breaks became blanks"] == 1
        (again,) = read(data_format, tmp_path / data_format)
        (relation_,) = get_relations(again)
        assert relation_.to_triple() == ("Rash", "Adverse-Effect", "zinc")


def test_ade_holds_one_kind_of_relation(tmp_path):
    effect, drug = Entity(0, 1, "Adverse-Effect"), Entity(1, 2, "Drug")
    right, wrong = Edge(0, 1, "Adverse-Effect"), Edge(1, 0, "Adverse-Effect")
    docs = [
        gold_text("rash zinc x", [effect, drug, Entity(2, 3, "Drug")], [right, wrong], "5:3"),
        gold_text("rash zinc x", [effect, drug], [right], "5:4"),
        gold_text("rash zinc y", [effect, drug], [Edge(0, 1, "r")], "6:0"),
    ]
    report = write("ade", docs, tmp_path / "x")
    (again,) = read("ade", tmp_path / "x")
    assert get_orig_id(again) == "5:0"
    assert dict(report.notes) == {
        "relations other than Adverse-Effect of Adverse-Effect to Drug, left out": 2,
        "entities in no row, left out": 3,
        "Docs without rows, left out": 1,
        "ids whose number changes": 1,
        "Docs with the id and text of an earlier Doc, read as one": 1,
    }
    assert (report.docs, report.entities, report.relations) == (2, 4, 2)


def test_repeated_texts_in_ade(tmp_path):
    # Both have the same distance to the drug that follows them.
    text = "rash zinc rash zinc"
    doc = gold_text(
        text,
        [Entity(2, 3, "Adverse-Effect"), Entity(3, 4, "Drug")],
        [Edge(0, 1, "Adverse-Effect")],
        "1:0",
    )
    report = write("ade", [doc], tmp_path / "x")
    note = "relations read at the first of several places with the same texts"
    assert dict(report.notes) == {note: 1}


def test_sentences_of_scierc_out_of_order():
    def one(name):
        return gold(["x"], [], [], name)

    report = ExportReport()
    docs = map(one, ["a:1", "b:0", "a:0", "a:2", "c", "d:20240131", "d:20240132", "a:2"])
    records = list(docs_to_scierc(docs, report))
    found = [(r["doc_key"], len(r["sentences"])) for r in records]
    days = [("d:20240131", 1), ("d:20240132", 1)]
    assert found == [("a", 2), ("b", 1), ("a", 3), ("c", 1), *days, ("a", 3)]
    assert all(len(r["sentences"]) == len(r["ner"]) == len(r["relations"]) for r in records)
    assert dict(report.notes) == {
        "empty sentences, in the place of missing ones": 4,
        "documents with the key of an earlier one": 2,
        "ids that get ':0', as they name no sentence": 3,
    }


def test_id_with_a_long_number_is_no_sentence_of_scierc():
    # Python parses no integers of so many digits.
    (record,) = docs_to_scierc([gold(["x"], [], [], f"a:{'1' * 5000}")], ExportReport())
    assert record["doc_key"] == f"a:{'1' * 5000}"


def test_several_types_and_borders_in_scierc():
    entities = [A, Entity(0, 1, "Other"), Entity(0, 2, "Across")]
    doc = gold(["x", "y"], entities, [Edge(1, 2, "r")], "d", sent_starts=[True, True])
    assert notes_of("scierc", doc, unit="document") == {
        "entities across sentences, listed with their first sentence": 1,
        "relations of a span with several types, of which the first will be taken": 1,
    }
    assert "Docs whose sentence borders are lost" in notes_of("scierc", doc)


def test_odd_annotations(tmp_path):
    doc = Doc(Vocab(), words=["x", "y", "z"])
    x, y, z = (Span(doc, i, i + 1, label=label) for i, label in enumerate(["A", "", "C"]))
    doc.spans["entities"] = [x, y, x]
    bare = Span(doc, 0, 1)
    set_relations(
        doc, [Relation(bare, y, "r"), Relation(x, y, "r"), Relation(x, z, "s"), Relation(x, y, "")]
    )
    (again,), notes = there_and_back("spert", [doc], tmp_path / "x")
    assert [(e.text, e.label_) for e in get_entities(again)] == [
        ("x", "A"),
        ("y", "ENTITY"),
        ("z", "C"),
    ]
    assert [r.to_triple() for r in get_relations(again)] == [("x", "r", "y"), ("x", "s", "z")]
    assert notes == {
        "duplicate entities, written once": 1,
        "entities without a type, written as ENTITY": 1,
        "arguments of relations that are no entities, written as entities": 1,
        "duplicate relations, written once": 1,
        "relations without a label or with an empty argument, left out": 1,
    }


def test_entities_of_doc_ents_are_written():
    doc = NLP.make_doc("Ann sings")
    doc.ents = [Span(doc, 0, 1, label="Peop")]
    (record,) = WRITERS["spert"].records([doc], ExportReport())
    assert record["entities"] == [{"type": "Peop", "start": 0, "end": 1}]


@pytest.mark.parametrize("data_format", ["spert", "scierc", "conll04"])
def test_docs_without_tokens(data_format):
    assert notes_of(data_format, NLP.make_doc(""))["Docs without tokens, left out"] == 1


# Real files


def convert_and_export(data_format, source, tmp_path, target=None, **options):
    convert(data_format, [source], tmp_path / "x.spacy", **options)
    output = tmp_path / "out"
    return output, export(target or data_format, [tmp_path / "x.spacy"], output)


@pytest.mark.parametrize("name", ["dev", "test"])
def test_real_conll04(name, conll04, tmp_path):
    source = conll04 / f"{name}.json"
    output, report = convert_and_export("spert", source, tmp_path)
    old, new = (json.loads(path.read_text("utf-8")) for path in (source, output))
    for record in old:  # a relation twice is one relation
        record["relations"] = [
            r for i, r in enumerate(record["relations"]) if r not in record["relations"][:i]
        ]
    assert new == old
    assert not report.notes


def test_real_conll04_as_rows(conll04, tmp_path):
    docs = read("spert", conll04 / "dev.json")
    again, notes = there_and_back("conll04", docs, tmp_path / "x")
    assert notes == {"Docs without parts of speech": len(docs)}
    assert [facts(doc) for doc in again] == [
        facts(doc) | {"id": str(get_orig_id(doc))} for doc in docs
    ]


def test_real_kbp37(shared_dir: Path, tmp_path):
    source = shared_dir / "data" / "kbp37" / "dev.json"
    if not source.exists():
        pytest.skip(f"needs {source}")
    output, report = convert_and_export("tacred", source, tmp_path)
    assert json.loads(output.read_text("utf-8")) == json.loads(source.read_text("utf-8"))
    assert not report.notes
    # And in the text form of the corpus.
    docs = read("tacred", source)
    again, notes = there_and_back("kbp37", docs, tmp_path / "x")
    assert not notes
    assert [facts(doc) for doc in again] == [facts(doc) for doc in docs]


@pytest.mark.parametrize("name", ["en-v2-dev", "xquad.es"])
def test_real_squad(name, shared_dir: Path, tmp_path):
    source = shared_dir / "data" / "squad" / f"{name}.json"
    if not source.exists():
        pytest.skip(f"needs {source}")
    output, _ = convert_and_export("squad", source, tmp_path)

    def contents(path):
        return [
            (
                article.get("title", ""),
                p["context"],
                qa["id"],
                qa["question"],
                sorted((a["answer_start"], a["text"]) for a in qa["answers"]),
            )
            for article in json.loads(path.read_text("utf-8"))["data"]
            for p in article["paragraphs"]
            for qa in p["qas"]
        ]

    assert contents(output) == contents(source)
