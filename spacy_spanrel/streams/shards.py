"""Divide an input among runs that know nothing of each other, and put their outputs together again.

Each run is a shard: number 3 of 16, say. All of them write into one folder::

    00003-of-00016.jsonl            the output of the shard, once it is complete (or .jsonl.gz, .parquet ...)
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
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ..errors import Errors
from ..files import check_output, open_whole, write_whole
from ..reading import argument_error
from .inputs import InputFile
from .progress import COUNTS, Progress, difference
from .rows import ERROR_KEYS
from .schema import import_pyarrow
from .storage import ENDING, Address, Output, beside, is_address, local_path
from .writers import compress, compression

ShardBy = Literal["rows", "files"]
ERRORS_ENDING = ".errors.jsonl"

_NAME = re.compile(r"_(\d{5})-of-(\d{5})\.json")
# The rows of a shard that are held at once when Parquet is merged, and of a block of merged lines.
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


def shard_path(folder: Output, shard: Shard, output_format: str) -> Output:
    """Return the output of a shard."""
    return folder / f"{shard.index:05d}-of-{shard.count:05d}.{output_format}"


def errors_path(output: Output) -> Output:
    """Return the file of failed rows of a shard's output."""
    return output.with_name(f"_{_stem(output.name)[0]}{ERRORS_ENDING}")


def check_errors_file(path: Output) -> None:
    """Refuse to replace a file that has the name of our file of errors, but is none.

    RAISES (FileExistsError): If it is something else.
    """
    try:
        if isinstance(path, Path) and path.is_symlink():
            raise ValueError("a symbolic link")
        with path.open("rb") as file:
            line = file.readline()
        if line and not set(json.loads(line)) >= ERROR_KEYS:
            raise ValueError("other lines")
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise FileExistsError(Errors.E955.format(path=path, found=str(error))) from error


def _stem(name: str) -> tuple[str, str]:
    """Divide the name of a shard's output into that of the shard and the suffix, such as ".jsonl.gz"."""
    stem, dot, suffix = name.partition(".")
    return stem, dot + suffix


def save_counts(output: Output, shard: Shard, progress: Progress) -> None:
    """Write the counts and the fingerprint of a shard beside its output, durably."""
    data = {
        "output": output.name,
        "by": shard.by,
        **{name: getattr(progress, name) for name in COUNTS},
        "fingerprint": progress.fingerprint,
    }
    path, content = _counts_path(output), json.dumps(data, indent=1).encode()
    if isinstance(path, Path):
        write_whole(path, content)
    else:
        path.write(content)


def load_counts(output: Output) -> dict[str, Any] | None:
    """Return what `save_counts` wrote; None if it wrote nothing, or the output is gone."""
    try:
        data = json.loads(_counts_path(output).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return data if output.is_file() and isinstance(data, dict) else None


def _counts_path(output: Output) -> Output:
    return output.with_name(f"_{_stem(output.name)[0]}.json")


def merge(
    folder: str | Path, *, force: bool = False, work: str | Path = "."
) -> tuple[Output, dict[str, Any]]:
    """Put the outputs of all shards of a folder into one file, in the order of the input.

    The file is FOLDER.jsonl (.gz, .zst) or FOLDER.parquet; failed rows are in FOLDER.jsonl.errors.jsonl.
    Rows have the numbers that one run over the whole input would have given them.

    folder (str | Path): The folder of the shards, or its address. It stays as it is.
    force (bool): Replace a file that exists.
    work (str | Path): For an address, the folder of this machine in which there is room for a copy of
        the shards and for the merged file.
    RETURNS (tuple[Output, dict[str, Any]]): The file, and the counts of all shards together.
    RAISES (ValueError): If a shard is missing, or some have another input, pipeline or settings.
    RAISES (FileExistsError): If the file exists, or its file of failed rows is something else.
    """
    folder = local_path(folder)
    place: Output = Address.parse(str(folder)) if is_address(folder) else Path(folder).resolve()
    shards = _find_shards(place)
    suffix = _stem(shards[0]["output"])[1]
    if suffix == ".spacy":
        raise _not_merged(place, ".spacy files, which spaCy reads as one corpus as they are")
    target = beside(place, suffix)
    if isinstance(target, Path):
        check_output(target, str(place))
    if target.exists() and not force:
        raise FileExistsError(Errors.E920.format(output=target))
    check_errors_file(beside(target, ERRORS_ENDING))
    if isinstance(place, Path):
        _merge_files(shards, place, beside(place, suffix))
    else:
        _merge_copies(shards, place, beside(place, suffix), Path(work))
    counts = {name: sum(shard[name] for shard in shards) for name in COUNTS}
    if not counts["failed"]:
        beside(target, ERRORS_ENDING).unlink(missing_ok=True)  # of an earlier merge
    return target, counts


def _merge_copies(
    shards: Sequence[dict[str, Any]], folder: Address, target: Address, work: Path
) -> None:
    """Merge the shards of a storage: copy them, and upload what was merged."""
    names = [shard["output"] for shard in shards]
    failed = [errors_path(folder / shard["output"]).name for shard in shards if shard["failed"]]
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix=".spanrel-") as temporary:
        copies, merged = Path(temporary, "shards"), Path(temporary, target.name)
        folder.fetch([*names, *failed], copies)
        _merge_files(shards, copies, merged)
        if failed:
            beside(target, ERRORS_ENDING).write(beside(merged, ERRORS_ENDING))
        target.write(merged)


