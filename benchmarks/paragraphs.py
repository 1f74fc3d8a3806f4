"""Scores of `span_relation` on paragraphs, by their number of sentences.

    python benchmarks/paragraphs.py training/sample/model-best --data assets/sample
    python benchmarks/paragraphs.py MODEL --data ../shared/data/conll04 --sentencizer --set scope=sentence

The test sentences of a corpus are joined at random to Docs of 1, 2, 3, 5 and 10 sentences, in several
shufflings, and a saved pipeline is scored on them: what training on single sentences is worth on
longer texts. With `--borders` the Docs come with the sentence borders of the corpus, otherwise only
components of the pipeline (`--sentencizer` adds one) can set them. Sentences that were joined have
nothing to do with each other, so every relation across them counts as wrong. Rows are appended to
`--output` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from timing import write_rows

from spacy_spanrel.converters.spert import spert_to_docs
from spacy_spanrel.training.corpus import read_docs
from spacy_spanrel.training.joining import join_docs

SCORES = ("rel_strict_p", "rel_strict_r", "rel_strict_f", "rel_f", "ents_f")
Row = dict[str, Any]


def gold_docs(path: Path, part: str, nlp: Language) -> list[Doc]:
    """Read a part of a corpus in SpERT's JSON, or a .spacy file."""
    if path.suffix == ".spacy":
        return list(read_docs(path, nlp.vocab))
    types = path / "types.json"
    return list(spert_to_docs(path / f"{part}.json", nlp=nlp, types=types))


def make_paragraphs(docs: Sequence[Doc], length: int, seed: int) -> list[Doc]:
    """Join Docs at random to Docs of `length` (the last one may be shorter)."""
    shuffled = list(docs)
    random.Random(seed).shuffle(shuffled)
    return [join_docs(shuffled[i : i + length]) for i in range(0, len(shuffled), length)]


def as_examples(golds: Iterable[Doc], borders: bool) -> list[Example]:
    """Make Examples whose predicted Docs have the tokens and, on request, the sentence borders."""
    examples = []
    for gold in golds:
        spaces = [bool(token.whitespace_) for token in gold]
        starts: list[bool | None] = [None] * len(gold)
        if borders:
            starts = [token.i == 0 or token.is_sent_start is True for token in gold]
        predicted = Doc(gold.vocab, [t.text for t in gold], spaces, sent_starts=starts)
        examples.append(Example(predicted, gold))
    return examples


def score(nlp: Language, examples: Sequence[Example]) -> dict[str, float]:
    """Score a pipeline in percent."""
    scores = nlp.evaluate(examples)
    return {key: 100 * scores[key] for key in SCORES}


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of means and standard deviations over shufflings."""
    lines = [
        "| sentences | strict P | strict R | strict F1 | entities F1 |",
        "|---|---|---|---|---|",
    ]
    for length in dict.fromkeys(row["sentences"] for row in rows):
        group = [row for row in rows if row["sentences"] == length]
        cells = []
        for key in ("rel_strict_p", "rel_strict_r", "rel_strict_f", "ents_f"):
            values = [row[key] for row in group]
            cells.append(f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}")
        lines.append(f"| {length} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a saved pipeline with span_relation")
    parser.add_argument("--data", type=Path, default=Path("assets/sample"))
    parser.add_argument("--part", default="test")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 2, 3, 5, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--borders", action="store_true", help="give the corpus's sentence borders")
    parser.add_argument("--sentencizer", action="store_true", help="put a sentencizer in front")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--name", help="of the rows; the model's path if not given")
    parser.add_argument("--output", type=Path, default=Path("metrics/paragraphs.jsonl"))
    args = parser.parse_args()
    nlp = spacy.load(args.model)
    if args.sentencizer:
        nlp.add_pipe("sentencizer", first=True)
    pipe = nlp.get_pipe("span_relation")
    for setting in args.set:
        name, _, value = setting.partition("=")
        pipe.cfg[name] = json.loads(value) if value[:1] in '[{"0123456789ntf' else value
    docs = gold_docs(args.data, args.part, nlp)
    rows = []
    for length in args.lengths:
        for seed in args.seeds[: 1 if length == 1 else None]:
            paragraphs = make_paragraphs(docs, length, seed)
            rows.append(
                {
                    "model": args.name or args.model,
                    "data": str(args.data),
                    "part": args.part,
                    "borders": args.borders,
                    "sentencizer": args.sentencizer,
                    "settings": args.set,
                    "sentences": length,
                    "seed": seed,
                    **score(nlp, as_examples(paragraphs, args.borders)),
                }
            )
    write_rows(args.output, rows, "a")
    print(table(rows))


if __name__ == "__main__":
    main()
