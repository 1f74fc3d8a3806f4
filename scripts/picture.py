"""Draw the entities and relations that a pipeline finds in a sentence, as SVG.

python scripts/picture.py training/sample/model-last "A sentence ." docs/images/relations.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import spacy
from spacy import displacy
from spacy.tokens import Doc


def arcs_and_words(doc: Doc) -> dict[str, Any]:
    """Entities with their types below, the text between them in one piece, relations as arcs."""
    starts = {span.start: span for span in doc.ents}
    words: list[dict[str, str]] = []
    place: dict[int, int] = {}
    i = 0
    while i < len(doc):
        span = starts.get(i)
        end = span.end if span else min((s for s in starts if s > i), default=len(doc))
        place[i] = len(words)
        words.append({"text": doc[i:end].text, "tag": span.label_ if span else ""})
        i = end
    arcs = []
    for relation in doc._.relations:
        head, tail = place[relation.head.start], place[relation.tail.start]
        start, end = sorted((head, tail))
        # The arrow points at the tail.
        arcs.append(
            {
                "start": start,
                "end": end,
                "label": f"{relation.label} {relation.score:.2f}",
                "dir": "right" if head < tail else "left",
            }
        )
    return {"words": words, "arcs": arcs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    doc = spacy.load(args.model)(args.text)
    svg = displacy.render(
        arcs_and_words(doc),
        style="dep",
        manual=True,
        options={"distance": 150, "compact": False, "bg": "#ffffff", "font": "Arial"},
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(svg, encoding="utf8")


if __name__ == "__main__":
    main()
