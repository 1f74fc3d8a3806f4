"""Labels that are described in words, and examples of them: texts in which a pair is marked.

A description is a sentence with two placeholders, such as "{head:person} is employed by {tail:company}".
With the words for the types in their places it is a text like any other, with a head and a tail, and
the network reads it as it reads the pairs of a Doc. So a description, an example and a pair all
become vectors of one space, and a label is the mean of its descriptions and examples (prototypes, Snell
et al. 2017). A label that training has never seen needs no weights of its own (Obamuyide and Vlachos
2018; Chen and Li 2021). The words for the types matter: much of what tells relations apart are the types
of their arguments (Zhao et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from spacy.tokens import Span

from ..annotations import Relation
from ..arrays import IntArray
from ..errors import Errors
from ..pairing import sentence_starts
from ..settings import Rule, survives_as_table
from .pairs import SpanPair

# The setting `descriptions`: a description, or several, of each label; or rows (label, description).
Descriptions = Mapping[str, str | Sequence[str]] | Sequence[Sequence[str]]

_PLACEHOLDER = re.compile(r"\{(head|tail)(?::([^{}]*))?\}")
# The word in the place of an argument whose type is not given.
_ANYTHING = "something"


class MarkedText(NamedTuple):
    """A text with a head and a tail: a description or an example of a label.

    text (str): The text.
    head, tail (tuple[int, int]): Character ranges, end exclusive.
    """

    text: str
    head: tuple[int, int]
    tail: tuple[int, int]

    @property
    def inverse(self) -> MarkedText:
        """The same text with head and tail swapped."""
        return MarkedText(self.text, self.tail, self.head)


@dataclass(frozen=True)
class LabelTexts:
    """The texts from which the vectors of the labels are made.

    texts (tuple[tuple[MarkedText, ...], ...]): Descriptions and examples of each label. There are none
        for the negative label, and in training for labels that are left out of a step.
    inverses (tuple[tuple[MarkedText, ...], ...]): The same of the inverses of labels: relations that
        hold from tail to head, and so count as none of the labels.
    negative (int | None): The negative label.
    """

    texts: tuple[tuple[MarkedText, ...], ...]
    inverses: tuple[tuple[MarkedText, ...], ...]
    negative: int | None


@lru_cache(maxsize=4096)
def parse_description(description: str) -> MarkedText:
    """Fill in the placeholders of a description.

    description (str): A text with "{head}" and "{tail}", each once and in any order, or with words for
        their types, "{head:person}".
    RETURNS (MarkedText): The text with these words (without any, "something") as head and tail.
    RAISES (ValueError): If it is no such text.
    """
    text, end = "", 0
    ranges: dict[str, tuple[int, int]] = {}
    matches = list(_PLACEHOLDER.finditer(description))
    if sorted(match[1] for match in matches) != ["head", "tail"]:
        raise ValueError(Errors.E712.format(description=description))
    for match in matches:
        text += description[end : match.start()]
        words = (match[2] or "").strip() or _ANYTHING
        ranges[match[1]] = (len(text), len(text) + len(words))
        text, end = text + words, match.end()
    return MarkedText(text + description[end:], ranges["head"], ranges["tail"])


def read_descriptions(setting: Descriptions) -> dict[str, list[str]]:
    """Read the setting `descriptions` in any of its forms.

    setting (Mapping | Sequence): A value that `DESCRIPTIONS` allows.
    RETURNS (dict[str, list[str]]): The descriptions of each label.
    """
    if isinstance(setting, Mapping):
        return {k: [v] if isinstance(v, str) else list(v) for k, v in setting.items()}
    table: dict[str, list[str]] = {}
    for label, description in setting:
        table.setdefault(label, []).append(description)
    return table


def _are_descriptions(setting: Any) -> bool:
    if isinstance(setting, dict):
        if not survives_as_table(setting):
            return False
    elif any(isinstance(row, str) or len(row) != 2 for row in setting):
        return False
    for label, descriptions in read_descriptions(setting).items():
        if not isinstance(label, str) or not label.strip():
            return False
        for description in descriptions:
            try:
                parse_description(description)
            except (ValueError, TypeError):
                return False
    return True


DESCRIPTIONS = Rule(
    "a table {label: description or [descriptions]}, or rows [[label, description], ...] (where a label "
    "has ':' or '='); a description has {head} and {tail}, each once, or with a word for its type, as in "
    "'{head:person} is employed by {tail:company}'",
    _are_descriptions,
)


def is_example(value: object) -> bool:
    """Tell whether a value is a text, or two different spans of one Doc, as `read_example` needs them."""
    if isinstance(value, Relation):
        value = (value.head, value.tail)
    if not isinstance(value, tuple | list):
        return isinstance(value, str)
    if len(value) != 2 or not all(isinstance(span, Span) for span in value):
        return False
    head, tail = value
    return head.doc is tail.doc and (head.start, head.end) != (tail.start, tail.end)


def read_example(example: str | Relation | SpanPair, context: str) -> MarkedText:
    """Return an example of a label as a text.

    example (str | Relation | tuple[Span, Span]): A text with "{head:Ann Lee}" and "{tail:Oslo}", or a
        relation or a pair of a Doc.
    context (str): The text that is read for a pair of a Doc, as in `PairInput`.
    RETURNS (MarkedText): The text.
    RAISES (ValueError): If it is a text without the two arguments.
    """
    if isinstance(example, str):
        return parse_description(example)
    head, tail = (example.head, example.tail) if isinstance(example, Relation) else example
    doc = head.doc
    first, last = min(head.start, tail.start), max(head.end, tail.end)
    starts = sentence_starts(doc) if context == "sentence" else None
    start, end = 0, len(doc)
    if starts is not None:
        start = int(starts[np.searchsorted(starts, first, side="right") - 1])
        after = starts[starts >= last]
        end = int(after[0]) if len(after) else len(doc)
    text = doc[start:end]
    a, b = ((s.start_char - text.start_char, s.end_char - text.start_char) for s in (head, tail))
    return MarkedText(text.text, a, b)


def label_texts(
    labels: Sequence[str],
    negative: int | None,
    descriptions: Descriptions,
    examples: Iterable[Sequence[Any]],
    symmetric: Sequence[str],
) -> LabelTexts:
    """Collect the texts of all labels.

    labels (Sequence[str]): The labels in their order.
    negative (int | None): The negative one.
    descriptions (Descriptions): The setting.
    examples (Iterable[Sequence]): The examples as rows (label, text, head, tail), as in `MarkedText`.
    symmetric (Sequence[str]): Labels without a direction, which have no inverse.
    RETURNS (LabelTexts): The texts. A text that is a text of another label is no inverse.
    """
    texts: dict[str, list[MarkedText]] = {label: [] for label in labels}
    for label, lines in read_descriptions(descriptions).items():
        if label in texts:
            texts[label] += map(parse_description, lines)
    for label, text, head, tail in examples:
        if label in texts:
            texts[label].append(MarkedText(text, tuple(head), tuple(tail)))
    if negative is not None:
        texts[labels[negative]] = []
    every = {text for some in texts.values() for text in some}
    inverses = []
    for label, some in texts.items():
        inverse = tuple(text.inverse for text in some if text.inverse not in every)
        if inverse and negative is not None and label not in symmetric:
            inverses.append(inverse)
    return LabelTexts(tuple(map(tuple, texts.values())), tuple(inverses), negative)


def draw_texts(
    labels: LabelTexts,
    present: IntArray,
    others: Iterable[int],
    max_labels: int,
    is_reversed: bool,
    rng: np.random.Generator,
) -> LabelTexts:
    """Draw the labels of a training step, and one text of each.

    The labels of the batch are always drawn. Of the others that training has seen, each is left out
    of every other step, so that the vectors of pairs do not settle on one choice of labels. One text
    stands for a label, so that the network learns to read descriptions, not to know them.

    labels (LabelTexts): All texts.
    present (int64 array): Labels of the batch.
    others (Iterable[int]): Labels that training has seen.
    max_labels (int): Largest number of labels besides those of the batch.
    is_reversed (bool): Whether head and tail of the pairs of the step are swapped; then those of the
        texts are, too.
    rng (Generator): The random generator.
    RETURNS (LabelTexts): One text of each label that was drawn, and of its inverse.
    """
    drawn = set(present.tolist())
    rest = [label for label in sorted(set(others) - drawn) if rng.random() < 0.5]
    drawn |= set(rng.permutation(rest)[:max_labels].tolist())
    have_inverse = {text.inverse for texts in labels.inverses for text in texts}
    texts: list[tuple[MarkedText, ...]] = []
    inverses: list[tuple[MarkedText, ...]] = []
    for label, choices in enumerate(labels.texts):
        if label not in drawn or not choices:
            texts.append(())
            continue
        text = choices[rng.integers(len(choices))]
        texts.append((text.inverse if is_reversed else text,))
        if text in have_inverse:
            inverses.append((text if is_reversed else text.inverse,))
    return LabelTexts(tuple(texts), tuple(inverses), labels.negative)
