from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn
from transformers import AutoTokenizer

from spacy_spanrel.encoding.checkpoint import hf_files, load_checkpoint
from spacy_spanrel.encoding.encoder import HFEncoder
from spacy_spanrel.encoding.shim import (
    TorchShim,
    load_weights,
    resolve_device,
    resolve_precision,
)
from tests.util import run_python, tiny_checkpoint, tiny_encoder

NLP = spacy.blank("en")
DOCS = [NLP("John works in Paris"), NLP("Mary lives in London and works for Acme")]


class Net(nn.Module):
    """Two layers that share their weight if `tied`, and a buffer that is saved if `persistent`."""

    def __init__(self, width: int = 4, tied: bool = False, persistent: bool = True):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        if tied:
            self.second.weight = self.first.weight
        self.register_buffer("position_ids", torch.arange(width), persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def build_net(cfg: dict[str, Any], files: dict[str, bytes]) -> nn.Module:
    return Net(**cfg)


def net_shim(**cfg: Any) -> TorchShim:
    shim = TorchShim(build_net, device="cpu", precision="float32")
    shim.set_module(Net(**cfg), cfg, {"notes.txt": b"kept"})
    return shim


def changed_weights(shim: TorchShim, **changes: torch.Tensor | None) -> bytes:
    """Return the bytes of a shim with some weights replaced, or removed (None)."""
    msg = srsly.msgpack_loads(shim.to_bytes())
    weights = load_safetensors(msg["weights"])
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del weights[name]
        else:
            weights[name] = value
    return srsly.msgpack_dumps({**msg, "weights": save_safetensors(weights)})


def encoder_without_folder() -> Any:
    return HFEncoder("a/folder/that/is/gone", device="cpu", precision="float32")


def assert_same_vectors(first: Any, second: Any) -> None:
    a, b = first.predict(DOCS), second.predict(DOCS)
    assert torch.equal(a.pieces, b.pieces)
    assert torch.equal(a.context, b.context)
    assert torch.equal(a.token_pieces, b.token_pieces)


def test_bytes_round_trip_without_the_original_folder(checkpoint, tmp_path):
    # A saved pipeline is self-contained.
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    encoder = tiny_encoder(folder)
    data = encoder.to_bytes()
    shutil.rmtree(folder)
    again = encoder_without_folder().from_bytes(data)
    state = again.shims[0].module.state_dict()
    assert state.keys() == encoder.shims[0].module.state_dict().keys()
    for name, value in encoder.shims[0].module.state_dict().items():
        assert torch.equal(state[name], value)
    assert_same_vectors(encoder, again)
    assert again.shims[0].module.max_length == 64
    # A second round trip starts from the loaded encoder.
    assert_same_vectors(encoder, encoder_without_folder().from_bytes(again.to_bytes()))


def test_disk_round_trip_without_the_original_folder(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    encoder = tiny_encoder(folder)
    encoder.to_disk(tmp_path / "model")
    shutil.rmtree(folder)
    assert_same_vectors(encoder, encoder_without_folder().from_disk(tmp_path / "model"))


def test_bytes_contain_no_pickle(checkpoint):
    msg = srsly.msgpack_loads(tiny_encoder(checkpoint).shims[0].to_bytes())
    assert set(msg) == {"cfg", "files", "weights", "versions"}
    assert load_safetensors(msg["weights"])  # a JSON header and plain numbers
    assert json.dumps(msg["cfg"])
    for name, data in msg["files"].items():
        assert not data.startswith((b"PK", b"\x80")), name
        text = data.decode("utf-8")
        if name.endswith(".json"):
            json.loads(text)


def test_versions_are_saved_and_named_if_loading_fails(checkpoint):
    encoder = tiny_encoder(checkpoint)
    msg = srsly.msgpack_loads(encoder.shims[0].to_bytes())
    installed = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    # onnxruntime may be there, too.
    assert msg["versions"].items() >= installed.items()
    config = json.loads(msg["files"]["config.json"])
    saved = {"torch": "2.5.0", "transformers": "9.8.7"}
    # The config of a network that the installed version does not support.
    for broken in ({**config, "model_type": "unheard"}, {**config, "num_hidden_layers": 3}):
        files = {**msg["files"], "config.json": json.dumps(broken).encode()}
        data = srsly.msgpack_dumps({**msg, "files": files, "versions": saved})
        with pytest.raises(ValueError, match="E_SR218") as error:
            encoder_without_folder().shims[0].from_bytes(data)
        assert "saved with torch 2.5.0, transformers 9.8.7" in str(error.value)
        assert all(f"{name} {number}" in str(error.value) for name, number in installed.items())


def test_pipelines_without_versions_load(checkpoint):
    # Pipelines saved by early versions of the package have no versions.
    encoder = tiny_encoder(checkpoint)
    msg = srsly.msgpack_loads(encoder.shims[0].to_bytes())
    del msg["versions"]
    again = encoder_without_folder()
    again.shims[0].from_bytes(srsly.msgpack_dumps(msg))
    assert_same_vectors(encoder, again)


@pytest.mark.parametrize(
    ("new_settings", "old_settings"),
    [
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, {"rope_theta": 5e5}),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 1e5},
                    "sliding_attention": {"rope_theta": 2e4},
                }
            },
            {"global_rope_theta": 1e5, "local_rope_theta": 2e4},
        ),
    ],
)
def test_settings_of_transformers_5_are_saved_under_both_names(
    checkpoint, new_settings, old_settings
):
    module, _, _ = load_checkpoint(str(checkpoint))
    before = json.loads(
        hf_files(module.transformer, AutoTokenizer.from_pretrained(checkpoint))["config.json"]
    )
    assert not {"rope_theta", "global_rope_theta", "local_rope_theta"} & set(before)
    for name, value in new_settings.items():
        setattr(module.transformer.config, name, value)
    files = hf_files(module.transformer, AutoTokenizer.from_pretrained(checkpoint))
    assert json.loads(files["config.json"]).items() >= {**new_settings, **old_settings}.items()


