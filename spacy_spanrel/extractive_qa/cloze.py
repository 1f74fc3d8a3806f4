"""Questions made from texts automatically, for training with few human questions.

A question asks for a part of a sentence that was removed from it (after Lewis et al. 2019, "Unsupervised
Question Answering by Cloze Translation"). Half of the questions have no answer: a name or number in them
is replaced by one that the text does not contain, as the authors of SQuAD 2.0 did by hand. They are poor
English, but to answer them a model must find the words of the question in the text, and look next to
them.
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

# Start and end (exclusive) of a part of a text, in characters.
CharRange = tuple[int, int]

# Sentence boundaries, names and numbers in a text without annotation.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_NAME = re.compile(r"[A-Z][\w'’.-]*[\w](?:[ ](?:(?:of|the|de|and)[ ])?[A-Z][\w'’.-]*[\w])*")
_NUMBER = re.compile(r"[$£€]?\d[\d,.]*\d?(?:%| percent| million| billion)?|\d")
_YEAR = re.compile(r"(1[0-9]|20)\d\d")
_WORD = re.compile(r"\S+")

# The shortest sentence that is used, in characters.
_MIN_SENTENCE = 25
# Words around the answer that become the question: the smallest number of all, and the range of their
# number on each side.
_MIN_WORDS = 4
_WORDS_PER_SIDE = (2, 10)
# Probability that a word of the text is left out of the question.
_DROP = 0.15
# The order of a question, by a random number. Below the first: the question word, the words after the
# answer, those before it. Below the second: the question word in the place of the answer. Otherwise: the
# question word, the words before the answer, those after it.
_INVERTED, _IN_PLACE = 0.4, 0.7
# Tries for each wanted question: many places of a text are not suitable.
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
    """The question words of a language; one of those that suit the answer is drawn.

    year, number, name, other (tuple[str, ...]): For answers that are a year, another number, begin with
        a capital letter, and for all others.
    """

    year: tuple[str, ...] = ("when", "what year")
    number: tuple[str, ...] = ("how many", "what number", "how much")
    name: tuple[str, ...] = ("who", "what", "which", "where")
    other: tuple[str, ...] = ("what",)

    def of(self, answer: str) -> tuple[str, ...]:
        """Return the question words that suit an answer."""
        if _YEAR.fullmatch(answer):
            return self.year
        if _NUMBER.match(answer):
            return self.number
        return self.name if answer[:1].isupper() else self.other


ENGLISH = QuestionWords()


def find_sentences(doc: Doc) -> list[CharRange]:
    """Return the character ranges of the sentences; they are guessed if the Doc has none."""
    if doc.has_annotation("SENT_START"):
        return [(sent.start_char, sent.end_char) for sent in doc.sents]
    cuts = [0, *(match.end() for match in _SENTENCE_END.finditer(doc.text)), len(doc.text)]
    return [(start, end) for start, end in pairwise(cuts) if end > start]


def find_mentions(doc: Doc, start: int, end: int) -> list[Mention]:
    """Return the names and numbers of a sentence.

    They are the entities of the Doc. In a Doc without entities, names are guessed from capital letters
    after the first word, and numbers from digits.

    doc (Doc): The Doc.
    start, end (int): Character range of the sentence.
    RETURNS (list[Mention]): The names and numbers; guessed ones with all names first.
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
    """Collect the names and numbers of texts, for questions about other texts.

    docs (Iterable[Doc]): The texts.
    RETURNS (dict[str, list[str]]): The names and the numbers, each as often as it occurs.
    """
    mentions: dict[str, list[str]] = {"name": [], "number": []}
    for doc in docs:
        for sentence in find_sentences(doc):
            for mention in find_mentions(doc, *sentence):
                mentions[mention.kind].append(doc.text[mention.start : mention.end])
    return mentions


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

    They ask for names, numbers, and the answers (also plausible ones) to the questions that the text has
    already.

    doc (Doc): The text; gold questions, sentence boundaries and entities are used if it has any.
    count (int): Number of questions. The text may have too few suitable places for all of them.
    mentions (Mapping[str, Sequence[str]]): From `collect_mentions`.
    rng (random.Random): Makes all choices.
    words (QuestionWords): The question words of the text's language.
    key (str): Span group of the gold questions.
    RETURNS (list[Answer]): The gold answers to new questions with the ids "c0", "c1", ... Every second
        one is "no answer", with a plausible answer as its alternative.
    """
    text = doc.text
    sentences = [(*bounds, find_mentions(doc, *bounds)) for bounds in find_sentences(doc)]
    gold = [
        (answer.start_char, answer.end_char)
        for gold_answer in get_answers(doc, key)
        for answer in (*reference_answers(gold_answer)[:1], *plausible_answers(gold_answer)[:1])
    ]
    answers: list[Answer] = []
    for _ in range(_TRIES * count if sentences else 0):
        if len(answers) == count:
            break
        start, end, sentence_mentions = rng.choice(sentences)
        # Answers that people marked are twice as likely.
        targets = [bounds for bounds in gold if start <= bounds[0] and bounds[1] <= end] * 2
        targets += [(mention.start, mention.end) for mention in sentence_mentions]
        if not targets or end - start < _MIN_SENTENCE:
            continue
        target = rng.choice(targets)
        before, after = _words_around(text, (start, end), target, rng)
        if len(before) + len(after) < _MIN_WORDS:
            continue
        change = None
        if len(answers) % 2:
            change = _draw_change(text, sentence_mentions, target, before, after, mentions, rng)
            if change is None:
                continue
        left = [word for word in _words(text, before, change) if rng.random() > _DROP]
        right = [word for word in _words(text, after, change) if rng.random() > _DROP]
        asked = _phrase(left, right, words.of(text[slice(*target)]), rng)
        question = Question(f"c{len(answers)}", asked)
        answer = make_answer(doc, question, *target)
        if change is not None:
            answer = replace(make_answer(doc, question, 0, 0), alternatives=(answer,))
        answers.append(answer)
    return answers


def _words_around(
    text: str, sentence: CharRange, target: CharRange, rng: random.Random
) -> tuple[list[CharRange], list[CharRange]]:
    """Choose words of a sentence before and after the answer."""
    words = [(match.start(), match.end()) for match in _WORD.finditer(text, *sentence)]
    before = [word for word in words if word[1] <= target[0]]
    after = [word for word in words if word[0] >= target[1]]
    if before:
        before = before[-rng.randint(*_WORDS_PER_SIDE) :]
    return before, after[: rng.randint(*_WORDS_PER_SIDE)]


def _draw_change(
    text: str,
    sentence_mentions: Sequence[Mention],
    target: CharRange,
    before: Sequence[CharRange],
    after: Sequence[CharRange],
    mentions: Mapping[str, Sequence[str]],
    rng: random.Random,
) -> tuple[Mention, str] | None:
    """Draw a mention in the question, and the text of another one of its kind to replace it; None if
    there is none, or if the text contains the other one."""
    first = before[0][0] if before else target[1]
    last = after[-1][1] if after else target[0]
    in_question = [
        mention
        for mention in sentence_mentions
        if first <= mention.start
        and mention.end <= last
        and (mention.end <= target[0] or mention.start >= target[1])
    ]
    if not in_question:
        return None
    mention = rng.choice(in_question)
    if not mentions[mention.kind]:
        return None
    new = rng.choice(mentions[mention.kind])
    return None if new.lower() in text.lower() else (mention, new)


def _words(text: str, ranges: Sequence[CharRange], change: tuple[Mention, str] | None) -> list[str]:
    """Return the words from the first to the last of some ranges, with the change if it lies there."""
    if not ranges:
        return []
    start, end = ranges[0][0], ranges[-1][1]
    if change is not None:
        mention, new = change
        if start <= mention.start and mention.end <= end:
            return (text[start : mention.start] + new + text[mention.end : end]).split()
    return text[start:end].split()


def _phrase(left: list[str], right: list[str], words: Sequence[str], rng: random.Random) -> str:
    """Make a question of the words before and after the answer and a question word."""
    word = rng.choice(words) if len(words) > 1 else words[0]
    if right:
        right = [*right[:-1], right[-1].rstrip(".")]
    draw = rng.random()
    if draw < _INVERTED:
        order = [word, *right, *left]
    elif draw < _IN_PLACE:
        order = [*left, word, *right]
    else:
        order = [word, *left, *right]
    return " ".join(order).strip(" .,;:") + "?"
