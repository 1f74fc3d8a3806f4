"""Damaged pipelines: they load or raise ValueError or OSError, and loading writes nothing.

What spaCy itself reads (config.cfg, meta.json, vocab, tokenizer) is left alone; only the files of our
components are damaged: `cfg` and `model`, the latter also inside, where it holds the tokenizer's and
the encoder's files by their names.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import spacy
import srsly

from ..encoders.util import COMPONENTS
from ..saved.test_saved import HERE as SAVED
from .mutate import VALUES, damage_bytes, damage_value

# Where a file's name stood; {folder} is one that must stay as it is.
NAMES = [
    "../evil",
    "../../evil",
    "../../../../../evil",
    "{folder}/evil",
    "sub/evil",
    "sub/../../evil",
    "..",
    ".",
    "",
    "evil\x00",
    "..\\evil",
    "tokenizer_config.json/evil",
    "evil.py",
    "pytorch_model.bin",
    "modeling_evil.py",
]
# Msgpack has no larger numbers, and no text that UTF-8 cannot hold.
PLAIN = [v for v in VALUES if not (isinstance(v, int) and abs(v) >= 2**63) and v != "\ud800"]


def make_check(folder: Path):
    home = folder / "a" / "b" / "c" / "d"
    temporary = home / "tmp"
    temporary.mkdir(parents=True)
    for name in COMPONENTS:
        shutil.copytree(SAVED / name / "pipeline", home / name)

    def check(rng: Random) -> None:
        name = rng.choice(COMPONENTS)
        pipeline, component = home / name, home / name / name
        kept = {path: path.read_bytes() for path in (component / "cfg", component / "model")}
        damage(rng, component, folder)
        before = listing(folder)
        try:
            with temporary_files(temporary):
                spacy.load(pipeline)
        except (ValueError, OSError):
            pass  # refused
        finally:
            for path, data in kept.items():
                path.write_bytes(data)
            after = listing(folder)
            for path in after - before:
                path.unlink() if path.is_file() else shutil.rmtree(path)
        assert after == before, f"written: {sorted(map(str, after - before))}"

    return check


@contextmanager
def temporary_files(folder: Path) -> Iterator[None]:
    """Make temporary files in a folder that is watched."""
    kept, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = kept


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def damage(rng: Random, component: Path, folder: Path) -> None:
    """Change the files of a component."""
    path = component / rng.choice(["cfg", "model", "model", "model"])
    data = path.read_bytes()
    if rng.random() < 0.3:
        data = damage_bytes(rng, data)
    elif path.name == "cfg":
        data = json.dumps(damage_value(rng, json.loads(data))).encode()
    else:
        data = damage_model(rng, data, folder)
    path.write_bytes(data)


def damage_model(rng: Random, data: bytes, folder: Path) -> bytes:
    """Change what thinc packed: nodes and attributes, and in them what our shims packed."""
    message = srsly.msgpack_loads(data)
    if rng.random() < 0.15:
        return srsly.msgpack_dumps(damage_value(rng, message, values=PLAIN))
    shims = [(i, j) for i, node in enumerate(message["shims"]) for j in range(len(node))]
    i, j = rng.choice(shims)
    inner = srsly.msgpack_loads(message["shims"][i][j])
    kind = rng.randrange(4)
    files: dict[str, bytes] = inner["files"]
    if kind == 0:
        damage_names(rng, files, folder)
    elif kind == 1 and files:
        name = rng.choice(sorted(files))
        files[name] = damage_file(rng, files[name])
    elif kind == 2 and inner["weights"]:
        inner["weights"] = damage_bytes(rng, inner["weights"])
    else:
        inner = damage_value(rng, inner, values=PLAIN)
    message["shims"][i][j] = srsly.msgpack_dumps(inner)
    return srsly.msgpack_dumps(message)


def damage_names(rng: Random, files: dict[str, bytes], folder: Path) -> None:
    new = rng.choice(NAMES).format(folder=folder)
    if rng.random() < 0.5 and files:
        files[new] = files.pop(rng.choice(sorted(files)))
    else:
        files[new] = b"{}"


def damage_file(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return damage_bytes(rng, data)
    try:
        value: Any = json.loads(data)
    except ValueError:
        return damage_bytes(rng, data)
    if isinstance(value, dict) and rng.random() < 0.2:
        value["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    return json.dumps(damage_value(rng, value)).encode()
