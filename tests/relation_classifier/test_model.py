"""The network gives the same logits as transformers for rows that the tests make themselves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed
from spacy.vocab import Vocab
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    RobertaForSequenceClassification,
)

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.encoding.pieces import PieceTokenizer
from spacy_spanrel.encoding.shim import get_shim
from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.markers import marker_names
from spacy_spanrel.relation_classifier.model import PairInput, make_marker
from spacy_spanrel.relation_classifier.network import PairNetwork
from spacy_spanrel.relation_classifier.pairs import TypedPair
from spacy_spanrel.relation_classifier.presets import SPANBERT_TACRED

from .util import (
    ROWS,
    Row,
    each_alone,
    edit_config,
    fast_tokenizer,
    in_one_batch,
    make_nlp,
    original_row,
    padded,
    tacred_checkpoint,
)

PRESET = "spanbert-tacred"
ORIGINAL_MODES = ["ner", "text", "text_ner", "ner_text"]
HEAD_TYPES = sorted({row.head_type for row in ROWS})
TAIL_TYPES = sorted({row.tail_type for row in ROWS})
LABELS = {
    "labels": ["based", "no_relation", "works"],
    "head_types": HEAD_TYPES,
    "tail_types": TAIL_TYPES,
}


@pytest.fixture(scope="module")
def tacred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of the published form. Tests must not change its files."""
    return tacred_checkpoint(tmp_path_factory.mktemp("tacred") / "bert")


@pytest.fixture(scope="module")
def original(tacred: Path) -> BertForSequenceClassification:
    return BertForSequenceClassification.from_pretrained(tacred)


def preset_rows(folder: Path, mode: str = "ner", rows: Sequence[Row] = ROWS) -> list[list[int]]:
    tokenizer = fast_tokenizer(folder)
    vocabulary = tokenizer.get_vocab()
    table = {name: vocabulary[entry] for name, entry in SPANBERT_TACRED.markers.items()}
    return [original_row(tokenizer, row, mode, table) for row in rows]


def network_of(pipe: RelationClassifier) -> PairNetwork:
    network = get_shim(pipe.model).module
    assert isinstance(network, PairNetwork)
    return network


def logits_of(pipe: RelationClassifier, rows: Sequence[Row] = ROWS) -> Tensor:
    docs = [row.doc(pipe.vocab) for row in rows]
    output = pipe.model.predict(PairInput(docs, [[row.pair] for row in rows], "sentence"))
    assert output.rows.tolist() == list(range(len(rows)))
    return output.logits


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def asked(row: Row, vocab: Vocab) -> Doc:
    """Return a Doc with a relation without a label, so that the pair of the row is classified."""
    doc = row.doc(vocab)
    set_relations(doc, [Relation(*row.arguments(doc), label="")])
    return doc


def ready(checkpoint: Path, **settings: Any) -> RelationClassifier:
    """Make a pipeline with the preset, ready to predict."""
    _, pipe = make_nlp(checkpoint, preset=PRESET, **settings)
    pipe.initialize()
    return pipe


# Published classifiers


@pytest.mark.parametrize("mode", ORIGINAL_MODES)
def test_logits_of_the_original(
    tacred: Path, original: BertForSequenceClassification, mode: str
) -> None:
    # The default mode is that of the published results. The tokenizer is cased, though no file says so.
    pipe = ready(tacred, mode=None if mode == "ner" else mode)
    assert pipe.mode == mode
    rows = preset_rows(tacred, mode)
    alone = each_alone(original, rows)
    # The rows differ in length and in their logits.
    assert len(set(map(len, rows))) > 3
    assert float(alone.std(dim=0).min()) > 0.01
    assert_same(in_one_batch(original, rows, 0), alone)
    assert_same(logits_of(pipe), alone)


