from __future__ import annotations

import random
from collections import Counter

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.util import registry

from spacy_spanrel import get_relations
from spacy_spanrel.annotations.answers import (
    Question,
    get_answers,
    get_questions,
    make_answer,
    set_answers,
    set_questions,
)
from spacy_spanrel.annotations.relations import (
    Relation,
    get_entity_scores,
    set_entities,
    set_relations,
)
from spacy_spanrel.training.corpus import UNLABELLED, create_corpus_reader, is_unlabelled
from spacy_spanrel.training.joining import (
    TextJoiner,
    create_joining_batcher,
    create_text_joiner,
    join_docs,
    join_examples,
)
from tests.util import make_doc, write_docs

NLP = spacy.blank("en")
JOIN = "spacy-spanrel.join_texts.v1"


@st.composite
def docs(draw) -> Doc:
    """Docs with random spaces, whitespace tokens, entities, relations, clusters and questions."""
    words = draw(
        st.lists(st.sampled_from(["Ann", "x", "é—", ".", "\n", "New"]), min_size=1, max_size=6)
    )
    spaces = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    doc = Doc(NLP.vocab, words, spaces)
    index = st.integers(0, len(doc) - 1)

    def span(label: str) -> Span:
        start, end = sorted((draw(index), draw(index)))
        return Span(doc, start, end + 1, label=label)

    entities = [span("Per") for _ in range(draw(st.integers(0, 3)))]
    set_entities(doc, entities, [0.5] * len(entities))
    if entities:
        doc.set_ents(entities[:1])
        relations = [
            Relation(
                draw(st.sampled_from(entities)), draw(st.sampled_from(entities)), "knows", 0.25
            )
            for _ in range(draw(st.integers(0, 2)))
        ]
        set_relations(doc, relations)
    for number in range(draw(st.integers(0, 2))):
        doc.spans[f"coref_clusters_{number}"] = [span("") for _ in range(2)]
    answers = []
    for number in range(draw(st.integers(0, 2))):
        question = Question(f"q{number}", "Who?")
        tokens = span("")
        answers.append(
            make_answer(doc, question, tokens.start_char, tokens.end_char)
            if draw(st.booleans()) and len(tokens.text)
            else make_answer(doc, question, 0, 0)
        )
    if answers:
        set_answers(doc, answers)
    return doc


def bounds(spans, start: int = 0) -> list[tuple]:
    return [(s.start + start, s.end + start, s.label_, s.id_, s.text) for s in spans]


