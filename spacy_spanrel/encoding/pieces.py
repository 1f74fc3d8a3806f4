"""Tokenization of texts into subword pieces with character offsets, by fast Hugging Face tokenizers."""

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
    """The subword pieces of one text, without special tokens.

    ids (int64 array, (n_pieces,)): Vocabulary ids.
    chars (int64 array, (n_pieces, 2)): Character range of each piece in the text (end exclusive).
    """

    ids: IntArray
    chars: IntArray


@dataclass(frozen=True)
class PairTemplate:
    """The special tokens around a pair of texts, and the segments of both.

    prefix, middle, suffix (list[int]): Ids of the special tokens before, between and behind the
        texts.
    prefix_types, middle_types, suffix_types (list[int]): Segment ids of these special tokens.
    first_type, second_type (int): Segment ids of the texts.
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
        """The number of special tokens around a pair."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PieceTokenizer:
    """A fast tokenizer that gives the pieces of a text, all of them and nothing else.

    - Truncation and padding that tokenizer.json asks for are switched off: long texts are read in
      windows, never cut, and batches are padded later.
    - Literal special tokens in a text ("[SEP]", "<s>") are ordinary characters.
    - The special tokens around a text are read off an example, so that BERT and RoBERTa need no
      code of their own.

    tokenizer (PreTrainedTokenizerFast): A tokenizer of transformers. Its backend is changed, so save
        the tokenizer before.
    name (str): The name of the tokenizer in messages.
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
        # Unused entries that are added tokens would match in texts.
        self.hide_from_text(i for word, i in self.vocabulary.items() if _UNUSED.fullmatch(word))
        limit = getattr(tokenizer, "model_max_length", None)
        self.max_length: int | None = int(limit) if limit and limit < 1_000_000 else None
        pad_id = tokenizer.pad_token_id
        self.pad_id: int = 0 if pad_id is None else int(pad_id)

    def hide_from_text(self, ids: Iterable[int]) -> None:
        """Keep some entries out of texts: split their names into other pieces, like any word.

        ids (Iterable[int]): Ids of the entries.
        """
        hidden = set(ids)
        added = self._backend.get_added_tokens_decoder()
        words = [token.content for i, token in added.items() if i in hidden and not token.special]
        if words:
            # The tokenizer takes special tokens in a text for ordinary characters.
            self._backend.add_special_tokens(words)
            self._break_up(words)

    def _break_up(self, words: Iterable[str]) -> None:
        """Split some words in texts after the first character, so that none can become one piece.

        The vocabularies of SentencePiece models contain their special tokens as ordinary pieces too.
        """
        choices = "|".join(re.escape(word) for word in words if len(word) > 1)
        if not choices:
            return
        splitter = pre_tokenizers.Split(Regex(f"(?={choices})."), "isolated")
        before = self._backend.pre_tokenizer
        self._backend.pre_tokenizer = (
            splitter if before is None else pre_tokenizers.Sequence([before, splitter])
        )

    @property
    def vocabulary(self) -> dict[str, int]:
        """The ids of all entries by name, added tokens included."""
        entries: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return entries

    @property
    def n_special(self) -> int:
        """The number of special tokens around a text."""
        return len(self.prefix) + len(self.suffix)

    @property
    def cls_position(self) -> int:
        """The position of [CLS] (or <s>) in a row: the first special token. For tokenizers that put
        all special tokens at the end it is the last one (-1)."""
        return 0 if self.prefix or not self.suffix else -1

    def __call__(self, texts: Sequence[str]) -> list[TextPieces]:
        """Split texts into pieces.

        texts (Sequence[str]): The texts.
        RETURNS (list[TextPieces]): The pieces of each text, in order.
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


# Number of classes of `piece_casing`.
N_CASINGS = 5


def piece_casing(text: str, chars: IntArray) -> IntArray:
    """Classify pieces by their letter case in the text.

    text (str): The text.
    chars (int64 array, (n_pieces, 2)): Character ranges of the pieces.
    RETURNS (int64 array, (n_pieces,)): 0 for no letters that have a case, 1 for all lower, 2 for only
        the first letter upper, 3 for all upper (at least two letters), 4 for anything else.
    """
    # The extra character stands in for the start of an empty piece at the end of the text.
    padded = text + "\0"
    upper, lower, space = (
        np.fromiter(map(test, padded), dtype=np.int64, count=len(padded))
        for test in (str.isupper, str.islower, str.isspace)
    )
    n_upper, n_lower = (
        sums[chars[:, 1]] - sums[chars[:, 0]]
        for sums in (np.concatenate([[0], np.cumsum(flags)]) for flags in (upper, lower))
    )
    # The space before a word may be part of its first piece.
    first = chars[:, 0] + space[chars[:, 0]]
    classes = np.full(len(chars), 4, dtype=np.int64)
    classes[(n_upper == 1) & (upper[first] == 1)] = 2
    classes[(n_upper > 1) & (n_lower == 0)] = 3
    classes[n_upper == 0] = 1
    classes[n_upper + n_lower == 0] = 0
    return classes


def tokenizer_to_files(tokenizer: Any) -> dict[str, bytes]:
    """Return the files of a tokenizer, as `save_pretrained` writes them.

    tokenizer.json alone lacks the padding token and the length limit.

    tokenizer (PreTrainedTokenizerBase): The tokenizer.
    RETURNS (dict[str, bytes]): Contents of the files by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@dataclass(frozen=True)
class SavedTokenizer:
    """A fast tokenizer from files, with the attributes of a tokenizer of transformers that are used.

    backend_tokenizer (Tokenizer): The tokenizer of the tokenizers library.
    model_max_length (int | None): The largest number of pieces that the checkpoint allows, if known.
    pad_token_id (int | None): Id of the padding token, if there is one.
    """

    backend_tokenizer: Tokenizer
    model_max_length: int | None
    pad_token_id: int | None
    is_fast = True


def tokenizer_from_files(files: dict[str, bytes]) -> SavedTokenizer:
    """Make a tokenizer from the files of `tokenizer_to_files`, exactly as it was saved.

    The tokenizers library reads tokenizer.json, and no tokenizer class of transformers is used: in
    transformers 5 most classes keep the vocabulary alone and build the rest anew, transformers 4 does
    not know all names of classes and forms of settings that transformers 5 writes, and to import
    transformers takes seconds.

    files (dict[str, bytes]): Contents of the files by name.
    RETURNS (SavedTokenizer): A tokenizer with the pieces, special tokens around texts, padding and
        length limit of the saved one.
    RAISES (ValueError): If the ids of the vocabulary are damaged.
    """
    config = json.loads(files["tokenizer_config.json"])
    backend = Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
    # The tokenizers library spends memory on each id that is missing below the largest one. Some
    # sound vocabularies have gaps, but not more gaps than entries.
    ids = backend.get_vocab().values()
    if max(ids, default=0) > 2 * len(ids) + 1024:
        raise ValueError(Errors.E224.format(largest=max(ids), n_entries=len(ids)))
    padding = config.get("pad_token") or (backend.padding or {}).get("pad_token")
    if isinstance(padding, dict):
        padding = padding["content"]
    if padding is not None:
        # Texts that contain its name are split there: it may not be marked as special in the file.
        backend.add_special_tokens([padding])
    return SavedTokenizer(
        backend,
        config.get("model_max_length"),
        None if padding is None else backend.token_to_id(padding),
    )
