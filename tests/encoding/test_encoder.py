from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from transformers import AutoModel, AutoTokenizer

from spacy_spanrel.encoding.checkpoint import load_checkpoint, load_tokenizer
from spacy_spanrel.encoding.encoder import EncodedDocs, HFEncoder, SplitDocs
from tests.util import WORDS, tiny_checkpoint, tiny_encoder

NLP = spacy.blank("en")
TEXTS = [
    "John works in Paris.",
    "Mary Smith, the president of Acme, lives in London and works for Google",
    "",
    "don't  stop\n\nné 😀 [SEP] </s>",
    " ",
    "x",
]


@cache
def load_with_transformers(folder: Path):
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def reference(folder: Path, text: str, capacity: int, overlap: int):
    """Compute vectors with transformers alone.

    Returns the vector of each piece from the window that gives it most context, the [CLS] vector of
    that window, the offsets of the pieces, and the vectors of all windows.
    """
    model, tokenizer = load_with_transformers(folder)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    coded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    n, start, starts = len(coded.ids), 0, [0]
    while starts[-1] + capacity < n:
        start += capacity - overlap
        starts.append(min(start, n - capacity))
    rows = []
    for start in starts:
        ids = [tokenizer.cls_token_id, *coded.ids[start : start + capacity], tokenizer.sep_token_id]
        with torch.no_grad():
            rows.append(model(input_ids=torch.tensor([ids]))[0][0])
    vectors, contexts = [], []
    for piece in range(n):
        context = {
            w: min(piece - s, s + capacity - 1 - piece)
            for w, s in enumerate(starts)
            if s <= piece < s + capacity
        }
        best = max(context, key=lambda w: (context[w], -w))
        vectors.append(rows[best][1 + piece - starts[best]])
        contexts.append(rows[best][0])
    return vectors, contexts, coded.offsets, rows


def docs_of(encoded: EncodedDocs) -> list[tuple[torch.Tensor, torch.Tensor, list[list[int]]]]:
    """Return pieces, [CLS] vectors and token ranges of each Doc, with ranges relative to the Doc."""
    out = []
    for start, end in zip(encoded.token_offsets[:-1], encoded.token_offsets[1:], strict=True):
        ranges = encoded.token_pieces[start:end]
        filled = ranges[ranges[:, 1] > ranges[:, 0]]
        low, high = (int(filled.min()), int(filled.max())) if len(filled) else (0, 0)
        relative = [[a - low, b - low] if b > a else [0, 0] for a, b in ranges.tolist()]
        context = encoded.context[encoded.token_window[start:end]]
        out.append((encoded.pieces[low:high], context, relative))
    return out


def check_doc(folder: Path, doc: Doc, encoded, capacity: int = 62, overlap: int = 15) -> None:
    pieces, context, ranges = encoded
    vectors, contexts, offsets, rows = reference(folder, doc.text, capacity, overlap)
    for token, token_context, (first, last) in zip(doc, context, ranges, strict=True):
        a, b = token.idx, token.idx + len(token)
        inside = [j for j, (s, e) in enumerate(offsets) if s < e and s < b and e > a]
        wanted = range(inside[0], inside[-1] + 1) if inside else []
        assert last - first == len(wanted)
        for vector, j in zip(pieces[first:last], wanted, strict=True):
            torch.testing.assert_close(vector, vectors[j], atol=1e-5, rtol=1e-4)
        if inside:
            torch.testing.assert_close(token_context, contexts[inside[0]], atol=1e-5, rtol=1e-4)
        else:  # the [CLS] vector of one of the Doc's windows
            assert any(torch.allclose(token_context, row[0], atol=1e-5) for row in rows)


@pytest.mark.parametrize("text", TEXTS)
def test_one_doc_equals_transformers(checkpoint, text):
    doc = NLP(text)
    encoded = tiny_encoder(checkpoint).predict([doc])
    assert encoded.n_tokens == len(doc)
    assert encoded.pieces.dtype == encoded.context.dtype == torch.float32
    assert encoded.context.shape == (1, 32)
    check_doc(checkpoint, doc, docs_of(encoded)[0])