@given(st.lists(docs(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_all_annotation_goes_along(parts):
    joined = join_docs(parts)
    assert [t.text for t in joined] == [t.text for part in parts for t in part]
    assert joined.text.split() == " ".join(part.text for part in parts).split()
    starts = [sum(map(len, parts[:i])) for i in range(len(parts))]
    placed = list(zip(parts, starts, strict=True))
    assert {t.i for t in joined if t.is_sent_start} >= set(starts[1:])
    assert bounds(joined.ents) == [b for part, i in placed for b in bounds(part.ents, i)]
    for key in ("entities", "relations", "qa"):
        assert bounds(joined.spans.get(key, [])) == [
            b for part, i in placed for b in bounds(part.spans.get(key, []), i)
        ]
    assert get_entity_scores(joined) == [0.5] * len(joined.spans["entities"])
    assert [r.score for r in get_relations(joined)] == [0.25] * len(get_relations(joined))
    clusters = [
        bounds(group, i)
        for part, i in placed
        for key, group in part.spans.items()
        if key.startswith("coref")
    ]
    assert [bounds(joined.spans[f"coref_clusters_{n}"]) for n in range(len(clusters))] == clusters
    answers = [answer for part in parts for answer in get_answers(part)]
    joined_answers = get_answers(joined)
    assert [answer.text for answer in joined_answers] == [answer.text for answer in answers]
    assert len({q.id for q in get_questions(joined)}) == len(answers)
    for answer in joined_answers:
        assert joined.text[answer.start_char : answer.end_char] == answer.text


@pytest.mark.parametrize("without", [0, 1])
def test_annotation_without_scores_or_without_a_group_of_entities(without):
    """A text that people annotated, and one that a component did: the groups of the former have no scores,
    and its entities may be in `doc.ents` alone."""
    parts = []
    for number in range(2):
        doc = Doc(NLP.vocab, ["Ann", "knows", "Bo"])
        doc.ents = [Span(doc, 0, 1, label="Per"), Span(doc, 2, 3, label="Per")]
        set_relations(doc, [Relation(*doc.ents, "knows", 0.25)])
        if number == without:
            doc.spans["relations"].attrs = {}
        else:
            set_entities(doc, list(doc.ents), [0.5, 0.5])
        parts.append(doc)
    joined = join_docs(parts)
    scores = [None, 0.25] if without == 0 else [0.25, None]
    assert [relation.score for relation in get_relations(joined)] == scores
    assert bounds(joined.spans["entities"]) == bounds(joined.ents)
    assert Counter(get_entity_scores(joined)) == {None: 2, 0.5: 2}


def test_questions_without_answers_go_along():
    parts = [Doc(NLP.vocab, ["a", "b"]), Doc(NLP.vocab, ["c"])]
    set_questions(parts[1], [("q1", "Who?")])
    joined = join_docs(parts)
    assert get_questions(joined) == (Question("q1", "Who?"),)
    assert get_answers(joined) == ()


def test_other_attributes_go_along_if_they_are_equal():
    parts = [Doc(NLP.vocab, ["a"]), Doc(NLP.vocab, ["b"])]
    for number, doc in enumerate(parts):
        doc.spans["sc"] = SpanGroup(doc, attrs={"orig_id": number, "source": "news"})
    assert join_docs(parts).spans["sc"].attrs == {"source": "news"}


def example(text: str) -> Example:
    gold = make_doc(NLP.vocab, text, [(0, 1, "Per"), (1, 2, "Per")], [(0, 1, "knows")])
    return Example(NLP.make_doc(gold.text), gold)


def test_examples_stay_aligned():
    joined = join_examples([example("Ann Bob ."), example("Cy Di !")])
    assert joined.predicted.text == joined.reference.text == "Ann Bob . Cy Di ! "
    assert [s.text for s in joined.get_aligned_spans_y2x(joined.reference.ents)] == [
        "Ann",
        "Bob",
        "Cy",
        "Di",
    ]
    assert not joined.predicted.has_annotation("SENT_START")  # that is for the pipeline to find


TEXTS = [f"w{i} v{i} ." for i in range(40)]


def seen(examples) -> Counter:
    return Counter(token.text for eg in examples for token in eg.reference if token.text[0] == "w")


def test_the_augmenter_yields_each_text_once_with_earlier_ones():
    random.seed(1)
    augment = create_text_joiner(level=0.5, min_texts=2, max_texts=3)
    yielded = [eg for text in TEXTS for eg in augment(NLP, example(text))]
    assert len(yielded) == len(TEXTS)
    for i, eg in enumerate(yielded):
        words = seen([eg])
        assert f"w{i}" in words
        assert set(words) <= {f"w{k}" for k in range(i + 1)}
        assert set(words.values()) == {1}
    sizes = Counter(len(seen([eg])) for eg in yielded)
    assert set(sizes) == {1, 2, 3}
    assert 10 <= sizes[1] <= 30
    random.seed(1)
    again = create_text_joiner(level=0.5, min_texts=2, max_texts=3)
    repeated = [eg for text in TEXTS for eg in again(NLP, example(text))]
    assert [eg.text for eg in repeated] == [eg.text for eg in yielded]


def test_the_batcher_joins_the_texts_of_each_batch_anew():
    random.seed(1)
    batcher = create_joining_batcher(
        registry.batchers.get("spacy.batch_by_sequence.v1")(size=8), level=1.0, max_texts=3
    )
    examples = [example(text) for text in TEXTS]
    epochs = [list(batcher(examples)) for _ in range(2)]
    for batches in epochs:
        assert len(batches) == 5
        assert seen(eg for batch in batches for eg in batch) == seen(examples)
        assert all(len(seen([eg])) <= 3 for batch in batches for eg in batch)
    assert [eg.text for eg in epochs[0][0]] != [eg.text for eg in epochs[1][0]]


def test_no_joined_text_is_longer_than_max_tokens():
    joiner = TextJoiner(1.0, 2, 5, max_tokens=7)
    examples = [*map(example, TEXTS[:9]), example("long " * 9)]
    joined = list(joiner.join_all(examples))
    assert max(len(eg.reference) for eg in joined if "long" not in eg.text) == 6
    assert [len(eg.reference) for eg in joined if "long" in eg.text] == [9]
    assert seen(joined) == seen(examples)


def test_texts_of_another_vocabulary_are_not_joined():
    augment = create_text_joiner(level=1.0)
    other = spacy.blank("en")
    list(augment(NLP, example(TEXTS[0])))
    gold = make_doc(other.vocab, TEXTS[1], [], [])
    (eg,) = augment(other, Example(other.make_doc(gold.text), gold))
    assert eg.reference is gold


def test_the_corpus_copies_inputs_to_joined_texts(tmp_path):
    path = write_docs(tmp_path / "data.spacy", [example(text).reference for text in TEXTS[:9]])
    augmenter = registry.augmenters.get(JOIN)(level=1.0)
    examples = list(create_corpus_reader(path, inputs=["ents"], augmenter=augmenter)(NLP))
    assert max(len(eg.predicted.ents) for eg in examples) > 2
    for eg in examples:
        assert [e.text for e in eg.predicted.ents] == [e.text for e in eg.reference.ents]


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="level"):
        create_text_joiner(level=2)


def test_unlabelled_texts_stay_alone():
    """Or all that is not annotated in them would be negative."""
    examples = []
    for number in range(6):
        doc = NLP.make_doc(f"Text {number}.")
        if number % 2:
            doc.user_data[UNLABELLED] = True
        examples.append(Example(NLP.make_doc(doc.text), doc))
    random.seed(0)
    joined = list(TextJoiner(1.0, 2, 4, 200).join_all(examples))
    alone = [example for example in joined if is_unlabelled(example)]
    assert {id(example) for example in alone} == {id(example) for example in examples[1::2]}
    assert sum(len(example.reference) for example in joined) == sum(
        len(example.reference) for example in examples
    )
