from __future__ import annotations

from dataclasses import replace

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from spacy_spanrel import (
    Relation,
    get_clusters,
    get_entity_relations,
    get_relations,
    set_clusters,
    set_relations,
)
from spacy_spanrel.annotations.clusters import Entities, head_of
from spacy_spanrel.training.joining import join_docs
from tests.util import make_doc

NLP = spacy.blank("en")
TEXT = (
    "Ada Bergstrom , a chemist at Kelvin Labs , lives in Oslo . She likes the company . "
    "Tom Dahl works for Kelvin Labs in oslo , too ."
)
ENTITIES = [
    (0, 2, "Per"),
    (6, 8, "Org"),
    (11, 12, "Loc"),
    (13, 14, "Per"),
    (16, 17, "Org"),
    (18, 20, "Per"),
    (22, 24, "Org"),
    (25, 26, "Loc"),
]
ADA, LABS, OSLO, SHE, COMPANY, TOM, LABS_AGAIN, OSLO_AGAIN = range(8)
RELATIONS = [
    (SHE, COMPANY, "works_for"),
    (ADA, OSLO, "lives_in"),
    (ADA, LABS, "works_for"),
    (TOM, LABS_AGAIN, "works_for"),
    (TOM, OSLO_AGAIN, "works_in"),
    (TOM, OSLO, "works_in"),
]
CLUSTERS = [[(0, 8), (13, 14)], [(6, 8), (15, 17), (22, 24)]]


@pytest.fixture
def doc() -> Doc:
    return make_doc(NLP.vocab, TEXT, ENTITIES, RELATIONS)


def spans_of(doc: Doc, clusters: list[list[tuple[int, int]]]) -> list[list[Span]]:
    return [[doc[start:end] for start, end in cluster] for cluster in clusters]


def borders(clusters: tuple[tuple[Span, ...], ...]) -> list[list[tuple[int, int]]]:
    return [[(span.start, span.end) for span in cluster] for cluster in clusters]


def triples(doc: Doc) -> list[tuple[str, str, str]]:
    return [relation.to_triple() for relation in get_entity_relations(doc)]


# Sources


def test_span_groups_of_spacy_experimental(doc):
    # Its component appends spans to groups that are numbered from 0; its span resolver keeps the
    # heads in groups of another name.
    for number, cluster in enumerate(reversed(CLUSTERS)):
        doc.spans[f"coref_clusters_{number}"] = []
        for start, end in reversed(cluster):
            doc.spans[f"coref_clusters_{number}"].append(doc[start:end])
        doc.spans[f"coref_head_clusters_{number}"] = [doc[end - 1 : end] for _, end in cluster]
    doc.spans["coref_clusters_scores"] = [doc[0:1]]
    doc.spans["coref_clusters_x_1"] = [doc[0:1]]
    assert borders(get_clusters(doc)) == CLUSTERS
    assert borders(get_clusters(doc, "coref_head_clusters")) == [
        [(7, 8), (13, 14)],
        [(7, 8), (16, 17), (23, 24)],
    ]


@pytest.mark.usefixtures("fresh_extensions")
def test_character_offsets_of_fastcoref(doc):
    # Its component registers this extension, and leaves lists of pairs there.
    Doc.set_extension("coref_clusters", default=None)
    assert get_clusters(doc) == ()
    doc._.coref_clusters = [
        [(doc[start:end].start_char, doc[start:end].end_char) for start, end in cluster]
        for cluster in CLUSTERS
    ]
    assert borders(get_clusters(doc)) == CLUSTERS
    first = get_relations(doc)[0]
    assert (first.head_entity.text, first.tail_entity.text) == ("Ada Bergstrom", "Kelvin Labs")
    # Span groups come first, and are the way to save what fastcoref found.
    set_clusters(doc, [[doc[13:14]]])
    assert borders(get_clusters(doc)) == [[(13, 14)]]


@pytest.mark.usefixtures("fresh_extensions")
def test_clusters_of_fastcoref_are_read_without_it(doc):
    Doc.set_extension("coref_clusters", default=None)
    doc._.coref_clusters = [[(0, 13), (doc[13].idx, doc[13].idx + 3)]]
    data = DocBin(docs=[doc], store_user_data=True).to_bytes()
    Doc.remove_extension("coref_clusters")
    (saved,) = DocBin(store_user_data=True).from_bytes(data).get_docs(NLP.vocab)
    assert borders(get_clusters(saved)) == [[(0, 2), (13, 14)]]


