"""Sentences that are read with the text around them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from transformers import AutoModel, AutoTokenizer

from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.encoder import EncodedDocs, SplitDocs
from spacy_spanrel.encoding.shim import get_module

from ..util import WORDS, tiny_checkpoint, tiny_encoder

NLP = spacy.blank("en")
FAR = 10**6

Words = list[list[str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("context")
    return {
        kind: tiny_checkpoint(home / kind, kind, max_position=256) for kind in ("bert", "roberta")
    }


@cache
def network(folder: Path) -> tuple[Any, Any]:
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def split(docs: list[Words], context: int, tight: bool = False) -> SplitDocs:
    """Make Docs of sentences; with `tight`, there is no space between sentences."""
    made, starts = [], []
    for sentences in docs:
        spaces = [
            not (tight and i == len(sentence) - 1)
            for sentence in sentences
            for i in range(len(sentence))
        ]
        made.append(Doc(NLP.vocab, [w for sentence in sentences for w in sentence], spaces))
        starts.append(np.cumsum([0, *map(len, sentences)])[: max(1, len(sentences))])
    return SplitDocs(made, starts, context)


def sentences_of(docs: SplitDocs) -> list[tuple[Doc, int, int]]:
    return [
        (doc, start, end)
        for doc, starts in zip(docs, docs.starts, strict=True)
        for start, end in pairwise([*starts.tolist(), len(doc)])
    ]


def pieces_of(offsets: list[tuple[int, int]], doc: Doc, start: int, end: int) -> range:
    """The pieces that cover a character of the tokens from `start` to `end`."""
    covering = [
        i
        for i, (a, b) in enumerate(offsets)
        if any(a < t.idx + len(t) and b > t.idx for t in doc[start:end])
    ]
    return range(covering[0], covering[-1] + 1) if covering else range(0)


def vectors_of(encoded: EncodedDocs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The vectors of the pieces of each token, and the [CLS] vector of its window."""
    return [
        (encoded.pieces[first:last], encoded.context[window])
        for (first, last), window in zip(
            encoded.token_pieces.tolist(), encoded.token_window.tolist(), strict=True
        )
    ]


def assert_same(one: EncodedDocs, other: EncodedDocs) -> None:
    assert one.n_tokens == other.n_tokens
    for (pieces, cls), (other_pieces, other_cls) in zip(
        vectors_of(one), vectors_of(other), strict=True
    ):
        torch.testing.assert_close(pieces, other_pieces, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(cls, other_cls, atol=1e-5, rtol=1e-4)


def rows_of(encoder: Any, docs: list[Doc]) -> list[list[int]]:
    """The piece ids of each row that the network reads, without special tokens, sorted."""
    rows: list[list[int]] = []

    def read(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        for ids, mask in zip(arguments[0], arguments[1], strict=True):
            rows.append(ids[mask.bool()].tolist()[1:-1])

    hook = get_module(encoder, HFModule).register_forward_pre_hook(read)
    encoder.predict(docs)
    hook.remove()
    return sorted(rows)


SENTENCE = st.lists(
    st.sampled_from([*WORDS[:20], ".", "xyz", "\n", "😀", "isn't"]), min_size=1, max_size=9
)
TEXT = st.lists(SENTENCE, max_size=5)


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["bert", "roberta"]),
    sentences=TEXT,
    context=st.one_of(st.integers(0, 12), st.just(FAR)),
    tight=st.booleans(),
)
def test_a_sentence_is_read_within_its_context(
    folders: dict[str, Path], kind: str, sentences: Words, context: int, tight: bool
) -> None:
    """Vectors equal those that transformers computes for the sentence with the tokens around it."""
    folder = folders[kind]
    model, tokenizer = network(folder)
    docs = split([sentences, [["Mary", "lives"], ["in", "Paris"]]], context, tight)
    vectors = vectors_of(tiny_encoder(folder).predict(docs))
    token = 0
    for doc, start, end in sentences_of(docs):
        low, high = max(0, start - context), min(len(doc), end + context)
        # Without context a sentence is split into pieces by itself.
        whole = context == 0
        first = doc[start].idx if len(doc) and whole else 0
        last = doc[end - 1].idx + len(doc[end - 1]) if len(doc) else 0
        text = doc.text[first : last if whole else len(doc.text.rstrip(" "))]
        coded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        offsets = [(a + first, b + first) for a, b in coded.offsets]
        outer = pieces_of(offsets, doc, low, high)
        ids = [coded.ids[i] for i in outer]
        ids = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        with torch.no_grad():
            row = model(input_ids=torch.tensor([ids]))[0][0]
        for i in range(start, end):
            wanted = pieces_of(offsets, doc, i, i + 1)
            pieces, cls = vectors[token]
            token += 1
            assert len(pieces) == len(wanted)
            for vector, j in zip(pieces, wanted, strict=True):
                expected = row[1 + j - outer.start]
                torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(cls, row[0], atol=1e-5, rtol=1e-4)


