"""Texts joined at random to longer ones, for training.

A pipeline that has only ever read single sentences relates whatever a paragraph brings together: no
text of its training held two people who have nothing to do with each other. Texts that are joined hold
them by the dozen. Whatever is not annotated across the texts is negative, like everything else that is
not annotated.

There are two ways in. The augmenter follows spaCy's protocol: it sees one text at a time, joins it to
earlier ones, and works with any reader, but `spacy train` reads a corpus once, so that each text keeps
its companions through all epochs, and texts that serve as companions are read more often. The batcher
joins the texts of a batch: each is read once in each epoch, with new companions each time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from spacy import registry
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from ..annotations.answers import join_questions
from ..annotations.clusters import numbered_prefix
from ..annotations.relations import ENTITIES_KEY, SCORES_ATTR, WEIGHTS_ATTR
from ..settings import check_settings, number, whole_number
from .corpus import is_unlabelled

Batcher = Callable[[Iterable[Example]], Iterable[Sequence[Example]]]

# Number of earlier texts among which the augmenter chooses.
_RESERVOIR = 1000
# Numbered span groups whose names begin so are coreference clusters, also under another prefix than the
# usual one, such as the "coref_head_clusters" of spacy-experimental.
_COREF = "coref_"

RULES = {
    "level": number(0, 1),
    "min_texts": whole_number(1),
    "max_texts": whole_number(1),
    "max_tokens": whole_number(1),
}


@registry.augmenters("spacy-spanrel.join_texts.v1")
def create_text_joiner(
    level: float = 0.5, min_texts: int = 2, max_texts: int = 4, max_tokens: int = 200
) -> Callable[[Language, Example], Iterator[Example]]:
    """Create an augmenter that joins texts to earlier texts of the corpus.

    Every text is yielded once, alone or with others that are drawn from the last 1,000 or so; the
    drawing is seeded by `[training] seed`. The first text has no others to be joined to.

    level (float): Share of the texts that are joined to others.
    min_texts, max_texts (int): Numbers of texts in a joined one.
    max_tokens (int): Largest number of tokens of a joined text; a text that is longer stays alone.
    RETURNS (Callable[[Language, Example], Iterator[Example]]): The augmenter.
    """
    return TextJoiner(level, min_texts, max_texts, max_tokens)


@registry.batchers("spacy-spanrel.join_texts.v1")
def create_joining_batcher(
    batcher: Batcher,
    level: float = 0.5,
    min_texts: int = 2,
    max_texts: int = 4,
    max_tokens: int = 200,
) -> Callable[[Iterable[Example]], Iterator[list[Example]]]:
    """Create a batcher that joins texts of each batch, with new companions in each epoch.

    batcher (Callable): Makes the batches; its sizes count the texts before they are joined.
    level (float): Share of the draws of a group of texts that draw several.
    min_texts, max_texts (int): Numbers of texts in a joined one.
    max_tokens (int): Largest number of tokens of a joined text; a text that is longer stays alone.
    RETURNS (Callable[[Iterable[Example]], Iterator[list[Example]]]): The batcher.
    """
    joiner = TextJoiner(level, min_texts, max_texts, max_tokens)

    def batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
        for batch in batcher(examples):
            yield list(joiner.join_all(batch))

    return batches


class TextJoiner:
    """Joins Examples at random. Arguments as in `create_text_joiner`."""

    def __init__(self, level: float, min_texts: int, max_texts: int, max_tokens: int):
        settings = {
            "level": level,
            "min_texts": min_texts,
            "max_texts": max_texts,
            "max_tokens": max_tokens,
        }
        check_settings("spacy-spanrel.join_texts.v1", settings, RULES)
        self.level = level
        self.min_texts, self.max_texts = min_texts, max(min_texts, max_texts)
        self.max_tokens = max_tokens
        self._earlier: list[Example] = []

    def __call__(self, nlp: Language, example: Example) -> Iterator[Example]:
        """Join a text to earlier ones.

        nlp (Language): The pipeline.
        example (Example): The text.
        YIELDS (Example): The text, alone or joined.
        """
        if self._earlier and self._earlier[0].reference.vocab is not example.reference.vocab:
            self._earlier.clear()
        others = random.sample(self._earlier, min(self._size() - 1, len(self._earlier)))
        # A copy, because the text itself may be annotated once it is yielded.
        earlier = Example(example.predicted.copy(), example.reference)
        if len(self._earlier) < _RESERVOIR:
            self._earlier.append(earlier)
        else:
            self._earlier[random.randrange(_RESERVOIR)] = earlier
        texts = self._that_fit([example, *others])
        random.shuffle(texts)
        yield join_examples(texts)

    def join_all(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Join some texts to each other.

        examples (Iterable[Example]): The texts.
        YIELDS (Example): Joined texts and single ones; each of the texts is in one of them.
        """
        left = list(examples)
        random.shuffle(left)
        while left:
            texts = self._that_fit(left[: self._size()])
            del left[: len(texts)]
            yield join_examples(texts)

    def _size(self) -> int:
        """Draw the number of texts to join."""
        if random.random() >= self.level:
            return 1
        return random.randint(self.min_texts, self.max_texts)

    def _that_fit(self, examples: list[Example]) -> list[Example]:
        """Return the first text, and those after it that do not make it too long. Unlabelled texts stay
        alone."""
        n_tokens = len(examples[0].reference)
        for n_texts, example in enumerate(examples[1:], start=1):
            n_tokens += len(example.reference)
            alone = is_unlabelled(example) or is_unlabelled(examples[0])
            if alone or n_tokens > self.max_tokens:
                return examples[:n_texts]
        return examples


