"""Questions that are made from the text itself, for training where people's questions are few.

A part of a sentence is taken out and asked for (after Lewis et al. 2019, "Unsupervised Question
Answering by Cloze Translation"). Half of the questions have no answer: a name or number in them is
replaced by one that the text does not have, as the authors of SQuAD 2.0 did by hand. They are poor
English, but to answer them a reader must find what a question says in the text, and look beside it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spacy.tokens import Doc

from ..annotations import QA_KEY, Answer, Question, get_answers, make_answer
from ..annotations.answers import plausible_answers, reference_answers

Range = tuple[int, int]

# Ends of sentences, names and numbers in a text that nothing has annotated.
_BORDER = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_NAME = re.compile(r"[A-Z][\w'’.-]*[\w](?:[ ](?:(?:of|the|de|and)[ ])?[A-Z][\w'’.-]*[\w])*")
_NUMBER = re.compile(r"[$£€]?\d[\d,.]*\d?(?:%| percent| million| billion)?|\d")
_YEAR = re.compile(r"(1[0-9]|20)\d\d")
_WORD = re.compile(r"\S+")

# Characters of the shortest sentence, and words around the answer: the fewest of all, and from .. to
# on each side.
_SHORTEST = 25
_FEWEST_WORDS = 4
_WORDS_BESIDE = (2, 10)
# How often a word of the text is left out of the question.
_DROPPED = 0.15
# Below the first number the question word comes first and what stood behind the answer follows it;
# below the second it stands where the answer was; else it comes first, before the words in order.
_TURNED, _INSIDE = 0.4, 0.7
# Tries for each question that is wanted: not every place of a text is good for one.
_TRIES = 6


@dataclass(frozen=True)
class Mention:
    """A name or number in a text.

    start, end (int): Characters, end exclusive.
    kind (str): "name" or "number".
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class QuestionWords:
    """How a language asks.

    year, number, name, other (tuple[str, ...]): For a year, another number, what begins with a
        capital, and the rest. One of them is drawn.
    """

    year: tuple[str, ...] = ("when", "what year")
    number: tuple[str, ...] = ("how many", "what number", "how much")
    name: tuple[str, ...] = ("who", "what", "which", "where")
    other: tuple[str, ...] = ("what",)

    def of(self, answer: str) -> tuple[str, ...]:
        """Return the words that ask for an answer."""
        if _YEAR.fullmatch(answer):
            return self.year
        if _NUMBER.match(answer):
            return self.number
        return self.name if answer[:1].isupper() else self.other


ENGLISH = QuestionWords()


def find_sentences(doc: Doc) -> list[Range]:
    """Return the character ranges of the sentences: those that are annotated, or a guess."""
    if doc.has_annotation("SENT_START"):
        return [(sent.start_char, sent.end_char) for sent in doc.sents]
    cuts = [0, *(match.end() for match in _BORDER.finditer(doc.text)), len(doc.text)]
    return [(start, end) for start, end in pairwise(cuts) if end > start]


def find_mentions(doc: Doc, start: int, end: int) -> list[Mention]:
    """Return the names and numbers of a sentence: entities if the Doc has any, or a guess from
    capitals (those that a sentence begins with say nothing) and digits.

    doc (Doc): The Doc.
    start, end (int): Character range of the sentence.
    RETURNS (list[Mention]): Names, then numbers.
    """
    if doc.ents:
        return [
            Mention(ent.start_char, ent.end_char, "number" if ent[0].like_num else "name")
            for ent in doc.ents
            if start <= ent.start_char and ent.end_char <= end
        ]
    text = doc.text
    names = [
        Mention(match.start(), match.end(), "name")
        for match in _NAME.finditer(text, start, end)
        if match.start() > start
    ]
    numbers = [
        Mention(match.start(), match.start() + len(match.group().rstrip(".,")), "number")
        for match in _NUMBER.finditer(text, start, end)
        if not any(name.start <= match.start() < name.end for name in names)
    ]
    return names + numbers


def collect_mentions(docs: Iterable[Doc]) -> dict[str, list[str]]:
    """Collect the names and numbers of texts, to be put into questions about other texts.

    docs (Iterable[Doc]): The texts.
    RETURNS (dict[str, list[str]]): All mentions by kind, as often as they occur.
    """
    found: dict[str, list[str]] = {"name": [], "number": []}
    for doc in docs:
        for sentence in find_sentences(doc):
            for mention in find_mentions(doc, *sentence):
                found[mention.kind].append(doc.text[mention.start : mention.end])
    return found


