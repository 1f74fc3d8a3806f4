"""`spanrel annotate` on a large input: speed, memory, and a check that killed runs resume correctly.

    python benchmarks/annotate.py [--rows 100000] [--kills 3] [--model PIPELINE] [--output FILE]

The input repeats the texts of the sample corpus, each with a number appended, so that every text
contains a new word. The default pipeline is small: it finds entities by rules, and its
`span_relation` has a tiny untrained encoder. Each run is a separate process. Some runs are killed
(SIGKILL) at random moments and resumed, and their output is compared byte by byte with the output of
an uninterrupted run.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import random
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.training import Example
from speed import fresh_docs, peak_mib
from timing import show, write_rows
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from spacy_spanrel import get_entities
from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.progress import Workplace

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "assets/sample"
FEW_ROWS = 1000
# The number of chunks in a run, chosen so that kills also matter in short runs.
CHUNKS = 100


def sample_texts() -> list[str]:
    """Return the sentences of the sample corpus, and the longer texts of its questions."""
    texts = (SAMPLE / "new.txt").read_text("utf-8").splitlines()
    for name in ("train", "dev", "test"):
        texts += [doc.text.strip() for doc in spert_to_docs(SAMPLE / f"{name}.json")]
        data = json.loads((SAMPLE / f"qa_{name}.json").read_text("utf-8"))["data"]
        texts += [row["context"] for article in data for row in article["paragraphs"]]
    return texts


def write_input(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for i, text in enumerate(islice(cycle(sample_texts()), rows)):
            row = {"id": f"row-{i}", "text": f"{text} Item{i}.", "source": "sample"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def tiny_checkpoint(folder: Path) -> Path:
    """Save a tiny BERT with the ASCII characters and the words of the sample corpus as pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    chars = [char for char in string.printable if not char.isspace()]
    vocabulary = [*special, *chars, *(f"##{char}" for char in chars)]
    words = sorted({word for text in sample_texts() for word in text.split() if word.isalpha()})
    entries = {piece: i for i, piece in enumerate(dict.fromkeys([*vocabulary, *words]))}
    tokenizer = Tokenizer(models.WordPiece(entries, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, entries[name]) for name in ("[CLS]", "[SEP]")],
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    settings = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}
    settings |= {f"{key}_token": value for key, value in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(entries),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def small_pipeline(folder: Path) -> Path:
    """Save a pipeline that finds the names in the sample corpus, and relations between them."""
    nlp = spacy.blank("en")
    gold = list(spert_to_docs(SAMPLE / "train.json", nlp=nlp))
    ruler = nlp.add_pipe("entity_ruler")
    # With bfloat16, torch caches an entry for each new batch shape, which would distort the memory
    # measured for the command.
    encoder = {"name": str(tiny_checkpoint(folder / "checkpoint")), "precision": "float32"}
    config = {"entities": "doc", "relation_threshold": 0.12, "model": {"encoder": encoder}}
    nlp.add_pipe("span_relation", config=config)
    pairs = zip(fresh_docs(nlp, gold), gold, strict=True)
    examples = [Example(doc, reference) for doc, reference in pairs]
    nlp.initialize(lambda: examples)
    names = {(span.text, span.label_) for doc in gold for span in get_entities(doc)}
    ruler.add_patterns([{"label": label, "pattern": text} for text, label in sorted(names)])
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"


@dataclass(frozen=True)
class Run:
    """The settings shared by all runs; a call annotates in a new process."""

    model: Path
    threads: int
    chunk_size: int

    def command(self, source: Path, output: Path) -> list[str]:
        settings = {"model": self.model, "threads": self.threads, "chunk-size": self.chunk_size}
        options = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        return [sys.executable, __file__, *options, "--one", str(source), str(output)]

    def __call__(self, source: Path, output: Path) -> dict[str, Any]:
        """Annotate in a new process."""
        run = subprocess.run(
            self.command(source, output), check=True, capture_output=True, text=True
        )
        result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return result


def one_run(model: Path, source: Path, output: Path, chunk_size: int) -> dict[str, Any]:
    """Annotate in this process."""
    nlp = spacy.load(model)
    loaded = peak_mib()
    start = time.perf_counter()
    report = annotate(nlp, source, output, chunk_size=chunk_size)
    seconds = time.perf_counter() - start
    return {
        "rows": report.rows,
        "resumed_at": report.resumed_at,
        "failed": report.failed,
        "entities": report.entities,
        "relations": report.relations,
        "seconds": round(seconds, 1),
        "rows_per_s": round((report.rows - report.resumed_at) / seconds),
        "peak_mib": round(peak_mib()),
        "peak_mib_loaded": round(loaded),
    }


def kill_runs(
    run: Run, source: Path, output: Path, seconds: float, kills: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Start runs and kill each at a random moment."""
    moments = random.Random(seed)
    progress = Workplace(output).progress_path
    for number in range(1, kills + 1):
        process = subprocess.Popen(run.command(source, output), stdout=subprocess.DEVNULL)
        seen = progress.stat().st_mtime_ns if progress.exists() else None
        # Wait for the first commit, before which there is nothing to lose.
        while process.poll() is None and (
            not progress.exists() or progress.stat().st_mtime_ns == seen
        ):
            time.sleep(0.01)
        delay = moments.uniform(0.1, 0.9) * seconds / (kills + 1)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        ended = process.wait() != -signal.SIGKILL
        yield {
            "what": f"kill {number}",
            "after_s": round(delay, 2),
            "rows_committed": "the run had ended"
            if ended
            else json.loads(progress.read_text())["rows"],
        }
        if ended:
            return


def measure(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    model = args.model or small_pipeline(folder)
    few = write_input(folder / "few.jsonl", min(FEW_ROWS, args.rows))
    many = write_input(folder / "many.jsonl", args.rows)
    size = many.stat().st_size / 2**20
    run = Run(model, args.threads, args.chunk_size or max(10, args.rows // CHUNKS))
    print(
        f"{args.rows} rows, {size:.1f} MiB, chunks of {run.chunk_size}; {args.threads} threads, "
        f"torch {torch.__version__}"
    )
    first = run(few, folder / "few_annotated.jsonl")
    yield {"what": "few rows", **first}
    whole = folder / "whole.jsonl"
    result = run(many, whole)
    yield {"what": "all rows", **result}
    yield {
        "what": "memory",
        "more_mib": result["peak_mib"] - first["peak_mib"],
        "ratio": round(result["peak_mib"] / first["peak_mib"], 3),
        "output_mib": round(whole.stat().st_size / 2**20, 1),
    }
    output = folder / "killed.jsonl"
    yield from kill_runs(run, many, output, result["seconds"], args.kills, args.seed)
    if not output.exists():
        yield {"what": "the rest", **run(many, output)}
    same = filecmp.cmp(whole, output, shallow=False)
    yield {"what": "killed runs", "equal_bytes": same}
    if not same:
        raise SystemExit("The output of the killed runs differs.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed for the moments of the kills"
    )
    parser.add_argument("--model", type=Path, help="pipeline to use instead of the small one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON Lines file for the results")
    parser.add_argument(
        "--chunk-size", type=int, help="rows per chunk (default: a hundredth of all rows)"
    )
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(one_run(args.model, *args.one, args.chunk_size)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(args, Path(folder)):
            show(row)
            rows.append(row)
    if args.output:
        write_rows(args.output, rows)


if __name__ == "__main__":
    main()