def test_shim_without_weights_round_trips():
    shim = TorchShim(build_net, device="cpu")
    again = TorchShim(build_net, device="cpu").from_bytes(shim.to_bytes())
    assert not again.is_initialized
    with pytest.raises(ValueError, match="E_SR203"):
        _ = again.module
    assert not pickle.loads(pickle.dumps(shim)).is_initialized


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"first__weight": None}, ["missing ['first.weight']", "unexpected []"]),
        ({"third__weight": torch.zeros(2)}, ["missing []", "unexpected ['third.weight']"]),
        ({"first__bias": torch.zeros(9)}, ["missing []", "unexpected ['first.bias']"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes, messages):
    shim = net_shim()
    before = copy.deepcopy(shim.module.state_dict())
    with pytest.raises(ValueError, match="E_SR207") as info:
        shim.from_bytes(changed_weights(shim, **changes))
    assert all(message in str(info.value) for message in messages)
    for name, value in shim.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_encoder_of_another_size_is_refused(bert_checkpoint, tmp_path):
    encoder = tiny_encoder(bert_checkpoint)
    other = tiny_encoder(tiny_checkpoint(tmp_path, layers=1))
    msg = srsly.msgpack_loads(encoder.shims[0].to_bytes())
    weights = srsly.msgpack_loads(other.shims[0].to_bytes())["weights"]
    with pytest.raises(ValueError, match=r"E_SR207.*missing \['transformer\.encoder\.layer\.1"):
        encoder_without_folder().shims[0].from_bytes(
            srsly.msgpack_dumps({**msg, "weights": weights})
        )


def test_buffers_may_be_saved_or_not(bert_checkpoint):
    # Versions of transformers differ on whether `embeddings.position_ids` is saved.
    saved, unsaved = net_shim(persistent=True), net_shim(persistent=False)
    assert "position_ids" in saved.module.state_dict()
    assert "position_ids" not in unsaved.module.state_dict()
    load_weights(unsaved.module, saved.module.state_dict())
    load_weights(saved.module, unsaved.module.state_dict())
    assert saved.module.position_ids.tolist() == [0, 1, 2, 3]

    encoder = tiny_encoder(bert_checkpoint)
    name = "transformer.embeddings.position_ids"
    data = changed_weights(encoder.shims[0], **{name: torch.arange(64)[None]})
    again = encoder_without_folder()
    again.shims[0].from_bytes(data)
    assert_same_vectors(encoder, again)


def test_tied_weights_survive():
    shim = net_shim(tied=True)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for again in (
        TorchShim(build_net, device="cpu").from_bytes(shim.to_bytes()),
        pickle.loads(pickle.dumps(shim)),
    ):
        assert again.module.second.weight is again.module.first.weight
        assert torch.equal(again.module(x), shim.module(x))


@pytest.mark.parametrize(
    "make_copy",
    [copy.deepcopy, lambda model: model.copy(), lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_copies_are_equal_and_independent(checkpoint, make_copy):
    encoder = tiny_encoder(checkpoint)
    again = make_copy(encoder)
    assert_same_vectors(encoder, again)
    before = encoder.predict(DOCS).pieces
    with torch.no_grad():
        for parameter in again.shims[0].module.parameters():
            parameter.mul_(2)
    assert torch.equal(encoder.predict(DOCS).pieces, before)
    assert not torch.allclose(again.predict(DOCS).pieces, before)


def test_a_copy_keeps_settings_and_files():
    shim = net_shim(width=3)
    for again in (copy.deepcopy(shim), pickle.loads(pickle.dumps(shim))):
        assert (again.device_setting, again.precision_setting) == ("cpu", "float32")
        assert (again.cfg, again.files) == ({"width": 3}, {"notes.txt": b"kept"})


def test_pickle_after_a_training_step(checkpoint):
    # Gradients and the graph of a step are not pickled.
    encoder = tiny_encoder(checkpoint)
    encoded, backprop = encoder.begin_update(DOCS)
    pickle.loads(pickle.dumps(encoder))
    backprop(torch.ones_like(encoded.pieces), torch.ones_like(encoded.context))
    again = pickle.loads(pickle.dumps(encoder))
    assert all(p.grad is None for p in again.shims[0].module.parameters())
    assert_same_vectors(encoder, again)


def test_modules_are_in_evaluation_mode_after_loading(checkpoint):
    encoder = tiny_encoder(checkpoint)
    assert not encoder.shims[0].module.training
    assert not encoder_without_folder().from_bytes(encoder.to_bytes()).shims[0].module.training


def test_device_and_precision_settings():
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == cpu
    assert resolve_precision("float32", cpu) == torch.float32
    assert resolve_precision("bfloat16", cpu) == torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert resolve_precision("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(ValueError, match="E_SR206.*'int8'"):
        resolve_precision("int8", cpu)
    with pytest.raises(ValueError, match="E_SR206.*'half'"):
        TorchShim(build_net, precision="half")


FORK = """
import multiprocessing
import torch
import spacy_spanrel.encoding.shim


def multiply():
    numbers = torch.ones(600, 600)
    print(float((numbers @ numbers)[0, 0]), torch.get_num_threads(), flush=True)


torch.set_num_threads(2)
multiply()
process = multiprocessing.get_context("fork").Process(target=multiply)
process.start()
process.join(60)
process.kill()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent(tmp_path: Path) -> None:
    assert run_python(FORK, cwd=tmp_path).splitlines() == ["600.0 2", "600.0 1"]