def make_clozes(
    doc: Doc,
    count: int,
    mentions: Mapping[str, Sequence[str]],
    rng: random.Random,
    *,
    words: QuestionWords = ENGLISH,
    key: str = QA_KEY,
) -> list[Answer]:
    """Make questions about a text.

    Asked for are the answers (also the plausible ones) to the questions that it has already, names
    and numbers.

    doc (Doc): The text, perhaps with gold questions, sentence borders, entities.
    count (int): How many to make. Fewer come out where the text has not enough good places.
    mentions (Mapping[str, Sequence[str]]): From `collect_mentions`.
    rng (random.Random): Makes all choices.
    words (QuestionWords): Of the text's language.
    key (str): Span group of the questions that it has.
    RETURNS (list[Answer]): Gold answers to new questions, by turns with an answer and without one
        (with the plausible answer as its alternative). Ids are "c0", "c1", ...
    """
    text = doc.text
    # Each is looked at many times.
    sentences = [(*place, find_mentions(doc, *place)) for place in find_sentences(doc)]
    gold = [
        (part.start_char, part.end_char)
        for answer in get_answers(doc, key)
        for part in (*reference_answers(answer)[:1], *plausible_answers(answer)[:1])
    ]
    made: list[Answer] = []
    for _ in range(_TRIES * count if sentences else 0):
        if len(made) == count:
            break
        start, end, own = rng.choice(sentences)
        # People's own answers count twice.
        answers = [place for place in gold if start <= place[0] and place[1] <= end] * 2
        answers += [(mention.start, mention.end) for mention in own]
        if not answers or end - start < _SHORTEST:
            continue
        place = rng.choice(answers)
        before, behind = _beside(text, (start, end), place, rng)
        if len(before) + len(behind) < _FEWEST_WORDS:
            continue
        change = None
        if len(made) % 2:
            change = _draw_change(text, own, place, before, behind, mentions, rng)
            if change is None:
                continue
        left = [w for w in _words(text, before, change) if rng.random() > _DROPPED]
        right = [w for w in _words(text, behind, change) if rng.random() > _DROPPED]
        asked = _ask(left, right, words.of(text[slice(*place)]), rng)
        question = Question(f"c{len(made)}", asked)
        answer = make_answer(doc, question, *place)
        if change is not None:
            answer = replace(make_answer(doc, question, 0, 0), alternatives=(answer,))
        made.append(answer)
    return made


def _beside(
    text: str, sentence: Range, place: Range, rng: random.Random
) -> tuple[list[Range], list[Range]]:
    """Choose words before and behind the answer: as ranges of characters."""
    found = [(match.start(), match.end()) for match in _WORD.finditer(text, *sentence)]
    before = [word for word in found if word[1] <= place[0]]
    behind = [word for word in found if word[0] >= place[1]]
    if before:
        before = before[-rng.randint(*_WORDS_BESIDE) :]
    return before, behind[: rng.randint(*_WORDS_BESIDE)]


@dataclass(frozen=True)
class _Change:
    """What is put in the place of a mention."""

    mention: Mention
    text: str


def _draw_change(
    text: str,
    own: Sequence[Mention],
    place: Range,
    before: Sequence[Range],
    behind: Sequence[Range],
    mentions: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> _Change | None:
    """Draw a mention among the words of the question, and another one that the text does not have;
    None if the draw was none."""
    first = before[0][0] if before else place[1]
    last = behind[-1][1] if behind else place[0]
    others = [
        mention
        for mention in own
        if first <= mention.start
        and mention.end <= last
        and (mention.end <= place[0] or mention.start >= place[1])
    ]
    if not others:
        return None
    mention = rng.choice(others)
    if not mentions[mention.kind]:
        return None
    new = rng.choice(mentions[mention.kind])
    return None if new.lower() in text.lower() else _Change(mention, new)


def _words(text: str, found: Sequence[Range], change: _Change | None) -> list[str]:
    """Return the words of a part of the text, with the change if it lies there."""
    if not found:
        return []
    start, end = found[0][0], found[-1][1]
    if change is not None and start <= change.mention.start and change.mention.end <= end:
        whole = text[start : change.mention.start] + change.text + text[change.mention.end : end]
        return whole.split()
    return text[start:end].split()


def _ask(left: list[str], right: list[str], words: Sequence[str], rng: random.Random) -> str:
    """Put the words of a question together."""
    word = rng.choice(words) if len(words) > 1 else words[0]
    if right:
        right = [*right[:-1], right[-1].rstrip(".")]
    draw = rng.random()
    if draw < _TURNED:
        order = [word, *right, *left]
    elif draw < _INSIDE:
        order = [*left, word, *right]
    else:
        order = [word, *left, *right]
    return " ".join(order).strip(" .,;:") + "?"
