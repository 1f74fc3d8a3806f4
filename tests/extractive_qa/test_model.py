"""The network computes the same as transformers, for all checkpoints and batches."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertForQuestionAnswering,
    XLMConfig,
    XLMForQuestionAnsweringSimple,
    XLNetConfig,
    XLNetForQuestionAnsweringSimple,
)

from spacy_spanrel.encoding.shim import TorchShim, get_module, get_shim
from spacy_spanrel.extractive_qa.component import ExtractiveQA
from spacy_spanrel.extractive_qa.model import SpanQA
from spacy_spanrel.extractive_qa.network import SpanNetwork

from ..util import WORDS, _wordpiece, tiny_checkpoint
from .util import (
    KINDS,
    ROWS,
    TEXTS,
    Kind,
    edit_json,
    every,
    gradients,
    make_examples,
    make_nlp,
    network_of,
    output_of,
    qa_checkpoint,
    ready,
)

LONG = " ".join(TEXTS * 4)
QUESTIONS = ["who works for Google ?", "where ?", "who was killed in the city of Berlin by John ?"]
# (text, question): with one window and with several.
ASKED = [(text, question) for text in (*TEXTS, "Mary", LONG) for question in QUESTIONS]
MAX_LENGTH, DOC_STRIDE = 64, 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """One checkpoint of each kind. Do not change the files."""
    folder = tmp_path_factory.mktemp("kinds")
    return {kind: qa_checkpoint(folder / kind, kind) for kind in KINDS}


def original_inputs(
    folder: Path, question: str, text: str, max_length: int = MAX_LENGTH, stride: int = DOC_STRIDE
) -> Any:
    """The rows of a question as the tokenizer of transformers makes them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    n_question = len(tokenizer(question, add_special_tokens=False).input_ids)
    capacity = max_length - n_question - tokenizer.num_special_tokens_to_add(pair=True)
    return tokenizer(
        question,
        text,
        truncation="only_second",
        max_length=max_length,
        stride=capacity - stride,  # there it is what two windows share
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=True,
        return_tensors="pt",
    )


def original_logits(folder: Path, question: str, text: str, **settings: int) -> list[Tensor]:
    """The logits of each row, (length, 2), computed by transformers without padding."""
    network = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    encoded = original_inputs(folder, question, text, **settings)
    inputs = {
        name: encoded[name]
        for name in ("input_ids", "attention_mask", "token_type_ids")
        if name in encoded
    }
    with torch.no_grad():
        output = network(**inputs)
    logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
    return [row[keep.bool()] for row, keep in zip(logits, inputs["attention_mask"], strict=True)]


def logits_of(
    pipe: ExtractiveQA, texts: Sequence[str], questions: Sequence[Sequence[str]]
) -> list[list[Tensor]]:
    """The logits of the rows of each question, without padding."""
    output = output_of(pipe, texts, questions)
    found: list[list[Tensor]] = [[] for part in questions for _ in part]
    for row, number, logits in zip(
        output.rows.rows, output.rows.question.tolist(), output.logits, strict=True
    ):
        assert torch.isneginf(logits[len(row.ids) :]).all()
        found[number].append(logits[: len(row.ids)])
    return found


def assert_rows_close(
    found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float = 1e-4
) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


