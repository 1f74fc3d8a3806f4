from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import fix_random_seed
from torch.nn import functional as F
from transformers import BertForSequenceClassification

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.markers import MODES
from spacy_spanrel.relation_classifier.model import PairInput
from spacy_spanrel.relation_classifier.presets import SPANBERT_TACRED
from spacy_spanrel.training.optimizer import create_adamw
from tests.relation_classifier.util import tacred_scores

from ..util import initialize, make_doc, train
from .conftest import (
    LABELS,
    N_PAIRS,
    NEGATIVE,
    PATTERNS,
    ROWS,
    TEXTS,
    TYPES,
    Row,
    add_ruler,
    bare,
    expected,
    found,
    gold_docs,
    make_examples,
    make_nlp,
    model_config,
    rows_shown,
    scores_of,
    spans,
)
from .util import the_pipe

GOLD = [expected(row) for row in ROWS]
# Texts in which the ruler of the trained pipeline finds entities.
ODD_TEXTS = {
    "special tokens": "[CLS] John Smith works [SEP] for Google [MASK] in [unused1] Paris [PAD]",
    "no pieces": "John \u200b Smith \r\n works \ufe0f for \U0001f600 Google \u200b\u200b in \u00ad Paris",
    "five times too long": " ".join(TEXTS[:4] * 12),
}
# Texts and entities of Docs without a pair.
NO_PAIRS: dict[str, tuple[str, list[tuple[int, int, str]]]] = {
    "empty": ("", []),
    "white space": (" \n\t ", []),
    "one token": ("Mary", []),
    "no entity": (TEXTS[4], []),
    "one token, an entity": ("Mary", [(0, 1, "PER")]),
    "one entity": (TEXTS[1], [(0, 1, "PER")]),
}


def logits_of(nlp: Language, docs: list[Doc]) -> list[list[float]]:
    """Return the logits of all pairs of Docs."""
    rows: list[list[float]] = []
    network = the_pipe(nlp).model.shims[0].module
    hook = network.register_forward_hook(lambda *call: rows.extend(call[2].tolist()))
    try:
        for doc in docs:
            the_pipe(nlp)(doc)
    finally:
        hook.remove()
    return rows


# Learning, saving, loading


def test_overfits(trained: Language) -> None:
    assert [found(trained(text)) for text in TEXTS] == GOLD
    scores = trained.evaluate(make_examples(trained))
    assert [scores[f"rel_{x}"] for x in "prf"] == [1.0] * 3
    assert scores["rel_macro_f"] == 1.0
    assert set(scores["rel_per_type"]) == set(LABELS) - {NEGATIVE}
    assert scores["rel_confusions"] == []
    for doc, (_, entities, _) in zip(trained.pipe(TEXTS), ROWS, strict=True):
        assert doc._.relations == get_relations(doc)
        types = {(start, end): label for start, end, label in entities}
        for relation in doc._.relations:
            assert type(relation.score) is float  # not numpy's
            assert 0 <= relation.score <= 1
            assert relation.label in set(LABELS) - {NEGATIVE}
            for argument in (relation.head, relation.tail):
                assert argument.label_ == types[argument.start, argument.end]
        assert [(e.start, e.end, e.label_) for e in doc.ents] == entities


@pytest.mark.parametrize("mode", MODES)
def test_overfits_in_each_mode(checkpoint: Path, tmp_path: Path, mode: str) -> None:
    nlp, pipe = make_nlp(checkpoint, mode=mode)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 40)
    assert pipe.mode == mode
    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    assert the_pipe(loaded).mode == mode
    assert the_pipe(loaded).markers == pipe.markers
    for pipeline in (nlp, loaded):
        docs = [pipeline(bare(pipeline, row)) for row in ROWS]
        assert [found(doc) for doc in docs] == GOLD


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_order_of_the_data_changes_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    # RoBERTa's markers are new rows of the embedding.
    checkpoint = request.getfixturevalue(f"{kind}_checkpoint")
    made = []
    for order in ([0, 1, 2, 3, 4], [3, 4, 2, 1, 0], [1, 4, 0, 3, 2]):
        nlp, pipe = make_nlp(checkpoint, type_constraints="off")
        examples = make_examples(nlp)
        initialize(nlp, [examples[i] for i in order])
        logits = logits_of(nlp, [bare(nlp, row) for row in ROWS])
        assert len(logits) == N_PAIRS
        made.append((pipe.markers, pipe.labels, pipe.label_data, logits))
    assert made[0] == made[1] == made[2]
    markers = made[0][0]
    assert len(set(markers.values())) == len(markers) == 12
    size = the_pipe(nlp).model.shims[0].module.encoder.transformer.config.vocab_size
    assert max(markers.values()) < size


