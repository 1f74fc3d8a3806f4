"""Train `relation_classifier` with described labels on the sample corpus, and use it for other relations.

    python scripts/described.py

It learns the five relations of `assets/sample`, which takes some minutes, and is saved in
`training/described`. Then it gets relations that are not in the corpus, by their descriptions alone, and
reads sentences about them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import spacy
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.converters.negatives import add_negatives

ROOT = Path(__file__).parents[1]
SAMPLE, OUTPUT = ROOT / "assets" / "sample", ROOT / "training" / "described"
DESCRIPTIONS = {
    "Work_For": [
        "{head:person} works for {tail:organization}.",
        "{head:person} is a member, the director or the spokesman of {tail:organization}.",
    ],
    "Live_In": [
        "{head:person} lives in {tail:place}.",
        "{head:person} was born in {tail:place} or is at home there.",
    ],
    "OrgBased_In": [
        "{head:organization} has its seat in {tail:place}.",
        "{head:organization} is based in {tail:place}.",
    ],
    "Located_In": ["{head:place} lies in {tail:place}.", "{tail:place} contains {head:place}."],
    "Kill": ["{head:murderer} killed {tail:victim}.", "{tail:victim} was shot by {head:murderer}."],
}
# Not in the corpus.
NEW = {
    "Married_To": (
        [
            "{head:person} is married to {tail:person}.",
            "{tail:person} is the husband or wife of {head:person}.",
        ],
        ("Peop", "Peop"),
    ),
    "Founded": (
        [
            "{head:person} founded {tail:organization}.",
            "{tail:organization} was started by {head:person}.",
        ],
        ("Peop", "Org"),
    ),
    "Owns": (
        [
            "{head:organization} has bought {tail:organization}.",
            "{tail:organization} belongs to {head:organization}.",
        ],
        ("Org", "Org"),
    ),
}
# Entities in brackets.
TEXTS = [
    "[Jutta Brandt|Peop] married the painter [Karl Weir|Peop] in the spring .",
    "[Weir & Sons|Org] was started by [Karl Weir|Peop] with two horses and a cart .",
    "Last year [Harbour Mills|Org] took over its rival [Weir & Sons|Org] .",
    "[Jutta Brandt|Peop] had lunch with [Odo Falk|Peop] , who sells bread .",
]


def read_text(nlp: Language, text: str) -> Doc:
    """Make a Doc of a text with entities in brackets."""
    words: list[str] = []
    entities: list[tuple[int, int, str]] = []
    for part in text.replace("[", "]").split("]"):
        name, _, kind = part.partition("|")
        if kind:
            entities.append((len(words), len(words) + len(name.split()), kind))
        words += name.split()
    doc = Doc(nlp.vocab, words=words)
    doc.set_ents([Span(doc, start, end, label=kind) for start, end, kind in entities])
    return doc


def prepare() -> None:
    """Convert the corpus, with pairs that are not related."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev"):
        docs = list(spert_to_docs(SAMPLE / f"{name}.json", types=SAMPLE / "types.json"))
        for doc in docs:
            add_negatives(doc, "no_relation")
        if name == "dev":
            docs = docs[:20]  # to see that it learns
        DocBin(docs=docs).to_disk(OUTPUT / f"{name}.spacy")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    if not (OUTPUT / "model-last").exists():
        prepare()
        rows = [[label, text] for label, texts in DESCRIPTIONS.items() for text in texts]
        steps = args.epochs * 24
        train(
            ROOT / "configs" / "relation_classifier_described.cfg",
            OUTPUT,
            overrides={
                "paths.train": str(OUTPUT / "train.spacy"),
                "paths.dev": str(OUTPUT / "dev.spacy"),
                "components.relation_classifier.descriptions": rows,
                "components.relation_classifier.max_negatives": 1,
                "schedule.batch_size": 16,
                "schedule.epochs": args.epochs,
                "schedule.total_steps": steps,
                "schedule.warmup_steps": steps // 10,
                "training.eval_frequency": steps,
            },
        )
    nlp = spacy.load(OUTPUT / "model-last")
    pipe = nlp.get_pipe("relation_classifier")
    for label, (descriptions, types) in NEW.items():
        pipe.add_label(label, description=descriptions, types=[types])
    pipe.cfg["symmetric"] = ["Married_To"]
    for text in TEXTS:
        doc = nlp(read_text(nlp, text))
        print(doc.text)
        for r in doc._.relations:
            print(f"    {r.head} -- {r.label} -> {r.tail} ({r.score:.2f})")


if __name__ == "__main__":
    main()