@pytest.mark.usefixtures("fresh_extensions")
@pytest.mark.parametrize(
    "foreign", ["a text", 7, [[("a", "b")]], [[(0, 3, 5)]], [[(0, 10_000)]], [[(5, 5)]], [[[0]]]]
)
def test_clusters_of_another_form_are_refused(doc, foreign):
    Doc.set_extension("coref_clusters", default=None)
    doc._.coref_clusters = foreign
    with pytest.raises(ValueError, match="E_SR110"):
        get_clusters(doc)


def test_own_clusters_are_replaced_and_saved(doc):
    doc.spans["coref_clusters_7"] = [doc[0:1]]
    doc.spans["coref_head_clusters_7"] = [doc[0:1]]
    set_clusters(doc, [[], *spans_of(doc, CLUSTERS)])
    assert sorted(doc.spans) == [
        "coref_clusters_0",
        "coref_clusters_1",
        "coref_head_clusters_7",
        "relations",
    ]
    (saved,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(NLP.vocab)
    assert borders(get_clusters(saved)) == CLUSTERS
    set_clusters(doc, [])
    assert get_clusters(doc) == ()


def test_clusters_come_back_from_worker_processes(doc):
    set_clusters(doc, spans_of(doc, CLUSTERS))
    (found,) = spacy.blank("en").pipe([doc], n_process=2)
    assert borders(get_clusters(found)) == CLUSTERS


def test_joined_docs_keep_their_clusters_apart(doc):
    # Doc.from_docs joins groups of the same name, and so clusters of different Docs.
    set_clusters(doc, spans_of(doc, CLUSTERS))
    n = len(doc)
    moved = [[(start + n, end + n) for start, end in cluster] for cluster in CLUSTERS]
    assert borders(get_clusters(join_docs([doc, doc]))) == CLUSTERS + moved


def test_mentions_of_another_doc_are_refused(doc):
    set_clusters(doc, spans_of(doc, CLUSTERS))
    with pytest.raises(ValueError, match="E_SR109"):
        set_clusters(doc, [[make_doc(NLP.vocab, TEXT)[0:2]]])
    assert borders(get_clusters(doc)) == CLUSTERS


# Heads


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("she", "she"),
        ("the company", "company"),
        ("her own company", "company"),
        ("a chemist at Kelvin Labs", "chemist"),
        ("Ada Bergstrom, a chemist at Kelvin Labs", "Bergstrom"),
        ("Norwegian chemist Dr. Ada Bergstrom (42)", "Bergstrom"),
        ("Acme's", "Acme"),
        ("Ada's own husband", "husband"),
        ("the University of Oslo", "University"),
        ("the US", "US"),
        ("WHO", "WHO"),
        ("Jean-Luc Picard", "Picard"),
        ("Johnson & Johnson", "Johnson"),
        ("the company which bought Acme", "company"),
        ("Ada and Tom", None),
        ("Oslo, Bergen and Paris", None),
        ("the company, Acme", "Acme"),
        ("her husband, Tom Dahl of Oslo", "Dahl"),
        ("the company, rich and old", None),
        ("the firm, Acme and Bolt", None),
        ("the firm, Acme, and its owner", None),
        ("the firm, Acme, Bolt", None),
        ("...", "..."),
    ],
)
def test_heads(text, head):
    doc = NLP.make_doc(text)
    found = head_of(doc[:])
    # The vocabulary of Docs from files knows no language.
    (read,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(Vocab())
    assert head_of(read[:]) == found
    assert (None if found is None else doc[found].text) == head


def test_tags_tell_coordinators():
    words = ["Ada", "ja", "Tom"]
    assert head_of(Doc(NLP.vocab, words)[:]) == 2
    assert head_of(Doc(NLP.vocab, words, pos=["PROPN", "CCONJ", "PROPN"])[:]) is None


# Entities


def test_relations_name_the_entities(doc):
    set_clusters(doc, spans_of(doc, CLUSTERS))
    named = [
        (r.head.text, r.tail.text, r.head_entity.text, r.tail_entity.text) for r in doc._.relations
    ]
    assert named == [
        ("She", "company", "Ada Bergstrom", "Kelvin Labs"),
        ("Ada Bergstrom", "Oslo", "Ada Bergstrom", "Oslo"),
        ("Ada Bergstrom", "Kelvin Labs", "Ada Bergstrom", "Kelvin Labs"),
        ("Tom Dahl", "Kelvin Labs", "Tom Dahl", "Kelvin Labs"),
        ("Tom Dahl", "oslo", "Tom Dahl", "oslo"),
        ("Tom Dahl", "Oslo", "Tom Dahl", "Oslo"),
    ]
    assert [r.head_entity.label_ for r in doc._.relations] == ["Per"] * 6
    assert doc.text == make_doc(NLP.vocab, TEXT).text


def test_without_clusters_an_argument_stands_for_itself(doc):
    for relation in doc._.relations:
        assert (relation.head_entity, relation.tail_entity) == (relation.head, relation.tail)


def test_relations_made_by_hand(doc):
    set_clusters(doc, spans_of(doc, CLUSTERS))
    made = Relation(Span(doc, 13, 14, label="Per"), Span(doc, 16, 17, label="Org"), "owns")
    assert made.head_entity.text == "Ada Bergstrom"
    # A relation that was read takes no entities of one Doc to another.
    other = make_doc(NLP.vocab, "Tom likes Oslo , he says")
    set_clusters(other, [[other[0:1], other[4:5]]])
    moved = replace(doc._.relations[0], head=Span(other, 4, 5), tail=Span(other, 2, 3))
    assert (moved.head_entity.text, moved.tail_entity.text) == ("Tom", "Oslo")


def test_relations_between_entities(doc):
    assert triples(doc) == [
        ("She", "works_for", "company"),
        ("Ada Bergstrom", "lives_in", "Oslo"),
        ("Ada Bergstrom", "works_for", "Kelvin Labs"),
        ("Tom Dahl", "works_for", "Kelvin Labs"),
        ("Tom Dahl", "works_in", "oslo"),  # equal text, apart from case
    ]
    set_clusters(doc, spans_of(doc, CLUSTERS))
    assert triples(doc) == [
        ("Ada Bergstrom", "works_for", "Kelvin Labs"),
        ("Ada Bergstrom", "lives_in", "Oslo"),
        ("Tom Dahl", "works_for", "Kelvin Labs"),
        ("Tom Dahl", "works_in", "oslo"),
    ]
    first = doc._.entity_relations[0]
    assert [r.to_triple() for r in first.evidence] == [
        ("She", "works_for", "company"),
        ("Ada Bergstrom", "works_for", "Kelvin Labs"),
    ]
    assert (first.head.label_, first.tail.label_) == ("Per", "Org")


def test_the_best_score_counts(doc):
    scores = [0.25, None, 0.75, 0.5, 0.5, 0.5]
    scored = [replace(r, score=s) for r, s in zip(doc._.relations, scores, strict=True)]
    set_relations(doc, scored)
    set_clusters(doc, spans_of(doc, CLUSTERS))
    assert [relation.score for relation in doc._.entity_relations] == [0.75, None, 0.5, 0.5]
    data = doc._.entity_relations[0].to_dict()
    assert data["evidence"] == [scored[0].to_dict(), scored[2].to_dict()]
    assert (data["score"], data["head"]["text"], data["head"]["type"]) == (
        0.75,
        "Ada Bergstrom",
        "Per",
    )


def test_a_doc_without_relations_has_none():
    assert get_entity_relations(make_doc(NLP.vocab, TEXT)) == ()
    assert make_doc(NLP.vocab, TEXT)._.entity_relations == ()


def test_a_name_outside_of_clusters_joins_the_cluster_of_that_name():
    doc = make_doc(
        NLP.vocab,
        "Ada lives in Oslo . She likes Oslo . Ada left Oslo .",
        [(0, 1, "Per"), (3, 4, "Loc"), (5, 6, "Per"), (9, 10, "Per"), (11, 12, "Loc")],
        [(2, 1, "at"), (3, 4, "at")],
    )
    set_clusters(doc, [[doc[0:1], doc[5:6]]])
    assert triples(doc) == [("Ada", "at", "Oslo")]


@pytest.mark.parametrize(
    ("text", "mentions", "entities", "best"),
    [
        # A name before a description, whatever comes first or is longer.
        ("The big old company is Acme .", [(0, 4), (5, 6)], [], "Acme"),
        # An entity stands for the mention around it.
        ("Ann Lee , a cook , sings . She", [(0, 5), (7, 8)], [(0, 2, "P")], "Ann Lee"),
        # The longest name.
        ("He saw Lee and Dr. Ann Lee", [(2, 3), (4, 7)], [], "Dr. Ann Lee"),
        # Of two that are equally long, the first.
        ("He saw Lee and Ann", [(2, 3), (4, 5)], [], "Lee"),
        # A name with a type before one without.
        ("He saw Ann Lee and Lee", [(2, 4), (5, 6)], [(5, 6, "P")], "Lee"),
        # At the beginning of a sentence any word is in upper case.
        ("Researchers came . See MIT", [(0, 1), (4, 5)], [], "MIT"),
        # What follows the noun does not make a mention longer.
        ("it is a tool of the old trade or the big saw", [(2, 8), (9, 12)], [], "the big saw"),
        # Anything before pronouns.
        ("it helps , the tool", [(0, 1), (3, 5)], [(0, 1, "Generic")], "the tool"),
        ("she is in the US", [(3, 5), (0, 1)], [], "the US"),
        ("they are it", [(0, 1), (2, 3)], [], "they"),
    ],
)
def test_best_mention(text, mentions, entities, best):
    doc = make_doc(NLP.vocab, text, entities)
    found = Entities([[doc[s:e] for s, e in mentions]], doc.ents).best(doc[slice(*mentions[0])])
    assert found.text == best


# Any clusters

WORDS = st.sampled_from(
    [
        "Ada",
        "Oslo",
        "US",
        "she",
        "the",
        "of",
        "and",
        "'s",
        ",",
        "-",
        "Lee",
        "tool",
        "big",
        "It",
        "(",
    ]
)


@st.composite
def cluster_docs(draw: st.DrawFn) -> tuple[Doc, list[list[Span]]]:
    """A Doc with entities and relations, and clusters that may overlap in any way."""
    words = draw(st.lists(WORDS, min_size=1, max_size=14))
    doc = Doc(NLP.vocab, words)

    def spans(max_size: int) -> list[Span]:
        starts = st.integers(0, len(words) - 1)
        pairs = starts.flatmap(lambda i: st.tuples(st.just(i), st.integers(i + 1, len(words))))
        labelled = st.tuples(pairs, st.sampled_from(["", "P", "Q"]))
        rows = draw(st.lists(labelled, max_size=max_size))
        return [Span(doc, start, end, label=label) for (start, end), label in rows]

    doc.spans["entities"] = spans(5)
    arguments = spans(8)
    labels = st.sampled_from(["x", "y"])
    set_relations(
        doc,
        [
            Relation(h, t, draw(labels))
            for h, t in zip(arguments[::2], arguments[1::2], strict=False)
        ],
    )
    return doc, [spans(4) for _ in range(draw(st.integers(0, 4)))]


def slow_cluster(span: Span, clusters: tuple[tuple[Span, ...], ...]) -> int | None:
    """Return the number of the cluster of a span, by comparing it with every mention."""
    mentions = [(mention, number) for number, cluster in enumerate(clusters) for mention in cluster]
    head = head_of(span)
    same = [n for m, n in mentions if (m.start, m.end) == (span.start, span.end)]
    near = [
        (abs(m.start - span.start) + abs(m.end - span.end), m.start, m.end, number)
        for m, number in mentions
        if head is not None and head_of(m) == head
    ]
    return same[0] if same else min(near)[-1] if near else None


@given(cluster_docs())
def test_spans_find_the_mention_that_is_nearest(case):
    doc, groups = case
    set_clusters(doc, groups)
    clusters = get_clusters(doc)
    entities = Entities(clusters, doc.spans["entities"])
    for start in range(len(doc)):
        for end in range(start + 1, len(doc) + 1):
            span = Span(doc, start, end, label="P")
            expected = slow_cluster(span, clusters)
            key, best = entities.key(span), entities.best(span)
            if expected is not None:
                assert key == expected
            if isinstance(key, int):
                candidates = {(s.start, s.end) for s in (*clusters[key], *doc.spans["entities"])}
                assert (best.start, best.end) in candidates
                assert best.doc is doc
            else:
                assert best is span


@given(cluster_docs(), st.randoms(use_true_random=False))
def test_the_order_of_clusters_does_not_matter(case, random):
    doc, groups = case
    set_clusters(doc, groups)
    expected = [relation.to_dict() for relation in get_entity_relations(doc)]
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    set_clusters(doc, groups, "other")
    assert get_clusters(doc) == get_clusters(doc, "other")
    found = get_entity_relations(doc, clusters_prefix="other")
    assert [relation.to_dict() for relation in found] == expected


@given(cluster_docs())
def test_every_relation_is_the_evidence_of_one(case):
    doc, groups = case
    text = doc.text
    set_clusters(doc, groups)
    relations = get_relations(doc)
    gathered = doc._.entity_relations
    evidence = [relation for fact in gathered for relation in fact.evidence]
    assert sorted(map(repr, evidence)) == sorted(map(repr, relations))
    facts = [
        (fact.label, fact.evidence[0].head_entity, fact.evidence[0].tail_entity)
        for fact in gathered
    ]
    for fact, (label, head, tail) in zip(gathered, facts, strict=True):
        assert {r.label for r in fact.evidence} == {label}
        assert (fact.head, fact.tail) == (head, tail)
    assert doc.text == text