def test_modes_differ(tacred: Path, original: BertForSequenceClassification) -> None:
    found = [each_alone(original, preset_rows(tacred, mode)) for mode in ORIGINAL_MODES]
    for i, a in enumerate(found):
        assert all(float((a - b).abs().max()) > 0.1 for b in found[:i])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "layers", "heads"), [(768, 12, 12), (1024, 24, 16)])
def test_logits_of_the_published_sizes(tmp_path: Path, width: int, layers: int, heads: int) -> None:
    folder = tacred_checkpoint(
        tmp_path / "bert", width=width, layers=layers, heads=heads, vocab_size=28996, std=0.02
    )
    original = BertForSequenceClassification.from_pretrained(folder)
    for mode in ORIGINAL_MODES:
        alone = each_alone(original, preset_rows(folder, mode))
        assert float(alone.std(dim=0).min()) > 1e-3
        pipe = ready(folder, mode=mode)
        assert_same(logits_of(pipe), alone)
        del pipe


@pytest.mark.parametrize("batch_pieces", [1, 40, 100_000, "auto"])
def test_batches_and_order_change_nothing(
    tacred: Path, original: BertForSequenceClassification, batch_pieces: int | str
) -> None:
    alone = each_alone(original, preset_rows(tacred))
    pipe = ready(tacred, model={"batch_pieces": batch_pieces})
    for seed in range(3):
        order = random.Random(seed).sample(range(len(ROWS)), len(ROWS))
        assert_same(logits_of(pipe, [ROWS[i] for i in order]), alone[order])


@pytest.mark.parametrize("batch_size", [1, 64])
def test_pipe_gives_the_probabilities_of_the_original(
    tacred: Path, original: BertForSequenceClassification, batch_size: int
) -> None:
    nlp, pipe = make_nlp(tacred, preset=PRESET, all_scores=True)
    pipe.initialize()
    rows = [ROWS[i % len(ROWS)] for i in random.Random(0).sample(range(70), 70)]
    docs = [asked(row, nlp.vocab) for row in rows]
    expected = each_alone(original, preset_rows(tacred)).softmax(dim=-1)
    for doc, row in zip(nlp.pipe(docs, batch_size=batch_size), rows, strict=True):
        (found,) = doc._.relation_scores
        assert list(found.scores) == list(SPANBERT_TACRED.labels)
        assert_same(torch.tensor(list(found.scores.values())), expected[ROWS.index(row)])
        for relation in doc._.relations:
            best = expected[ROWS.index(row)].argmax()
            assert relation.label == SPANBERT_TACRED.labels[best]


def test_pairs_of_one_doc(tacred: Path, original: BertForSequenceClassification) -> None:
    pipe = ready(tacred)
    rows = [row for row in ROWS if row.words == ROWS[0].words]
    assert len(rows) == 3
    doc, empty = rows[0].doc(pipe.vocab), Doc(pipe.vocab, words=["Acme"])
    pairs = [[], [row.pair for row in rows], [], [ROWS[-1].pair]]
    docs = [empty, doc, empty, ROWS[-1].doc(pipe.vocab)]
    output = pipe.model.predict(PairInput(docs, pairs, "sentence"))
    assert output.rows.tolist() == [0, 1, 2, 3]
    assert_same(output.logits, each_alone(original, preset_rows(tacred, rows=[*rows, ROWS[-1]])))


def test_no_pairs(tacred: Path) -> None:
    pipe = ready(tacred)
    for docs in ([], [Doc(pipe.vocab)], [row.doc(pipe.vocab) for row in ROWS]):
        output = pipe.model.predict(PairInput(docs, [[] for _ in docs], "sentence"))
        assert output.logits.shape == (0, 42)
        assert output.rows.tolist() == []


def test_casing_starts_without_effect(
    tacred: Path, original: BertForSequenceClassification
) -> None:
    pipe = ready(tacred, model={"casing": True})
    assert network_of(pipe).encoder.casing is not None
    assert_same(logits_of(pipe), each_alone(original, preset_rows(tacred)))