def join_examples(examples: Sequence[Example]) -> Example:
    """Join Examples to one. The gold Doc gets sentence borders; the predicted Doc gets none, because
    it has what the pipeline can find.

    examples (Sequence[Example]): The Examples, at least one.
    RETURNS (Example): The joined one; a single Example is returned as it is.
    """
    if len(examples) == 1:
        return examples[0]
    return Example(
        join_docs([example.predicted for example in examples], borders=False),
        join_docs([example.reference for example in examples]),
    )


def join_docs(docs: Sequence[Doc], borders: bool = True) -> Doc:
    """Join Docs to one Doc, with blanks between them.

    All annotation of tokens goes along, and all span groups: those of the same name become one, with
    their scores, questions and answers, except that coreference clusters stay apart and are numbered
    anew. Entities of Docs that have them in `doc.ents` alone join the group of entities of the others.
    Other attributes of a group go along if they are equal in all Docs. Extension data and vectors of
    tokens are left out.

    docs (Sequence[Doc]): The Docs, at least one, with the same vocabulary.
    borders (bool): Whether there are sentence borders between Docs that have none themselves.
    RETURNS (Doc): The joined Doc.
    """
    joined = Doc.from_docs(list(docs), exclude=["spans", "user_data", "tensor"])  # type: ignore[call-arg]
    groups: dict[str, list[tuple[SpanGroup, Doc, int]]] = defaultdict(list)
    n_numbered: dict[str, int] = defaultdict(int)
    has_entities = any(ENTITIES_KEY in doc.spans for doc in docs)
    start = 0
    for doc in docs:
        if start and len(doc) and not borders and not doc.has_annotation("SENT_START"):
            # spaCy takes the first token of any Doc for the start of a sentence.
            joined[start].is_sent_start = None
        spans_of = dict(doc.spans)
        if has_entities:
            # A Doc without this group has its entities in `doc.ents`.
            spans_of.setdefault(ENTITIES_KEY, SpanGroup(doc, spans=list(doc.ents)))
        for key, group in spans_of.items():
            prefix = numbered_prefix(key)
            if prefix is not None and prefix.startswith(_COREF):
                key = f"{prefix}_{n_numbered[prefix]}"
                n_numbered[prefix] += 1
            groups[key].append((group, doc, start))
        start += len(doc)
    for key, parts in groups.items():
        spans = [
            Span(
                joined,
                start + span.start,
                start + span.end,
                label=span.label,
                kb_id=span.kb_id,
                span_id=span.id,
            )
            for group, _, start in parts
            for span in group
        ]
        attrs = _join_attrs([group for group, _, _ in parts])
        joined.spans[key] = SpanGroup(joined, name=key, spans=spans, attrs=attrs)
        join_questions(joined, [(doc, start) for _, doc, start in parts], key)
    return joined


def _join_attrs(groups: Sequence[SpanGroup]) -> dict[str, Any]:
    """Join the attributes of groups: scores and weights one after the other (None and 1 for groups that
    have none), others if they are equal."""
    first, *others = [dict(group.attrs) for group in groups]
    attrs = {
        name: value
        for name, value in first.items()
        if name not in (SCORES_ATTR, WEIGHTS_ATTR)
        and all(repr(other.get(name)) == repr(value) for other in others)
    }
    defaults: dict[str, Any] = {SCORES_ATTR: None, WEIGHTS_ATTR: 1.0}
    for name, default in defaults.items():
        rows = [(len(group), list(group.attrs.get(name, ()))) for group in groups]
        # One for each span of entities, one for two spans of relations. A group may store none.
        spans_each = next((n_spans // len(values) for n_spans, values in rows if values), 0)
        if spans_each:
            attrs[name] = [
                value
                for n_spans, values in rows
                for value in values or [default] * (n_spans // spans_each)
            ]
    return attrs
