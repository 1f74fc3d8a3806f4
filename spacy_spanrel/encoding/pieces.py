"""Docs to word pieces with character offsets, through a fast Hugging Face tokenizer."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, pre_tokenizers

from ..arrays import IntArray
from ..errors import Errors

_UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True)
class TextPieces:
    """The word pieces of one text, without special tokens.

    ids (int64 array, (n_pieces,)): Vocabulary ids.
    chars (int64 array, (n_pieces, 2)): Character range of each piece in the text (end exclusive).
    """

    ids: IntArray
    chars: IntArray


@dataclass(frozen=True)
class PairTemplate:
    """What a tokenizer puts around two texts, as ids and as segment ids.

    prefix, middle, suffix (list[int]): Special tokens before, between and behind the texts.
    prefix_types, middle_types, suffix_types (list[int]): Their segments.
    first_type, second_type (int): The segments of the texts.
    """

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    prefix_types: list[int]
    middle_types: list[int]
    suffix_types: list[int]
    first_type: int
    second_type: int

    @property
    def n_special(self) -> int:
        """Special tokens around a pair."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PieceTokenizer:
    """A fast tokenizer, reduced to what the components need and made safe.

    - Truncation and padding that a tokenizer.json carries along are switched off: windows and
      batches are made by us, and nothing is cut.
    - Literal special tokens in a text ("[SEP]", "<s>") are ordinary characters.
    - The special tokens around a sequence are probed, so BERT and RoBERTa differ in data only.

    tokenizer (PreTrainedTokenizerFast): From transformers. Its backend is taken over and changed:
        what is to be saved of it must be saved before.
    name (str): What to call it in messages.
    RAISES (ValueError): If it is not a fast tokenizer.
    """

    def __init__(self, tokenizer: Any, name: str):
        self.name = name
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(Errors.E201.format(name=name, kind=type(tokenizer).__name__))
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        probe = self._backend.encode("a", add_special_tokens=True)
        inner = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
        if inner:
            self.prefix: list[int] = probe.ids[: inner[0]]
            self.suffix: list[int] = probe.ids[inner[-1] + 1 :]
        else:
            self.prefix, self.suffix = list(probe.ids), []
        self.pair = _probe_pair(self._backend)
        if hasattr(self._backend, "encode_special_tokens"):
            self._backend.encode_special_tokens = True
        added = self._backend.get_added_tokens_decoder().values()
        self._break_up(token.content for token in added if token.special)
        # Free entries that were added as words would be found in texts.
        self.hide_from_text(i for word, i in self.vocabulary.items() if _UNUSED.fullmatch(word))
        limit = getattr(tokenizer, "model_max_length", None)
        self.max_length: int | None = int(limit) if limit and limit < 1_000_000 else None
        pad_id = tokenizer.pad_token_id
        self.pad_id: int = 0 if pad_id is None else int(pad_id)

    def hide_from_text(self, ids: Iterable[int]) -> None:
        """Let no text be word-pieced to certain entries: what it holds of them is spelt.

        ids (Iterable[int]): Ids of entries.
        """
        wanted = set(ids)
        added = self._backend.get_added_tokens_decoder()
        words = [token.content for i, token in added.items() if i in wanted and not token.special]
        if words:
            # Special tokens in a text are ordinary characters.
            self._backend.add_special_tokens(words)
            self._break_up(words)

    def _break_up(self, words: Iterable[str]) -> None:
        """Part the first character of some words from the rest wherever they stand in a text: the
        vocabularies of SentencePiece models hold the special tokens as well, and would find them."""
        ends = "|".join(re.escape(word) for word in words if len(word) > 1)
        if not ends:
            return
        apart = pre_tokenizers.Split(Regex(f"(?={ends})."), "isolated")
        before = self._backend.pre_tokenizer
        self._backend.pre_tokenizer = (
            apart if before is None else pre_tokenizers.Sequence([before, apart])
        )

    @property
    def vocabulary(self) -> dict[str, int]:
        """Ids of all entries, added tokens included."""
        entries: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return entries

    @property
    def n_special(self) -> int:
        """Special tokens around each sequence."""
        return len(self.prefix) + len(self.suffix)

    @property
    def context_position(self) -> int:
        """Position of the sequence's summary ([CLS], <s>): the first special token, or the last
        one for tokenizers that put all of them at the end (counted from the end, negative)."""
        return 0 if self.prefix or not self.suffix else -1

    def __call__(self, texts: Sequence[str]) -> list[TextPieces]:
        """Word-piece texts.

        texts (Sequence[str]): The texts.
        RETURNS (list[TextPieces]): One for each, in order.
        """
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            TextPieces(
                np.asarray(encoding.ids, dtype=np.int64),
                np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2),
            )
            for encoding in encodings
        ]


