"""Pairs of entities: sentence borders, scope and distance, and the types that relations may have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from spacy.attrs import IS_PUNCT, ORTH
from spacy.pipeline import Sentencizer
from spacy.strings import get_string_id
from spacy.tokens import Doc, Span
from spacy.training import Example

from .annotations import get_clusters
from .arrays import BoolArray, FloatArray, IntArray
from .encoding.alignment import SpanProjector
from .errors import Errors, Warnings
from .rules import check_rules, ruled_labels
from .settings import Rule, number, survives_as_table

# Largest number of pairs of a Doc that are made at once and filtered afterwards.
_FEW_PAIRS = 4096
# The tokens that end a sentence for spaCy's sentencizer.
_STOPS = np.asarray([get_string_id(text) for text in Sentencizer.default_punct_chars], np.uint64)
# Mean number of sentences of the texts of training up to which these count as single sentences, and
# number of sentences from which a text counts as a paragraph.
_SINGLE, _PARAGRAPH = 1.25, 3


def sentence_starts(doc: Doc) -> IntArray | None:
    """Return the first token of each sentence of a Doc.

    doc (Doc): The Doc.
    RETURNS (int64 array, (n_sentences,) | None): Ascending, the first one 0, also in a Doc without
        tokens; None where no component has set sentence borders.
    """
    if len(doc) < 2:
        return np.zeros(1, dtype=np.int64)
    if not doc.has_annotation("SENT_START"):
        return None
    return np.asarray([sentence.start for sentence in doc.sents], dtype=np.int64)


def gold_sentence_starts(example: Example) -> IntArray | None:
    """Return the first predicted token of each gold sentence.

    example (Example): Gold Doc and predicted Doc.
    RETURNS (int64 array, (n_sentences,) | None): As in `sentence_starts`, without sentences that begin
        or end within a predicted token; None where the gold Doc has no sentence borders.
    """
    if not example.reference.has_annotation("SENT_START"):
        return None
    project = SpanProjector(example.reference, example.predicted)
    ranges = [project(sentence) for sentence in example.reference.sents]
    return np.unique([0, *(tokens[0] for tokens in ranges if tokens is not None)])


def sentence_of_tokens(doc: Doc) -> IntArray:
    """Number the sentences of a Doc.

    doc (Doc): The Doc.
    RETURNS (int64 array, (n_tokens,)): The sentence of each token; all 0 where no component has set
        sentence borders.
    """
    starts = sentence_starts(doc)
    if starts is None:
        return np.zeros(len(doc), dtype=np.int64)
    return np.searchsorted(starts, np.arange(len(doc)), side="right") - 1


def count_sentences(doc: Doc) -> int:
    """Count the sentences of a Doc: those that components have set or, if there are none, those that
    a sentencizer would set.

    doc (Doc): The Doc.
    RETURNS (int): The number of sentences, at least 1.
    """
    starts = sentence_starts(doc)
    if starts is not None:
        return len(starts)
    tokens = doc.to_array([ORTH, IS_PUNCT])
    ends = np.isin(tokens[:-1, 0], _STOPS) & (tokens[1:, 1] == 0)
    return 1 + int(ends.sum())


def note_sentences(cfg: dict[str, Any], docs: Iterable[Doc]) -> None:
    """Note the number of texts that a component has been trained on, and that of their sentences.

    cfg (dict[str, Any]): The component's `cfg`, in which both are the list "sentences_seen"; texts
        count as often as they are read.
    docs (Iterable[Doc]): Texts of training. With scope = "sentence" each sentence is a text.
    """
    counts = [count_sentences(doc) for doc in docs]
    n_texts = sum(counts) if cfg.get("scope") == "sentence" else len(counts)
    cfg["sentences_seen"] = (np.asarray(cfg["sentences_seen"]) + [n_texts, sum(counts)]).tolist()


def warn_of_paragraphs(
    cfg: Mapping[str, Any], docs: Iterable[Doc], warn_once: Callable[..., None]
) -> None:
    """Warn if a component that was trained on single sentences is given a paragraph.

    cfg (Mapping[str, Any]): The component's `cfg`. It says nothing of training for a component that was
        not trained, or by an earlier version; then there is no warning.
    docs (Iterable[Doc]): Texts in which any two entities are related, however far apart.
    warn_once (Callable): `warn_once` of the component.
    """
    n_texts, n_sentences = cfg["sentences_seen"]
    if not n_texts or n_sentences > _SINGLE * n_texts:
        return
    for doc in docs:
        count = count_sentences(doc)
        if count >= _PARAGRAPH:
            warn_once(Warnings.W153, [repr(doc.text[:80])], n=count)
            return


def text_ends(offsets: IntArray) -> IntArray:
    """Return the end (exclusive) of the text of each token.

    offsets (int64 array, (n_texts + 1,)): First token of each text (Doc or sentence), and the end of
        the last one.
    RETURNS (int64 array, (n_tokens,)): Tokens, numbered through the batch.
    """
    return np.repeat(offsets[1:], np.diff(offsets))


def window_ends(windows: IntArray, n_tokens: int) -> IntArray:
    """Return the end (exclusive) of the last window that holds each token.

    windows (int64 array, (n_windows, 2)): Token range of each window, numbered through the batch.
    n_tokens (int): Number of tokens of the batch.
    RETURNS (int64 array, (n_tokens,)): The ends; for a token in no window, a number that is not
        greater than the token's.
    """
    order = np.argsort(windows[:, 0], kind="stable")
    # Tokens before any window have the row -1, which is the 0 at the end.
    ends = np.append(np.maximum.accumulate(windows[order, 1]), 0)
    rows = np.searchsorted(windows[order, 0], np.arange(n_tokens), side="right") - 1
    return ends[rows]


def in_scope(spans: IntArray, pairs: IntArray, reach: IntArray) -> BoolArray:
    """Tell whether both spans of each pair lie in one text.

    spans (int64 array, (n, 2)): Token ranges.
    pairs (int64 array, (n_pairs, 2)): Rows of `spans`.
    reach (int64 array, (n_tokens,)): For each token, the end (exclusive) of its text, from
        `text_ends` or `window_ends`. It never decreases.
    RETURNS (bool array, (n_pairs,)): True where both spans end before the end of the text of the
        first token of the earlier one.
    """
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    first = np.minimum(head[:, 0], tail[:, 0])
    inside: BoolArray = np.maximum(head[:, 1], tail[:, 1]) <= reach[first]
    return inside


def distances(spans: IntArray, pairs: IntArray) -> IntArray:
    """Count the tokens between the spans of pairs.

    spans (int64 array, (n, 2)): Token ranges.
    pairs (int64 array, (n_pairs, 2)): Rows of `spans`.
    RETURNS (int64 array, (n_pairs,)): Numbers of tokens; 0 where spans meet or overlap.
    """
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    return np.maximum(0, np.maximum(tail[:, 0] - head[:, 1], head[:, 0] - tail[:, 1]))


def entity_pairs(
    spans: IntArray,
    docs: IntArray,
    max_pairs: int,
    reach: IntArray | None = None,
    max_distance: int | None = None,
) -> tuple[IntArray, IntArray]:
    """Return the ordered pairs of different spans within each Doc.

    Time and memory grow with the number of spans and with `max_pairs`, not with the number of all
    pairs, so that neither a long text nor a wrong model, which finds an entity everywhere, exhausts
    them.

    spans (int64 array, (n, 2)): Entities of a batch of Docs, in the order of the Docs.
    docs (int64 array, (n,)): The Doc of each entity.
    max_pairs (int): Largest number of pairs of a Doc. The nearest are taken (by the number of tokens
        between the spans; of equally near ones those that are earlier in the text).
    reach (int64 array, (n_tokens,) | None): As in `in_scope`; only pairs in scope are returned. None:
        all pairs of a Doc are in scope.
    max_distance (int | None): Largest number of tokens between the spans; None for any.
    RETURNS (tuple[int64 array, int64 array]): Pairs as rows (head, tail) of `spans`, (n_pairs, 2),
        ordered by Doc, head and tail; and the numbers of pairs that were left out, as rows (Doc, out
        of scope, beyond `max_distance`, beyond `max_pairs`), (k, 4), for Docs that lost any.
    """
    pairs_of_docs = [np.zeros((0, 2), dtype=np.int64)]
    left_out: list[tuple[int, int, int, int]] = []
    borders = np.flatnonzero(np.diff(docs)) + 1
    for first, last in zip([0, *borders.tolist()], [*borders.tolist(), len(docs)], strict=True):
        if last - first < 2:
            continue
        pairs, counts = pairs_of_doc(spans[first:last], max_pairs, reach, max_distance)
        if any(counts):
            left_out.append((int(docs[first]), *counts))
        pairs_of_docs.append(pairs + first)
    return np.concatenate(pairs_of_docs), np.asarray(left_out, dtype=np.int64).reshape(-1, 4)


def pairs_of_doc(
    spans: IntArray, max_pairs: int, reach: IntArray | None, max_distance: int | None
) -> tuple[IntArray, tuple[int, int, int]]:
    """Return the ordered pairs of different spans of one Doc.

    Arguments as in `entity_pairs`.
    RETURNS (tuple[int64 array, tuple[int, int, int]]): Pairs, (n_pairs, 2), ordered by head and tail;
        and the numbers of pairs out of scope, beyond `max_distance` and beyond `max_pairs`.
    """
    n = len(spans)
    if n * (n - 1) <= min(max_pairs, _FEW_PAIRS):
        return _few_pairs(spans, reach, max_distance)
    ordered = _OrderedSpans(spans, reach)
    n_all = n * (n - 1) - 2 * _count_equal_pairs(spans)
    inside = 2 * ordered.count(ordered.widest)
    limit = ordered.widest if max_distance is None else min(max_distance, ordered.widest)
    near = 2 * ordered.count(limit)
    pairs = ordered.nearest(limit, max(1, max_pairs // 2))[:max_pairs]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs, (n_all - inside, inside - near, near - len(pairs))


def _few_pairs(
    spans: IntArray, reach: IntArray | None, max_distance: int | None
) -> tuple[IntArray, tuple[int, int, int]]:
    """Do the same by making all pairs: for few spans this takes a tenth of the time."""
    pairs = np.argwhere(~np.eye(len(spans), dtype=bool))
    pairs = pairs[np.any(spans[pairs[:, 0]] != spans[pairs[:, 1]], axis=1)]
    out_of_scope = too_far = 0
    if reach is not None:
        inside = in_scope(spans, pairs, reach)
        out_of_scope = len(pairs) - int(inside.sum())
        pairs = pairs[inside]
    if max_distance is not None:
        near = distances(spans, pairs) <= max_distance
        too_far = len(pairs) - int(near.sum())
        pairs = pairs[near]
    return pairs, (out_of_scope, too_far, 0)


def _count_equal_pairs(spans: IntArray) -> int:
    """Count the pairs of rows, in one direction, that are the same span (with several types)."""
    counts = np.unique(spans, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1)).sum()) // 2


class _OrderedSpans:
    """Spans of one Doc in the order of the text, in which the partners of a span follow it.

    Pairs are counted, and the near ones made, without making all n x n of them: the partners of a
    span within a distance are a range of the order, found by binary search, without those that end
    beyond the text.

    spans (int64 array, (n, 2)): Token ranges.
    reach (int64 array, (n_tokens,) | None): As in `in_scope`.

    `widest` is a distance that no pair exceeds.
    """

    def __init__(self, spans: IntArray, reach: IntArray | None):
        order = np.lexsort((spans[:, 1], spans[:, 0]))
        if reach is not None:
            # A span that crosses the end of its text has no partners.
            order = order[spans[order, 1] <= reach[spans[order, 0]]]
        self.order = order
        self.starts, self.ends = spans[order, 0], spans[order, 1]
        end = int(self.ends.max(initial=0))
        self.widest = end
        self.reach = np.full(len(order), end)
        if reach is not None:
            self.reach = np.minimum(reach[self.starts], end)
        self._rank = np.arange(len(order))
        self._n_equal = _count_equal_pairs(spans[order])
        # Spans that begin within a text and end beyond it are no partners there. Each has an entry
        # border * base + start for every border that it crosses, in ascending order. (All of them
        # follow the spans whose text ends at that border, because their own text ends later.)
        borders = np.unique(self.reach)
        first = np.searchsorted(borders, self.starts, side="right")
        n_crossed = np.maximum(0, np.searchsorted(borders, self.ends, side="left") - first)
        row = np.repeat(self._rank, n_crossed)
        border = first[row] + _within(n_crossed)
        self._base = end + 1
        self._crossing = np.sort(border * self._base + self.starts[row])
        self._border = np.searchsorted(borders, self.reach) * self._base
        self._crossing_before = np.searchsorted(self._crossing, self._border)

    def _last_start(self, distance: int) -> IntArray:
        """Return the last token at which a partner of each span may begin."""
        return np.minimum(self.ends + distance, self.reach - 1)

    def count(self, distance: int) -> int:
        """Count the pairs, in one direction, with at most `distance` tokens between them."""
        latest = self._last_start(distance)
        behind = np.searchsorted(self.starts, latest, side="right") - self._rank - 1
        crossing = np.searchsorted(self._crossing, self._border + latest, side="right")
        return int((behind - crossing + self._crossing_before).sum()) - self._n_equal

    def nearest(self, distance: int, wanted: int) -> IntArray:
        """Return the nearest pairs, in both directions: first all of one, then all of the other.

        distance (int): Largest number of tokens between the spans.
        wanted (int): Largest number of pairs in one direction.
        RETURNS (int64 array, (n_pairs, 2)): Rows of the spans given to the constructor.
        """
        # The smallest distance within which there are as many as wanted.
        low, high = 0, distance
        if self.count(distance) <= wanted:
            low = distance
        while low < high:
            middle = (low + high) // 2
            if self.count(middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        latest = self._last_start(low)
        counts = np.searchsorted(self.starts, latest, side="right") - self._rank - 1
        left = np.repeat(self._rank, counts)
        right = left + 1 + _within(counts)
        same = (self.starts[left] == self.starts[right]) & (self.ends[left] == self.ends[right])
        kept = ~same & (self.ends[right] <= self.reach[left])
        left, right = left[kept], right[kept]
        if len(left) > wanted:
            gaps = np.maximum(0, self.starts[right] - self.ends[left])
            best = np.lexsort((right, left, gaps))[:wanted]
            left, right = left[best], right[best]
        a, b = self.order[left], self.order[right]
        return np.concatenate([np.stack([a, b], 1), np.stack([b, a], 1)])


def _within(counts: IntArray) -> IntArray:
    """Number the members of each of consecutive groups from 0, given the sizes of the groups."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


