from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import registry
from thinc.api import Config

from spacy_spanrel import get_relations
from spacy_spanrel.training.corpus import create_corpus_reader, create_question_reader
from tests.extractive_qa import util as qa
from tests.util import make_doc, write_docs

NLP = spacy.blank("en")
GOLD = "John Smith works for Acme . He lives in Paris ."
ENTITIES = [(0, 2, "Per"), (4, 5, "Org"), (9, 10, "Loc")]
RELATIONS = [(0, 1, "work_for"), (0, 2, "live_in")]


def gold_doc(key: str | None = None, sents: bool = False) -> Doc:
    doc = make_doc(NLP.vocab, GOLD, ENTITIES, RELATIONS, key=key)
    for token in doc:
        if sents:
            token.is_sent_start = token.i in (0, 6)
    return doc


def read(tmp_path: Path, *docs: Doc, nlp: Language = NLP, **settings) -> list[Example]:
    path = write_docs(tmp_path / "data.spacy", docs)
    return list(create_corpus_reader(path, **settings)(nlp))


def bounds(spans) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label_) for span in spans]


def test_without_inputs_predicted_docs_have_no_annotations(tmp_path):
    (example,) = read(tmp_path, gold_doc(key="sc"))
    assert example.predicted.ents == ()
    assert dict(example.predicted.spans) == {}
    assert bounds(example.reference.spans["sc"]) == ENTITIES
    assert [r.label for r in get_relations(example.reference)] == ["work_for", "live_in"]


def test_entities_are_copied_and_relations_are_not(tmp_path):
    # spaCy's reader copies neither of them.
    (example,) = read(tmp_path, gold_doc(), inputs=["ents"])
    assert bounds(example.predicted.ents) == ENTITIES
    assert get_relations(example.predicted) == ()
    assert "relations" not in example.predicted.spans
    assert len(get_relations(example.reference)) == 2


def test_span_groups_are_copied_by_name(tmp_path):
    doc = gold_doc(key="sc")
    doc.spans["other"] = [Span(doc, 0, 1, label="X")]
    doc.spans["sc"].append(Span(doc, 0, 1, label="First"))  # spans of a group may overlap
    (example,) = read(tmp_path, doc, inputs=["sc", "absent"])
    assert bounds(example.predicted.spans["sc"]) == [*ENTITIES, (0, 1, "First")]
    assert len(example.predicted.spans["absent"]) == 0
    assert set(example.predicted.spans) == {"sc", "absent"}
    assert all(span.doc is example.predicted for span in example.predicted.spans["sc"])
    assert example.predicted.ents == ()


def test_entities_are_expanded_to_predicted_tokens(tmp_path):
    doc = Doc(NLP.vocab, words=["don", "'t", "New", "York"], spaces=[False, True, False, False])
    doc.set_ents([Span(doc, 0, 1, label="A"), Span(doc, 3, 4, label="B")])
    (example,) = read(tmp_path, doc, inputs=["ents"])
    assert [token.text for token in example.predicted] == ["do", "n't", "NewYork"]
    assert [(span.text, span.label_) for span in example.predicted.ents] == [
        ("don't", "A"),
        ("NewYork", "B"),
    ]


def test_entities_that_share_a_predicted_token(tmp_path):
    # doc.ents may not overlap: the longer entity is kept and, of equal ones, the first.
    doc = Doc(NLP.vocab, words=["ab", "cd", "ef", "gh"], spaces=[False, False, True, False])
    ents = [Span(doc, 0, 1, label="A"), Span(doc, 1, 2, label="B"), Span(doc, 2, 4, label="C")]
    doc.set_ents(ents)
    doc.spans["sc"] = ents
    (example,) = read(tmp_path, doc, inputs=["ents", "sc"])
    assert [token.text for token in example.predicted] == ["abcdef", "gh"]
    assert bounds(example.predicted.ents) == [(0, 2, "C")]
    assert bounds(example.predicted.spans["sc"]) == [(0, 1, "A"), (0, 1, "B"), (0, 2, "C")]