@pytest.mark.parametrize("batch_pieces", [1, 40, 100_000, "auto"])
def test_batches_and_order_change_nothing(checkpoint, batch_pieces):
    docs = [NLP(text) for text in [*TEXTS, " ".join(WORDS * 4), "Paris London " * 20]]
    order = np.random.default_rng(0).permutation(len(docs))
    encoded = tiny_encoder(checkpoint, batch_pieces=batch_pieces).predict([docs[i] for i in order])
    assert encoded.token_offsets.tolist() == [0, *np.cumsum([len(docs[i]) for i in order])]
    for i, encoded_doc in zip(order, docs_of(encoded), strict=True):
        check_doc(checkpoint, docs[i], encoded_doc)


@settings(max_examples=15)
@given(
    words=st.lists(st.sampled_from([*WORDS, "xyz", "\n", "😀", "isn't"]), max_size=60),
    max_length=st.integers(4, 24),
    overlap=st.integers(0, 8),
)
def test_long_texts_are_read_in_windows(checkpoint, words, max_length, overlap):
    # The vector of a piece comes from the window in which it has most context.
    doc = NLP(" ".join(words))
    encoder = tiny_encoder(checkpoint, max_length=max_length, window_overlap=overlap)
    capacity = max_length - 2
    check_doc(
        checkpoint,
        doc,
        docs_of(encoder.predict([doc]))[0],
        capacity,
        min(overlap, capacity // 4),
    )


def test_text_much_longer_than_a_window(checkpoint):
    docs = [NLP("John works in Paris . " * 400), NLP("Paris")]
    encoded = tiny_encoder(checkpoint).predict(docs)
    assert encoded.n_tokens == 2001
    assert torch.isfinite(encoded.pieces).all()
    assert (encoded.token_pieces[:, 1] > encoded.token_pieces[:, 0]).all()
    check_doc(checkpoint, docs[1], docs_of(encoded)[1])


def test_docs_without_pieces(checkpoint):
    docs = [NLP(""), NLP("\n\n"), NLP(" \t ")]
    encoded = tiny_encoder(checkpoint).predict(docs)
    assert encoded.n_tokens == sum(len(doc) for doc in docs)
    assert encoded.context.shape == (3, 32)
    assert torch.isfinite(encoded.context).all()
    assert (encoded.token_window < 3).all()


def test_gradient_equals_that_of_transformers(checkpoint):
    text = "John works in Paris"
    model, tokenizer = load_with_transformers(checkpoint)
    encoder = tiny_encoder(checkpoint, dropout=0.0)
    encoded, backprop = encoder.begin_update([NLP(text), NLP("Mary")])
    n = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    d_pieces = torch.randn(encoded.pieces.shape, generator=torch.Generator().manual_seed(0))
    d_pieces[n:] = 0
    d_context = torch.zeros_like(encoded.context)
    d_context[0] = 1
    backprop(d_pieces, d_context)
    ours = dict(encoder.shims[0].module.transformer.named_parameters())
    model.zero_grad()
    hidden = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False))[0][0]
    (hidden[1:-1] * d_pieces[:n]).sum().add(hidden[0].sum()).backward()
    compared = 0
    for name, parameter in model.named_parameters():
        if name in ours and parameter.grad is not None:
            torch.testing.assert_close(ours[name].grad, parameter.grad, atol=1e-4, rtol=1e-3)
            compared += 1
    assert compared > 30


# Limits


