"""Training targets: the pairs of a batch that are learned, with their true labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from spacy.tokens import Doc
from spacy.training import Example

from ..arrays import BoolArray, FloatArray, IntArray
from ..errors import Errors
from ..pairing import check_gold_label
from ..training.corpus import is_unlabelled
from .entity_types import Variants
from .gold import Gold, read_gold
from .pairs import DocPairs, SpanPair, TypedPair, pair_key, typed_pair


@dataclass(frozen=True)
class Targets:
    """Pairs to classify in training, and the truth about them.

    pairs (list[list[TypedPair]]): The pairs of each predicted Doc.
    labels (int64 array, (n_pairs,)): Class of each pair, Doc by Doc.
    without_entities (list[str]): Relations of the gold annotation whose arguments are not paired in
        the predicted Docs.
    skipped (Counter[str]): Numbers of what the batch leaves out of training, by reason.
    weights (float32 array, (n_pairs,) | None): Weight of each pair in the loss; None for 1.
    """

    pairs: list[list[TypedPair]]
    labels: IntArray
    without_entities: list[str]
    skipped: Counter[str]
    weights: FloatArray | None = None


def make_targets(
    name: str,
    cfg: Mapping[str, Any],
    labels: Sequence[str],
    examples: Sequence[Example],
    find_pairs: Callable[[Doc], DocPairs],
    known_types: Variants,
    rng: np.random.Generator,
) -> Targets:
    """Make the targets of a batch.

    With `train_pairs` = "gold" the pairs are those of the gold annotation, else those of the predicted
    Docs, labelled as in `label_pairs`. Of a pair with alternative types, the first types are learned.
    The pairs of an unlabelled Example are those of the predicted Doc, as negative ones with the weight 0.
    Of the negative pairs, as many are drawn as `max_negatives` allows.

    name (str): Name of the component.
    cfg (Mapping[str, Any]): Its settings.
    labels (Sequence[str]): Its labels, in the order of the classes.
    examples (Sequence[Example]): The batch.
    find_pairs (Callable[[Doc], DocPairs]): Returns the pairs of a predicted Doc.
    known_types (Callable[[str, str], list[tuple[str, str]]]): Returns the names that the network has
        for two entity types, as in `TypeRules`.
    rng (Generator): Draws the negative pairs.
    RETURNS (Targets): The targets.
    RAISES (ValueError): If the gold annotation has labels or types that the component does not have, or
        if pairs without a gold relation need a negative label that it does not have.
    """
    classes = {label: i for i, label in enumerate(labels)}
    pairs: list[list[TypedPair]] = []
    targets: list[int] = []
    weights: list[float] = []
    without_entities: list[str] = []
    skipped: Counter[str] = Counter()
    for example in examples:
        unlabelled = is_unlabelled(example)
        gold = Gold() if unlabelled else read_gold(example, cfg["relations_key"])
        skipped["misaligned_arguments"] += len(gold.misaligned)
        skipped["further_labels_of_a_pair"] += sum(
            len(gold_pair.more_labels) for gold_pair in gold.pairs.values()
        )
        if unlabelled:
            chosen = find_pairs(example.predicted).choose(lambda *types: True, cfg["max_pairs"])
            skipped["pairs_beyond_max_pairs"] += chosen.n_beyond
            label = cfg["negative_label"] if cfg["negative_label"] in classes else labels[0]
            labelled = [(pair, label, 0.0) for pair in chosen.pairs]
        elif cfg["train_pairs"] == "gold":
            labelled = [
                (gold_pair.pair, gold_pair.label, gold_pair.weight)
                for gold_pair in gold.pairs.values()
            ]
        else:
            doc_pairs = find_pairs(example.predicted)
            without_entities += _relations_without_entities(doc_pairs, gold, cfg["negative_label"])
            chosen = doc_pairs.choose(lambda head_type, tail_type: True, cfg["max_pairs"])
            skipped["pairs_beyond_max_pairs"] += chosen.n_beyond
            labelled = label_pairs(name, cfg, labels, chosen.pairs, gold)
        pairs.append([])
        for (head, tail), label, weight in labelled:
            check_gold_label(name, "a relation", label, classes, example.reference.text)
            types = known_types(head.label_, tail.label_)
            if types:
                pairs[-1].append(typed_pair((head, tail), types[0]))
                targets.append(classes[label])
                weights.append(weight)
            elif cfg["train_pairs"] == "gold" and not unlabelled:
                raise ValueError(
                    Errors.E706.format(
                        name=name, head=head.label_, tail=tail.label_, text=example.reference.text
                    )
                )
            else:
                skipped["pairs_of_unknown_types"] += 1
    skipped["relations_without_entities"] = len(without_entities)
    truth = np.asarray(targets, dtype=np.int64)
    weight_of_pair = np.asarray(weights, dtype=np.float32)
    if cfg["max_negatives"] is not None and cfg["negative_label"] in classes:
        is_negative = truth == classes[cfg["negative_label"]]
        left_out = draw_left_out(is_negative, cfg["max_negatives"], rng)
        skipped["negative_pairs_not_drawn"] = len(left_out)
        kept = np.ones(len(truth), dtype=bool)
        kept[left_out] = False
        borders = np.cumsum([0, *map(len, pairs)]).tolist()
        pairs = [
            list(compress(doc_pairs, kept[start:]))
            for doc_pairs, start in zip(pairs, borders, strict=False)
        ]
        truth, weight_of_pair = truth[kept], weight_of_pair[kept]
    weighted = bool((weight_of_pair != 1).any())
    return Targets(pairs, truth, without_entities, skipped, weight_of_pair if weighted else None)


def draw_left_out(is_negative: BoolArray, max_negatives: int, rng: np.random.Generator) -> IntArray:
    """Draw the negative pairs of a batch that are not learned.

    Most pairs of entities are unrelated, and they cost as much time as the others. A batch without a
    relation keeps as many of them as a batch with one relation, so that texts without relations are
    learned from as well.

    is_negative (bool array, (n_pairs,)): The pairs that are negative.
    max_negatives (int): Largest number of them for each of the other pairs.
    rng (Generator): The random generator.
    RETURNS (int64 array, (k,)): Indices of negative pairs.
    """
    negatives = np.flatnonzero(is_negative)
    n_kept = max_negatives * max(1, len(is_negative) - len(negatives))
    return rng.permutation(negatives)[n_kept:]


def label_pairs(
    name: str,
    cfg: Mapping[str, Any],
    labels: Sequence[str],
    pairs: Sequence[SpanPair],
    gold: Gold,
) -> list[tuple[SpanPair, str, float]]:
    """Label the pairs of a predicted Doc with the gold relations between the same token ranges.

    A pair has a symmetric relation in both directions. Pairs without a gold relation get the negative
    label or, if `negative_label` is null, are left out.

    name, cfg, labels: As in `make_targets`.
    pairs (Sequence[SpanPair]): The pairs.
    gold (Gold): The gold annotation.
    RETURNS (list[tuple[SpanPair, str, float]]): Pairs, labels and weights, in the order of the pairs.
        A pair without a gold relation has the weight 1.
    RAISES (ValueError): If a pair needs the negative label and the component does not have it.
    """
    negative, symmetric = cfg["negative_label"], cfg["symmetric"]
    gold_of = {
        key[2:] + key[:2]: gold_pair
        for key, gold_pair in gold.pairs.items()
        if gold_pair.label in symmetric
    }
    gold_of |= gold.pairs
    labelled = []
    for pair in pairs:
        gold_pair = gold_of.get(pair_key(pair))
        label = negative if gold_pair is None else gold_pair.label
        if label is None:
            continue
        if label == negative and negative not in labels and gold_pair is None:
            raise ValueError(Errors.E710.format(name=name, negative=negative, labels=list(labels)))
        labelled.append((pair, label, 1.0 if gold_pair is None else gold_pair.weight))
    return labelled


def _relations_without_entities(pairs: DocPairs, gold: Gold, negative: str | None) -> list[str]:
    """Return the gold relations, other than negative ones, that are not among the pairs of a Doc."""
    return [
        f"{gold.pairs[key].label}({gold.pairs[key].pair[0]}, {gold.pairs[key].pair[1]})"
        for key in sorted(gold.pairs)
        if key not in pairs and gold.pairs[key].label != negative
    ]