def _merge_files(shards: Sequence[dict[str, Any]], folder: Path, target: Path) -> None:
    """Merge the shards that are in a folder of this machine.

    shards (Sequence[dict[str, Any]]): The counts of all shards, in order.
    folder, target (Path): The folder, and the file to be written.
    """
    outputs = [folder / str(shard["output"]) for shard in shards]
    # By files, the rows of a shard are counted from its own beginning.
    before, offsets = 0, []
    for shard in shards:
        offsets.append(before if shard["by"] == "files" else 0)
        before += shard["rows"]
    if any(shard["failed"] for shard in shards):
        failed = [folder / errors_path(path).name for path in outputs]
        _merge_lines(
            [(path, n) for path, n in zip(failed, offsets, strict=True) if path.exists()],
            beside(target, ERRORS_ENDING),
        )
    pairs = list(zip(outputs, offsets, strict=True))
    (_merge_parquet if target.suffix == ".parquet" else _merge_lines)(pairs, target)


def _find_shards(folder: Output) -> list[dict[str, Any]]:
    """Return the counts of all shards of a folder, in order."""
    if not folder.is_dir():
        raise _not_merged(folder, "a file" if folder.exists() else "no such folder")
    names = sorted(path.name for path in folder.iterdir())
    counts = {int(match[2]) for match in map(_NAME.fullmatch, names) if match}
    if len(counts) != 1:
        divisions = " and ".join(f"K/{count}" for count in sorted(counts))
        what = f"shards {divisions}" if counts else "no complete shard"
        raise _not_merged(folder, what)
    (count,) = counts
    shards, missing = [], []
    for index in range(1, count + 1):
        stem = f"{index:05d}-of-{count:05d}"
        outputs = [n for n in names if _stem(n)[0] == stem and not n.endswith(ENDING)]
        found = [load_counts(folder / output) for output in outputs]
        # An output of another format may be left of an earlier run: the counts name theirs.
        complete = [
            shard for shard, n in zip(found, outputs, strict=True) if shard and shard["output"] == n
        ]
        shards += complete
        if not complete:
            missing.append(str(index))
    if missing:
        more = ", ..." if len(missing) > 10 else ""
        raise _not_merged(folder, f"no complete shard {', '.join(missing[:10])}{more} of {count}")
    first = _common(shards[0])
    for index, shard in enumerate(shards[1:], start=2):
        if changed := difference(first, _common(shard), f"in shard {index}"):
            raise _not_merged(folder, f"in shard 1, {changed}")
    return shards


def _common(shard: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of a shard without its number."""
    settings = {**shard["fingerprint"]["settings"], "shard-by": shard["by"]}
    del settings["shard"]
    return {**shard["fingerprint"], "settings": settings}


def _not_merged(folder: Output, found: str) -> ValueError:
    return ValueError(Errors.E968.format(folder=folder, found=found))


def _merge_lines(sources: Sequence[tuple[Path, int]], target: Path) -> None:
    """Merge files of JSON lines that begin with the number of their row."""
    merged = heapq.merge(*(_lines(*source) for source in sources))
    lines = (f'{{"row": {number}{rest}' for number, rest in merged)
    with open_whole(target) as file:
        while block := "".join(islice(lines, _BATCH_ROWS)):
            file.buffer.write(compress(block.encode(), compression(target)))


def _lines(path: Path, offset: int) -> Iterator[tuple[int, str]]:
    with InputFile(str(path), path.name, 0, "").open() as (_, data):
        for line in TextIOWrapper(data, encoding="utf-8", newline="\n"):
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