# Types and labels


def allowed_mask(
    type_pairs: dict[str, list[tuple[str, str]]],
    entity_types: Sequence[str],
    relation_types: Sequence[str],
) -> BoolArray:
    """Tabulate the relations that may hold between entity types.

    type_pairs (dict[str, list[tuple[str, str]]]): The allowed (head, tail) types of each relation. A
        relation that is not named may hold between any types.
    entity_types (Sequence[str]): Names of the entity types, by class.
    relation_types (Sequence[str]): Names of the relations, by class.
    RETURNS (bool array, (n_entity_types, n_entity_types, n_relation_types)): True where allowed.
    """
    mask = np.ones((len(entity_types), len(entity_types), len(relation_types)), dtype=bool)
    index = {name: i for i, name in enumerate(entity_types)}
    for r, relation in enumerate(relation_types):
        if relation in type_pairs:
            mask[:, :, r] = False
            for head, tail in type_pairs[relation]:
                if head in index and tail in index:
                    mask[index[head], index[tail], r] = True
    return mask


def merge_symmetric(
    pairs: IntArray, labels: IntArray, scores: FloatArray, spans: IntArray, symmetric: set[int]
) -> tuple[IntArray, BoolArray]:
    """Merge both directions of symmetric relations into one, which keeps the better score.

    pairs (int64 array, (n, 2)): Rows (head, tail) of `spans`.
    labels (int64 array, (n,)): Relation types.
    scores (float array, (n,)): Probabilities.
    spans (int64 array, (m, 2)): Token ranges.
    symmetric (set[int]): The symmetric relation types.
    RETURNS (tuple[int64 array, bool array]): The pairs, (n, 2), with the arguments of symmetric
        relations in the order of the text; and True for the rows to keep, (n,).
    """
    pairs = pairs.copy()
    keep = np.ones(len(pairs), dtype=bool)
    best: dict[tuple[int, int, int], int] = {}
    for i in np.flatnonzero(np.isin(labels, list(symmetric))).tolist():
        head, tail = pairs[i].tolist()
        if tuple(spans[tail].tolist()) < tuple(spans[head].tolist()):
            head, tail = tail, head
            pairs[i] = (head, tail)
        key = (head, tail, int(labels[i]))
        other = best.get(key)
        if other is None or scores[i] > scores[other]:
            best[key] = i
            if other is not None:
                keep[other] = False
        else:
            keep[i] = False
    return pairs, keep


