"""Loading writes no files, runs no code, uses little memory and refuses damaged files."""

from __future__ import annotations

import json
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import srsly
import torch
from safetensors.torch import load, load_file, save, save_file
from spacy.tokens import Doc
from spacy.vocab import Vocab
from torch import nn

from spacy_spanrel.encoding.checkpoint import HFModule, build_hf_module, load_checkpoint
from spacy_spanrel.encoding.encoder import HFEncoder
from spacy_spanrel.encoding.pieces import tokenizer_from_files
from spacy_spanrel.encoding.shim import (
    build_with_weights,
    get_module,
    get_shim,
    load_weights,
    read_model,
    write_model,
)
from spacy_spanrel.encoding.storage import Reader, pack_weights, unpack_weights

from ..util import run_python, tiny_encoder


@pytest.fixture
def encoder(bert_checkpoint: Path):
    model = HFEncoder(str(bert_checkpoint), device="cpu", precision="float32")
    model.initialize()
    return model


@pytest.fixture
def checkpoint_copy(bert_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_checkpoint, tmp_path / "copy"))


def new_encoder():
    return HFEncoder("none", device="cpu", precision="float32")


# Files


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/spanrel_outside.txt", "plain.txt"])
def test_loading_writes_no_file(encoder, monkeypatch, tmp_path: Path, name: str):
    message = srsly.msgpack_loads(get_shim(encoder).to_bytes())
    message["files"][name] = b"written"

    def refuse(*args, **kwargs):
        raise AssertionError("loading wrote something")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    again = new_encoder()
    get_shim(again).from_bytes(srsly.msgpack_dumps(message))
    assert get_shim(again).is_initialized


def test_tokenizer_is_saved_unchanged(bert_checkpoint: Path):
    module, _, files = load_checkpoint(str(bert_checkpoint))
    loaded = tokenizer_from_files(files).backend_tokenizer.pre_tokenizer
    # The module adds one split of special tokens; the saved tokenizer has none.
    assert str(loaded).count("Split(") == 0
    built = build_hf_module({"name": "x", "casing": False}, files)
    both = [str(m.pieces._backend.pre_tokenizer).count("Split(") for m in (module, built)]
    assert both == [1, 1]


@pytest.mark.parametrize("largest", [2**20, 2**31])
def test_vocabulary_of_huge_ids_is_refused(bert_checkpoint: Path, largest: int):
    """The tokenizers library would list every id that is missing, for minutes and in gigabytes."""
    _, _, files = load_checkpoint(str(bert_checkpoint))
    settings = json.loads(files["tokenizer.json"])
    piece = next(reversed(settings["model"]["vocab"]))
    settings["model"]["vocab"][piece] = largest
    files["tokenizer.json"] = json.dumps(settings).encode()
    with pytest.raises(ValueError, match="E_SR224"):
        tokenizer_from_files(files)


# Custom code


def test_custom_code_is_refused_without_asking(checkpoint_copy: Path, monkeypatch, tmp_path: Path):
    ran = tmp_path / "ran"
    (checkpoint_copy / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    config = json.loads((checkpoint_copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "modeling_own.Own"}}
    (checkpoint_copy / "config.json").write_text(json.dumps(config))

    def fail(*args):
        raise AssertionError("the user was asked")

    monkeypatch.setattr("builtins.input", fail)
    with pytest.raises(OSError, match="E_SR202"):
        load_checkpoint(str(checkpoint_copy))
    assert not ran.exists()


# Damaged checkpoints


def damage_weights(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)


DAMAGES = {
    "empty weights": lambda folder: damage_weights(folder, b""),
    "truncated weights": lambda folder: damage_weights(
        folder, (folder / "model.safetensors").read_bytes()[:1000]
    ),
    "invalid weights": lambda folder: damage_weights(folder, b"\xff" * 100),
    "tokenizer without added_tokens": lambda folder: (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                key: value
                for key, value in json.loads((folder / "tokenizer.json").read_text()).items()
                if key != "added_tokens"
            }
        )
    ),
    "tokenizer that is a list": lambda folder: (folder / "tokenizer.json").write_text("[]"),
    "settings that are a list": lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
    "config that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "empty config": lambda folder: (folder / "config.json").write_text(""),
}


