"""Print the entities and relations that a trained pipeline predicts for texts, with their scores.

    python scripts/show.py training/sample/model-best assets/sample/new.txt
    python scripts/show.py training/sample/model-best "Ann Lee of Oslo works for Fjord Bank."
    python scripts/show.py training/sample_pairs/model-best assets/sample/new.txt \\
        --component relation_classifier --entities-from training/sample/model-best

Each line of an argument that is a file is a text; any other argument is a text itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import spacy
from spacy.tokens import Doc, Span
from wasabi import msg

from spacy_spanrel.annotations import ENTITIES_KEY, get_entities, get_entity_scores, get_relations

SPANS_KEY, RELATIONS_KEY = "spans_key", "relations_key"


def read_texts(arguments: Iterable[str]) -> Iterator[str]:
    """Yield the lines of arguments that are files, and all other arguments as they are."""
    for argument in arguments:
        # A long text is not a path, and some systems refuse to look for one.
        path = Path(argument) if len(argument) < 256 else None
        if path is not None and path.is_file():
            lines = path.read_text(encoding="utf8").splitlines()
            yield from (line.strip() for line in lines if line.strip())
        elif path is not None and path.suffix == ".txt":
            msg.fail(f"There is no file {path}", exits=1)
        else:
            yield argument


def entity_rows(doc: Doc, spans_key: str) -> list[tuple[str, str, str]]:
    """Return text, type and score of each entity, in the order of the text."""
    scored = zip(get_entities(doc, spans_key), get_entity_scores(doc, spans_key), strict=True)
    ordered = sorted(scored, key=lambda pair: (pair[0].start, pair[0].end))
    return [(span.text, span.label_, show(score)) for span, score in ordered]


def relation_rows(doc: Doc, relations_key: str) -> list[tuple[str, str, str, str]]:
    """Return head, label, tail and score of each relation, in the order of the text."""

    def place(span: Span) -> tuple[int, int]:
        return (span.start, span.end)

    relations = sorted(
        get_relations(doc, relations_key), key=lambda r: (place(r.head), place(r.tail), r.label)
    )
    return [(r.head.text, r.label, r.tail.text, show(r.score)) for r in relations]


def show(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print the entities and relations that a trained pipeline predicts for texts."
    )
    parser.add_argument("model", help="name or folder of a trained pipeline")
    parser.add_argument(
        "texts", nargs="+", metavar="TEXT|FILE", help="texts, or files with a text a line"
    )
    parser.add_argument("--component", default="span_relation", help="(default: %(default)s)")
    parser.add_argument(
        "--entities-from",
        metavar="MODEL",
        help="pipeline that predicts the entities first",
    )
    args = parser.parse_args()
    nlp = spacy.load(args.model)
    if args.component not in nlp.pipe_names:
        msg.fail(
            f"{args.model} has no component {args.component!r}, but: {', '.join(nlp.pipe_names)}",
            exits=1,
        )
    if args.entities_from is not None:
        # With what it reads, such as a sentencizer.
        finder = spacy.load(args.entities_from)
        for name in reversed(finder.pipe_names):
            nlp.add_pipe(name, source=finder, first=True)
    cfg = nlp.get_pipe(args.component).cfg
    for number, doc in enumerate(nlp.pipe(read_texts(args.texts)), start=1):
        msg.divider(f"Text {number}")
        print(doc.text)
        entities = entity_rows(doc, cfg.get(SPANS_KEY, ENTITIES_KEY))
        relations = relation_rows(doc, cfg[RELATIONS_KEY])
        if entities:
            msg.table(entities, header=("Entity", "Type", "Score"), divider=True)
        if relations:
            msg.table(relations, header=("Head", "Relation", "Tail", "Score"), divider=True)
        if not relations:
            print("No relation found." if entities else "Nothing found.")


if __name__ == "__main__":
    main()