def same_entities(heads: Sequence[Span], tails: Sequence[Span]) -> BoolArray:
    """Tell which pairs name one entity twice: by the same text, but for case and white space, or by
    mentions of one cluster of coreferent mentions.

    heads, tails (Sequence[Span]): The spans of each pair, of one Doc.
    RETURNS (bool array, (n,)): Whether head and tail are one entity.
    """
    clusters_of: dict[int, dict[tuple[int, int], int]] = {}

    def is_same(head: Span, tail: Span) -> bool:
        texts = (" ".join(span.text.casefold().split()) for span in (head, tail))
        if len(set(texts)) == 1:
            return True
        if id(head.doc) not in clusters_of:
            clusters_of[id(head.doc)] = {
                (mention.start, mention.end): number
                for number, cluster in enumerate(get_clusters(head.doc))
                for mention in cluster
            }
        clusters = clusters_of[id(head.doc)]
        number = clusters.get((head.start, head.end))
        return number is not None and number == clusters.get((tail.start, tail.end))

    return np.asarray([is_same(*pair) for pair in zip(heads, tails, strict=True)], dtype=bool)


def merge_type_pairs(
    table: Mapping[str, Iterable[Sequence[str]]], rows: Iterable[tuple[str, str, str]]
) -> dict[str, list[list[str]]]:
    """Add the types of relations to a table.

    table (Mapping[str, Iterable[Sequence[str]]]): The (head, tail) types of each label.
    rows (Iterable[tuple[str, str, str]]): Labels, types of the head and types of the tail.
    RETURNS (dict[str, list[list[str]]]): All types of each label, everything in alphabetical order.
    """
    merged = {label: set(map(tuple, pairs)) for label, pairs in table.items()}
    for label, *types in rows:
        merged.setdefault(label, set()).add(tuple(types))
    return {label: sorted(map(list, pairs)) for label, pairs in sorted(merged.items())}


