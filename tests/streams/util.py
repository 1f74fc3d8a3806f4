"""Pipelines, inputs and killed runs for the tests of annotating files."""

from __future__ import annotations

import gzip
import json
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_spanrel.streams.readers import ReadSettings, Row, find_source
from spacy_spanrel.streams.rows import BadRow

TEXTS = [
    "John lives in Paris.",
    "Mary was born in London, and John in Berlin.",
    "Nothing here.",
    "Acme is a company from Berlin – ☂ \U0001f600 Mary.",
    "  John  ",
]
PATTERNS = [
    {"label": "Per", "pattern": "John"},
    {"label": "Per", "pattern": "Mary"},
    {"label": "Loc", "pattern": "Paris"},
    {"label": "Loc", "pattern": "London"},
    {"label": "Loc", "pattern": "Berlin"},
    {"label": "Org", "pattern": "Acme"},
]


VOCAB = spacy.blank("en").vocab


@Language.component("raise_on_boom")
def raise_on_boom(doc: Doc) -> Doc:
    """Raise for some texts."""
    if "boom" in doc.text:
        raise RuntimeError(f"cannot take {doc.text!r}")
    return doc


def rules(*more: str) -> Language:
    """Make a pipeline without weights that finds entities."""
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns(PATTERNS)
    for name in more:
        nlp.add_pipe(name)
    return nlp


def numbered(n: int) -> list[str]:
    return [f"John {i} met Mary in Paris." for i in range(1, n + 1)]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_source(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write texts, most with their ids, in the format that the suffix names."""
    kind = path.suffix[1:]
    if kind == "jsonl":
        write_jsonl(path, rows)
    elif kind == "parquet":
        table = pyarrow.Table.from_pylist(list(rows))
        pyarrow.parquet.write_table(table, path, row_group_size=3)
    elif kind == "spacy":
        doc_bin, nlp = DocBin(store_user_data=True), spacy.blank("en")
        for row in rows:
            doc = nlp.make_doc(row["text"])
            doc.user_data["meta"] = {key: row[key] for key in row if key != "text"}
            doc_bin.add(doc)
        doc_bin.to_disk(path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        lines = [row["text"] for row in rows]
        if kind == "csv":
            lines = ["id,text", *(f'{row["id"]},"{row["text"]}"' for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[Any]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = pyarrow.input_stream(path, compression="zstd").read()
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def read_docs(path: Path) -> list[Doc]:
    return list(DocBin(store_user_data=True).from_disk(path).get_docs(VOCAB))


def read_all(path: Path, input_format: str | None = None, **settings: Any) -> list[Row | BadRow]:
    """Return all rows of an input."""
    return list(find_source(path, input_format).read(ReadSettings(VOCAB, **settings)))


CHANGES = tuple((os, name) for name in ("fsync", "replace", "unlink", "rmdir"))


def killed(
    run: Callable[[], object],
    at: int,
    tear: bool = False,
    changes: Sequence[tuple[Any, str]] = CHANGES,
) -> bool:
    """Run a function in a process that is killed just before its `at`-th lasting change of files.

    run (Callable): The function.
    at (int): The number of the change, from 0: a file is flushed, renamed or removed.
    tear (bool): Let the file that is being flushed lose its last bytes, as if half-written.
    changes (Sequence[tuple[Any, str]]): The functions that are counted: their owners and names.
    RETURNS (bool): Whether the process was killed; False if the function returned before.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0, "the run failed"
        return False
    try:
        steps = 0

        def counting(owner: Any, name: str) -> None:
            step = getattr(owner, name)

            def stepped(*args: Any, **kwargs: Any) -> Any:
                nonlocal steps
                if steps == at:
                    if tear and name == "fsync" and os.fstat(args[0]).st_size > 3:
                        with suppress(OSError):  # a folder
                            os.ftruncate(args[0], os.fstat(args[0]).st_size - 3)
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1
                return step(*args, **kwargs)

            setattr(owner, name, stepped)

        for change in changes:
            counting(*change)
        run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