def test_bfloat16(tacred: Path, original: BertForSequenceClassification) -> None:
    found = logits_of(ready(tacred, model={"precision": "bfloat16"}))
    expected = each_alone(original, preset_rows(tacred))
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    difference = (found - expected).abs().max()
    assert 0 < float(difference) < 0.1 * float(expected.abs().max())


# Context of a pair


def test_sentences_are_the_context(tacred: Path) -> None:
    pipe = ready(tacred)
    before, row = ["he", "was", "killed", "in", "London", "."], ROWS[0]
    doc = Doc(pipe.vocab, words=[*before, *row.words, *before])
    for token in doc:
        token.is_sent_start = token.i in (0, 6, 6 + len(row.words))

    def read(head: tuple[int, int], tail: tuple[int, int], context: Any) -> Tensor:
        pair = TypedPair(head, tail, row.head_type, row.tail_type)
        return pipe.model.predict(PairInput([doc], [[pair]], context)).logits

    def alone(start: int, end: int, head: tuple[int, int], tail: tuple[int, int]) -> Tensor:
        ranges = [(a - start, b - start) for a, b in (head, tail)]
        words = [token.text for token in doc[start:end]]
        return logits_of(pipe, [Row(words, ranges[0], row.head_type, ranges[1], row.tail_type)])

    head, tail, later = (6, 8), (10, 11), (18, 19)
    one, two, whole = (alone(a, b, head, tail) for a, b in ((6, 14), (6, 20), (0, 20)))
    assert float((one - whole).abs().max()) > 0.01
    assert float((one - two).abs().max()) > 0.01
    assert_same(read(head, tail, "sentence"), one)
    assert_same(read(head, tail, "doc"), whole)
    # From the first sentence that the pair touches to the last one.
    assert_same(read(head, later, "sentence"), alone(6, 20, head, later))
    assert_same(read(later, head, "sentence"), alone(6, 20, later, head))


def test_arguments_that_are_too_long_have_no_row(tacred: Path) -> None:
    # Arguments are never cut.
    pipe = ready(tacred, mode="text", model={"max_length": 16})
    words = ["the"] * 30
    pairs = [
        TypedPair((0, 2), (3, 4), "PERSON", "CITY"),
        TypedPair((0, 12), (14, 15), "PERSON", "CITY"),
        TypedPair((20, 22), (3, 4), "PERSON", "CITY"),
        TypedPair((0, 9), (29, 30), "PERSON", "CITY"),
    ]
    doc = Doc(pipe.vocab, words=words)
    output = pipe.model.predict(PairInput([doc, doc], [pairs, pairs[:2]], "doc"))
    assert output.rows.tolist() == [0, 2, 3, 4]
    assert torch.isfinite(output.logits).all()
    assert_same(output.logits[3], output.logits[0])