def type_pair_table(
    setting: Mapping[str, Sequence[Sequence[str]]] | Sequence[Sequence[str]],
) -> dict[str, list[tuple[str, str]]]:
    """Read the setting "type_constraints" in either of its forms.

    setting (Mapping | Sequence): A table {label: [[head, tail], ...]} or rows [[label, head, tail],
        ...].
    RETURNS (dict[str, list[tuple[str, str]]]): The (head, tail) types of each label that is named.
    """
    if isinstance(setting, Mapping):
        return {label: [(row[0], row[1]) for row in rows] for label, rows in setting.items()}
    table: dict[str, list[tuple[str, str]]] = {}
    for label, head, tail in setting:
        table.setdefault(label, []).append((head, tail))
    return table


def _is_type_constraints(setting: object) -> bool:
    if isinstance(setting, str):
        return setting in ("off", "learned")
    if isinstance(setting, Mapping):
        return survives_as_table(setting) and all(
            len(row) == 2 for rows in setting.values() for row in rows
        )
    return isinstance(setting, Sequence) and all(
        not isinstance(row, str) and len(row) == 3 for row in setting
    )


# Types of head and tail that a relation may have; `type_pair_table` reads tables and rows.
TYPE_CONSTRAINTS = Rule(
    "'off', 'learned', a table {label: [[head type, tail type], ...]}, or rows "
    "[[label, head type, tail type], ...] (where a label has ':' or '=')",
    _is_type_constraints,
)