# The same numbers as transformers


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(folders: dict[Kind, Path], kind: Kind) -> None:
    folder = folders[kind]
    pipe = ready(folder)
    n_windows = set()
    wanted = [original_logits(folder, question, text) for text, question in ASKED]
    found = logits_of(pipe, [text for text, _ in ASKED], [[question] for _, question in ASKED])
    for one, other in zip(found, wanted, strict=True):
        assert_rows_close(one, other)
        n_windows.add(len(one))
    assert min(n_windows) == 1
    assert max(n_windows) >= 4
    # The comparison means something: the logits differ clearly between pieces, rows and columns.
    assert torch.cat([row for rows in wanted for row in rows]).std(dim=0).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_tokenizer(folders: dict[Kind, Path], kind: Kind) -> None:
    pipe = ready(folders[kind])
    for text, question in ASKED:
        encoded = original_inputs(folders[kind], question, text)
        rows = output_of(pipe, [text], [[question]]).rows.rows
        assert len(rows) == len(encoded.input_ids)
        for row, ids, mask in zip(
            rows, encoded.input_ids, encoded.attention_mask.bool(), strict=True
        ):
            assert row.ids.tolist() == ids[mask].tolist()
        if "token_type_ids" in encoded:
            for row, types, mask in zip(
                rows, encoded.token_type_ids, encoded.attention_mask.bool(), strict=True
            ):
                assert row.types.tolist() == types[mask].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_batches_change_nothing(folders: dict[Kind, Path], kind: Kind) -> None:
    # Batch size, order and padding change nothing.
    pipe = ready(folders[kind], model={"batch_pieces": 1})
    alone = {asked: logits_of(pipe, [asked[0]], [[asked[1]]])[0] for asked in ASKED}
    for batch_pieces in (1, 100, 100_000, "auto"):
        pipe = ready(folders[kind], model={"batch_pieces": batch_pieces})
        asked = (ASKED * 4)[:64]
        random.Random(str(batch_pieces)).shuffle(asked)
        together = logits_of(pipe, [text for text, _ in asked], [[q] for _, q in asked])
        for item, rows in zip(asked, together, strict=True):
            assert_rows_close(rows, alone[item], 1e-5)


def test_rows_of_one_batch_share_a_call(folders: dict[Kind, Path]) -> None:
    """`batch_pieces` has an effect, so that the test above compares different batches."""
    for batch_pieces, n_calls in ((1, 8), (100_000, 1)):
        pipe = ready(folders["bert"], model={"batch_pieces": batch_pieces})
        calls: list[tuple[int, ...]] = []
        hook = network_of(pipe).register_forward_pre_hook(
            lambda _, inputs, calls=calls: calls.append(tuple(inputs[0].shape))
        )
        output_of(pipe, ["Mary"] * 8, [["who ?"]] * 8)
        hook.remove()
        assert len(calls) == n_calls
        assert sum(rows for rows, _ in calls) == 8


def test_nothing_to_read(folders: dict[Kind, Path]) -> None:
    pipe = ready(folders["bert"])
    for texts, questions in (([], []), (["Mary"], [[]]), (["", ""], [[], []])):
        output = output_of(pipe, texts, questions)
        assert output.logits.shape == (0, 0, 2)
        assert output.rows.rows == []
    output = output_of(pipe, [""], [[""]])
    assert output.logits.shape == (1, 3, 2)  # [CLS] [SEP] [SEP]
    assert torch.isfinite(output.logits).all()


# Checkpoints of the published shapes

_SPANISH = (
    "el la los un una de en y que por con fue nació vive trabaja ciudad empresa año niño "
    "María José Ángel Núñez Bogotá Málaga Perú Cádiz"
)
SPANISH = _SPANISH.split()
# Layers, width, heads, positions, rows of the embedding, cased.
SHAPES: dict[str, dict[str, Any]] = {
    "S2: BERT large, cased": {
        "layers": 24,
        "hidden": 1024,
        "heads": 16,
        "vocab_size": 28996,
        "cased": True,
    },
    "S4: BERT medium, uncased": {
        "layers": 8,
        "hidden": 512,
        "heads": 8,
        "vocab_size": 30522,
        "cased": False,
    },
    "S5: BERT base, cased, Spanish": {
        "layers": 12,
        "hidden": 768,
        "heads": 12,
        "vocab_size": 31002,
        "cased": True,
    },
}