def test_sentence_borders_are_copied(tmp_path):
    with_borders, without = read(tmp_path, gold_doc(sents=True), gold_doc(), inputs=["sents"])
    assert [sentence.start for sentence in with_borders.predicted.sents] == [0, 6]
    assert not without.predicted.has_annotation("SENT_START")
    # A sentencizer leaves them alone.
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer", config={"punct_chars": ["works"]})
    assert [sentence.start for sentence in nlp(with_borders.predicted).sents] == [0, 6]


def test_sentence_borders_within_predicted_tokens_are_left_out(tmp_path):
    words, starts = ["a", "b", "c", "d"], [True, True, False, True]
    doc = Doc(NLP.vocab, words, spaces=[False, True, True, False], sent_starts=starts)
    (example,) = read(tmp_path, doc, inputs=["sents"])
    assert [sentence.text for sentence in example.predicted.sents] == ["ab c", "d"]


def test_tokens_are_kept_if_spaces_are_unknown(tmp_path):
    doc = Doc(NLP.vocab, words=["can't", "New", "York."])
    doc.set_ents([Span(doc, 1, 3, label="Loc")])
    with_spaces = Doc(NLP.vocab, words=["can't", "go."], spaces=[True, False])
    assert doc.has_unknown_spaces
    first, second = read(tmp_path, doc, with_spaces, inputs=["ents"])
    assert [token.text for token in first.predicted] == ["can't", "New", "York."]
    assert bounds(first.predicted.ents) == [(1, 3, "Loc")]
    assert [token.text for token in second.predicted] == ["ca", "n't", "go", "."]


@pytest.mark.parametrize("setting", ["max_length", "gold_preproc"])
def test_settings_that_would_lose_relations_do_not_exist(tmp_path, setting):
    with pytest.raises(TypeError, match=setting):
        read(tmp_path, gold_doc(sents=True), **{setting: 7})


def test_limit(tmp_path):
    docs = [make_doc(NLP.vocab, f"text {i}") for i in range(4)]
    assert [e.reference[1].text for e in read(tmp_path, *docs, limit=2)] == ["0", "1"]


def test_augmenter_gets_gold_docs_and_its_examples_get_inputs(tmp_path):
    def twice(nlp, example):
        yield example
        yield Example(nlp.make_doc(example.reference.text), example.reference)

    examples = read(tmp_path, gold_doc(), inputs=["ents"], augmenter=twice)
    assert [bounds(e.predicted.ents) for e in examples] == [ENTITIES, ENTITIES]


def test_each_reading_makes_new_docs(tmp_path):
    path = write_docs(tmp_path / "data.spacy", [gold_doc()])
    reader = create_corpus_reader(path, inputs=["ents"])
    (first,), (second,) = list(reader(NLP)), list(reader(NLP))
    assert first.predicted is not second.predicted
    assert bounds(first.predicted.ents) == bounds(second.predicted.ents) == ENTITIES


def test_no_path():
    with pytest.raises(ValueError, match="E_SR502"):
        create_corpus_reader(None)


def test_resolves_from_a_config(tmp_path):
    path = write_docs(tmp_path / "data.spacy", [gold_doc()])
    config = {
        "corpus": {"@readers": "spacy-spanrel.Corpus.v1", "path": str(path), "inputs": ["ents"]}
    }
    (example,) = registry.resolve(Config(config))["corpus"](NLP)
    assert bounds(example.predicted.ents) == ENTITIES


def test_question_corpus_gives_single_questions(tmp_path):
    path = write_docs(tmp_path / "data.spacy", [qa.gold_doc(NLP, row) for row in qa.ROWS])
    examples = list(create_question_reader(path)(NLP))
    assert len(examples) == qa.N_QUESTIONS
    assert all(len(example.predicted._.questions) == 1 for example in examples)
    assert all(example.predicted._.answers == () for example in examples)
    assert all(not example.predicted._.questions for example in create_corpus_reader(path)(NLP))