def _is_thresholds(setting: object) -> bool:
    is_share = number(0, 1).holds
    if isinstance(setting, Mapping):
        return survives_as_table(setting) and all(map(is_share, setting.values()))
    return isinstance(setting, Sequence) and all(
        isinstance(row, Sequence) and len(row) == 2 and isinstance(row[0], str) and is_share(row[1])
        for row in setting
    )


# Thresholds of single labels; `threshold_table` reads tables and rows.
THRESHOLDS = Rule(
    "a table {label: threshold} or rows [[label, threshold], ...] (where a label has ':' or '='), "
    "with thresholds from 0 to 1",
    _is_thresholds,
)


def threshold_table(
    setting: Mapping[str, float] | Sequence[Sequence[Any]],
) -> dict[str, float]:
    """Read the setting "thresholds" in either of its forms.

    setting (Mapping | Sequence): A table {label: threshold} or rows [[label, threshold], ...].
    RETURNS (dict[str, float]): The threshold of each label that is named.
    """
    rows = setting.items() if isinstance(setting, Mapping) else setting
    return {label: float(value) for label, value in rows}


def label_thresholds(
    labels: Sequence[str], common: float, setting: Mapping[str, float] | Sequence[Sequence[Any]]
) -> FloatArray:
    """Return the threshold of each label.

    labels (Sequence[str]): The labels.
    common (float): The threshold of labels that have none of their own.
    setting (Mapping | Sequence): As in `threshold_table`.
    RETURNS (float32 array, (n_labels,)): The thresholds, in the precision of the probabilities.
    """
    table = threshold_table(setting)
    return np.asarray([table.get(label, common) for label in labels], dtype=np.float32)