def test_tokenizer_is_called_once(tacred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    tokenize = PieceTokenizer.__call__

    def spy(self: PieceTokenizer, texts: Sequence[str]) -> Any:
        calls.append(list(texts))
        return tokenize(self, texts)

    nlp, pipe = make_nlp(tacred, preset=PRESET, all_scores=True)
    pipe.initialize()
    doc = Doc(nlp.vocab, words=["John"] * 24)
    doc.set_ents([Span(doc, i, i + 1, label="PERSON") for i in range(24)])
    monkeypatch.setattr(PieceTokenizer, "__call__", spy)
    doc = pipe(doc)
    assert calls == [[doc.text]]
    scores = doc._.relation_scores
    assert len({(s.head.start, s.tail.start) for s in scores}) == len(scores) == 552


# Other networks and heads


def markers_of(folder: Path, mode: str) -> tuple[int, dict[str, int]]:
    """Rows of the embedding in a checkpoint, and ids of markers: first the free entries of the
    vocabulary, then new rows."""
    n_old = AutoConfig.from_pretrained(folder).vocab_size
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    free = [vocabulary[f"[unused{i}]"] for i in range(1, 10) if f"[unused{i}]" in vocabulary]
    names = marker_names(mode, HEAD_TYPES, TAIL_TYPES)
    return n_old, dict(zip(names, [*free, *range(n_old, n_old + 99)], strict=False))


def trainable(checkpoint: Path, mode: str, **model: Any) -> RelationClassifier:
    fix_random_seed(0)
    model = {"max_length": "auto", "dropout": 0.0, "head_dropout": 0.0, **model}
    _, pipe = make_nlp(checkpoint, mode=mode, model=model)
    pipe.initialize(labels=LABELS)
    return pipe


@pytest.mark.parametrize("mode", ORIGINAL_MODES)
def test_logits_of_roberta(roberta_checkpoint: Path, mode: str) -> None:
    # No free entries, so all markers are new rows.
    pipe = trainable(roberta_checkpoint, mode)
    n_old, table = markers_of(roberta_checkpoint, mode)
    assert pipe.markers == table
    assert min(table.values()) == n_old
    weights = network_of(pipe).encoder.transformer.state_dict()
    config = AutoConfig.from_pretrained(
        roberta_checkpoint, vocab_size=n_old + len(table), num_labels=3
    )
    reference = RobertaForSequenceClassification(config)
    reference.load_state_dict(weights)
    tokenizer = AutoTokenizer.from_pretrained(roberta_checkpoint)
    rows = [original_row(tokenizer, row, mode, table) for row in ROWS]
    alone = each_alone(reference, rows)
    assert float(alone.std(dim=0).min()) > 1e-3
    assert_same(in_one_batch(reference, rows, tokenizer.pad_token_id), alone)
    assert_same(logits_of(pipe), alone)
    # The encoder comes from the checkpoint.
    for name, value in AutoModel.from_pretrained(roberta_checkpoint).state_dict().items():
        if "pooler" not in name:
            assert torch.equal(weights[f"roberta.{name}"][: len(value)], value)


def typed_reference(
    pipe: RelationClassifier, folder: Path
) -> tuple[BertModel, list[list[int]], list[list[int]]]:
    """The encoder, the rows, and in each row the places of the first markers of head and tail."""
    n_old, table = markers_of(folder, "typed_markers")
    n_new = sum(i >= n_old for i in table.values())
    config = AutoConfig.from_pretrained(
        folder,
        vocab_size=n_old + n_new,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    encoder.load_state_dict(network_of(pipe).encoder.transformer.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [original_row(tokenizer, row, "typed_markers", table) for row in ROWS]
    places = [
        [
            ids.index(table[f"SUBJ_START={row.head_type}"]),
            ids.index(table[f"OBJ_START={row.tail_type}"]),
        ]
        for ids, row in zip(rows, ROWS, strict=True)
    ]
    return encoder, rows, places


def typed_logits(states: Tensor, places: list[list[int]], head: dict[str, Tensor]) -> Tensor:
    """The head of Zhou and Chen (2021) on hidden states, (rows, length, width)."""
    pairs = torch.stack([states[i, at].flatten() for i, at in enumerate(places)])
    hidden = F.linear(pairs, head["dense.weight"], head["dense.bias"]).relu()
    return F.linear(hidden, head["output.weight"], head["output.bias"])


def test_logits_of_typed_markers(bert_checkpoint: Path) -> None:
    pipe = trainable(bert_checkpoint, "typed_markers")
    n_old, table = markers_of(bert_checkpoint, "typed_markers")
    assert pipe.markers == table
    assert sum(i < n_old for i in table.values()) == 9  # the free entries, then new rows
    encoder, rows, places = typed_reference(pipe, bert_checkpoint)
    head = network_of(pipe).head.state_dict()
    expected = torch.cat(
        [
            typed_logits(each_alone(encoder, [ids]), [at], head)
            for ids, at in zip(rows, places, strict=True)
        ]
    )
    assert float(expected.std(dim=0).min()) > 1e-3
    assert_same(logits_of(pipe), expected)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("mode", ["text", "typed_markers"])
def test_saved_markers(request: pytest.FixtureRequest, kind: str, mode: str) -> None:
    pipe = trainable(request.getfixturevalue(f"{kind}_checkpoint"), mode)
    before = logits_of(pipe)
    _, loaded = make_nlp("nowhere/at-all", mode=mode, model={"max_length": "auto"})
    loaded.from_bytes(pipe.to_bytes())
    assert loaded.markers == pipe.markers
    assert (loaded.mode, loaded.labels) == (mode, pipe.labels)
    assert make_marker(loaded.model) == make_marker(pipe.model)
    torch.testing.assert_close(logits_of(loaded), before, atol=1e-6, rtol=0)


# Gradients


def examples_of(pipe: RelationClassifier) -> tuple[list[Example], Tensor]:
    """Return an Example for each row, with some label, and the classes of the labels."""
    examples, classes = [], []
    for i, row in enumerate(ROWS):
        gold = row.doc(pipe.vocab)
        classes.append(5 * i % len(pipe.labels))
        label = pipe.labels[classes[-1]]
        set_relations(gold, [Relation(*row.arguments(gold), label=label)])
        examples.append(Example(row.doc(pipe.vocab), gold))
    assert len(set(classes)) > 2
    return examples, torch.tensor(classes)


def assert_same_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    assert sum(float(p.grad.abs().max()) > 1e-4 for p in expected.values()) > 20
    for name, parameter in expected.items():
        torch.testing.assert_close(
            found[name].grad, parameter.grad, atol=1e-6, rtol=1e-3, msg=f"gradient of {name}"
        )


@pytest.mark.parametrize("batch_pieces", [40, 100_000])
def test_gradients_of_a_sequence_classifier(tacred: Path, batch_pieces: int) -> None:
    pipe = ready(tacred, model={"dropout": 0.0, "batch_pieces": batch_pieces})
    examples, classes = examples_of(pipe)
    losses = pipe.update(examples)
    reference = BertForSequenceClassification.from_pretrained(tacred)
    ids, mask = padded(preset_rows(tacred), 0)
    loss = F.cross_entropy(reference(input_ids=ids, attention_mask=mask).logits, classes)
    loss.backward()
    assert losses == {"relation_classifier": pytest.approx(loss.item(), rel=1e-5)}
    network = network_of(pipe)
    assert network.head is None
    assert_same_gradients(
        dict(network.encoder.transformer.named_parameters()), dict(reference.named_parameters())
    )


@pytest.mark.parametrize("batch_pieces", [40, 100_000])
def test_gradients_of_typed_markers(bert_checkpoint: Path, batch_pieces: int) -> None:
    pipe = trainable(bert_checkpoint, "typed_markers", batch_pieces=batch_pieces)
    examples, classes = examples_of(pipe)
    encoder, rows, places = typed_reference(pipe, bert_checkpoint)
    head = {
        name: value.clone().requires_grad_()
        for name, value in network_of(pipe).head.state_dict().items()
    }
    losses = pipe.update(examples)
    ids, mask = padded(rows, 0)
    states = encoder(input_ids=ids, attention_mask=mask)[0]
    loss = F.cross_entropy(typed_logits(states, places, head), classes)
    loss.backward()
    assert losses == {"relation_classifier": pytest.approx(loss.item(), rel=1e-5)}
    network = network_of(pipe)
    assert_same_gradients(
        {
            **dict(network.encoder.transformer.named_parameters()),
            **dict(network.head.named_parameters()),
        },
        {**dict(encoder.named_parameters()), **head},
    )


def test_prediction_leaves_no_gradients(tacred: Path) -> None:
    pipe = ready(tacred)
    logits_of(pipe)
    assert all(p.grad is None for p in network_of(pipe).parameters())
    assert not network_of(pipe).training


@pytest.mark.parametrize(
    "classifier",
    [
        None,
        0.5,
    ],
)
def test_dropout_of_the_whole_network(tmp_path: Path, classifier: float | None) -> None:
    folder = tacred_checkpoint(tmp_path / "bert")
    edit_config(folder, classifier_dropout=classifier)

    def found(**model: Any) -> set[float]:
        modules = network_of(ready(folder, model=model)).modules()
        return {module.p for module in modules if isinstance(module, torch.nn.Dropout)}

    assert found() == {0.1, classifier or 0.1}
    assert found(dropout=0.25) == {0.25}


# Labels of published classifiers


def test_order_of_the_checkpoint_wins(tmp_path: Path) -> None:
    names = list(SPANBERT_TACRED.labels)
    random.Random(0).shuffle(names)
    folder = tacred_checkpoint(tmp_path / "bert", id2label=dict(enumerate(names)))
    nlp, pipe = make_nlp(folder, preset=PRESET, all_scores=True)
    pipe.initialize()
    assert list(pipe.labels) == names != list(SPANBERT_TACRED.labels)
    row = ROWS[0]
    (found,) = pipe(asked(row, nlp.vocab))._.relation_scores
    network = BertForSequenceClassification.from_pretrained(folder)
    expected = each_alone(network, preset_rows(folder, rows=[row])).softmax(dim=-1)[0]
    assert found.scores == pytest.approx(dict(zip(names, expected.tolist(), strict=True)), abs=1e-5)


def test_preset_names_classes_without_names(tacred: Path) -> None:
    assert AutoConfig.from_pretrained(tacred).id2label[41] == "LABEL_41"
    assert ready(tacred).labels == SPANBERT_TACRED.labels
    # Given labels take precedence.
    _, pipe = make_nlp(tacred, preset=PRESET)
    turned = list(SPANBERT_TACRED.labels)[::-1]
    pipe.initialize(labels={"labels": turned})
    assert list(pipe.labels) == turned


# The original program writes a config.json without the number: only the weights show it.
@pytest.mark.parametrize("settings", [{"num_labels": 42}, {}])
def test_config_without_names_of_classes(tmp_path: Path, settings: dict[str, int]) -> None:
    folder = tacred_checkpoint(tmp_path / "bert")
    expected = logits_of(ready(folder))
    edit_config(folder, id2label=None, label2id=None, **settings)
    pipe = ready(folder)
    assert pipe.labels == SPANBERT_TACRED.labels
    assert_same(logits_of(pipe), expected)


def test_checkpoint_without_a_classifier(tmp_path: Path) -> None:
    folder = tacred_checkpoint(tmp_path / "bert")
    edit_config(folder, architectures=["BertModel"])
    weights = torch.load(folder / "pytorch_model.bin")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    assert len(kept) == len(weights) - 2
    torch.save(kept, folder / "pytorch_model.bin")
    refused(folder, r"E_SR210.*classifier\.bias, classifier\.weight", preset=PRESET)


# Errors

TEXT_MARKERS = {
    "SUBJ_START": "[unused1]",
    "SUBJ_END": "[unused2]",
    "OBJ_START": "[unused3]",
    "OBJ_END": "[unused4]",
}
TYPED_MARKERS = {"SUBJ=PERSON": "[unused5]", "OBJ=CITY": "[unused6]"}


def refused(checkpoint: Path, match: str, labels: Any = None, **settings: Any) -> None:
    _, pipe = make_nlp(checkpoint, **settings)
    with pytest.raises(ValueError, match=match):
        pipe.initialize(labels=labels)
    assert not pipe.is_initialized


def test_no_labels(bert_checkpoint: Path, tacred: Path) -> None:
    refused(bert_checkpoint, "E_SR701")
    # LABEL_0, LABEL_1, ... are not names.
    refused(tacred, "E_SR701", pretrained=True, mode="text", markers=TEXT_MARKERS)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "the input mode"),
        ({"markers": {**TEXT_MARKERS, **TYPED_MARKERS}}, "the input mode"),
        ({"mode": "text"}, "SUBJ_START, the marker SUBJ_END, the marker OBJ_START"),
        ({"mode": "text", "markers": {**TEXT_MARKERS, **TYPED_MARKERS, "SUBJ_END": None}}, "_END"),
        ({"mode": "ner"}, "any marker SUBJ=<type>, any marker OBJ=<type>"),
        ({"mode": "ner", "markers": {"SUBJ=PERSON": "[unused5]"}}, "any marker OBJ=<type>"),
        ({"mode": "ner_text", "markers": {"OBJ=CITY": "[unused5]"}}, "any marker SUBJ=<type>"),
        ({"mode": "text_ner", "markers": TEXT_MARKERS}, "any marker SUBJ=<type>"),
        ({"mode": "text_ner", "markers": TYPED_MARKERS}, "the marker SUBJ_START"),
    ],
)
def test_marking_is_not_guessed(tmp_path: Path, settings: dict[str, Any], missing: str) -> None:
    folder = tacred_checkpoint(tmp_path / "bert", n_labels=2, id2label={0: "no_relation", 1: "a"})
    if "markers" in settings:
        settings["markers"] = {k: v for k, v in settings["markers"].items() if v is not None}
    refused(folder, f"E_SR702.*{missing}.*spanbert-tacred", pretrained=True, **settings)


