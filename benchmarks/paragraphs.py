"""Scores of relations in paragraphs: joined sentences by their number, and raw texts.

    python benchmarks/paragraphs.py training/sample/model-best --data assets/sample
    python benchmarks/paragraphs.py MODEL --data ../shared/data/conll04 --sentencizer --set scope=sentence
    python benchmarks/paragraphs.py training/sample/model-best --raw assets/sample/paragraphs_test
    python benchmarks/paragraphs.py --plot docs/images/paragraphs.svg --output docs/results/paragraphs.jsonl

The test sentences of a corpus are joined at random to Docs of 1, 2, 3, 5 and 10 sentences, in several
shufflings, and a saved pipeline is scored on them: what training on single sentences is worth on
longer texts. With `--borders` the Docs come with the sentence borders of the corpus, otherwise only
components of the pipeline (`--sentencizer` adds one) can set them. Sentences that were joined have
nothing to do with each other, so every relation across them counts as wrong.

With `--raw` the pipeline reads raw texts with brat's annotation, and tokenizes them itself. Relations
whose argument is a pronoun or a nominal mention, which can be found through coreference only, count as
missed; the recall of the others stands beside.

`relation_classifier` gets the gold entities. Rows are appended to `--output` as JSON lines; `--plot`
draws those of joined sentences.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from timing import write_rows

from spacy_spanrel.converters.brat import brat_to_docs
from spacy_spanrel.converters.spert import spert_to_docs
from spacy_spanrel.scoring.relations import ComparableDoc, score_relations
from spacy_spanrel.training.corpus import read_docs
from spacy_spanrel.training.joining import join_docs

SCORES = ("rel_strict_p", "rel_strict_r", "rel_strict_f", "rel_f", "ents_f")
COMPONENTS = ("span_relation", "relation_classifier")
# As in configs/span_relation_minilm.cfg.
SENTENCE_ENDS = [".", "!", "?", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n"]
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


def unannotated(gold: Doc, borders: bool) -> Doc:
    """Make a Doc with the tokens of another and, on request, its sentence borders."""
    starts: list[bool | None] = [None] * len(gold)
    if borders:
        starts = [token.i == 0 or token.is_sent_start is True for token in gold]
    spaces = [bool(token.whitespace_) for token in gold]
    return Doc(gold.vocab, [token.text for token in gold], spaces, sent_starts=starts)


def score(nlp: Language, docs: Iterable[Doc], golds: Iterable[Doc]) -> Row:
    """Read Docs, and score entities and relations in percent; `relation_classifier` gets the gold
    entities."""
    examples = []
    for doc, gold in zip(docs, golds, strict=True):
        if "relation_classifier" in nlp.pipe_names:
            entities = [doc.char_span(e.start_char, e.end_char, e.label_) for e in gold.ents]
            doc.set_ents([entity for entity in entities if entity is not None])
        examples.append(Example(nlp(doc), gold))
    scores = score_relations(examples)
    return {key: 100 * (scores[key] or 0.0) for key in SCORES}


def score_raw(nlp: Language, golds: Sequence[Doc]) -> Row:
    """Score a pipeline on raw texts: as `score`, with the numbers of predicted relations, and of gold
    relations between names and how many of them are found."""
    docs = [nlp.make_doc(gold.text) for gold in golds]
    row: Row = {"texts": len(docs), **score(nlp, docs, golds)}
    counts = {"predicted": 0, "relations": 0, "between_names": 0, "between_names_found": 0}
    for doc, gold in zip(docs, golds, strict=True):
        # An argument that is no entity is a mention of a cluster.
        names = {(entity.start, entity.end) for entity in gold.ents}
        predicted = {relation.strict for relation in ComparableDoc(doc).relations()}
        relations = ComparableDoc(gold).relations()
        between = [
            strict
            for relation, _, strict in relations
            if {(s.start, s.end) for s in (relation.head, relation.tail)} <= names
        ]
        counts["predicted"] += len(predicted)
        counts["relations"] += len(relations)
        counts["between_names"] += len(between)
        counts["between_names_found"] += len(predicted.intersection(between))
    return {**row, **counts}


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


def raw_table(rows: Iterable[Row]) -> str:
    """Return a Markdown table of scores on raw texts."""
    lines = [
        "| texts | strict P | strict R | strict F1 | R between names | relations "
        "(through a mention) | entities F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        names = row["between_names"]
        cells = [f"{row[key]:.1f}" for key in ("rel_strict_p", "rel_strict_r", "rel_strict_f")]
        cells.append(f"{100 * row['between_names_found'] / max(1, names):.1f}")
        cells.append(f"{row['relations']} ({row['relations'] - names})")
        lines.append(f"| {row['data']} | {' | '.join(cells)} | {row['ents_f']:.1f} |")
    return "\n".join(lines)


def plot(rows: Iterable[Row]) -> str:
    """Draw the strict F1 of each model by the number of sentences, as SVG."""
    curves: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if "sentences" in row and row["part"] == "test":
            curve = curves.setdefault(row["model"], {})
            curve.setdefault(row["sentences"], []).append(row["rel_strict_f"])
    left, top, width, height, lowest = 50, 20, 400, 260, 30
    lengths = sorted({length for curve in curves.values() for length in curve})

    def x(length: int) -> float:
        return left + width * lengths.index(length) / max(1, len(lengths) - 1)

    def y(value: float) -> float:
        return top + height * (1 - (value - lowest) / (100 - lowest))

    total = top + height + 50 + 20 * len(curves)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {total}" '
        'font-family="sans-serif" font-size="12" role="img">',
        "<title>Strict relation F1 by the number of sentences in a text</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for value in range(lowest, 101, 10):
        svg.append(
            f'<path d="M{left} {y(value):.1f}h{width}" stroke="#d8dee4"/>'
            f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>'
        )
    for length in lengths:
        svg.append(
            f'<text x="{x(length):.1f}" y="{top + height + 18}" text-anchor="middle">{length}</text>'
        )
    svg.append(
        f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">'
        "sentences in a text</text>"
    )
    for i, (name, curve) in enumerate(curves.items()):
        colour = ("#0550ae", "#cf222e", "#116329", "#8250df", "#953800")[i % 5]
        dash = ' stroke-dasharray="5 3"' if "before" in name else ""
        points = [(x(k), y(statistics.mean(values))) for k, values in sorted(curve.items())]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        key = top + height + 58 + 20 * i
        svg.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<path d="M{left} {key - 4}h30" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{left + 38}" y="{key}">{escape(name)}</text>'
        )
    return "\n".join([*svg, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", help="a saved pipeline that finds relations")
    parser.add_argument("--data", type=Path, default=Path("assets/sample"))
    parser.add_argument("--part", default="test")
    parser.add_argument(
        "--raw", type=Path, nargs="+", help="folders of raw texts, instead of --data"
    )
    parser.add_argument("--lengths", nargs="+", type=int, default=[1, 2, 3, 5, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--borders", action="store_true", help="give the corpus's sentence borders")
    parser.add_argument("--sentencizer", action="store_true", help="put a sentencizer in front")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--name", help="of the rows; the model's path if not given")
    parser.add_argument("--output", type=Path, default=Path("metrics/paragraphs.jsonl"))
    parser.add_argument("--plot", type=Path, help="draw the rows of --output to this SVG file")
    args = parser.parse_args()
    if args.plot:
        lines = args.output.read_text(encoding="utf-8").splitlines()
        args.plot.write_text(plot(map(json.loads, lines)), encoding="utf-8")
        return
    if args.model is None:
        parser.error("name a model, or --plot")
    nlp = spacy.load(args.model)
    if args.sentencizer:
        nlp.add_pipe("sentencizer", first=True, config={"punct_chars": SENTENCE_ENDS})
    pipe = next(nlp.get_pipe(name) for name in COMPONENTS if name in nlp.pipe_names)
    for setting in args.set:
        name, _, value = setting.partition("=")
        pipe.cfg[name] = json.loads(value) if value[:1] in '[{"0123456789ntf' else value
    options = {
        "model": args.name or args.model,
        "borders": args.borders,
        "sentencizer": args.sentencizer,
        "settings": args.set,
    }
    rows = []
    if args.raw:
        for folder in args.raw:
            types = folder.parent / "types.json"
            golds = list(brat_to_docs(folder, types=types, coref="Coref", nlp=nlp))
            rows.append({**options, "data": str(folder), **score_raw(nlp, golds)})
        print(raw_table(rows))
    else:
        docs = gold_docs(args.data, args.part, nlp)
        for length in args.lengths:
            for seed in args.seeds[: 1 if length == 1 else None]:
                golds = make_paragraphs(docs, length, seed)
                scores = score(nlp, [unannotated(gold, args.borders) for gold in golds], golds)
                of_corpus = {"data": str(args.data), "part": args.part}
                rows.append({**options, **of_corpus, "sentences": length, "seed": seed, **scores})
        print(table(rows))
    write_rows(args.output, rows, "a")


if __name__ == "__main__":
    main()
