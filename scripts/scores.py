"""Print the scores of entities and relations that `spacy evaluate --output` wrote.

`spacy evaluate` prints the entities' scores only.

    python scripts/scores.py metrics/sample.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import srsly
from wasabi import msg

# Title and prefix of the names in the file.
KINDS = (
    ("Entities", "ents"),
    ("Relations (label, both spans)", "rel"),
    ("Relations (and both entity types)", "rel_strict"),
)
HEADER = ("", "P", "R", "F")
# Questions: title and middle of the names in the file.
QUESTIONS = (
    ("all", ""),
    ("with an answer", "has_ans_"),
    ("without an answer", "no_ans_"),
    ("best threshold", "best_"),
)


def score_rows(scores: dict[str, Any], prefix: str) -> list[tuple[str, ...]]:
    """Return rows of label, precision, recall and F1; the micro average is the last one."""
    per_type = scores.get(f"{prefix}_per_type") or {}
    rows = [(label, *(percent(found[key]) for key in "prf")) for label, found in per_type.items()]
    rows.sort()
    rows.append(("all (micro)", *(percent(scores.get(f"{prefix}_{key}")) for key in "prf")))
    return rows


def percent(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print scores of entities and relations.")
    parser.add_argument("metrics", type=Path, help="JSON file of `spacy evaluate --output`")
    args = parser.parse_args()
    if not args.metrics.is_file():
        msg.fail(f"There is no file {args.metrics}", exits=1)
    scores = srsly.read_json(args.metrics)
    for title, prefix in KINDS:
        if f"{prefix}_f" in scores:
            msg.divider(title)
            rows = score_rows(scores, prefix)
            msg.table(rows, header=HEADER, divider=True, aligns=("l", "r", "r", "r"))
    if "qa_f1" in scores:
        msg.divider("Questions")
        rows = [
            (title, *(percent(scores.get(f"qa_{middle}{key}")) for key in ("exact", "f1")))
            for title, middle in QUESTIONS
        ]
        msg.table(rows, header=("", "Exact", "F1"), divider=True, aligns=("l", "r", "r"))


if __name__ == "__main__":
    main()
