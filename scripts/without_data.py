"""From no annotated relation to a trained pipeline, on the sample corpus.

    python scripts/without_data.py

The five relations of `assets/sample` are described in words (`assets/sample/relations.yaml`). The reader that
`make demo` trains (`--reader`: any other) is asked about the entities of the training sentences. Of the
sentences with doubtful answers, twenty are corrected (the gold annotation stands in for a person), and a
`relation_classifier` with described labels is trained on them. It reads the other sentences, and the twenty
are corrected of which it is least sure, and so on. After each step, the relations between the entities of the
test sentences are scored. Nothing else of the annotated relations is used.

Files are written to `training/without_data`. docs/without-data.md walks through it step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import spacy
import srsly
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.cli import pre_annotate
from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.converters.negatives import add_negatives
from spacy_spanrel.streams.review import ReviewSettings, review

ROOT = Path(__file__).parents[1]
SAMPLE, OUTPUT = ROOT / "assets" / "sample", ROOT / "training" / "without_data"
RELATIONS = SAMPLE / "relations.yaml"
NEGATIVE = "no_relation"
# Sentences that a person corrects at a time.
AT_ONCE = 20
# Between these scores, an answer of the reader and a prediction are doubtful.
LOW, HIGH = 0.05, 0.95
BATCH, LEAST_STEPS = 8, 30
Fact = tuple[int, int, str, int, int]


def facts(doc: Doc) -> set[Fact]:
    """Return the relations of a Doc in a form that can be compared."""
    return {
        (r.head.start, r.head.end, r.label, r.tail.start, r.tail.end) for r in get_relations(doc)
    }


def unannotated(docs: Iterable[Doc], nlp: Language) -> Iterator[Doc]:
    """Yield copies of Docs with their entities, and without their relations."""
    for doc in DocBin(docs=docs).get_docs(nlp.vocab):
        set_relations(doc, [])
        yield doc


def of_right_types(doc: Doc) -> Doc:
    """Return a copy of a Doc in which all pairs are related whose types a relation has."""
    copy = doc.copy()
    relations = srsly.read_yaml(RELATIONS)
    set_relations(
        copy,
        [
            Relation(head, tail, label)
            for label, row in relations.items()
            for head in copy.ents
            for tail in copy.ents
            if head != tail and (head.label_, tail.label_) == (row["head"], row["tail"])
        ],
    )
    return copy


def write(path: Path, docs: Iterable[Doc]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return path


def score(predicted: Sequence[Doc], gold: Sequence[Doc]) -> str:
    """Return precision, recall and F1 of relations, in percent."""
    pairs = [(facts(a), facts(b)) for a, b in zip(predicted, gold, strict=True)]
    hits, found, wanted = (
        sum(map(len, some)) for some in ([a & b for a, b in pairs], *zip(*pairs, strict=True))
    )
    values = hits / max(1, found), hits / max(1, wanted), 2 * hits / max(1, found + wanted)
    return "  ".join(
        f"{100 * value:{width}.1f}" for value, width in zip(values, (9, 6, 5), strict=True)
    )


def ask(reader: Language, docs: Iterable[Doc], name: str, doubtful: bool) -> list[Doc]:
    """Ask the reader about the entities of Docs."""
    texts = write(OUTPUT / f"{name}.spacy", unannotated(docs, reader))
    answered = OUTPUT / f"{name}_answered.spacy"
    pre_annotate(reader, texts, answered, questions=RELATIONS, doubtful=doubtful)
    return list(DocBin().from_disk(answered).get_docs(reader.vocab))


def choose(predicted: Iterable[Doc], corrected: set[str], folder: Path) -> list[str]:
    """Choose the next sentences to correct, by their texts."""
    rest = [doc for doc in predicted if doc.text not in corrected]
    review(rest, folder, ReviewSettings(LOW, HIGH))
    doubtful = DocBin().from_disk(folder / "doubtful.spacy").get_docs(spacy.blank("en").vocab)
    return [doc.text for doc in doubtful][:AT_ONCE]


def train_on(docs: Sequence[Doc], n_steps: int, seed: int) -> Language:
    """Train with described labels, on all pairs of entities of some Docs."""
    docs = list(DocBin(docs=docs).get_docs(docs[0].vocab))
    for doc in docs:
        add_negatives(doc, NEGATIVE)
    path = write(OUTPUT / "train.spacy", docs)
    relations = srsly.read_yaml(RELATIONS)
    component = "components.relation_classifier"
    with redirect_stdout(StringIO()):  # what `spacy train` says of each training
        train(
            ROOT / "configs" / "relation_classifier_described.cfg",
            OUTPUT / "model",
            overrides={
                "paths.train": str(path),
                "paths.dev": str(write(OUTPUT / "dev.spacy", docs[:5])),  # not used to choose
                "system.seed": seed,
                f"{component}.descriptions": [
                    [label, text]
                    for label, row in relations.items()
                    for text in row["descriptions"]
                ],
                f"{component}.type_constraints": [
                    [label, row["head"], row["tail"]] for label, row in relations.items()
                ],
                f"{component}.max_negatives": 2,
                "schedule.batch_size": BATCH,
                "schedule.epochs": -(-n_steps * BATCH // len(docs)),
                "schedule.total_steps": n_steps,
                "schedule.warmup_steps": n_steps // 10,
                "training.max_steps": n_steps,
                "training.eval_frequency": n_steps,
                "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
            },
        )
    return spacy.load(OUTPUT / "model" / "model-last")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--reader", default=str(ROOT / "training" / "sample_qa" / "model-best"))
    parser.add_argument("--rounds", type=int, default=3, help="of twenty corrections")
    parser.add_argument("--all", action="store_true", help="also train on all sentences")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        reader = spacy.load(args.reader)
    except OSError as error:
        parser.error(f"no reader: {error} `make demo` trains one, and --reader names another.")
    gold = {
        name: list(spert_to_docs(SAMPLE / f"{name}.json", types=SAMPLE / "types.json"))
        for name in ("train", "test")
    }
    print(f"{'':34}  corrections  precision  recall     F1", flush=True)

    def say(step: str, predicted: Sequence[Doc], corrections: str = "") -> None:
        print(f"{step:34}  {corrections:>11}  {score(predicted, gold['test'])}", flush=True)

    say("all pairs of the right types", [of_right_types(doc) for doc in gold["test"]])
    say("answers of the reader", ask(reader, gold["test"], "test", doubtful=False))
    suggested = ask(reader, gold["train"], "texts", doubtful=True)
    by_text = {doc.text: doc for doc in gold["train"]}
    corrected: dict[str, Doc] = {}
    corrections = 0
    for number in range(1, args.rounds + 1):
        chosen = choose(suggested, set(corrected), OUTPUT / f"review_{number}")
        # Without the relations that the review has dropped.
        shown = {doc.text: facts(doc) for doc in suggested}
        for text in chosen:
            corrected[text] = by_text[text]
            corrections += len(shown[text] ^ facts(by_text[text]))
        n_steps = max(LEAST_STEPS, len(corrected) * 2)
        nlp = train_on(list(corrected.values()), n_steps, args.seed)
        predicted = list(nlp.pipe(unannotated(gold["test"], nlp)))
        say(f"trained on {len(corrected)} corrected sentences", predicted, str(corrections))
        if number < args.rounds:
            suggested = list(nlp.pipe(unannotated(gold["train"], nlp)))
    if args.all:
        nlp = train_on(gold["train"], 2 * len(gold["train"]) // BATCH * 2, args.seed)
        predicted = list(nlp.pipe(unannotated(gold["test"], nlp)))
        say(f"trained on all {len(gold['train'])} sentences", predicted)


if __name__ == "__main__":
    main()