def test_position_limit_of_roberta(tmp_path):
    # Positions start at padding_idx + 1, so 66 embeddings are enough for 64 pieces.
    folder = tiny_checkpoint(tmp_path, "roberta", tokenizer_max_length=100_000)
    assert AutoModel.from_pretrained(folder).config.max_position_embeddings == 66
    assert tiny_encoder(folder).shims[0].module.max_length == 64
    encoded = tiny_encoder(folder, max_length=64).predict([NLP("Paris " * 200)])
    assert torch.isfinite(encoded.pieces).all()
    with pytest.raises(ValueError, match="E_SR205") as info:
        tiny_encoder(folder, max_length=65)
    assert "max_length = 65" in str(info.value)
    assert "64 pieces" in str(info.value)


def test_limit_is_the_smaller_of_tokenizer_and_network(tmp_path):
    folder = tiny_checkpoint(tmp_path / "a", tokenizer_max_length=40)
    assert tiny_encoder(folder).shims[0].module.max_length == 40
    folder = tiny_checkpoint(tmp_path / "b", tokenizer_max_length=10**30)
    assert tiny_encoder(folder).shims[0].module.max_length == 64


@pytest.mark.parametrize(
    ("given_settings", "code"),
    [
        ({"max_length": 2}, "E_SR204"),
        ({"max_length": 0}, "E_SR204"),
        ({"window_overlap": -1}, "E_SR204"),
        ({"max_length": 1000}, "E_SR205"),
    ],
)
def test_bad_lengths_are_refused_at_initialization(bert_checkpoint, given_settings, code):
    with pytest.raises(ValueError, match=code):
        tiny_encoder(bert_checkpoint, **given_settings)


def test_overlap_is_at_most_a_quarter_of_a_window(bert_checkpoint):
    doc = NLP("John works in Paris . " * 20)
    encoder = tiny_encoder(bert_checkpoint, max_length=18, window_overlap=1000)
    check_doc(bert_checkpoint, doc, docs_of(encoder.predict([doc]))[0], 16, 4)


# Names