@settings(max_examples=20)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=4),
    context=st.sampled_from([1, 5, FAR]),
    max_length=st.sampled_from([8, 16, 64]),
    batch_pieces=st.sampled_from([1, 40, 100_000]),
)
def test_other_docs_change_nothing(
    folders: dict[str, Path], texts: list[Words], context: int, max_length: int, batch_pieces: int
) -> None:
    encoder = tiny_encoder(folders["bert"], max_length=max_length, window_overlap=2)
    together = split(texts, context)
    encoder.attrs["batch_pieces"] = batch_pieces
    encoded = vectors_of(encoder.predict(together))
    encoder.attrs["batch_pieces"] = "auto"
    first = 0
    for text in texts:
        alone = vectors_of(encoder.predict(split([text], context)))
        for one, other in zip(encoded[first : first + len(alone)], alone, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        first += len(alone)
    assert first == len(encoded)


@settings(max_examples=20)
@given(sentence=st.lists(st.sampled_from([*WORDS, "\n", "xyz"]), max_size=40))
def test_context_of_a_doc_of_one_sentence(folders: dict[str, Path], sentence: list[str]) -> None:
    """There is none, also where the sentence needs several windows."""
    encoder = tiny_encoder(folders["roberta"], max_length=12, window_overlap=2)
    texts = [[sentence] if sentence else []]
    with_context = encoder.predict(split(texts, FAR))
    without = encoder.predict(split(texts, 0))
    for name in ("pieces", "context", "token_pieces", "token_window"):
        assert torch.equal(getattr(with_context, name), getattr(without, name))
    assert with_context.windows.tolist() == without.windows.tolist()


@settings(max_examples=30)
@given(sentences=TEXT.filter(len), context=st.one_of(st.integers(1, 12), st.just(FAR)))
def test_a_sentence_comes_before_its_context(
    folders: dict[str, Path], sentences: Words, context: int
) -> None:
    """A sentence that fits a row is read in one row, however much context there would be. Only what
    does not fit is read in several windows, and these have no context."""
    encoder = tiny_encoder(folders["bert"], max_length=14, window_overlap=2)
    capacity = 12
    docs = split([sentences], context)
    encoded = encoder.predict(docs)
    _, tokenizer = network(folders["bert"])
    coded = tokenizer.backend_tokenizer.encode(docs[0].text, add_special_tokens=False)
    rows = rows_of(encoder, docs)
    for doc, start, end in sentences_of(docs):
        inner = pieces_of(coded.offsets, doc, start, end)
        before, after = max(0, start - context), min(len(doc), end + context)
        outer = pieces_of(coded.offsets, doc, before, after)
        windows = set(encoded.token_window[start:end].tolist())
        if len(inner) > capacity:
            assert len(windows) > 1
            assert coded.ids[inner.start : inner.start + capacity] in rows
            assert coded.ids[inner.stop - capacity : inner.stop] in rows
        elif inner:
            assert len(windows) == 1
            length = min(capacity, len(outer))
            starts = range(max(outer.start, inner.stop - length), inner.start + 1)
            assert any(coded.ids[i : i + length] in rows for i in starts)


def test_short_docs_are_read_once(folders: dict[str, Path]) -> None:
    """Sentences with the same context are read in the same row."""
    encoder = tiny_encoder(folders["bert"])
    text = [["John", "works"], ["in", "Paris"], ["Mary", "lives"], ["in", "London"]]
    whole = [word for sentence in text for word in sentence]
    ids = network(folders["bert"])[1].convert_tokens_to_ids(whole)
    docs = split([text, text], 8)
    assert rows_of(encoder, docs) == [ids, ids]
    encoded = encoder.predict(docs)
    assert encoded.window_counts.tolist() == [1, 1]
    assert encoded.windows.tolist() == [[0, 8], [8, 16]]
    # The sentences in the middle have the same context, the outer ones do not reach as far.
    docs.context = 4
    assert rows_of(encoder, docs) == sorted([ids[:6], ids, ids[2:]] * 2)
    docs.context = 2
    assert rows_of(encoder, docs) == sorted([ids[:4], ids[:6], ids[2:], ids[4:]] * 2)


@pytest.mark.parametrize("limit", [1, 20])
def test_vectors_of_the_context_are_dropped_chunk_by_chunk(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    encoder = tiny_encoder(
        folders["bert"], max_length=8, window_overlap=2, dropout=0.0, casing=True
    )
    text = [["John", "works"], ["in"] * 9, ["Mary", "\n", "lives"], ["in", "London"]]
    docs = split([text, [], text[1:]], 3)
    expected = encoder.predict(docs)
    monkeypatch.setattr("spacy_spanrel.encoding.encoder._CHUNK_PIECES", limit)
    assert_same(encoder.predict(docs), expected)
    encoded, backprop = encoder(docs, is_train=True)
    assert_same(encoded, expected)
    backprop(torch.ones_like(encoded.pieces), torch.ones_like(encoded.context))


def test_gradient_reaches_the_context(folders: dict[str, Path]) -> None:
    encoder = tiny_encoder(folders["bert"], dropout=0.0)
    embeddings = get_module(encoder, HFModule).transformer.get_input_embeddings().weight
    ids = network(folders["bert"])[1].convert_tokens_to_ids(["Mary", "John", "Paris"])
    for context, trained in ((0, [True, False, False]), (1, [True, True, False])):
        docs = split([[["Mary"], ["John"], ["Paris"]]], context)
        encoded, backprop = encoder(docs, is_train=True)
        d_pieces = torch.zeros_like(encoded.pieces)
        d_pieces[0, 0] = 1.0
        embeddings.grad = None
        backprop(d_pieces, torch.zeros_like(encoded.context))
        assert [bool(embeddings.grad[i].any()) for i in ids] == trained


@pytest.mark.parametrize("casing", [False, True])
def test_frozen_layers_keep_rows_by_their_context(folders: dict[str, Path], casing: bool) -> None:
    """The same sentence in another context is another row."""
    settings: dict[str, Any] = {"dropout": 0.0, "casing": casing, "frozen_layers": 1}
    encoder = tiny_encoder(folders["bert"], **settings)
    module = get_module(encoder, HFModule)
    if module.casing is not None:
        torch.nn.init.normal_(module.casing.weight)
    same = ["works", "in", "Paris"]
    texts = [[["John"], same], [["MARY", "Smith"], same, ["."]], [same]]
    for context in (1, FAR, 2, 1, 0, FAR):
        docs = split(texts, context)
        for _ in range(2):
            encoded, _ = encoder(docs, is_train=True)
            assert_same(encoded, encoder.predict(docs))
    assert not torch.equal(encoded.pieces[1], encoded.pieces[6])


def test_letter_case_of_the_context(folders: dict[str, Path]) -> None:
    """The embedding of letter case is added to the right pieces."""
    encoder = tiny_encoder(folders["bert"], casing=True, dropout=0.0)
    with torch.no_grad():
        torch.nn.init.normal_(get_module(encoder, HFModule).casing.weight)
    text = [["John", "XYZ"], ["works", "Xyz"], ["in", "PARIS"]]
    (whole,) = split([text], 0)
    assert_same(encoder.predict(split([text], FAR)), encoder.predict([whole]))


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\n John \n"])
def test_hardly_any_text(folders: dict[str, Path], text: str) -> None:
    """Also where a sentence has no pieces: here each token is a sentence."""
    made = [NLP(text), NLP("John"), NLP(text)]
    docs = SplitDocs(made, [np.arange(max(1, len(doc))) for doc in made], 3)
    encoded = tiny_encoder(folders["bert"]).predict(docs)
    assert encoded.n_tokens == len(encoded.token_pieces) == 2 * len(made[0]) + 1
    assert encoded.token_window.max() < len(encoded.context)
    counts = np.diff(encoded.token_pieces).ravel()
    assert counts.tolist() == [len(token.text.strip()) > 0 for doc in made for token in doc]
