"""A teacher: a trained pipeline whose logits a smaller, or an equal, component learns to give (Hinton et
al. 2015, "Distilling the Knowledge in a Neural Network"). Of several, the mean of their logits is learned.

A gold label says which class is right. The probabilities of a network say, too, how much the other classes
look like it, and a second network learns more from them. Training comes back to the same texts in every
epoch, so the teacher reads each text once: its logits are kept in memory in float16 (up to 2 GiB) and, if
a file is named, on disk, where further trainings with the same teacher find them.

The teacher is needed in training only. It is no part of the component that it teaches, and is not saved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import spacy
import srsly
import torch
from spacy.attrs import IDX, LENGTH, SENT_START
from spacy.tokens import Doc

from ..arrays import AnyArray, FloatArray, IntArray
from ..encoding.frozen import KeptRows
from ..encoding.shim import torch_shims
from ..encoding.transfer import to_device
from ..errors import Errors
from ..pipe import TorchPipe
from ..settings import TEMPERATURE, Rule, number
from .losses import Taught

# Memory for the logits of one teacher, in bytes: those of some hundred thousand sentences. Joined texts,
# which are new in each epoch, would fill any memory.
LOGITS_LIMIT = 2 * 1024**3

_DEFAULTS: dict[str, Any] = {"path": None, "weight": 0.5, "temperature": 2.0, "cache": None}
_RULES = {"weight": number(0, 1), "temperature": TEMPERATURE}


def _is_setting(setting: Any) -> bool:
    if setting is None:
        return True
    if not isinstance(setting, Mapping) or not set(setting) <= set(_DEFAULTS):
        return False
    values = {**_DEFAULTS, **setting}
    path, cache = values["path"], values["cache"]
    paths = path if isinstance(path, list | tuple) else [path]
    return (
        (path is None or (len(paths) > 0 and all(map(_is_text, paths))))
        and (cache is None or _is_text(cache))
        and all(rule.holds(values[name]) for name, rule in _RULES.items())
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


# The rule for the setting `teacher` of a component.
TEACHER = Rule(
    "null or a table with path (one or a list) and, as one likes, weight (0 to 1), temperature and "
    "cache (a file)",
    _is_setting,
)


class Teacher:
    """A teacher of a component.

    student (TorchPipe): The component, with the setting `teacher` and its labels.
    path (str): The trained pipeline.
    RAISES (OSError, ValueError): If there is no such pipeline, if it has no component of this kind, or if
        that component cannot teach the student.

    columns (dict[str, int64 array]): For each kind of labels, the teacher's class of each label of the
        student.
    """

    def __init__(self, student: TorchPipe, path: str):
        self.path = path
        self._description = _description(student)
        self._networks = [ref(shim.module) for shim in torch_shims(student.model)]
        nlp = spacy.load(path)
        pipes = dict(nlp.components)
        names = [name for name, pipe in pipes.items() if type(pipe) is type(student)]
        if not names:
            raise ValueError(
                Errors.E508.format(
                    name=student.name, path=path, kind=type(student).__name__, pipes=list(pipes)
                )
            )
        pipe: Any = pipes[student.name if student.name in names else names[0]]
        if any("listener" in node.name for node in pipe.model.walk()):
            raise ValueError(Errors.E511.format(name=student.name, path=path, teacher=pipe.name))
        for setting in student.same_as_teacher:
            if pipe.cfg[setting] != student.cfg[setting]:
                raise ValueError(
                    Errors.E510.format(
                        name=student.name,
                        path=path,
                        setting=setting,
                        value=student.cfg[setting],
                        other=pipe.cfg[setting],
                    )
                )
        self.columns: dict[str, IntArray] = {}
        for kind, key in student.label_kinds.items():
            wanted, labels = student.cfg[key], pipe.cfg[key]
            missing = sorted(set(wanted).difference(labels))
            if missing:
                raise ValueError(
                    Errors.E509.format(
                        name=student.name, path=path, kind=kind, missing=missing, labels=labels
                    )
                )
            self.columns[kind] = np.asarray(
                [labels.index(label) for label in wanted], dtype=np.int64
            )
        self.pipe = pipe
        self._kept: KeptRows[tuple[AnyArray, ...]] = KeptRows(LOGITS_LIMIT)
        self._file: _File | None = None
        cache = student.cfg["teacher"].get("cache")
        if cache is not None:
            self._file = _File(cache, sha256(pipe.to_bytes(exclude=["vocab"])).digest())

    def fits(self, student: TorchPipe) -> bool:
        """Tell whether the student still has the settings and the network that it had. A network that is
        initialized or loaded later is taught by the teacher as it is on disk then.

        student (TorchPipe): The component that was given to the constructor.
        RETURNS (bool): Whether it has them.
        """
        networks = [shim.module for shim in torch_shims(student.model)]
        same = [network() for network in self._networks] == networks
        return same and self._description == _description(student)

    def logits(self, items: Sequence[tuple[Doc, Any]]) -> list[tuple[AnyArray, ...]]:
        """Return the logits of `class_logits` of the teacher, computed or kept.

        items (Sequence[tuple[Doc, Any]]): As the component takes them; they are kept by the tokens and
            sentence borders of the Doc, by the annotation that the teacher reads, and by the `repr` of
            the rest.
        RETURNS (list[tuple[AnyArray, ...]]): The arrays for each item, in float16.
        """
        keys = [_key(doc, rest, *self.pipe.annotation_read(doc)) for doc, rest in items]
        logits = {key: kept for key in keys if (kept := self._kept.get(key)) is not None}
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in logits}
        new = {} if self._file is None else self._file.read(missing)
        unread = {key: item for key, item in missing.items() if key not in new}
        if unread:
            computed = {
                key: tuple(a.astype(np.float16) if a.dtype.kind == "f" else a for a in arrays)
                for key, arrays in zip(
                    unread, self.pipe.class_logits(list(unread.values())), strict=True
                )
            }
            new |= computed
            if self._file is not None:
                self._file.write(computed)
        for key, arrays in new.items():
            self._kept.add(key, arrays, sum(array.nbytes for array in arrays))
        logits |= new
        return [logits[key] for key in keys]


def teachers_mean(
    setting: Mapping[str, Any], logits: Sequence[FloatArray], device: torch.device
) -> Taught:
    """Put what the teachers say about the rows of a batch where the student's logits are.

    setting (Mapping[str, Any]): The setting `teacher`.
    logits (Sequence[FloatArray]): The logits of each teacher, NaN in rows about which it says nothing.
    device (torch.device): The device.
    RETURNS (Taught): Their mean with the settings of the loss.
    """
    values = {**_DEFAULTS, **setting}
    rows = torch.from_numpy(np.mean(logits, axis=0, dtype=np.float32))
    return Taught(to_device(rows, device), float(values["weight"]), float(values["temperature"]))


# Not an attribute of the component, so that no teacher is saved with it or sent to workers.
_TEACHERS: WeakKeyDictionary[TorchPipe, list[Teacher]] = WeakKeyDictionary()


def teachers_of(student: TorchPipe) -> list[Teacher]:
    """Return the teachers of a component, loaded when they are first needed in a training.

    student (TorchPipe): The component.
    RETURNS (list[Teacher]): Its teachers; none if the setting `teacher`, or its path, is null.
    RAISES (OSError, ValueError): As `Teacher` does.
    """
    setting = student.cfg["teacher"]
    path = None if setting is None else setting.get("path")
    if path is None:
        return []
    teachers = _TEACHERS.get(student)
    if teachers is None or not all(teacher.fits(student) for teacher in teachers):
        paths = [path] if isinstance(path, str) else path
        teachers = _TEACHERS[student] = [Teacher(student, each) for each in paths]
    return teachers


def first_teacher(student: TorchPipe) -> Teacher:
    """Return the teacher that says what an unlabelled text has to be asked.

    student (TorchPipe): The component.
    RETURNS (Teacher): Its only or first teacher.
    RAISES (ValueError): If it has none.
    """
    teachers = teachers_of(student)
    if not teachers:
        raise ValueError(Errors.E514.format(name=student.name))
    return teachers[0]


def _description(student: TorchPipe) -> str:
    """Describe the settings on which a teacher depends."""
    keys = ("teacher", *student.label_kinds.values(), *student.same_as_teacher)
    return repr([student.cfg[key] for key in keys])


def _key(doc: Doc, *asked: Any) -> bytes:
    tokens = doc.to_array([IDX, LENGTH, SENT_START])
    values = (repr(value).encode() for value in asked)
    return sha256(b"\0".join([doc.text.encode(), tokens.tobytes(), *values])).digest()


class _File:
    """Logits on disk, in a table of SQLite: several teachers and trainings may share it.

    path (str): The file.
    teacher (bytes): Digest of the teacher.
    RAISES (OSError): If it cannot be opened, or is something else.
    """

    def __init__(self, path: str, teacher: bytes):
        self._teacher = teacher
        try:
            self._table = sqlite3.connect(path, timeout=60)
            with self._table:
                self._table.execute(
                    "CREATE TABLE IF NOT EXISTS logits (key BLOB PRIMARY KEY, arrays BLOB)"
                )
        except sqlite3.Error as error:
            raise OSError(Errors.E512.format(path=path, error=error)) from error

    def read(self, keys: Mapping[bytes, Any]) -> dict[bytes, tuple[AnyArray, ...]]:
        """Return the logits of those keys that are in the file."""
        arrays = {}
        for key in keys:
            row = self._table.execute(
                "SELECT arrays FROM logits WHERE key = ?", (self._teacher + key,)
            ).fetchone()
            if row is not None:
                arrays[key] = tuple(srsly.msgpack_loads(row[0]))
        return arrays

    def write(self, logits: Mapping[bytes, tuple[AnyArray, ...]]) -> None:
        """Add logits by their keys."""
        with self._table:
            self._table.executemany(
                "INSERT OR REPLACE INTO logits VALUES (?, ?)",
                [(self._teacher + k, srsly.msgpack_dumps(list(v))) for k, v in logits.items()],
            )