def test_name_of_an_installed_package(bert_checkpoint, tmp_path, monkeypatch):
    for package, inner in (("spanrel_test_flat", "."), ("spanrel_test_deep", "model")):
        folder = tmp_path / package
        tiny_checkpoint(folder / inner)
        (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    wanted = tiny_encoder(bert_checkpoint).predict([NLP("John")]).pieces
    for package in ("spanrel_test_flat", "spanrel_test_deep"):
        assert torch.equal(tiny_encoder(package).predict([NLP("John")]).pieces, wanted)
        assert package not in sys.modules


@pytest.mark.parametrize("name", ["no_such_model_here", "nobody/no-such-model", "./no/folder"])
def test_unknown_name(name):
    with pytest.raises(OSError, match="E_SR202") as info:
        tiny_encoder(name)
    assert f"'{name}'" in str(info.value)
    assert "a folder with config.json" in str(info.value)


def test_tokenizer_of_another_checkpoint(bert_checkpoint, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((bert_checkpoint / name).read_bytes())
    encoder = tiny_encoder(bare, tokenizer=str(bert_checkpoint))
    wanted = tiny_encoder(bert_checkpoint).predict([NLP("John")]).pieces
    assert torch.equal(encoder.predict([NLP("John")]).pieces, wanted)


def test_not_initialized(bert_checkpoint):
    encoder = HFEncoder(str(bert_checkpoint))
    with pytest.raises(ValueError, match="E_SR203"):
        encoder.predict([NLP("John")])


# Dropout, casing, precision, device


def test_dropout_setting(checkpoint):
    docs = [NLP("John works in Paris")]
    for dropout in (0.0, 0.5):
        encoder = tiny_encoder(checkpoint, dropout=dropout)
        module = encoder.shims[0].module
        assert module.transformer.config.hidden_dropout_prob == dropout
        assert module.transformer.config.attention_probs_dropout_prob == dropout
        assert {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)} == {dropout}
        first, second = (encoder.begin_update(docs)[0].pieces for _ in range(2))
        assert torch.equal(first, second) == (dropout == 0.0)
        assert torch.equal(encoder.predict(docs).pieces, encoder.predict(docs).pieces)
    unset = tiny_encoder(checkpoint).shims[0].module
    assert unset.transformer.config.hidden_dropout_prob == 0.1


def test_dropout_setting_is_saved(bert_checkpoint):
    encoder = tiny_encoder(bert_checkpoint, dropout=0.25)
    again = HFEncoder("gone", precision="float32", device="cpu").from_bytes(encoder.to_bytes())
    module = again.shims[0].module
    assert {m.p for m in module.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


def test_casing_changes_nothing_before_training(checkpoint):
    docs = [NLP(text) for text in [*TEXTS, "John Paris " * 60]]
    plain = tiny_encoder(checkpoint).predict(docs)
    encoder = tiny_encoder(checkpoint, casing=True)
    cased = encoder.predict(docs)
    torch.testing.assert_close(cased.pieces, plain.pieces, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cased.context, plain.context, atol=1e-5, rtol=1e-4)
    again = HFEncoder("gone", casing=True, precision="float32", device="cpu")
    again.from_bytes(encoder.to_bytes())
    assert torch.equal(again.predict(docs).pieces, cased.pieces)


def test_casing_tells_an_uncased_encoder_the_case(tmp_path):
    folder = tiny_checkpoint(tmp_path, cased=False)
    encoder = tiny_encoder(folder, casing=True)
    texts = ["paris", "Paris", "PARIS"]
    lower, title, upper = (encoder.predict([NLP(text)]).pieces for text in texts)
    assert torch.equal(lower, title)
    assert torch.equal(lower, upper)
    torch.nn.init.normal_(encoder.shims[0].module.casing.weight)
    lower, title, upper = (encoder.predict([NLP(text)]).pieces for text in texts)
    assert not torch.allclose(lower, title, atol=1e-3)
    assert not torch.allclose(title, upper, atol=1e-3)


def test_bfloat16_is_finite_and_close(checkpoint):
    # In half precision, a mask of -1e30 would become minus infinity, and then NaN.
    docs = [NLP(text) for text in TEXTS]
    exact = tiny_encoder(checkpoint).predict(docs)
    encoder = tiny_encoder(checkpoint, precision="bfloat16")
    rough = encoder.predict(docs)
    assert rough.pieces.dtype == torch.float32
    assert torch.isfinite(rough.pieces).all()
    assert not torch.equal(rough.pieces, exact.pieces)
    torch.testing.assert_close(rough.pieces, exact.pieces, atol=0.1, rtol=0.1)
    encoded, backprop = encoder.begin_update(docs)
    backprop(torch.ones_like(encoded.pieces), torch.ones_like(encoded.context))
    gradients = [p.grad for p in encoder.shims[0].module.parameters() if p.grad is not None]
    assert gradients
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)


def test_unknown_precision_is_refused_when_built(bert_checkpoint):
    with pytest.raises(ValueError, match="E_SR206.*'fp16'"):
        HFEncoder(str(bert_checkpoint), precision="fp16")


def test_float16_is_refused_on_a_cpu(bert_checkpoint):
    with pytest.raises(ValueError, match="E_SR208.*'cpu'"):
        tiny_encoder(bert_checkpoint, precision="float16").predict([NLP("John")])


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_missing_device(bert_checkpoint, device):
    with pytest.raises(ValueError, match=f"E_SR209.*'{device}'"):
        tiny_encoder(bert_checkpoint, device=device)


def test_auto_device_and_precision_work(bert_checkpoint):
    encoder = tiny_encoder(bert_checkpoint, device="auto", precision="auto")
    assert torch.isfinite(encoder.predict([NLP("John")]).pieces).all()


def test_width_is_known_after_initialization(bert_checkpoint):
    encoder = HFEncoder(str(bert_checkpoint), device="cpu")
    assert encoder.has_dim("nO") is None
    encoder.initialize()
    assert encoder.get_dim("nO") == 32


def test_loading_leaves_no_random_weights(bert_checkpoint):
    module, cfg, files = load_checkpoint(str(bert_checkpoint))
    assert cfg["name"] == str(bert_checkpoint)
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    model, _ = load_with_transformers(bert_checkpoint)
    state = model.state_dict()
    for name, value in module.transformer.state_dict().items():
        assert torch.equal(value, state[name])


def bert_folder(folder: Path, words: list[str], tokenizer_config: dict[str, object] | None) -> Path:
    """Make a BERT checkpoint in the old form: `vocab.txt`, and perhaps `tokenizer_config.json`."""
    tiny_checkpoint(folder, "bert", words)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    entries = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "##x"]
    (folder / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    if tokenizer_config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return folder


@pytest.mark.parametrize(
    ("words", "config", "expected", "warns"),
    [
        (["John", "john"], None, "John", False),
        (["John", "john"], {"model_max_length": 64}, "John", False),
        (["John", "john"], {"do_lower_case": True}, "john", True),
        (["John", "john"], {"do_lower_case": False}, "John", False),
        (["john"], None, "john", False),
    ],
)
def test_vocabulary_decides_whether_to_lowercase_by_default(
    tmp_path: Path,
    words: list[str],
    config: dict[str, object] | None,
    expected: str,
    warns: bool,
) -> None:
    folder = bert_folder(tmp_path / "old", words, config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = load_tokenizer(str(folder))
    assert tokenizer.tokenize("John") == [expected]
    assert any("W_SR108" in str(w.message) for w in caught) == warns


@settings(max_examples=15)
@given(
    sentences=st.lists(
        st.lists(
            st.sampled_from([*WORDS, "xyz", "\n", "\U0001f600", "isn't"]), min_size=1, max_size=30
        ),
        max_size=5,
    )
)
def test_parts_of_a_doc_are_encoded_like_separate_docs(checkpoint, sentences):
    """Vectors and windows of each part equal those of a Doc with the text of that part."""
    words = [word for sentence in sentences for word in sentence]
    starts = np.cumsum([0, *map(len, sentences)])[: max(1, len(sentences))]
    whole = Doc(NLP.vocab, words=words)
    other = NLP("John works in Paris.")
    parts = [
        Doc(NLP.vocab, words=sentence, spaces=[True] * (len(sentence) - 1) + [False])
        for sentence in sentences
    ]
    encoder = tiny_encoder(checkpoint, max_length=16, window_overlap=3)
    together = encoder.predict(SplitDocs([whole, other], [starts, np.zeros(1, dtype=np.int64)]))
    apart = encoder.predict([*(parts or [whole]), other])
    assert together.token_offsets.tolist() == [0, len(whole), len(whole) + len(other)]
    assert torch.equal(together.token_pieces, apart.token_pieces)
    assert torch.equal(together.token_window, apart.token_window)
    assert together.windows.tolist() == apart.windows.tolist()
    torch.testing.assert_close(together.pieces, apart.pieces, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.context, apart.context, atol=1e-5, rtol=1e-4)
    counts = apart.window_counts.tolist()
    assert together.window_counts.tolist() == [sum(counts[:-1]), counts[-1]]


def test_window_ranges_without_known_windows(bert_checkpoint):
    encoded = tiny_encoder(bert_checkpoint, max_length=12, window_overlap=2).predict(
        [NLP("Paris " * 18), NLP(""), NLP("London")]
    )
    # Windows have 10 words, and the last one ends with the text. Without `windows`, ranges meet in the
    # middle of the overlap.
    assert encoded.windows.tolist() == [[0, 10], [8, 18], [18, 18], [18, 19]]
    encoded.windows = None
    assert encoded.window_ranges[[0, 1, 3]].tolist() == [[0, 9], [9, 18], [18, 19]]
    assert encoded.window_counts.tolist() == [2, 0, 1]
