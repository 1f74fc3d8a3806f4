"""A row of the input, and the Doc that is made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations import Question, make_questions, set_questions
from ..annotations.relations import ID_KEY, RecordId
from ..errors import Errors
from ..reading import ConversionError, JsonValue, Place

TOKENS_KEY = "tokens"
QUESTIONS_KEY = "questions"
# How much of a failed row is kept and shown.
RAW_CHARS = 4000
RAW_BYTES = 4 * RAW_CHARS + 4


@dataclass(frozen=True)
class Row:
    """A row that could be read: a text, tokens, or a Doc.

    place (Place): Where the row stands, and its id.
    extra (dict[str, Any]): All of its keys but the text.
    text (str | None): The text, to be tokenized.
    words (list[str] | None): The tokens.
    doc (Doc | None): The Doc. It is not changed.
    questions (tuple[Question, ...]): Questions about the text.
    raw (Any): The row as it was read (of bytes, the first `RAW_BYTES`), to report a failure with.
    """

    place: Place
    extra: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    words: list[str] | None = None
    doc: Doc | None = None
    questions: tuple[Question, ...] = ()
    raw: Any = None

    @property
    def size(self) -> int:
        """About how many bytes the row holds; the same each time it is read."""
        size = len(self.text or "") + _size(self.words) + _size(self.extra)
        return size if self.doc is None else size + len(self.doc.text)


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return 8


@dataclass(frozen=True)
class BadRow:
    """A row that failed.

    place (Place): Where the row stands, and its id.
    raw (Any): The row as it was read, or the beginning of it.
    error (str): The kind of error.
    message (str): What was wrong.
    """

    place: Place
    raw: Any
    error: str
    message: str
    size = RAW_CHARS  # at most

    @classmethod
    def of(cls, place: Place, raw: Any, error: Exception) -> BadRow:
        """Make a failed row from an error, which is not kept: its traceback would keep Docs alive."""
        raw = raw.text if isinstance(raw, Doc) else raw
        return cls(place, raw, type(error).__name__, str(error))

    def to_line(self, number: int) -> bytes:
        """Return the row's line in the file of errors.

        number (int): The number of the row, from 1.
        RETURNS (bytes): A JSON object and a line feed.
        """
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


ERROR_KEYS = frozenset({"row", "id", "place", "error", "message", "raw"})


def _as_text(raw: Any) -> str:
    if isinstance(raw, bytes):
        return raw[:RAW_BYTES].decode("utf-8", "replace")
    if isinstance(raw, str):
        return raw
    return json.dumps(raw, ensure_ascii=False, default=str)


def parse_row(value: Any, place: Place, text_key: str, raw: Any) -> Row | BadRow:
    """Make a row from a JSON value: a text, a list of tokens, or an object with one of the two.

    value (Any): The value.
    place (Place): Where it stands.
    text_key (str): The object's key of the text. Beside tokens it is a key like any other.
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
        extra = {key: other for key, other in value.items() if key != text_key}
        return Row(place, extra, text=text, questions=questions, raw=raw)
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
    """Return the value if it can identify a row (an integer, or a string that is not empty)."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return value


def too_long(place: Place, found: str, limit: str) -> ConversionError:
    """Return the error for a row that is too long."""
    return place.error(Errors.E929, found=found, expected=f"at most {limit}")


def make_doc(row: Row, nlp: Language, qa_keys: Iterable[str], max_chars: int) -> Doc:
    """Make the Doc that is given to the pipeline: a new one in each call.

    row (Row): The row.
    nlp (Language): The pipeline, for its tokenizer and vocabulary.
    qa_keys (Iterable[str]): Span groups that receive the row's questions.
    max_chars (int): Longest text allowed, in characters.
    RETURNS (Doc): The Doc. The space between given tokens is unknown; as in all Docs of the package
        that are made from tokens, the text has a blank behind each.
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
