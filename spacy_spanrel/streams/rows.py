"""A row of the input, and the Doc that is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations import Question, make_questions, set_questions
from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import ConversionError, JsonValue, Place

ID_KEY = "id"
TOKENS_KEY = "tokens"
QUESTIONS_KEY = "questions"
# Where a Doc carries what else its row had.
META_KEY = "meta"
# How much of a failed row is shown, in characters.
RAW_CHARS = 4000


@dataclass(frozen=True)
class Row:
    """A row that could be read: a text, tokens, or a Doc.

    place (Place): Where it was, and its id.
    own (dict[str, Any]): What else it had.
    text (str | None): The text to be tokenized.
    words (list[str] | None): The tokens.
    doc (Doc | None): The Doc. It stays as it is.
    questions (tuple[Question, ...]): Questions about it.
    raw (Any): The row as it was read, for a report of its failure.
    """

    place: Place
    own: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    words: list[str] | None = None
    doc: Doc | None = None
    questions: tuple[Question, ...] = ()
    raw: Any = None


@dataclass(frozen=True)
class BadRow:
    """A row that failed.

    place (Place): Where it was, and its id.
    raw (Any): The row as it was read, or the beginning of it.
    error (str): The kind of error.
    message (str): What was wrong.
    """

    place: Place
    raw: Any
    error: str
    message: str

    @classmethod
    def of(cls, place: Place, raw: Any, error: Exception) -> BadRow:
        """Make one of an error, which is not kept: it would keep the Docs that it passed."""
        return cls(place, raw, type(error).__name__, str(error))

    def to_line(self, number: int) -> bytes:
        """Return the row's line in the file of errors. number (int): The row, from 1."""
        raw = _as_text(self.raw)
        entry: dict[str, Any] = {
            "row": number,
            "id": self.place.id,
            "place": f"{self.place.file}, {self.place.name}".removesuffix(", "),
            "error": self.error,
            "message": self.message,
            "raw": raw[:RAW_CHARS],
        }
        if len(raw) > RAW_CHARS:
            entry["raw_cut"] = True
        return f"{json.dumps(entry, ensure_ascii=False)}\n".encode("utf-8", "backslashreplace")


def _as_text(raw: Any) -> str:
    if isinstance(raw, bytes):
        return raw[: 4 * RAW_CHARS + 4].decode("utf-8", "replace")
    if isinstance(raw, str):
        return raw
    if isinstance(raw, Doc):
        return str(raw.text)
    return json.dumps(raw, ensure_ascii=False, default=str)


def parse_row(value: Any, place: Place, text_key: str, raw: Any) -> Row | BadRow:
    """Make a row of a JSON value: a text, a list of tokens, or an object with one of the two.

    value (Any): The value.
    place (Place): Where it was.
    text_key (str): The object's key of the text. With tokens it is a key like any other.
    raw (Any): The row as it was read.
    RETURNS (Row | BadRow): The row, or what is wrong with it.
    """
    try:
        record = JsonValue(value, place)
        if isinstance(value, str):
            return Row(place, text=record.as_str(), raw=raw)
        if isinstance(value, list):
            return Row(place, words=record.as_words(allow_empty=True), raw=raw)
        if not isinstance(value, dict):
            raise record.wrong_kind("an object {...}, a text, or a list of tokens")
        place = Place(place.file, place.name, record_id(value.get(ID_KEY)))
        record = JsonValue(value, place)
        questions = _questions(value.get(QUESTIONS_KEY), record)
        tokens = record.get(TOKENS_KEY)
        if tokens is not None:
            words = tokens.as_words(allow_empty=True)
            return Row(place, dict(value), words=words, questions=questions, raw=raw)
        if text_key not in value:
            raise record.missing(f"the key {text_key!r} (see --text-key) or {TOKENS_KEY!r}")
        text = record[text_key].as_str()
        own = {key: other for key, other in value.items() if key != text_key}
        return Row(place, own, text=text, questions=questions, raw=raw)
    except ValueError as error:
        return BadRow.of(place, raw, error)


def _questions(value: Any, record: JsonValue) -> tuple[Question, ...]:
    if value is None:
        return ()
    questions = make_questions(value)
    for question in questions:
        for text in (question.id, question.text):
            JsonValue(text, record, QUESTIONS_KEY).as_str()
    return questions


def record_id(value: Any) -> RecordId | None:
    """Return the value if it can name a row (a string that is not empty, an integer), else None."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return value


def too_long(place: Place, found: str, limit: str) -> ConversionError:
    """Return the error for a row that is too long."""
    return place.error(Errors.E929, found=found, expected=f"at most {limit}")


def make_doc(row: Row, nlp: Language, qa_keys: Iterable[str], max_chars: int) -> Doc:
    """Make the Doc that the pipeline is given; every call makes a new one.

    row (Row): The row.
    nlp (Language): The pipeline, for its tokenizer and vocabulary.
    qa_keys (Iterable[str]): Span groups that take the row's questions.
    max_chars (int): Longest text.
    RETURNS (Doc): The Doc. With tokens, what stands between them is unknown, and the text is the
        tokens with a blank behind each, as in all Docs of the package that are made of tokens.
    RAISES (ValueError): If the text is too long.
    """
    if row.doc is not None:
        length = len(row.doc.text)
    elif row.words is not None:
        length = sum(map(len, row.words)) + len(row.words)
    else:
        length = len(row.text or "")
    if length > max_chars:
        raise too_long(row.place, f"{length} characters", f"{max_chars} (see --max-chars)")
    doc: Doc
    if row.doc is not None:
        doc = row.doc.copy()
    elif row.words is not None:
        doc = Doc(nlp.vocab, words=row.words)
    else:
        doc = nlp.make_doc(row.text or "")
    if row.questions:
        for key in qa_keys:
            set_questions(doc, row.questions, key)
    return doc