def answers_like_the_original(folder: Path, name: str, **shape: Any) -> None:
    spanish = "Spanish" in name
    words = SPANISH if spanish else WORDS
    qa_checkpoint(folder, vocab_words=words, max_position=512, safetensors=False, **shape)
    # Published like this: weights in the old format, and no tokenizer.json.
    assert (folder / "pytorch_model.bin").exists()
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "tokenizer_config.json", model_max_length=None)
    nlp, pipe = make_nlp(
        folder,
        pretrained=True,
        lang="es" if spanish else "en",
        top_k=5,
        model={"max_length": 384, "doc_stride": 128, "max_question_length": 64},
    )
    nlp.initialize()
    if spanish:
        text = "María Núñez nació en Cádiz y vive en Bogotá . " * 20
        question = "¿ en que ciudad nació María Núñez ?"
    else:
        text, question = "John Smith works for Google in Paris . " * 20, QUESTIONS[0]
    text = text.strip()
    (found,) = logits_of(pipe, [text], [[question]])
    wanted = original_logits(folder, question, text, max_length=384, stride=128)
    assert_rows_close(found, wanted, 1e-3)
    answer = pipe.ask(text, question)
    assert len(every(answer)) == 5
    assert all(text[a.start_char : a.end_char] == a.text for a in every(answer))
    config = network_of(pipe).encoder.transformer.config
    assert config.num_hidden_layers == shape["layers"]
    assert config.hidden_size == shape["hidden"]
    assert network_of(pipe).encoder.max_length == 512


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes_scaled_down(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    small = {"layers": min(3, shape["layers"]), "hidden": 4 * shape["heads"], "vocab_size": None}
    answers_like_the_original(tmp_path / "bert", name, **{**shape, **small})


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes(tmp_path: Path, name: str) -> None:
    answers_like_the_original(tmp_path / "bert", name, std=0.02, **SHAPES[name])
    shutil.rmtree(tmp_path / "bert")  # 1.3 GB


def test_accents_stay_with_a_cased_tokenizer(tmp_path: Path) -> None:
    # BETO: the vocabulary of the cased Spanish model has accents, which must not be stripped.
    folder = qa_checkpoint(tmp_path / "bert", vocab_words=SPANISH)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")  # nothing stated of case
    pipe = ready(folder)
    vocabulary = network_of(pipe).encoder.pieces.vocabulary
    names = {index: entry for entry, index in vocabulary.items()}
    (row,) = output_of(pipe, ["María nació en Bogotá"], [["¿Núñez?"]]).rows.rows
    entries = [names[i] for i in row.ids.tolist()]
    assert entries[-5:] == ["María", "nació", "en", "Bogotá", "[SEP]"]
    assert "Núñez" in entries


def test_tokenizer_of_another_name(tmp_path: Path) -> None:
    # SpanBERT is published without a tokenizer.
    whole = qa_checkpoint(tmp_path / "whole")
    bare, tokenizer = tmp_path / "bare", tmp_path / "tokenizer"
    bare.mkdir()
    tokenizer.mkdir()
    for path in whole.iterdir():
        shutil.copy(path, tokenizer if "token" in path.name or "vocab" in path.name else bare)
    assert not (tokenizer / "config.json").exists()
    pipe = ready(bare, model={"tokenizer": str(tokenizer)})
    for text, question in ASKED[:3]:
        (found,) = logits_of(pipe, [text], [[question]])
        assert_rows_close(found, original_logits(whole, question, text))


def test_advice_where_the_tokenizer_is_missing(tmp_path: Path) -> None:
    folder = qa_checkpoint(tmp_path / "bert")
    for path in list(folder.iterdir()):
        if "token" in path.name or "vocab" in path.name:
            path.unlink()
    with pytest.raises(OSError, match=r"(?s)E_SR202.*needs the setting 'tokenizer'") as error:
        ready(folder)
    assert str(folder) in str(error.value)


# Heads


def test_encoder_without_a_head(bert_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"E_SR210.*qa_outputs\.bias, qa_outputs\.weight") as error:
        ready(bert_checkpoint)
    assert str(bert_checkpoint) in str(error.value)
    nlp, pipe = make_nlp(bert_checkpoint, pretrained=False)
    nlp.initialize()
    before = network_of(pipe).encoder.transformer.qa_outputs.weight.detach().clone()
    assert before.std() > 0
    losses: list[float] = []
    examples = make_examples(nlp)
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 5e-3
    for _ in range(5):
        losses.append(pipe.update(examples, sgd=optimizer)["extractive_qa"])
    assert losses[-1] < losses[0]
    assert not torch.equal(before, network_of(pipe).encoder.transformer.qa_outputs.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_head_on_the_same_encoder(folders: dict[Kind, Path], kind: Kind) -> None:
    # pretrained = false keeps the encoder of the checkpoint, and draws a new head.
    original = AutoModelForQuestionAnswering.from_pretrained(folders[kind])
    for pretrained in (True, False):
        pipe = ready(folders[kind], pretrained=pretrained)
        network = network_of(pipe).encoder.transformer
        names = []
        for name, value in original.state_dict().items():
            same = torch.equal(network.state_dict()[name], value)
            assert same == (pretrained or not name.startswith("qa_outputs"))
            names.append(name)
        assert "qa_outputs.weight" in names
    # The parameters that the optimizer treats as the head, with a learning rate of its own.
    prefixes = tuple(get_shim(pipe.model).cfg["is_head"])
    heads = {n for n, _ in network_of(pipe).named_parameters() if n.startswith(prefixes)}
    assert heads == {f"encoder.transformer.qa_outputs.{part}" for part in ("weight", "bias")}


def test_no_such_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="E_SR202"):
        ready(tmp_path / "nowhere" / "at-all")


def test_more_pieces_than_the_network_takes(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"E_SR205.*max_length = 65 .*64 pieces"):
        ready(checkpoint, model={"max_length": 65})


# Beam search and left padding


def beam_checkpoint(folder: Path, kind: str) -> Path:
    """An XLNet or XLM with special tokens where they have them."""
    tiny_checkpoint(folder, layers=1)
    tokenizer = _wordpiece(WORDS, cased=True)
    vocabulary = tokenizer.get_vocab()
    special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    if kind == "xlnet":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A:0 [SEP]:0 [CLS]:2",
            pair="$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2",
            special_tokens=special,
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        padding_side="left" if kind == "xlnet" else "right",
    )
    (folder / "vocab.txt").unlink()
    network: Any
    if kind == "xlnet":
        network = XLNetForQuestionAnsweringSimple(
            XLNetConfig(vocab_size=len(vocabulary), d_model=16, n_layer=1, n_head=2, d_inner=16)
        )
    else:
        network = XLMForQuestionAnsweringSimple(
            XLMConfig(vocab_size=len(vocabulary), emb_dim=16, n_layers=1, n_heads=2, n_langs=1)
        )
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("kind", ["xlnet", "xlm"])
def test_xlnet_and_xlm_are_refused(tmp_path: Path, kind: str, pretrained: bool) -> None:
    # These networks pad on the left, and put the special tokens elsewhere.
    folder = beam_checkpoint(tmp_path / kind, kind)
    with pytest.raises(ValueError, match="E_SR802") as error:
        ready(folder, pretrained=pretrained)
    assert str(folder) in str(error.value)


