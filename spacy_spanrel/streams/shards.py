"""Divide an input among runs that know nothing of each other, and put their outputs together again.

Each run is a shard: number 3 of 16, say. All of them write into one folder::

    00003-of-00016.jsonl            the output of the shard, once it is complete
    _00003-of-00016.json            its counts, and the fingerprint of input, pipeline and settings
    _00003-of-00016.errors.jsonl    its failed rows, if there are any

Readers of data sets pass by names that begin with an underscore. By rows, shard k of n has the rows
k, k + n, k + 2n and so on, and every run reads the whole input; by files, it has files that follow one
another, with about as many bytes in each shard, and reads nothing else.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import Errors
from ..files import check_output, open_whole, write_whole
from ..reading import argument_error
from .inputs import InputFile
from .progress import COUNTS, Progress, beside
from .schema import import_pyarrow

ShardBy = Literal["rows", "files"]

_NAME = re.compile(r"_(\d{5})-of-(\d{5})\.json")
# The rows of a shard that are held at once when Parquet is merged.
_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Shard:
    """A share of an input.

    index, count (int): The number of the shard, from 1, and how many there are.
    by ("rows" | "files"): What is divided.
    """

    index: int = 1
    count: int = 1
    by: ShardBy = "rows"

    @classmethod
    def parse(cls, text: str, by: ShardBy) -> Shard:
        """Make a shard from text such as "3/16". RAISES (ConversionError): If it is something else."""
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        index, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= index <= count:
            raise argument_error("--shard", repr(text), "K/N with 1 <= K <= N, such as 3/16")
        if by not in ("rows", "files"):
            raise argument_error("--shard-by", repr(by), "'rows' or 'files'")
        return cls(index, count, by)

    def __str__(self) -> str:
        return f"{self.index}/{self.count} by {self.by}"

    def files(self, files: Sequence[InputFile]) -> list[InputFile]:
        """Return the files that the shard reads: by rows, all of them."""
        if self.by == "rows":
            return list(files)
        total = sum(file.size for file in files)
        chosen, before = [], 0
        for file in files:
            # The shard in whose stretch of all bytes the middle of the file lies.
            middle = before + file.size / 2
            if min(int(middle / max(1, total) * self.count), self.count - 1) == self.index - 1:
                chosen.append(file)
            before += file.size
        return chosen

    def numbers(self, done: int, n_rows: int) -> range:
        """Return the numbers of the rows that follow those that are done, counted from 1: by rows,
        through the whole input; by files, through the shard.

        done, n_rows (int): How many rows of the shard are done, and how many numbers to return.
        """
        start, step = (self.index, self.count) if self.by == "rows" else (1, 1)
        return range(start + done * step, start + (done + n_rows) * step, step)


def shard_path(folder: Path, shard: Shard, output_format: str) -> Path:
    """Return the output of a shard."""
    return folder / f"{shard.index:05d}-of-{shard.count:05d}.{output_format}"


def errors_path(output: Path) -> Path:
    """Return the file of failed rows of a shard's output."""
    return output.with_name(f"_{output.stem}.errors.jsonl")


def save_counts(output: Path, shard: Shard, progress: Progress) -> None:
    """Write the counts and the fingerprint of a shard beside its output, durably."""
    data = {
        "output": output.name,
        "by": shard.by,
        **{name: getattr(progress, name) for name in COUNTS},
        "fingerprint": progress.fingerprint,
    }
    write_whole(_counts_path(output), json.dumps(data, indent=1).encode())


def load_counts(output: Path) -> dict[str, Any] | None:
    """Return what `save_counts` wrote; None if it wrote nothing, or the output is gone."""
    try:
        data = json.loads(_counts_path(output).read_bytes())
    except (OSError, ValueError):
        return None
    return data if output.is_file() and isinstance(data, dict) else None


def _counts_path(output: Path) -> Path:
    return output.with_name(f"_{output.stem}.json")