def check_gold_label(name: str, what: str, label: str, labels: Collection[str], text: str) -> None:
    """Refuse gold annotation with a label that a component does not have.

    name (str): Name of the component.
    what (str): "a relation" or "an entity type".
    label (str): The label of the annotation.
    labels (Collection[str]): The labels of the component.
    text (str): The annotated text.
    RAISES (ValueError): If the component does not have the label.
    """
    if label not in labels:
        raise ValueError(
            Errors.E306.format(name=name, what=what, label=label, text=text, labels=list(labels))
        )


def check_label_settings(name: str, cfg: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Refuse settings that name relations which a component does not have.

    name (str): Name of the component.
    cfg (Mapping[str, Any]): Its settings; "symmetric", "thresholds", "rules" and "type_constraints"
        are checked.
    labels (Sequence[str]): Its labels. Rules must not name the negative one: by an inverse rule, it
        would be predicted.
    RAISES (ValueError): If one of them names another label, or rules contradict each other.
    """
    check_rules(name, cfg["rules"], cfg["symmetric"])
    named = {
        "symmetric": cfg["symmetric"],
        "thresholds": list(threshold_table(cfg["thresholds"])),
        "rules": ruled_labels(cfg["rules"]),
    }
    if not isinstance(cfg["type_constraints"], str):
        named["type_constraints"] = list(type_pair_table(cfg["type_constraints"]))
    for setting, names in named.items():
        allowed = [x for x in labels if setting != "rules" or x != cfg.get("negative_label")]
        for label in names:
            if label not in allowed:
                raise ValueError(
                    Errors.E304.format(
                        label=label, setting=setting, name=name, labels=", ".join(allowed)
                    )
                )