# Gradients

LONG_ROW = (" ".join(TEXTS * 3), [("a", "who was killed ?", "John .")])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_pieces", [70, 100_000])
def test_gradient_is_that_of_the_whole_loss(
    folders: dict[Kind, Path], kind: Kind, batch_pieces: int
) -> None:
    nlp, pipe = make_nlp(folders[kind], pretrained=True, model={"batch_pieces": batch_pieces})
    nlp.initialize()
    rows = [*ROWS, LONG_ROW]
    losses = pipe.update(make_examples(nlp, rows))
    found = gradients(network_of(pipe).encoder.transformer)

    reference = AutoModelForQuestionAnswering.from_pretrained(folders[kind]).eval()
    total = torch.zeros(())
    n_rows, targets = 0, set()
    for text, questions in rows:
        for _, question, answer in questions:
            encoded = original_inputs(folders[kind], question, text)
            start = text.index(answer) if answer else 0
            for i in range(len(encoded.input_ids)):
                first, last = target_of(encoded, i, start, start + len(answer or ""))
                keep = encoded.attention_mask[i].bool()
                inputs = {
                    name: encoded[name][i : i + 1, keep]
                    for name in ("input_ids", "attention_mask", "token_type_ids")
                    if name in encoded
                }
                output = reference(
                    **inputs,
                    start_positions=torch.tensor([first]),
                    end_positions=torch.tensor([last]),
                )
                total = total + output.loss
                n_rows += 1
                targets.add((first, last))
    (total / n_rows).backward()
    assert n_rows > sum(len(questions) for _, questions in rows) + 2
    assert (0, 0) in targets
    assert len(targets) > 5
    assert losses == {"extractive_qa": pytest.approx(total.item() / n_rows, rel=1e-5)}
    wanted = gradients(reference)
    assert set(found) == set(wanted)
    assert sum(float(gradient.abs().max()) > 1e-4 for gradient in wanted.values()) > 20
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-3, msg=name)


