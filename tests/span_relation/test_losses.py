"""The gradient that the component backpropagates is that of the whole loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spacy import registry
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed
from torch import Tensor
from torch.nn import functional as F

from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.span_relation.component import SpanRelation
from spacy_spanrel.span_relation.model import begin_update_heads
from spacy_spanrel.span_relation.targets import Targets
from spacy_spanrel.training.optimizer import create_adamw

from ..util import initialize, make_doc, plain_adamw
from .util import (
    ROWS,
    Row,
    copy_ents,
    make_examples,
    make_nlp,
    model_config,
    targets_of,
    train_step,
)

NO_PAIRS: list[Row] = [("Mary lives in London .", [(0, 1, "Per")], []), ("he", [], [])]
OVERLAPS: list[Row] = [
    (
        "John Smith works for Google in Paris .",
        [(0, 2, "Per"), (0, 1, "Per"), (1, 2, "Org"), (1, 2, "Loc"), (4, 5, "Org")],
        [(0, 4, "works"), (1, 2, "based"), (2, 0, "lives")],
    )
]
BATCHES = {
    "usual": ROWS,
    "no pairs": NO_PAIRS,
    "no entities": [ROWS[4]],
    "empty Docs": [("", [], []), ROWS[1], ("", [], [])],
    "overlapping entities": OVERLAPS,
    "longer than a window": [(" ".join([ROWS[0][0]] * 12), ROWS[0][1], ROWS[0][2])],
}


def gradients(pipe: SpanRelation) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for i, shim in enumerate(torch_shims(pipe.model))
        for name, p in shim.module.named_parameters()
    }


def whole_loss(pipe: SpanRelation, docs: list[Doc], targets: Targets) -> Tensor:
    """Compute the loss of SpERT from its definition, in one graph through encoder and heads."""
    encoder = pipe.model.get_ref("encoder")
    heads = pipe.model.shims[0].module
    with torch.enable_grad():
        encoded, _ = encoder.begin_update(docs)  # its output carries the graph
        spans, pairs = targets.spans.tolist(), targets.pairs.tolist()
        ranges = encoded.token_pieces.tolist()

        def maximum(start: int, end: int) -> Tensor:
            if end <= start:
                return encoded.pieces.new_zeros(encoded.pieces.shape[1])
            return encoded.pieces[start:end].max(dim=0).values

        def represent(start: int, end: int) -> Tensor:
            maxima = [maximum(ranges[start][0], ranges[end - 1][1])]
            if heads.settings.boundaries:
                maxima += [maximum(*ranges[start]), maximum(*ranges[end - 1])]
            return torch.cat(maxima)

        def size(start: int, end: int) -> Tensor:
            return heads.size_embeddings.weight[end - start]

        loss = encoded.pieces.sum() * 0
        if spans and pipe.cfg["entities"] == "predict":
            rows = [
                torch.cat([encoded.context[encoded.token_window[s]], represent(s, e), size(s, e)])
                for s, e in spans
            ]
            labels = torch.from_numpy(targets.span_labels)
            loss = loss + F.cross_entropy(heads.entity_classifier(torch.stack(rows)), labels)
        if pairs:
            rows = []
            for head, tail in pairs:
                first, second = sorted((spans[head], spans[tail]))
                between = maximum(ranges[first[1] - 1][1], ranges[second[0]][0])
                rows.append(
                    torch.cat(
                        [
                            between,
                            *(represent(*spans[x]) for x in (head, tail)),
                            *(size(*spans[x]) for x in (head, tail)),
                        ]
                    )
                )
            truth = torch.from_numpy(targets.pair_targets)
            logits = heads.rel_classifier(torch.stack(rows))
            loss = loss + F.binary_cross_entropy_with_logits(logits, truth)
    return loss


@pytest.mark.parametrize("entities", ["predict", "doc"])
@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
def test_gradient_is_that_of_the_whole_loss(
    checkpoint: Path, batch: str, boundaries: bool, entities: str
) -> None:
    nlp, pipe = make_nlp(
        checkpoint, model=model_config(checkpoint, boundaries=boundaries), entities=entities
    )
    initialize(nlp, make_examples(nlp))
    if batch == "overlapping entities":
        docs = [make_doc(nlp.vocab, *row, key="entities") for row in BATCHES[batch]]
        examples = [Example(doc.copy(), doc) for doc in docs]
        pipe.cfg["entities_key"] = "entities"
    else:
        examples = make_examples(nlp, BATCHES[batch])
        for example in examples:
            copy_ents(example)
    docs = [example.predicted for example in examples]
    targets = targets_of(pipe, examples)

    loss = whole_loss(pipe, docs, targets)
    loss.backward()
    expected = gradients(pipe)
    for shim in torch_shims(pipe.model):
        shim.module.zero_grad(set_to_none=True)

    encoded, backprop = pipe.model.begin_update(docs)
    logits, backprop_heads = begin_update_heads(pipe.model, encoded, targets.spans, targets.pairs)
    losses, d_logits = pipe.get_losses(targets, *logits)
    backprop(*backprop_heads(d_logits))
    actual = gradients(pipe)
    assert sum(losses) == pytest.approx(float(loss.detach()), abs=1e-5)
    assert set(actual) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    if batch == "usual" and entities == "predict":
        assert all(
            gradient.abs().sum() > 0 for name, gradient in actual.items() if "classifier" in name
        )


@pytest.mark.parametrize("correct_bias", [True, False])
def test_training_equals_a_plain_loop(checkpoint: Path, correct_bias: bool) -> None:
    """Training equals a plain loop over targets, losses, gradients, clipping, decay, schedule and
    optimizer.

    The loop is written from the description of the original program's recipe. All candidates are
    sampled, so the result does not depend on chance.
    """
    rate, warmup, total, clip, decay, eps = 5e-3, 4, 12, 1.0, 0.1, 1e-4
    nlp, pipe = make_nlp(checkpoint, neg_entity_count=1000, neg_relation_count=1000)
    _, plain = make_nlp(checkpoint, neg_entity_count=1000, neg_relation_count=1000)
    examples = make_examples(nlp)
    for component in (pipe, plain):
        fix_random_seed(0)
        component.initialize(lambda: examples, nlp=nlp)
    optimizer = create_adamw(
        registry.schedules.get("warmup_linear.v1")(rate, warmup, total),
        weight_decay=decay,
        grad_clip=clip,
        eps=eps,
        correct_bias=correct_bias,
    )
    weights = [p for shim in torch_shims(plain.model) for p in shim.module.parameters()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in weights]
    expected, actual = [], []
    for t in range(10):
        batch = [examples[(2 * t) % 5], examples[(2 * t + 1) % 5]]
        actual.append(train_step(nlp, batch, optimizer)["span_relation"])
        optimizer.step_schedules()

        loss = whole_loss(plain, [eg.predicted for eg in batch], targets_of(plain, batch))
        loss.backward()
        expected.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(weights, clip)
        lr = rate * min(t / warmup, (total - t) / (total - warmup))
        plain_adamw(weights, moments, t + 1, lr, eps=eps, decay=decay, correct_bias=correct_bias)
    assert actual == pytest.approx(expected, abs=1e-4)
    assert actual[-1] < 0.8 * actual[0]


def test_losses_always_have_all_names(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    zeros = dict.fromkeys(pipe.loss_names, 0.0)
    assert list(zeros) == ["span_relation", "span_relation_entities", "span_relation_relations"]
    assert pipe.update([]) == zeros
    empty = Example(Doc(nlp.vocab), Doc(nlp.vocab))
    assert pipe.update([empty], losses={"other": 2.0}) == {"other": 2.0, **zeros}
    pipe.cfg["entities"] = "doc"
    without_entities = make_examples(nlp, [ROWS[4]])
    assert pipe.update(without_entities) == {"span_relation": 0.0, "span_relation_relations": 0.0}


def test_entity_and_relation_losses_add_up(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    first = pipe.update(examples)
    entities, relations = first["span_relation_entities"], first["span_relation_relations"]
    assert entities > 0
    assert relations > 0
    assert first["span_relation"] == entities + relations
    # The totals grow with each update, even if it adds its losses to another dictionary.
    second = pipe.update(examples)
    for name in pipe.loss_names:
        assert pipe.loss_totals[name] == pytest.approx(first[name] + second[name])
    pipe.cfg["entities"] = "doc"
    for example in examples:
        copy_ents(example)
    third = pipe.update(examples)
    assert list(third) == ["span_relation", "span_relation_relations"]
    assert third["span_relation"] == third["span_relation_relations"] > 0


@pytest.mark.parametrize(("spans", "pairs"), [(0, 0), (2, 1), (1000, 1000)])
def test_number_of_negatives(checkpoint: Path, spans: int, pairs: int) -> None:
    nlp, pipe = make_nlp(checkpoint, neg_entity_count=spans, neg_relation_count=pairs)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    targets = targets_of(pipe, examples)
    lengths = [len(example.predicted) for example in examples]
    possible = sum(n - k for n in lengths for k in range(4) if n > k)
    n_gold = sum(len(row[1]) for row in ROWS)
    n_related = sum(len(row[2]) for row in ROWS)
    all_pairs = sum(len(row[1]) * (len(row[1]) - 1) for row in ROWS)
    assert (targets.span_labels > 0).sum() == n_gold
    assert targets.pair_targets.sum() == n_related
    if spans == 1000:
        assert len(targets.spans) == possible
        assert len(targets.pairs) == all_pairs
    else:
        assert len(targets.spans) == n_gold + spans * len(ROWS)
        # Each of the four sentences with entities has at least one unrelated pair.
        assert len(targets.pairs) == n_related + pairs * 4
