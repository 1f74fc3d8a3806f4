"""The logits of teachers for spans and pairs: those that a batch needs, and their places in it.

A teacher reads each text once (`training.teacher`), while training draws other spans and pairs of it in
every epoch. So the teacher gives the logits of all short spans of a text and of all pairs of its entities,
and each batch picks its own from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.training import Example
from torch import Tensor

from ..arrays import AnyArray, FloatArray, IntArray
from ..encoding.encoder import EncodedDocs
from ..training.corpus import is_unlabelled
from ..training.losses import Taught
from ..training.teacher import Teacher, teachers_mean
from .decoding import Entities
from .gold import Gold
from .network import SpERTHeads
from .reach import Reach, Unreachable
from .targets import Targets

# Largest number of tokens of a span, and the ranges that are paired, in ascending order; None for the
# entities that the teacher predicts.
Request = tuple[int, list[tuple[int, int]] | None]


def taught_batch(
    teachers: Sequence[Teacher],
    examples: Sequence[Example],
    targets: Targets,
    cfg: Mapping[str, Any],
    n_passes: int,
    device: torch.device,
) -> tuple[Taught, Taught]:
    """Return what the teachers say about the spans and pairs of a batch. In unlabelled texts the first one
    says which spans are entities.

    teachers (Sequence[Teacher]): The teachers, one at least.
    examples (Sequence[Example]): The batch.
    targets (Targets): Its spans and pairs, once for each pass.
    cfg (Mapping[str, Any]): Settings of the student.
    n_passes (int): Number of passes over the batch.
    device (torch.device): The device of the student.
    RETURNS (tuple[Taught, Taught]): The logits of the spans, and those of the pairs.
    """
    docs = [example.predicted for example in examples]
    offsets = np.cumsum([0, *map(len, docs)])
    n_spans, n_pairs = len(targets.spans) // n_passes, len(targets.pairs) // n_passes
    spans, pairs = targets.spans[:n_spans], targets.pairs[:n_pairs]
    is_entity = targets.span_labels[:n_spans] > 0
    if cfg["entities"] == "doc":
        is_entity[:] = True
    entities = spans[is_entity]
    borders = np.searchsorted(_doc_of(entities, offsets), np.arange(len(docs) + 1))
    max_size = cfg["max_span_size"]
    requests: list[tuple[Doc, Request]] = []
    for i, example in enumerate(examples):
        ranges = None
        if not is_unlabelled(example):
            of_doc = entities[borders[i] : borders[i + 1]] - offsets[i]
            ranges = sorted({(start, end) for start, end in of_doc.tolist()})
        requests.append((docs[i], (max_size, ranges)))
    logits = []
    for teacher in teachers:
        answers = teacher.logits(requests)
        logits.append(pick_logits(answers, spans, pairs, offsets, max_size, teacher.columns))
        requests = [
            (doc, (size, list(map(tuple, said[:, :2].tolist())) if ranges is None else ranges))
            for (doc, (size, ranges)), (_, _, said) in zip(requests, answers, strict=True)
        ]
    of_spans, of_pairs = (
        teachers_mean(cfg["teacher"], [np.tile(each, (n_passes, 1)) for each in kind], device)
        for kind in zip(*logits, strict=True)
    )
    return of_spans, of_pairs


def pick_logits(
    answers: Sequence[tuple[AnyArray, ...]],
    spans: IntArray,
    pairs: IntArray,
    offsets: IntArray,
    max_size: int,
    columns: Mapping[str, IntArray],
) -> tuple[FloatArray, FloatArray]:
    """Pick the logits of the spans and pairs of a batch from those of its Docs.

    answers (Sequence[tuple[array, ...]]): For each Doc the logits of its spans, those of the pairs of
        some ranges, and these ranges in ascending order, as `SpanRelation.class_logits` returns them.
    spans (int64 array, (n_spans, 2)), pairs (int64 array, (n_pairs, 2)): As in `Targets`, Doc by Doc.
    offsets (int64 array, (n_docs + 1,)): First token of each Doc in the batch, and the number of all.
    max_size (int): Largest number of tokens of a span that has logits.
    columns (Mapping[str, int64 array]): The classes that are picked, as in `Teacher`.
    RETURNS (tuple[float32 array, float32 array]): The logits of spans, ``(n_spans, 1 + n_entity_types)``,
        and of pairs, ``(n_pairs, n_relation_types)``; NaN for longer spans, and for pairs of other
        spans than the ranges (those of `hard_negatives` with a span that is no entity).
    """
    classes, relations = np.append(0, columns["entity"] + 1), columns["relation"]
    span_logits = np.full((len(spans), len(classes)), np.nan, dtype=np.float32)
    pair_logits = np.full((len(pairs), len(relations)), np.nan, dtype=np.float32)
    doc_of_span, numbers = _doc_of(spans, offsets), np.arange(len(answers) + 1)
    first_spans = np.searchsorted(doc_of_span, numbers)
    first_pairs = np.searchsorted(doc_of_span[pairs[:, 0]], numbers)
    for i, (of_spans, of_pairs, ranges) in enumerate(answers):
        first = first_spans[i]
        in_doc = spans[first : first_spans[i + 1]] - offsets[i]
        sizes = in_doc[:, 1] - in_doc[:, 0]
        short = np.flatnonzero(sizes <= max_size)
        span_logits[first + short] = of_spans[in_doc[short, 0], sizes[short] - 1][:, classes]
        # The row of each span among the ranges, -1 if it is not there. The last key is that of no span.
        base = offsets[i + 1] - offsets[i] + 1
        keys = np.append(ranges[:, :2] @ [base, 1], base * base)
        key_of_span = in_doc @ [base, 1]
        places = np.searchsorted(keys, key_of_span)
        places[keys[places] != key_of_span] = -1
        heads, tails = places[pairs[first_pairs[i] : first_pairs[i + 1]] - first].T
        both = np.flatnonzero((heads >= 0) & (tails >= 0))
        picked = of_pairs[heads[both], tails[both]]
        pair_logits[first_pairs[i] + both] = picked[:, relations]
    return span_logits, pair_logits


def _doc_of(spans: IntArray, offsets: IntArray) -> IntArray:
    return np.searchsorted(offsets, spans[:, 0], side="right") - 1


def teachers_gold(teacher: Teacher, doc: Doc, reach: Reach, cfg: Mapping[str, Any]) -> Gold:
    """Return the entities and relations that a teacher predicts in an unlabelled Doc, as far as the
    student can predict them.

    teacher (Teacher): The teacher.
    doc (Doc): The Doc.
    reach (Reach): The student's reach in it.
    cfg (Mapping[str, Any]): Settings of the student.
    RETURNS (Gold): The entities and relations, in place of gold annotation.
    """
    request: Request = (cfg["max_span_size"], None)
    ((_, pair_logits, entities),) = teacher.logits([(doc, request)])
    label_of = dict(zip(teacher.columns["entity"].tolist(), cfg["entity_labels"], strict=True))
    gold = Gold(
        [(start, end, label_of[kind]) for start, end, kind in entities.tolist() if kind in label_of]
    )
    takes_entities = cfg["entities"] == "doc"
    ranges = [(start, end) for start, end, _ in entities.tolist()]
    kept = set(ranges if takes_entities else [entity[:2] for entity in gold.entities])
    holds = pair_logits[:, :, teacher.columns["relation"]] > 0
    for i, j, column in np.argwhere(holds).tolist():
        head, tail = ranges[i], ranges[j]
        if i != j and head in kept and tail in kept:
            gold.relations.append((head, tail, cfg["relation_labels"][column]))
    unreachable = Unreachable()
    gold.relations = unreachable.take_out_relations(gold.relations, doc, reach)
    if not takes_entities:
        gold.entities = unreachable.take_out_entities(gold.entities, doc, reach)
    return gold


def answer_requests(
    heads: SpERTHeads,
    encoded: EncodedDocs,
    span_logits: Tensor,
    entities: Entities,
    requests: Sequence[Request],
    n_entity_types: int,
    n_relation_types: int,
) -> list[tuple[AnyArray, ...]]:
    """Answer a student's requests: `SpanRelation.class_logits` of a batch that is encoded.

    heads (SpERTHeads): The teacher's network.
    encoded (EncodedDocs): The Docs.
    span_logits (Tensor): Logits of their spans. *Shape:* ``(n_tokens, max_size, 1 + n_entity_types)``
    entities (Entities): Their entities.
    requests (Sequence[Request]): The requests about each Doc.
    n_entity_types, n_relation_types (int): Numbers of the teacher's labels.
    RETURNS (list[tuple[array, ...]]): The answers.
    """
    all_logits = span_logits.cpu().numpy()
    offsets = encoded.token_offsets
    type_of = dict(zip(map(tuple, entities.spans.tolist()), entities.types.tolist(), strict=True))
    rows: list[tuple[int, int, int]] = []
    counts = []
    for i, (_, ranges) in enumerate(requests):
        first = int(offsets[i])
        if ranges is None:
            spans = sorted(set(map(tuple, entities.spans[entities.docs == i].tolist())))
        else:
            spans = [(start + first, end + first) for start, end in ranges]
        for start, end in spans:
            kind = type_of.get((start, end))
            if kind is None and n_entity_types and end - start <= all_logits.shape[1]:
                kind = int(all_logits[start, end - start - 1, 1:].argmax())
            rows.append((start, end, n_entity_types if kind is None else kind))
        counts.append(len(spans))
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
    firsts = np.cumsum([0, *counts])
    pairs = np.concatenate(
        [np.indices((n, n)).reshape(2, -1).T + i for n, i in zip(counts, firsts, strict=False)]
    ).astype(np.int64)
    arrays = (torch.from_numpy(array) for array in (table[:, :2], pairs, table[:, 2]))
    pair_logits = heads.predict_pairs(encoded, *arrays).float().cpu().numpy()
    borders = np.cumsum([0, *(n * n for n in counts)])
    return [
        (
            all_logits[offsets[i] : offsets[i + 1], :max_size],
            pair_logits[borders[i] : borders[i + 1]].reshape(n, n, n_relation_types),
            table[firsts[i] : firsts[i + 1]] - [offsets[i], offsets[i], 0],
        )
        for i, (n, (max_size, _)) in enumerate(zip(counts, requests, strict=True))
    ]
