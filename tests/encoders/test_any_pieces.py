"""Checks of pieces, windows, special tokens and vectors on every encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spacy_spanrel.encoding.alignment import token_char_ranges, token_piece_ranges
from spacy_spanrel.encoding.checkpoint import load_checkpoint
from spacy_spanrel.encoding.encoder import HFEncoder
from spacy_spanrel.encoding.pieces import PieceTokenizer
from spacy_spanrel.encoding.windows import window_starts

from ..util import tiny_encoder
from .util import LENGTH, ROWS, TEXTS, Encoder, with_entities

NLP = spacy.blank("xx")
ODD = [
    "  two  spaces\tand\nlines ",
    "don't (stop)... 3.5%",
    "John[SEP]Smith <s> </s> [CLS] <mask> [unused1] <bos>",
    "e\u0301te\u0301 \ufb01n \u00bd \u2460 \uff21\uff22",
    "\U0001f469\u200d\U0001f467 ☂ Mary\ufe0f",
    "北京ParisКиев",
    "\u200b \u200d\r\n",
    "العَرَبِيَّة ـــ",
    "",
]
# Letters that are in the vocabularies, and others that are unknown or normalized.
_ALPHABET = sorted(set("".join(TEXTS))) + list(" \n\u00a0\u0301\ufb01½ﷺ한☂\U0001f600[]<>'")


def _overlapping(token: np.ndarray, chars: np.ndarray) -> set[int]:
    """Return the pieces that overlap a token, by brute force."""
    return {i for i, (start, end) in enumerate(chars) if max(start, token[0]) < min(end, token[1])}


def test_alignment(checkpoint: Path, hf_tokenizer: Any) -> None:
    """Each token gets exactly the pieces that overlap it, and they cover it, also in unusual texts
    (combining accents, ligatures, emoji, spelled-out special tokens, only white space)."""
    tokenizer = PieceTokenizer(hf_tokenizer, "tiny")

    @settings(max_examples=40)
    @given(st.text(_ALPHABET, max_size=20))
    def check(text: str) -> None:
        check_text(text)

    def check_text(text: str) -> None:
        (pieces,) = tokenizer([text])
        tokens = token_char_ranges(NLP.make_doc(text))
        solid = pieces.chars[:, 0] < pieces.chars[:, 1]
        for token, (first, last) in zip(
            tokens, token_piece_ranges(tokens, pieces.chars), strict=True
        ):
            assert {i for i in range(first, last) if solid[i]} == _overlapping(token, pieces.chars)

    for text in ODD:
        check_text(text)
    check()
    for row in ROWS:
        doc = with_entities(NLP, row)
        check_text(doc.text)
        (pieces,) = tokenizer([doc.text])
        for token in token_char_ranges(doc):
            covered = {
                place
                for i in _overlapping(token, pieces.chars)
                for place in range(*pieces.chars[i])
            }
            assert set(range(*token)) <= covered


def test_special_tokens(hf_tokenizer: Any) -> None:
    """Ids of a text, and ids and segments of a pair of texts, equal those of the tokenizer; special
    tokens spelled out in a text are ordinary characters."""
    single = [hf_tokenizer(text).input_ids for text in TEXTS]
    pairs = [hf_tokenizer(TEXTS[0], text, return_token_type_ids=True) for text in TEXTS]
    tokenizer = PieceTokenizer(hf_tokenizer, "tiny")
    texts = tokenizer(TEXTS)
    template = tokenizer.pair
    first = texts[0].ids.tolist()
    for text, wanted, pair in zip(texts, single, pairs, strict=True):
        ids = text.ids.tolist()
        assert [*tokenizer.prefix, *ids, *tokenizer.suffix] == wanted
        built = [*template.prefix, *first, *template.middle, *ids, *template.suffix]
        types = [
            *template.prefix_types,
            *[template.first_type] * len(first),
            *template.middle_types,
            *[template.second_type] * len(ids),
            *template.suffix_types,
        ]
        assert built == pair.input_ids
        assert types == pair.token_type_ids
    special = {
        hf_tokenizer.cls_token_id,
        hf_tokenizer.sep_token_id,
        hf_tokenizer.mask_token_id,
        hf_tokenizer.pad_token_id,
    }
    (spelled_out,) = tokenizer([" ".join(hf_tokenizer.all_special_tokens)])
    assert not special & set(spelled_out.ids.tolist())


def test_position_limit(checkpoint: Path) -> None:
    """The length limit is the network's number of positions (minus two if they start at two), and a
    row of that length works; a larger max_length is refused when the pipeline is made."""
    module, _, _ = load_checkpoint(str(checkpoint))
    assert module.max_length == LENGTH
    ids = torch.full((1, LENGTH), module.pieces.suffix[0])
    with torch.no_grad():
        assert module.eval()(ids, torch.ones_like(ids)).isfinite().all()
    with pytest.raises(ValueError, match=f"E_SR205.*{LENGTH} pieces"):
        tiny_encoder(checkpoint, max_length=LENGTH + 1)


def test_windows(checkpoint: Path) -> None:
    """In a text five times as long as a window, each piece has the vector from the window that gives
    it most context."""
    encoder = tiny_encoder(checkpoint, window_overlap=8)
    module = encoder.shims[0].module
    doc = NLP.make_doc(" ".join(TEXTS * 9))
    (pieces,) = module.pieces([doc.text])
    capacity = LENGTH - module.pieces.n_special
    assert len(pieces.ids) > 5 * capacity
    starts = window_starts(len(pieces.ids), capacity, 8)
    prefix, suffix = module.pieces.prefix, module.pieces.suffix
    ids = torch.tensor([[*prefix, *pieces.ids[s : s + capacity], *suffix] for s in starts])
    with torch.no_grad():
        rows = module(ids, torch.ones_like(ids)).numpy()
    encoded = encoder.predict([doc])
    ranges = token_piece_ranges(token_char_ranges(doc), pieces.chars)
    for piece_range, (first, last) in zip(encoded.token_pieces.tolist(), ranges, strict=True):
        vectors = encoded.pieces[slice(*piece_range)].numpy()
        context = [
            np.minimum(np.arange(first, last) - s, s + capacity - 1 - np.arange(first, last))
            for s in starts
        ]
        best = np.argmax(context, axis=0)
        column = np.arange(first, last) - starts[best] + len(prefix)
        np.testing.assert_allclose(vectors, rows[best, column], atol=1e-5, rtol=1e-5)


def test_batches(checkpoint: Path) -> None:
    """A batch of one and a padded batch of eight give equal vectors."""
    encoder = tiny_encoder(checkpoint)
    docs = [NLP.make_doc(text) for text in [*TEXTS, "Mary", "", "Mary lives in London ."]]
    together = encoder.predict(docs).pieces
    apart = torch.cat([encoder.predict([doc]).pieces for doc in docs])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_casing(checkpoint: Path) -> None:
    """casing = true, with which the network gets vectors instead of ids, changes nothing before
    training."""
    docs = [NLP.make_doc(text) for text in [*TEXTS, "Mary"]]
    plain = tiny_encoder(checkpoint).predict(docs)
    cased = tiny_encoder(checkpoint, casing=True).predict(docs)
    torch.testing.assert_close(cased.pieces, plain.pieces, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cased.context, plain.context, atol=1e-5, rtol=1e-5)


def test_dropout(checkpoint: Path) -> None:
    """The settings dropout and attention_dropout reach every dropout layer of the network."""
    module, _, _ = load_checkpoint(str(checkpoint), dropout=0.25)
    rates = {layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)}
    assert rates == {0.25}
    off, _, _ = load_checkpoint(str(checkpoint), dropout=0.0)
    ids = torch.tensor([[*off.pieces.prefix, 9, 10, 11, *off.pieces.suffix]])
    off.train()
    torch.testing.assert_close(off(ids, torch.ones_like(ids)), off(ids, torch.ones_like(ids)))


def test_loads_by_name(encoder: Encoder, checkpoint: Path) -> None:
    """A saved pipeline no longer needs the folder of the encoder."""
    data = tiny_encoder(checkpoint).to_bytes()
    again = HFEncoder("gone", precision="float32", device="cpu").from_bytes(data)
    docs = [NLP.make_doc(text) for text in TEXTS]
    loaded, wanted = again.predict(docs), tiny_encoder(checkpoint).predict(docs)
    torch.testing.assert_close(loaded.pieces, wanted.pieces, atol=0, rtol=0)
    assert again.shims[0].module.max_length == LENGTH