def target_of(encoded: Any, row: int, start: int, end: int) -> tuple[int, int]:
    """Columns of the first and last piece of an answer in a row of transformers' own; [CLS] where
    it is not all there."""
    sides = encoded.sequence_ids(row)
    columns = [
        i
        for i, (a, b) in enumerate(encoded.offset_mapping[row].tolist())
        if sides[i] == 1 and a < end and b > start
    ]
    if not columns:
        return 0, 0
    first, last = columns[0], columns[-1]
    whole = (
        encoded.offset_mapping[row][first][0] <= start
        and encoded.offset_mapping[row][last][1] >= end
    )
    return (first, last) if whole else (0, 0)


def test_prediction_leaves_no_gradients(folders: dict[Kind, Path]) -> None:
    pipe = ready(folders["bert"])
    pipe.ask(TEXTS[0], QUESTIONS)
    assert all(p.grad is None for p in network_of(pipe).parameters())
    assert not network_of(pipe).training


# The model by itself


def test_saved_model(folders: dict[Kind, Path]) -> None:
    for kind in KINDS:
        pipe = ready(folders[kind])
        other = SpanQA("nowhere/at-all", max_length=64, doc_stride=16, max_question_length=24)
        other.from_bytes(pipe.model.to_bytes())
        assert isinstance(get_shim(other), TorchShim)
        for name, value in network_of(pipe).state_dict().items():
            assert torch.equal(get_module(other, SpanNetwork).state_dict()[name], value)
        assert json.loads(get_shim(other).files["config.json"])["model_type"] == kind


def test_casing_reaches_the_network(tmp_path: Path) -> None:
    """An encoder of lower-cased text gets the letter case of question and text."""
    folder = qa_checkpoint(tmp_path / "bert", cased=False)
    plain = ready(folder)
    told = ready(folder, model={"casing": True})
    texts = ["John works in Paris", "john works in paris"]
    questions = [["who ?"], ["who ?"]]
    # The embedding starts at zero, so that nothing changes before training.
    for one, other in zip(
        logits_of(plain, texts, questions), logits_of(told, texts, questions), strict=True
    ):
        assert_rows_close(one, other, 1e-5)
    same = logits_of(plain, texts, questions)
    assert_rows_close(same[0], same[1], 1e-6)
    casing = network_of(told).encoder.casing
    torch.nn.init.normal_(casing.weight, generator=torch.Generator().manual_seed(0))
    upper, lower = logits_of(told, texts, questions)
    assert not torch.allclose(upper[0], lower[0], atol=1e-2)
    upper, lower = logits_of(told, ["john", "john"], [["Who ?"], ["who ?"]])
    assert not torch.allclose(upper[0], lower[0], atol=1e-2)
    # By hand, for one row.
    network = network_of(told).encoder.transformer
    assert isinstance(network, BertForQuestionAnswering)
    (row,) = output_of(told, ["John IN paris"], [["Who ?"]]).rows.rows
    assert row.casing.tolist() == [0, 2, *[1] * 2, 0, 0, 2, 3, 1, 0]