def merge(folder: str | Path, *, force: bool = False) -> tuple[Path, dict[str, Any]]:
    """Put the outputs of all shards of a folder into one file, in the order of the input.

    The file is FOLDER.jsonl or FOLDER.parquet; failed rows are in FOLDER.jsonl.errors.jsonl. Rows
    have the numbers that one run over the whole input would have given them.

    folder (str | Path): The folder of the shards. It stays as it is.
    force (bool): Replace a file that exists.
    RETURNS (tuple[Path, dict[str, Any]]): The file, and the counts of all shards together.
    RAISES (ValueError): If a shard is missing, or some have another input, pipeline or settings.
    RAISES (FileExistsError): If the file exists.
    """
    folder = Path(folder)
    shards = _find_shards(folder)
    outputs = [folder / str(shard["output"]) for shard in shards]
    suffix = outputs[0].suffix
    if suffix not in (".jsonl", ".parquet"):
        raise _not_merged(folder, f"{suffix} files, which spaCy reads as one corpus as they are")
    target = folder.resolve().with_name(folder.resolve().name + suffix)
    check_output(target, *outputs)
    if target.exists() and not force:
        raise FileExistsError(Errors.E920.format(output=target))
    # By files, the rows of a shard are counted from its own beginning.
    before, offsets = 0, []
    for shard in shards:
        offsets.append(before if shard["by"] == "files" else 0)
        before += shard["rows"]
    if any(shard["failed"] for shard in shards):
        failed = [errors_path(path) for path in outputs]
        _merge_lines(
            [(path, n) for path, n in zip(failed, offsets, strict=True) if path.exists()],
            beside(target, ".errors.jsonl"),
        )
    pairs = list(zip(outputs, offsets, strict=True))
    (_merge_lines if suffix == ".jsonl" else _merge_parquet)(pairs, target)
    return target, {name: sum(shard[name] for shard in shards) for name in COUNTS}


def _find_shards(folder: Path) -> list[dict[str, Any]]:
    """Return the counts of all shards of a folder, in order."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    counts = {int(match[2]) for match in map(_NAME.fullmatch, names) if match}
    if len(counts) != 1:
        what = f"shards of {sorted(counts)} in all" if counts else "no complete shard"
        raise _not_merged(folder, what)
    (count,) = counts
    shards, missing = [], []
    for index in range(1, count + 1):
        stem = f"{index:05d}-of-{count:05d}"
        paths = [path for path in folder.glob(f"{stem}.*") if path.is_file()]
        shard = load_counts(paths[0]) if len(paths) == 1 else None
        if shard is None:
            missing.append(str(index))
        else:
            shards.append(shard)
    if missing:
        more = ", ..." if len(missing) > 10 else ""
        raise _not_merged(folder, f"no complete shard {', '.join(missing[:10])}{more} of {count}")
    kinds = {json.dumps(_common(shard), sort_keys=True) for shard in shards}
    if len(kinds) > 1:
        raise _not_merged(folder, "shards with another input, pipeline or settings than others")
    return shards


def _common(shard: dict[str, Any]) -> dict[str, Any]:
    fingerprint = dict(shard["fingerprint"])
    settings = {k: v for k, v in fingerprint.pop("settings").items() if k != "shard"}
    return {**fingerprint, **settings, "by": shard["by"]}


def _not_merged(folder: Path, found: str) -> ValueError:
    return ValueError(Errors.E968.format(folder=folder, found=found))


def _merge_lines(sources: Sequence[tuple[Path, int]], target: Path) -> None:
    """Merge files of JSON lines that begin with the number of their row."""
    with open_whole(target) as file:
        for number, rest in heapq.merge(*(_lines(*source) for source in sources)):
            file.write(f'{{"row": {number}{rest}')


def _lines(path: Path, offset: int) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            number, comma, rest = line.removeprefix('{"row": ').partition(",")
            yield int(number) + offset, comma + rest


def _merge_parquet(sources: Sequence[tuple[Path, int]], target: Path) -> None:
    """Merge Parquet files; of each, one batch is in memory."""
    pa = import_pyarrow()
    schema = pa.parquet.read_schema(sources[0][0])
    batches = [_batches(pa, path, offset) for path, offset in sources]
    heads: list[Any] = [next(batch, None) for batch in batches]
    with (
        open_whole(target) as file,
        pa.parquet.ParquetWriter(file.buffer, schema, compression="zstd") as writer,
    ):
        while tables := [head for head in heads if head is not None]:
            # Nothing that is still to come is before the last row of any batch.
            last = min(table["row"][-1].as_py() for table in tables)
            ready = []
            for i, head in enumerate(heads):
                if head is None:
                    continue
                n_rows = int(head["row"].to_numpy().searchsorted(last, side="right"))
                ready.append(head.slice(0, n_rows))
                rest = head.slice(n_rows)
                heads[i] = rest if rest.num_rows else next(batches[i], None)
            writer.write_table(pa.concat_tables(ready).sort_by("row"))


def _batches(pa: Any, path: Path, offset: int) -> Iterator[Any]:
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            numbers = pa.array(table["row"].to_numpy() + offset, pa.int64())
            if table.num_rows:
                yield table.set_column(0, "row", numbers)