@pytest.mark.parametrize(
    "settings",
    [
        {"_attn_implementation_internal": "evil/code"},
        {"attn_implementation": "evil/code:function"},
        {"vision_config": {"_experts_implementation_internal": {"": "evil/code"}}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_names_of_code_are_refused(
    settings: dict[str, Any], bert_checkpoint: Path, checkpoint_copy: Path
) -> None:
    """CVE-2026-4372, in a checkpoint and in a saved pipeline."""
    model = tiny_encoder(bert_checkpoint)
    model.initialize()
    shim = get_shim(model)
    config = json.loads(shim.files["config.json"]) | settings
    shim.files["config.json"] = json.dumps(config).encode()
    with pytest.raises(ValueError, match=r"E_SR239.*evil/code"):
        shim.copy()
    (checkpoint_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"E_SR239.*evil/code"):
        tiny_encoder(checkpoint_copy).initialize()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_errors_name_the_path(checkpoint_copy: Path, damage: str):
    DAMAGES[damage](checkpoint_copy)
    with pytest.raises((OSError, ValueError), match="E_SR") as caught:
        load_checkpoint(str(checkpoint_copy))
    assert str(checkpoint_copy) in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(encoder, checkpoint_copy: Path, value: float):
    path = checkpoint_copy / "model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if n.endswith("layer.0.output.dense.weight"))
    weights[name].reshape(-1)[3] = value
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="E_SR221.*layer.0.output.dense.weight"):
        load_checkpoint(str(checkpoint_copy))

    message = srsly.msgpack_loads(get_shim(encoder).to_bytes())
    saved = load(message["weights"])
    name = next(n for n in saved if n.endswith("layer.0.output.dense.weight"))
    saved[name].reshape(-1)[3] = value
    message["weights"] = save(saved)
    with pytest.raises(ValueError, match="E_SR221.*layer.0.output.dense.weight"):
        get_shim(new_encoder()).from_bytes(srsly.msgpack_dumps(message))


# Empty texts


def test_empty_text_with_casing_and_without_special_tokens(bert_checkpoint: Path):
    model = HFEncoder(str(bert_checkpoint), casing=True, device="cpu", precision="float32")
    model.initialize()
    pieces = get_module(model, HFModule).pieces
    pieces.prefix, pieces.suffix = [], []
    vocab = Vocab()
    encoded = model.predict([Doc(vocab), Doc(vocab, words=["hello"]), Doc(vocab)])
    assert encoded.n_tokens == 1
    assert encoded.context.shape[0] == 3


# Formats of weights and models


def unpack(data: bytes) -> dict[str, torch.Tensor]:
    return unpack_weights(Reader(BytesIO(data)))


def test_weights_are_exchangeable_with_safetensors():
    weights = {
        "a": torch.randn(3, 4),
        "transposed": torch.randn(3, 4).T,
        "b": torch.arange(5),
        "none": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(2, 3).bfloat16(),
        "flags": torch.tensor([True, False, True]),
    }
    theirs = load(b"".join(pack_weights(weights)))
    ours = unpack(save({name: value.contiguous() for name, value in weights.items()}))
    for name, value in weights.items():
        for read in (theirs, ours):
            assert read[name].dtype == value.dtype
            assert torch.equal(read[name], value)


@pytest.mark.parametrize("cut", [0, 5, 20, -1])
def test_truncated_weights_are_refused(cut: int):
    data = b"".join(pack_weights({"a": torch.randn(30, 4)}))
    with pytest.raises(ValueError):
        unpack(data[:cut])


def test_offsets_outside_the_file_are_refused():
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}
    text = json.dumps(header).encode()
    with pytest.raises(ValueError, match="place of the tensor"):
        unpack(len(text).to_bytes(8, "little") + text + b"\0" * 8)


def test_reader_leaves_bytes_in_the_file():
    data = srsly.msgpack_dumps({"small": [1, {"a": 2.5}], "large": b"x" * 70000, "none": None})
    reader = Reader(BytesIO(data))
    assert reader.table() == 3
    assert (reader.value(), reader.value()) == ("small", [1, {"a": 2.5}])
    assert reader.value() == "large"
    large = reader.binary()
    assert (reader.value(), reader.binary()) == ("none", None)
    assert isinstance(large, Reader)
    assert large.read(80000) == b"x" * 70000


def test_weights_are_read_straight_into_tensors():
    sizes = []

    class File(BytesIO):
        def read(self, size=-1):
            sizes.append(size)
            return super().read(size)

    data = b"".join(pack_weights({"a": torch.randn(500, 400)}))
    assert unpack_weights(Reader(File(data)))["a"].shape == (500, 400)
    assert max(sizes) < 1000


def test_models_are_written_in_the_format_of_thinc(encoder, tmp_path: Path):
    write_model(encoder, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == encoder.to_bytes()
    again = new_encoder()
    read_model(again, tmp_path / "model")
    for name, value in get_module(encoder, HFModule).state_dict().items():
        assert torch.equal(value, get_module(again, HFModule).state_dict()[name])
    by_thinc = new_encoder().from_disk(tmp_path / "model")
    assert by_thinc.to_bytes() == again.to_bytes()


# Weights


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Embedding(5, 3)
        self.two = nn.Linear(3, 5, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("positions", torch.arange(4), persistent=False)


def test_tied_weights_stay_tied_and_buffers_are_kept():
    weights = {name: value.clone() for name, value in Tied().state_dict().items()}
    loaded = build_with_weights(Tied, weights)
    assert isinstance(loaded, Tied)
    assert loaded.one.weight is loaded.two.weight
    assert torch.equal(loaded.positions, torch.arange(4))
    assert torch.equal(loaded.one.weight, weights["one.weight"])


def test_loading_draws_no_random_numbers_and_copies_no_weights():
    weights = {name: value.clone() for name, value in nn.Linear(3, 5).state_dict().items()}
    before = torch.get_rng_state()
    loaded = build_with_weights(lambda: nn.Linear(3, 5), weights)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.weight.data_ptr() == weights["weight"].data_ptr()


BUILD = """
import sys
from torch import nn
from spacy_spanrel.encoding.shim import build_with_weights

def build():
    return nn.ModuleList([nn.Embedding(4, 3, padding_idx=0), nn.Linear(3, 2), nn.LayerNorm(2)])

build_with_weights(build, build().state_dict())
print([name for name in ("torch._dynamo", "transformers") if name in sys.modules])
"""


def test_building_a_network_does_not_import_the_compiler_of_torch(tmp_path: Path):
    assert run_python(BUILD, cwd=tmp_path).strip() == "[]"


LOAD = """
import sys
from pathlib import Path
from spacy_spanrel.encoding.encoder import HFEncoder
from spacy_spanrel.encoding.shim import read_model

read_model(HFEncoder("none", device="cpu", precision="float32"), Path(sys.argv[1]))
print("transformers" in sys.modules)
print(*(name for name in sys.modules if name.startswith("transformers.models.") and "albert" in name))
"""


def test_loading_imports_no_other_kinds_of_networks(checkpoint_copy: Path, tmp_path: Path):
    config = json.loads((checkpoint_copy / "config.json").read_text())
    # Not among the networks that are built without transformers.
    (checkpoint_copy / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu_new"}))
    encoder = tiny_encoder(checkpoint_copy)
    write_model(encoder, tmp_path / "model")
    assert run_python(LOAD, tmp_path / "model", cwd=tmp_path).split() == ["True"]


def test_frozen_weights_stay_frozen():
    module = nn.Linear(3, 5)
    module.weight.requires_grad_(False)
    load_weights(module, {k: v.clone() for k, v in nn.Linear(3, 5).state_dict().items()})
    assert not module.weight.requires_grad
    assert module.bias.requires_grad