@pytest.mark.parametrize(
    ("mode", "markers"),
    [
        ("text", TEXT_MARKERS),
        ("ner", TYPED_MARKERS),
        ("text_ner", {**TEXT_MARKERS, **TYPED_MARKERS}),
    ],
)
def test_marking_that_is_given(tmp_path: Path, mode: str, markers: dict[str, str]) -> None:
    folder = tacred_checkpoint(tmp_path / "bert", n_labels=2, id2label={0: "no_relation", 1: "a"})
    _, pipe = make_nlp(folder, pretrained=True, mode=mode, markers=markers)
    pipe.initialize()
    assert pipe.labels == ("no_relation", "a")
    tokenizer = fast_tokenizer(folder)
    table = {name: tokenizer.get_vocab()[entry] for name, entry in markers.items()}
    assert pipe.markers == table
    rows = [ROWS[-1]]
    ids = [original_row(tokenizer, row, mode, table) for row in rows]
    network = BertForSequenceClassification.from_pretrained(folder)
    assert_same(logits_of(pipe, rows), each_alone(network, ids))


def test_wrong_number_of_classes(tmp_path: Path, bert_checkpoint: Path, tacred: Path) -> None:
    five = tacred_checkpoint(tmp_path / "bert", n_labels=5)
    refused(five, "E_SR211.*than the 42 labels", preset=PRESET)
    refused(tacred, "E_SR211.*than the 1 labels", {"labels": ["a"]}, preset=PRESET)
    # An encoder has no classes.
    refused(bert_checkpoint, "E_SR210", preset=PRESET, model={"max_length": "auto"})


def test_vocabulary_without_the_entries(tmp_path: Path, tacred: Path) -> None:
    nine = tacred_checkpoint(tmp_path / "bert", unused=9)
    refused(nine, r"E_SR704.*'\[unused10\]'", preset=PRESET)
    refused(tacred, "E_SR704.*'<e1>'", preset=PRESET, markers={"SUBJ=PERSON": "<e1>"})


def test_typed_markers_have_a_head_of_their_own(tacred: Path) -> None:
    refused(tacred, "E_SR707", preset=PRESET, mode="typed_markers")
    labels = {"labels": [f"r{i}" for i in range(42)]}
    refused(tacred, "E_SR707", labels, pretrained=True, mode="typed_markers")


def test_rows_longer_than_the_network_takes(bert_checkpoint: Path) -> None:
    refused(bert_checkpoint, "E_SR205.* 64 pieces", LABELS, mode="text")