def test_initialization_is_quiet(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Initialization logs nothing when it adds rows to the embedding for markers."""
    logging.Logger.warning_once.cache_clear()  # transformers' own
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    assert max(pipe.markers.values()) >= len(pipe.model.shims[0].module.encoder.pieces.vocabulary)
    assert [r.message for r in caplog.records if r.levelno > logging.INFO] == []


# Labels


def test_labels_from_data(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    assert pipe.labels == tuple(LABELS)
    assert pipe.label_data["labels"] == LABELS
    assert pipe.label_data["head_types"] == pipe.label_data["tail_types"] == TYPES
    assert pipe.label_data["type_pairs"]["based"] == [["ORG", "LOC"]]


def test_labels_added_by_hand(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    assert pipe.add_label("visits") == 1
    assert pipe.add_label("visits") == 0
    initialize(nlp, make_examples(nlp))
    assert pipe.labels == (NEGATIVE, "visits", *LABELS[1:])
    with pytest.raises(ValueError, match=r"E_SR303.*'late'"):
        pipe.add_label("late")
    assert pipe.add_label("visits") == 0


def test_labels_given(checkpoint: Path) -> None:
    # The negative label is recognized by its name, not by its place.
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    order = ["works", "lives", "killed", NEGATIVE, "based"]
    fix_random_seed(0)
    pipe.initialize(lambda: examples, nlp=nlp, labels={"labels": order})
    assert pipe.labels == tuple(order)
    train(nlp, examples, 40)
    assert [found(nlp(bare(nlp, row))) for row in ROWS] == GOLD
    scores = pipe.score(examples)
    assert scores["rel_f"] == 0.0  # nothing was predicted on them yet
    assert nlp.evaluate(examples)["rel_f"] == 0.0  # and they have no entities


@pytest.mark.parametrize("wrong", [LABELS, {"relations": LABELS}, {"labels": []}, {}])
def test_labels_given_wrongly(checkpoint: Path, wrong: Any) -> None:
    nlp, pipe = make_nlp(checkpoint)
    with pytest.raises(ValueError, match=r"E_SR705.*'relation_classifier'"):
        pipe.initialize(lambda: make_examples(nlp), nlp=nlp, labels=wrong)


def test_label_data_is_all_that_initialization_needs(checkpoint: Path) -> None:
    """The result of `spacy init labels` takes the place of the data."""
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    saved = json.loads(json.dumps(pipe.label_data))
    for examples in (None, lambda: []):
        fix_random_seed(0)
        other, second = make_nlp(checkpoint)
        second.initialize(examples, labels=saved)
        assert second.labels == pipe.labels
        assert second.label_data == pipe.label_data
        assert second.markers == pipe.markers
        docs = [bare(other, row) for row in ROWS]
        assert logits_of(other, docs) == logits_of(nlp, [bare(nlp, row) for row in ROWS])


def test_label_data_and_data_are_joined(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    labels = {
        "labels": [*LABELS, "visits"],
        "head_types": ["SHIP"],
        "type_pairs": {"visits": [["SHIP", "LOC"]]},
    }
    pipe.initialize(lambda: make_examples(nlp), nlp=nlp, labels=labels)
    assert pipe.labels == (*LABELS, "visits")
    assert pipe.label_data["head_types"] == [*TYPES, "SHIP"]
    assert pipe.label_data["tail_types"] == TYPES
    assert pipe.label_data["type_pairs"]["visits"] == [["SHIP", "LOC"]]
    assert pipe.label_data["type_pairs"]["works"] == [["PER", "ORG"]]
    assert "SUBJ_START=SHIP" in pipe.markers
    assert "OBJ_START=SHIP" not in pipe.markers


def test_no_labels(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint)
    with pytest.raises(ValueError, match=r"E_SR701.*doc\.spans\['relations'\].*'no_relation'"):
        nlp.initialize(lambda: make_examples(nlp, [make_doc(nlp.vocab, "he was born")]))


def test_no_labels_although_pairs_are_predicted(checkpoint: Path) -> None:
    """The negative label alone, which `train_pairs = "predicted"` adds by itself, is enough."""
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted")
    row: Row = (TEXTS[1], ROWS[1][1], [(0, 1, NEGATIVE)])
    initialize(nlp, make_examples(nlp, [make_doc(nlp.vocab, *row)]))
    assert pipe.labels == (NEGATIVE,)
    assert found(nlp(bare(nlp, ROWS[1]))) == []


def test_unknown_gold(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    text = "Mary lives in London"
    label = make_doc(nlp.vocab, text, [(0, 1, "PER"), (3, 4, "LOC")], [(0, 1, "owns")])
    with pytest.raises(
        ValueError, match=rf"E_SR306.*a relation 'owns' \(text: '{text} '\).*'works'"
    ):
        pipe.update(make_examples(nlp, [label]))
    kind = make_doc(nlp.vocab, text, [(0, 1, "PER"), (3, 4, "SHIP")], [(0, 1, "lives")])
    with pytest.raises(ValueError, match=rf"E_SR706.*\(PER, SHIP\) \(text: '{text} '\)"):
        pipe.update(make_examples(nlp, [kind]))


def test_data_with_other_labels_than_those_given(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    with pytest.raises(ValueError, match=r"E_SR306.*a relation 'works' \(text: 'John Smith works"):
        pipe.initialize(lambda: examples, nlp=nlp, labels={"labels": LABELS[:-1]})
    assert not pipe.is_initialized


def test_initialize_looks_at_all_examples(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    docs = [make_doc(nlp.vocab, "he was born") for _ in range(12)]
    initialize(nlp, make_examples(nlp, [*docs, *gold_docs(nlp)]))
    assert pipe.labels == tuple(LABELS)
    assert pipe.label_data["head_types"] == TYPES


# Odd texts


@pytest.mark.parametrize("name", NO_PAIRS)
def test_nothing_to_classify(checkpoint: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    # An uninitialized network would raise an error if it were used.
    nlp, pipe = make_nlp(checkpoint, all_scores=True)
    assert not pipe.is_initialized
    text, entities = NO_PAIRS[name]
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        doc = nlp.make_doc(text)
        doc.set_ents(spans(doc, *entities))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (doc,) = nlp.pipe([doc])
        assert doc.text == text
        assert doc._.relations == ()
        assert doc._.relation_scores == ()
        assert doc.spans["relations"].attrs == {"scores": []}
        assert [(e.start, e.end, e.label_) for e in doc.ents] == entities
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_odd_text(trained: Language, caplog: pytest.LogCaptureFixture, name: str) -> None:
    text = ODD_TEXTS[name]
    pipe = the_pipe(trained)
    pipe.cfg.update(all_scores=True, max_pairs=200, type_constraints="off")
    caplog.set_level(logging.DEBUG)
    with rows_shown(pipe) as rows, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"\[W_SR153\]")  # some of the texts have many sentences
        doc = trained(text)
    assert doc.text == text
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []
    pieces = pipe.model.shims[0].module.encoder.pieces
    assert len(rows) == len(doc._.relation_scores) > 0
    for row in rows:
        # Text is never mistaken for a marker or a special token, and no marker is ever cut off.
        assert len(row) <= 64
        assert [row.count(i) for i in (*pieces.prefix, *pieces.suffix)] == [1, 1]
        shown = [name for name, i in pipe.markers.items() for _ in range(row.count(i))]
        kinds = sorted(name.split("=")[0] for name in shown)
        assert kinds == ["OBJ_END", "OBJ_START", "SUBJ_END", "SUBJ_START"]
    if name == "five times too long":
        assert len(doc) > 5 * 62
        # The nearest pairs are spread over the whole text.
        assert len({pair.head.start // 30 for pair in doc._.relation_scores}) > 8
    else:
        assert len({(pair.head.start, pair.tail.start) for pair in doc._.relation_scores}) >= 6


def test_arguments_far_apart(trained: Language) -> None:
    # Text far from both arguments is left out, but never an argument.
    text = " ".join(["Mary", *TEXTS[4].split() * 40, "Google"])
    pipe = the_pipe(trained)
    pipe.cfg["type_constraints"] = "off"
    with rows_shown(pipe) as rows:
        doc = trained(text)
    (row, other) = rows
    table, vocabulary = pipe.markers, pipe.model.shims[0].module.encoder.pieces.vocabulary
    for name, word in (("SUBJ_START=PER", "Mary"), ("OBJ_START=ORG", "Google")):
        assert row[row.index(table[name]) + 1] == vocabulary[word]
    assert len(row) == len(other) == 64
    assert "pairs_left_out" not in doc.spans["relations"].attrs


def test_tokens_without_pieces_change_nothing(trained: Language) -> None:
    words = TEXTS[0].split()
    odd = "_ John _ Smith works _ for Google in Paris _ .".replace("_", "\u200b").split(" ")

    def classify(words: list[str], *entities: tuple[int, int, str]) -> Doc:
        doc = Doc(trained.vocab, words=words)
        doc.set_ents(spans(doc, *entities))
        with trained.select_pipes(disable="entity_ruler"):
            return trained(doc)

    plain = classify(words, *ROWS[0][1])
    # An argument may begin or end with a token without pieces.
    doc = classify(odd, (0, 4, "PER"), (7, 8, "ORG"), (9, 11, "LOC"))
    assert [r.label for r in doc._.relations] == [r.label for r in plain._.relations]
    assert found(doc) == [((0, 4), (7, 8), "works"), ((7, 8), (9, 11), "based")]
    assert scores_of(doc) == pytest.approx(scores_of(plain), abs=1e-5)


def test_argument_without_pieces(trained: Language) -> None:
    with trained.select_pipes(disable="entity_ruler"):
        doc = Doc(trained.vocab, words=["Mary", "\u200b", "\u200b", "in", "London"])
        doc.set_ents(spans(doc, (0, 1, "PER"), (1, 2, "ORG"), (2, 3, "ORG"), (4, 5, "LOC")))
        the_pipe(trained).cfg.update(all_scores=True, type_constraints="off")
        pairs = trained(doc)._.relation_scores
    assert len(pairs) == 12 == len({(p.head.start, p.tail.start) for p in pairs})


NESTED = [(0, 2, "PER"), (0, 1, "ORG"), (1, 4, "LOC")]


@pytest.mark.parametrize("mode", MODES)
def test_nested_arguments(checkpoint: Path, mode: str) -> None:
    # Arguments that are nested, overlap or begin together.
    nlp, pipe = make_nlp(checkpoint, mode=mode, pairs={"entities_key": "sc"}, all_scores=True)
    doc = make_doc(nlp.vocab, "John Smith works for Google .", NESTED, key="sc")
    held = spans(doc, *NESTED)
    labels = {(0, 1): "has", (1, 0): "of", (0, 2): "meets", (1, 2): "knows"}
    relations = [Relation(held[h], held[t], label) for (h, t), label in labels.items()]
    set_relations(doc, relations)
    initialize(nlp, make_examples(nlp, [doc]))
    losses = train(nlp, make_examples(nlp, [doc]), 2)
    assert 0 < losses[1] < losses[0]
    again = make_doc(nlp.vocab, doc.text, NESTED, key="sc")
    with rows_shown(pipe) as rows:
        again = pipe(again)
    # Types that no head had in training have no marker.
    pairs = {
        ((p.head.start, p.head.end), (p.tail.start, p.tail.end)) for p in again._.relation_scores
    }
    ranges = [place[:2] for place in NESTED]
    known = {(ranges[h], ranges[t]) for h, t in labels}
    every = {(a, b) for a in ranges for b in ranges if a != b}
    assert pairs == (every if mode == "text" else known)
    n_markers = {"ner": 2, "text": 4, "text_ner": 6, "ner_text": 2, "typed_markers": 4}[mode]
    for row in rows:
        assert sum(row.count(i) for i in pipe.markers.values()) == n_markers


# Batches


def test_many_chunks_equal_one(trained: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = list(trained.pipe(TEXTS * 3))
    monkeypatch.setattr("spacy_spanrel.relation_classifier.component._CHUNK_ROWS", 7)
    with rows_shown(the_pipe(trained)) as rows:
        others = list(trained.pipe(TEXTS * 3))
    assert len(rows) > 7
    for doc, other in zip(docs, others, strict=True):
        assert found(doc) == found(other)
        assert scores_of(other) == pytest.approx(scores_of(doc), abs=1e-5)


# Updates


def gradients(pipe: RelationClassifier) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in pipe.model.shims[0].module.named_parameters()
    }


@pytest.mark.parametrize("mode", ["typed_markers", "ner"])
def test_gradient_is_that_of_the_loss(checkpoint: Path, mode: str) -> None:
    nlp, pipe = make_nlp(checkpoint, mode=mode)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    network = pipe.model.shims[0].module
    targets = pipe.make_targets(examples)
    docs = [example.predicted for example in examples]
    output, _ = pipe.model.begin_update(PairInput(docs, targets.pairs, "sentence"))
    assert output.rows.tolist() == list(range(N_PAIRS))
    loss = F.cross_entropy(output.logits, torch.from_numpy(targets.labels))
    loss.backward()
    wanted = gradients(pipe)
    network.zero_grad(set_to_none=True)
    losses = pipe.update(examples)
    assert losses["relation_classifier"] == pytest.approx(float(loss.detach()), abs=1e-5)
    for name, gradient in gradients(pipe).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-6, rtol=1e-4, msg=name)
    head = "head." if mode == "typed_markers" else "encoder.transformer.classifier."
    assert all(wanted[name].abs().sum() > 0 for name in wanted if name.startswith(head))
    # The rows of the embedding that belong to markers are learned.
    rows = (
        wanted["encoder.transformer.embeddings.word_embeddings.weight"]
        if (mode == "typed_markers")
        else wanted["encoder.transformer.bert.embeddings.word_embeddings.weight"]
    )
    assert all(rows[i].abs().sum() > 0 for i in pipe.markers.values())


def test_losses_always_has_the_key_and_nothing_is_learned_from_nothing(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    before = copy.deepcopy(pipe.model.shims[0].module.state_dict())
    optimizer = create_adamw(learn_rate=0.1)
    assert pipe.update([]) == {"relation_classifier": 0.0}
    nothing = [Example(Doc(nlp.vocab), Doc(nlp.vocab))]
    nothing += make_examples(nlp, [bare(nlp, row) for row in ROWS])
    losses = pipe.update(nothing, losses={"other": 2.0}, sgd=optimizer)
    assert losses == {"other": 2.0, "relation_classifier": 0.0}
    for name, value in pipe.model.shims[0].module.state_dict().items():
        assert torch.equal(value, before[name])


# Gold annotation that differs from the predicted Docs


def test_misaligned_gold(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    (gold,) = gold_docs(nlp, ROWS[:1])
    words = ["John", "Smith", "works", "for Google", "in", "Paris", "."]
    predicted = Doc(nlp.vocab, words=words)
    assert predicted.text == gold.text
    examples = [*make_examples(nlp), Example(predicted, gold)]
    with pytest.warns(UserWarning, match=r"W_SR101\] 4 gold argument\(s\).*'Google' \(ORG\)"):
        initialize(nlp, examples)
    targets = pipe.make_targets(examples[-1:])
    # The pairs of the other two entities are left, in tokens of the predicted Doc.
    assert [(p.head, p.tail) for p in targets.pairs[0]] == [((0, 2), (5, 6)), ((5, 6), (0, 2))]
    assert [pipe.labels[i] for i in targets.labels] == [NEGATIVE, NEGATIVE]


def test_other_tokens_than_gold(checkpoint: Path) -> None:
    """The gold Doc has other tokens, but the arguments lie on token borders of both Docs."""
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    (gold,) = gold_docs(nlp, ROWS[:1])
    words = ["Jo", "hn", "Smith", "works", "for", "Google", "in", "Paris", "."]
    predicted = Doc(nlp.vocab, words=words, spaces=[False] + [True] * 8)
    targets = pipe.make_targets([Example(predicted, gold)])
    labels = {
        (p.head, p.tail): pipe.labels[i]
        for p, i in zip(targets.pairs[0], targets.labels, strict=True)
    }
    assert len(labels) == 6
    assert labels[(0, 3), (5, 6)] == "works"
    assert labels[(5, 6), (7, 8)] == "based"


# Entities that another component predicts


def entities_of(example: Example, nlp: Language) -> Example:
    """Let the ruler of a pipeline annotate the predicted Doc."""
    example.predicted = nlp.get_pipe("entity_ruler")(example.predicted)
    return example


def positive_docs(nlp: Language) -> list[Doc]:
    return [make_doc(nlp.vocab, *row) for row in ROWS]


def test_trains_on_predicted_entities_that_differ_from_gold(checkpoint: Path) -> None:
    # The gold entity "Google" is missing, and "company" is not a gold entity.
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted")
    examples = make_examples(nlp, positive_docs(nlp))
    initialize(nlp, examples)
    assert pipe.labels == tuple(LABELS)  # with the negative one, although the data has none
    patterns = [p for p in PATTERNS if p["pattern"] != "Google"]
    add_ruler(nlp, [*patterns, {"label": "ORG", "pattern": "company"}])

    annotated = [entities_of(example, nlp) for example in make_examples(nlp, positive_docs(nlp))]
    targets = pipe.make_targets(annotated)
    assert sum(map(len, targets.pairs)) == len(targets.labels)
    labels = iter([pipe.labels[i] for i in targets.labels])
    seen = [
        [
            (eg.predicted[slice(*p.head)].text, next(labels), eg.predicted[slice(*p.tail)].text)
            for p in part
        ]
        for eg, part in zip(annotated, targets.pairs, strict=True)
    ]
    # Pairs with a place as head are not learned: no gold pair has one.
    assert seen == [
        [("John Smith", NEGATIVE, "Paris")],
        [("Mary", "lives", "London")],
        [
            ("Mary", NEGATIVE, "Berlin"),
            ("Mary", "killed", "John"),
            ("John", NEGATIVE, "Berlin"),
            ("John", NEGATIVE, "Mary"),
        ],
        [
            ("Acme", NEGATIVE, "company"),
            ("Acme", "based", "Berlin"),
            ("company", NEGATIVE, "Acme"),
            ("company", NEGATIVE, "Berlin"),
        ],
        [],
    ]

    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    losses: dict[str, float] = {}
    for _ in range(40):
        nlp.update(examples, sgd=optimizer, losses=losses, annotates=["entity_ruler"])
    assert losses["relation_classifier"] > 0
    assert [found(nlp(text)) for text in TEXTS] == [[], *GOLD[1:]]
    scores = nlp.evaluate(make_examples(nlp, positive_docs(nlp)))
    assert (scores["rel_p"], scores["rel_r"]) == (1.0, 3 / 5)


def test_targets_of_spans_that_begin_together(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted", pairs={"entities_key": "sc"})
    (gold,) = positive_docs(nlp)[:1]
    initialize(nlp, make_examples(nlp, [gold]))
    predicted = make_doc(
        nlp.vocab, TEXTS[0], [(0, 1, "PER"), (0, 2, "PER"), (0, 3, "PER"), (4, 5, "ORG")], key="sc"
    )
    targets = pipe.make_targets([Example(predicted, gold)])
    labels = {
        p.head: pipe.labels[i]
        for p, i in zip(targets.pairs[0], targets.labels, strict=True)
        if p.tail == (4, 5)
    }
    assert labels == {(0, 1): NEGATIVE, (0, 2): "works", (0, 3): NEGATIVE}


def test_gold_pairs_that_nothing_found_are_named(checkpoint: Path) -> None:
    """As in `span_relation`: without the warning only a loss of 0 would show that the NER is missing."""
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted")
    initialize(nlp, make_examples(nlp))
    with pytest.warns(
        UserWarning,
        match=r"W_SR105\] Component '\w+': 5 gold relation.*works\(John Smith, Google\)",
    ):
        pipe.update(make_examples(nlp))


def test_types_of_predicted_entities_may_be_wrong(checkpoint: Path) -> None:
    # The pair is found by its token ranges, and shown with the predicted types.
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted")
    initialize(nlp, make_examples(nlp, positive_docs(nlp)))
    predicted = make_doc(nlp.vocab, TEXTS[0], [(0, 2, "ORG"), (4, 5, "PER")])
    (gold,) = positive_docs(nlp)[:1]
    targets = pipe.make_targets([Example(predicted, gold)])
    assert [(p.head_type, p.tail_type) for p in targets.pairs[0]] == [
        ("ORG", "PER"),
        ("PER", "ORG"),
    ]
    assert [pipe.labels[i] for i in targets.labels] == ["works", NEGATIVE]


def test_no_negative_label(checkpoint: Path) -> None:
    """Without a negative label, pairs without a gold relation are not learned."""
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted", negative_label=None)
    examples = make_examples(nlp, positive_docs(nlp))
    initialize(nlp, examples)
    assert pipe.labels == tuple(LABELS[1:])
    add_ruler(nlp)
    for example in examples:
        entities_of(example, nlp)
    targets = pipe.make_targets(examples)
    assert sorted(pipe.labels[i] for i in targets.labels) == [
        "based",
        "based",
        "killed",
        "lives",
        "works",
    ]
    # Every pair that is classified has a relation.
    pipe.cfg["type_constraints"] = "off"
    assert len(found(nlp(TEXTS[0]))) == 4


# Scoring


def changed_gold(nlp: Language) -> list[Doc]:
    """Return gold Docs in which three labels differ from the predictions of the trained pipeline."""
    rows = copy.deepcopy(ROWS)
    rows[0][2][0] = (0, 1, "lives")  # predicted: "works"
    rows[1][2].clear()  # predicted: "lives"
    rows[2][2].append((2, 1, "killed"))  # predicted: no relation
    return gold_docs(nlp, rows)


def test_scores_of_gold_pairs_are_those_of_tacred(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["score_pairs"] = "gold"
    examples = make_examples(trained, changed_gold(trained))
    told = {
        (text, head, tail): label
        for text, row in zip(TEXTS, GOLD, strict=True)
        for head, tail, label in row
    }
    gold, predicted = [], []
    for example in examples:
        for relation in get_relations(example.reference):
            head, tail = relation.head, relation.tail
            place = (example.text.strip(), (head.start, head.end), (tail.start, tail.end))
            gold.append(relation.label)
            predicted.append(told.get(place, NEGATIVE))
    assert len(gold) == N_PAIRS
    official = tacred_scores(gold, predicted)
    # 3 of 5 gold relations are predicted, and 3 of 5 predicted ones are right.
    assert (official["precision"], official["recall"]) == (0.6, 0.6)
    with trained.select_pipes(disable="entity_ruler"):
        scores = trained.evaluate(examples)
    for name, official_name in (("p", "precision"), ("r", "recall"), ("f", "f1")):
        assert scores[f"rel_{name}"] == pytest.approx(official[official_name])
    assert {(c["gold"], c["predicted"]): c["count"] for c in scores["rel_confusions"]} == {
        ("lives", "works"): 1,
        (NEGATIVE, "lives"): 1,
        ("killed", NEGATIVE): 1,
    }
    # The pipeline itself predicts no entity, and so no relation.
    assert all(example.predicted.ents == () for example in examples)
    assert all(example.predicted._.relations == () for example in examples)
    pipe.cfg["score_pairs"] = "predicted"
    scores = pipe.score(examples)
    assert (scores["rel_p"], scores["rel_r"], scores["rel_f"]) == (0.0, 0.0, 0.0)


def test_scoring_leaves_predicted_docs_alone(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg.update(score_pairs="gold", all_scores=True, existing="extend")
    examples = make_examples(trained)
    for example in examples:
        doc = example.predicted
        if len(doc) > 6:
            # Neither predicted relations nor those without a label have an effect.
            wrong = spans(doc, (0, 1, "X"), (3, 4, "Y"))
            set_relations(doc, [Relation(*wrong, "killed", 0.5), Relation(*wrong[::-1], "")])
    before = [example.predicted.to_bytes() for example in examples]
    assert pipe.score(examples)["rel_f"] == 1.0
    assert [example.predicted.to_bytes() for example in examples] == before
    pipe.cfg["score_pairs"] = "predicted"
    assert pipe.score(examples)["rel_f"] == 0.0


def test_pairs_found_by_the_pipeline_are_scored(trained: Language) -> None:
    scores = trained.evaluate(make_examples(trained, changed_gold(trained)))
    assert (scores["rel_p"], scores["rel_r"]) == (0.6, 0.6)
    # A relation between spans that are not gold entities counts as wrong.
    doc = make_doc(trained.vocab, *ROWS[1])
    (example,) = make_examples(trained, [doc])
    with trained.select_pipes(disable="entity_ruler"):
        example.predicted.set_ents(spans(example.predicted, (0, 2, "PER"), (3, 4, "LOC")))
        scores = trained.evaluate([example])
    assert scores["rel_r"] == 0.0


def test_scores_without_gold(trained: Language) -> None:
    scores = trained.evaluate(make_examples(trained, [bare(trained, row) for row in ROWS]))
    assert scores["rel_f"] is None
    assert scores["rel_per_type"] is None


# Relations that the Doc has already


@Language.component("test_relations_before")
def relations_before(doc: Doc) -> Doc:
    """Set relations as a `span_relation` before the classifier would."""
    mary, london = spans(doc, (0, 1, "PER"), (3, 4, "LOC"))
    found = [
        Relation(mary, london, "lives", 0.25),
        Relation(london, mary, "houses", 0.5),
        Relation(mary, london, "visits", None),
    ]
    set_relations(doc, found)
    return doc


@pytest.mark.parametrize("existing", ["replace", "extend"])
def test_existing_relations(trained: Language, existing: str) -> None:
    the_pipe(trained).cfg["existing"] = existing
    trained.add_pipe("test_relations_before", first=True)
    try:
        doc = trained(TEXTS[1])
    finally:
        trained.remove_pipe("test_relations_before")
    scores = {(r.head.text, r.label, r.tail.text): r.score for r in doc._.relations}
    # The better one of two scores is kept: that of the classifier.
    assert scores.pop(("Mary", "lives", "London")) > 0.5
    kept = {("London", "houses", "Mary"): 0.5, ("Mary", "visits", "London"): None}
    assert scores == (kept if existing == "extend" else {})
    assert len(doc._.relations) == (3 if existing == "extend" else 1)


@pytest.mark.parametrize("score", [1.0, None])
def test_existing_relation_with_the_better_score(trained: Language, score: float | None) -> None:
    """A relation without a score, which a person or a rule has stated, is certain."""
    the_pipe(trained).cfg["existing"] = "extend"
    doc = bare(trained, ROWS[1])
    set_relations(doc, [Relation(*doc.ents, "lives", score)])
    (relation,) = trained(doc)._.relations
    assert relation.score == score
    # A second call does not add the relation again.
    assert len(trained(doc)._.relations) == 1


def test_given_pairs(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["all_scores"] = True
    doc = bare(trained, ROWS[0])
    person, company, place = doc.ents
    doc._.relations = [
        Relation(company, place, ""),
        Relation(person, place, ""),
        Relation(company, place, ""),
    ]
    doc = pipe(doc)
    asked = [(pair.head.text, pair.tail.text) for pair in doc._.relation_scores]
    assert asked == [("Google", "Paris"), ("John Smith", "Paris")]
    # No relation without a label remains.
    assert [r.to_triple() for r in doc._.relations] == [("Google", "based", "Paris")]
    # Relations with a label do not restrict the pairs.
    set_relations(doc, [Relation(company, place, "lives")])
    assert len(pipe(doc)._.relation_scores) == 3
    assert found(doc) == GOLD[0]


def test_given_pairs_of_no_entity(trained: Language) -> None:
    """Given pairs need not be entities of `doc.ents`; with "extend" other relations are kept."""
    pipe = the_pipe(trained)
    pipe.cfg["existing"] = "extend"
    doc = trained.make_doc(TEXTS[1])
    mary, london = spans(doc, (0, 1, "PER"), (3, 4, "LOC"))
    doc._.relations = [Relation(mary, london, ""), Relation(london, mary, "houses", 0.5)]
    doc = pipe(doc)
    assert [r.to_triple() for r in doc._.relations] == [
        ("London", "houses", "Mary"),
        ("Mary", "lives", "London"),
    ]
    assert doc.ents == ()


def test_given_pairs_in_the_components_own_group(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg.update(relations_key="links", all_scores=True)
    doc = bare(trained, ROWS[0])
    set_relations(doc, [Relation(doc.ents[0], doc.ents[1], "")], "links")
    doc = pipe(doc)
    assert len(doc.spans["links_scores"]) == 2


# Trained classifiers


ONTONOTES = [
    {"label": "PERSON", "pattern": "Mary"},
    {"label": "GPE", "pattern": "Paris"},
    {"label": "ORDINAL", "pattern": "president"},
]
SENTENCE = "Mary lives in Paris president"


def tacred(published: Path, **settings: Any) -> tuple[Language, RelationClassifier]:
    """Make a pipeline of a ruler with labels of OntoNotes and a published classifier, without data."""
    nlp, pipe = make_nlp(
        published, preset="spanbert-tacred", model=model_config(published), **settings
    )
    pipe.initialize()
    add_ruler(nlp, ONTONOTES)
    return nlp, pipe


def by_hand(published: Path, *rows: str) -> list[tuple[str, float]]:
    """Return the most probable relation of each marked sentence, computed by transformers alone."""
    entries = (published / "vocab.txt").read_text().split("\n")
    network = BertForSequenceClassification.from_pretrained(published).eval()
    answers = []
    for row in rows:
        ids = [entries.index(piece) for piece in f"[CLS] {row} [SEP]".split()]
        with torch.no_grad():
            scores = network(torch.tensor([ids])).logits[0].softmax(-1)
        best = int(scores[1:].argmax()) + 1
        answers.append((SPANBERT_TACRED.labels[best], float(scores[best])))
    return answers


def test_preset(published: Path, tmp_path: Path) -> None:
    nlp, pipe = tacred(published)
    assert pipe.labels == SPANBERT_TACRED.labels
    assert pipe.mode == "ner"
    assert len(pipe.markers) == 23
    nlp.to_disk(tmp_path / "pipeline")
    # GPE has three names; all are tried, and the most probable relation counts.
    rows = [f"[unused5] lives in [unused{i}] president" for i in (8, 18, 20)]
    answers = by_hand(published, *rows)
    label, score = max(answers, key=lambda answer: answer[1])
    for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
        doc = pipeline(SENTENCE)
        (relation,) = doc._.relations
        assert relation.to_triple() == ("Mary", label, "Paris")
        assert relation.score == pytest.approx(score, abs=1e-5)
        # The types are those of the Doc, not those of the network.
        assert (relation.head.label_, relation.tail.label_) == ("PERSON", "GPE")
        # The network has no marker for a place as head, and none for ORDINAL.
        attrs = doc.spans["relations"].attrs
        assert attrs["skipped_types"] == {"OBJ=ORDINAL": 1, "SUBJ=GPE": 2, "SUBJ=ORDINAL": 2}
        (restored,) = DocBin(docs=[doc]).get_docs(pipeline.vocab)
        assert restored.spans["relations"].attrs["skipped_types"] == attrs["skipped_types"]


def test_best_of_several_names_wherever_it_stands(published: Path) -> None:
    nlp, pipe = tacred(published)
    names = {"CITY": 8, "COUNTRY": 18, "STATE_OR_PROVINCE": 20}
    answers = by_hand(
        published, *(f"[unused5] lives in [unused{i}] president" for i in names.values())
    )
    best = max(range(3), key=lambda i: answers[i][1])
    order = list(names)
    for _ in order:
        order.append(order.pop(0))
        pipe.cfg["type_map"] = {"GPE": order}
        (relation,) = nlp(SENTENCE)._.relations
        assert (relation.label, relation.score) == (
            answers[best][0],
            pytest.approx(answers[best][1], abs=1e-5),
        )
    # With a single name the relation is that of the name.
    for name, answer in zip(names, answers, strict=True):
        pipe.cfg["type_map"] = {"GPE": [name]}
        (relation,) = nlp(SENTENCE)._.relations
        assert relation.score == pytest.approx(answer[1], abs=1e-5)


def test_preset_by_nlp_initialize(published: Path) -> None:
    nlp, pipe = make_nlp(
        published, preset="spanbert-tacred", model=model_config(published), type_map="off"
    )
    nlp.initialize()
    assert pipe.labels == SPANBERT_TACRED.labels
    # Settings take precedence over the preset: without the map, GPE is unknown.
    doc = make_doc(nlp.vocab, "Mary lives in Paris", [(0, 1, "PERSON"), (3, 4, "GPE")])
    doc = nlp(doc)
    assert doc._.relations == ()
    assert doc.spans["relations"].attrs["skipped_types"] == {"OBJ=GPE": 1, "SUBJ=GPE": 1}
    doc = make_doc(nlp.vocab, "Mary lives in Paris", [(0, 1, "PERSON"), (3, 4, "COUNTRY")])
    assert len(nlp(doc)._.relations) == 1


def test_backoff_type(published: Path) -> None:
    nlp, pipe = tacred(published, backoff_type="MISC")
    doc = nlp(SENTENCE)
    (answer,) = by_hand(published, "[unused5] lives in Paris [unused11]")
    scores = {r.tail.text: (r.label, r.score) for r in doc._.relations if r.head.text == "Mary"}
    assert set(scores) == {"Paris", "president"}
    assert scores["president"] == (answer[0], pytest.approx(answer[1], abs=1e-5))
    # There is no marker for MISC as head.
    assert doc.spans["relations"].attrs["skipped_types"] == {"SUBJ=GPE": 2, "SUBJ=ORDINAL": 2}
    pipe.cfg["backoff_type"] = "PERSON"
    doc = nlp(SENTENCE)
    assert len(doc._.relations) == 6
    assert "skipped_types" not in doc.spans["relations"].attrs


def test_pretrained_classifier_that_says_too_little(published: Path, checkpoint: Path) -> None:
    # Nothing about the training is guessed.
    model = model_config(published)
    labels = {"labels": [f"r{i}" for i in range(42)]}
    cases: list[tuple[dict[str, Any], dict[str, Any] | None, str]] = [
        ({}, None, "E_SR701.*names none"),
        ({}, labels, "E_SR702.*the input mode"),
        ({"mode": "ner"}, labels, r"E_SR702.*any marker SUBJ=<type>, any marker OBJ=<type>"),
        ({"mode": "text"}, labels, r"E_SR702.*the marker SUBJ_START, the marker SUBJ_END"),
        ({"mode": "typed_markers"}, labels, "E_SR707"),
        ({"preset": "spanbert-tacred"}, {"labels": ["a", "b"]}, "E_SR211.* 2 labels"),
    ]
    for settings, given, message in cases:
        _, pipe = make_nlp(published, model=model, pretrained=True, **settings)
        with pytest.raises(ValueError, match=message):
            pipe.initialize(labels=given)
        assert not pipe.is_initialized
    _, pipe = make_nlp(checkpoint, preset="spanbert-tacred", model=model_config(checkpoint))
    with pytest.raises(ValueError, match=r"E_SR210.*classifier\.weight"):
        pipe.initialize()


def test_pretrained_classifier_with_named_classes(published: Path, tmp_path: Path) -> None:
    # The labels are the names in config.json, in the order of the classes.
    network = BertForSequenceClassification.from_pretrained(published)
    names = [f"r{(i * 5) % 42}" for i in range(42)]
    network.config.id2label = dict(enumerate(names))
    network.save_pretrained(tmp_path)
    for path in published.glob("*"):
        if path.name.startswith(("tokenizer", "vocab")):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    nlp, pipe = make_nlp(
        tmp_path,
        model=model_config(tmp_path),
        pretrained=True,
        mode="ner",
        markers=[["SUBJ=PERSON", "[unused5]"], ["OBJ=CITY", "[unused8]"]],
        negative_label="r0",
    )
    pipe.initialize()
    assert pipe.labels == tuple(names)
    doc = nlp(make_doc(nlp.vocab, "Mary lives in Paris", [(0, 1, "PERSON"), (3, 4, "CITY")]))
    ((_, score),) = by_hand(published, "[unused5] lives in [unused8]")
    (relation,) = doc._.relations
    assert relation.score == pytest.approx(score, abs=1e-5)


def test_preset_can_be_trained_further(published: Path) -> None:
    nlp, pipe = make_nlp(published, preset="spanbert-tacred", model=model_config(published))
    types = {"PER": "PERSON", "ORG": "ORG", "LOC": "GPE"}
    labels = {
        "works": "per:employee_of",
        "lives": "per:cities_of_residence",
        "killed": NEGATIVE,
        "based": "org:city_of_headquarters",
    }
    rows: list[Row] = [
        (
            text,
            [(start, end, types[label]) for start, end, label in entities],
            [(h, t, labels[label]) for h, t, label in relations],
        )
        for text, entities, relations in ROWS
    ]
    docs = [make_doc(nlp.vocab, *row) for row in rows]
    examples = make_examples(nlp, docs)
    initialize(nlp, examples)
    assert pipe.labels == SPANBERT_TACRED.labels
    losses = train(nlp, examples, 40, learn_rate=2e-3)
    assert losses[-1] < 0.1 * losses[0]
    pipe.cfg["score_pairs"] = "gold"
    assert nlp.evaluate(make_examples(nlp, docs))["rel_f"] == 1.0


# Several components, names


def test_two_instances(trained: Language, checkpoint: Path, tmp_path: Path) -> None:
    nlp, other = make_nlp(
        checkpoint,
        name="other",
        relations_key="links",
        extension_prefix="other_",
        pairs={"entities_key": "sc"},
    )
    nlp.add_pipe("relation_classifier", source=trained)
    nlp.add_pipe("entity_ruler", source=trained, first=True)
    text = "Mary killed the city"
    entities = [(0, 1, "A"), (3, 4, "B")]
    doc = make_doc(nlp.vocab, text, entities, key="sc")
    person, city = doc.spans["sc"]
    set_relations(doc, [Relation(city, person, "r"), Relation(person, city, NEGATIVE)], "links")
    examples = make_examples(nlp, [doc])
    fix_random_seed(0)
    other.initialize(lambda: examples, nlp=nlp)
    optimizer = create_adamw(learn_rate=5e-3)
    for _ in range(30):
        other.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "pipeline")
    for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
        doc = pipeline(TEXTS[0])
        assert found(doc) == GOLD[0]
        assert doc._.other_relations == ()
        doc = pipeline(make_doc(pipeline.vocab, text, entities, key="sc"))
        assert found(doc, "links") == [((3, 4), (0, 1), "r")]
        assert [r.label for r in doc._.other_relations] == ["r"]
        assert [r.label for r in doc[3:4]._.other_relations] == ["r"]
        assert doc._.relations == get_relations(doc, "relations") == ()
        assert doc._.other_relation_scores == ()


def test_analyze_pipes(trained: Language) -> None:
    analysis = trained.analyze_pipes(keys=["assigns", "requires", "scores", "retokenizes"])
    summary = analysis["summary"]["relation_classifier"]
    assert set(summary["assigns"]) == {"doc.spans", "doc._.relations", "doc._.spanrel_report"}
    assert {"rel_f", "rel_p", "rel_r", "rel_macro_f", "rel_per_type"} <= set(summary["scores"])
    assert not analysis["problems"]["relation_classifier"]


@pytest.mark.usefixtures("fresh_extensions")
def test_foreign_extension_is_not_overwritten(checkpoint: Path) -> None:
    # Another package may use the same short names.
    Doc.set_extension("relations", default="theirs", force=True)
    with pytest.raises(ValueError, match=r"E_SR101.*'extension_prefix'"):
        make_nlp(checkpoint)
    nlp, _ = make_nlp(checkpoint, extension_prefix="our_")
    doc = nlp.make_doc("a")
    assert (doc._.relations, doc._.our_relations) == ("theirs", ())


@pytest.mark.usefixtures("fresh_extensions")
def test_two_instances_with_one_name_for_two_groups(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"E_SR101.*'doc\._\.relations'"):
        make_nlp(checkpoint, relations_key="links")


def test_paragraphs_after_training_on_sentences(trained_path):
    nlp = spacy.load(trained_path)
    pipe = the_pipe(nlp)
    assert pipe.cfg["sentences_seen"] == [40 * len(TEXTS)] * 2
    paragraph = nlp.make_doc(" ".join(TEXTS))

    def read(doc):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nlp(doc)
        return [str(one.message) for one in caught if "W_SR153" in str(one.message)]

    assert not read(nlp.make_doc(TEXTS[0]))
    # Pairs that the Doc asks for are wanted, whatever they are.
    given = paragraph.copy()
    set_relations(given, [Relation(given[0:2], given[9:10], "")])
    assert not read(given)
    # Borders limit the pairs, and so does a distance.
    with_borders = paragraph.copy()
    for token in with_borders:
        token.is_sent_start = token.i == 0 or with_borders[token.i - 1].text == "."
    assert not read(with_borders)
    (message,) = read(paragraph.copy())
    assert f"a text of {len(TEXTS)} sentences" in message
    assert not read(paragraph.copy())
    limited = {"components.relation_classifier.pairs.max_distance": 5}
    nlp = spacy.load(trained_path, config=limited)
    assert not read(nlp.make_doc(paragraph.text))