def _probe_pair(backend: Any) -> PairTemplate:
    probe = backend.encode("a", "b", add_special_tokens=True)
    sides = list(probe.sequence_ids)
    first = [i for i, side in enumerate(sides) if side == 0]
    second = [i for i, side in enumerate(sides) if side == 1]
    ids, types = list(probe.ids), list(probe.type_ids)
    middle = slice(first[-1] + 1, second[0])
    return PairTemplate(
        prefix=ids[: first[0]],
        middle=ids[middle],
        suffix=ids[second[-1] + 1 :],
        prefix_types=types[: first[0]],
        middle_types=types[middle],
        suffix_types=types[second[-1] + 1 :],
        first_type=types[first[0]],
        second_type=types[second[0]],
    )


# Letter case of a piece: no letters, all lower, first letter upper, all upper (two or more), mixed.
N_CASINGS = 5


def piece_casing(text: str, chars: IntArray) -> IntArray:
    """Classify the letter case of word pieces as they stand in the text.

    text (str): The text.
    chars (int64 array, (n_pieces, 2)): Character ranges of the pieces.
    RETURNS (int64 array, (n_pieces,)): 0 without letters that have a case, 1 all lower, 2 only the
        first letter upper, 3 all upper (two letters at least), 4 anything else.
    """
    upper = np.fromiter(map(str.isupper, text), dtype=np.int64, count=len(text))
    lower = np.fromiter(map(str.islower, text), dtype=np.int64, count=len(text))
    n_upper, n_lower = (
        sums[chars[:, 1]] - sums[chars[:, 0]]
        for sums in (np.concatenate([[0], np.cumsum(flags)]) for flags in (upper, lower))
    )
    # Pieces may begin with the space before them: look for the first cased character.
    first = np.minimum(chars[:, 0], max(0, len(text) - 1))
    if len(text):
        spaced = np.fromiter(map(str.isspace, text), dtype=bool, count=len(text))[first]
        first = np.minimum(first + spaced, len(text) - 1)
    starts_upper = upper[first] == 1 if len(text) else np.zeros(len(chars), dtype=bool)
    out = np.full(len(chars), 4, dtype=np.int64)
    out[(n_upper == 1) & starts_upper] = 2
    out[(n_upper > 1) & (n_lower == 0)] = 3
    out[n_upper == 0] = 1
    out[(n_upper == 0) & (n_lower == 0)] = 0
    return out


def tokenizer_to_files(tokenizer: Any) -> dict[str, bytes]:
    """Return the files of a tokenizer: `PreTrainedTokenizerFast(tokenizer_object=...)` alone loses
    the special tokens and the length limit."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def tokenizer_from_files(files: dict[str, bytes]) -> Any:
    """Make a tokenizer from what `tokenizer_to_files` returned, exactly as it was saved.

    The tokenizers library reads it, and not the tokenizer's class in transformers: in transformers 5
    most classes build everything but the vocabulary anew, and in transformers 4 some names of
    classes (and forms of settings) that transformers 5 writes are unknown.

    files (dict[str, bytes]): By name.
    RETURNS (PreTrainedTokenizerFast): With the pieces, special tokens around texts, padding and
        length limit of the tokenizer that was saved.
    """
    from transformers import PreTrainedTokenizerFast

    settings = json.loads(files["tokenizer_config.json"])
    known = {name: settings[name] for name in ("pad_token", "model_max_length") if name in settings}
    if isinstance(known.get("pad_token"), dict):
        known["pad_token"] = known["pad_token"]["content"]
    backend = Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **known)
