"""Relations of KBP37 that training has not seen, described in words: the section `unseen` of few_shot.py.

Of the 18 relations, some are drawn and left out of training. A `relation_classifier` with described
labels (`configs/relation_classifier_described.cfg`) learns the others from some sentences of `train.json`,
those without a relation included. Then the unseen relations are added with their descriptions and, in
turn, with 0, 1, 5 and 20 examples each from `train.json`, and the dev sentences that have one of them are
divided among them: macro F1. Head and tail are given in the order of the relation. Without examples, it
is also counted how many get both the relation and its order right (column "direction"), when both
orders of each relation are candidates.

Two baselines divide the same sentences. "similarity": the encoder as it was published, the cosine of the
sentence and the first description with the two names in it. "fixed head": a classifier with typed
markers (`configs/relation_classifier_minilm.cfg`), trained on the same examples alone.

The section `described_speed` compares the time of described and of fixed labels.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from recipes import ENCODERS, Row, choose_device, device_name, groups_of, read_rows
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed, load_config
from timing import padded

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.converters import tacred_to_docs
from spacy_spanrel.encoding.checkpoint import load_checkpoint
from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.described import parse_description
from spacy_spanrel.training.optimizer import create_adamw

CONFIGS = Path(__file__).parent.parent / "configs"
NEGATIVE = "no_relation"
WHAT = "unseen relations"
METHODS = ("similarity", "described", "fixed head")
SHOTS = (1, 5, 20)
BATCH = 32
# Relations that hold in both directions.
SYMMETRIC = ("per:alternate_names", "per:spouse", "org:alternate_names")
DESCRIPTIONS: dict[str, list[str]] = {
    "per:alternate_names": [
        "{head:person} is also known as {tail:name}.",
        "{tail:name} is another name, nickname or stage name of the person {head:person}.",
        "{head:person}, better known as {tail:name}",
    ],
    "per:origin": [
        "{head:person} has the nationality or ethnic origin {tail:nationality}.",
        "{head:person} is a {tail:nationality} by descent.",
        "{tail:nationality} is the ethnic background of {head:person}.",
    ],
    "per:spouse": [
        "{head:person} is married to {tail:person}.",
        "{tail:person} is the husband or wife of {head:person}.",
        "{head:person} and {tail:person} got married.",
    ],
    "per:title": [
        "{head:person} has the job title {tail:job title}.",
        "{head:person} works as a {tail:job title}.",
        "{tail:job title} is the profession or position of {head:person}.",
    ],
    "per:employee_of": [
        "{head:person} is employed by {tail:organization}.",
        "{head:person} works for {tail:organization} or plays in it.",
        "{head:person} is a member of the team, band or company {tail:organization}.",
    ],
    "per:countries_of_residence": [
        "{head:person} lives in the country {tail:country}.",
        "{head:person} is a citizen of {tail:country} and lives there.",
        "{head:person} lived in {tail:country}.",
    ],
    "per:stateorprovinces_of_residence": [
        "{head:person} lives in the state or province {tail:state}.",
        "{head:person} is a resident of the state of {tail:state}.",
        "{head:person} represents the state {tail:state}.",
    ],
    "per:cities_of_residence": [
        "{head:person} lives in the city {tail:city}.",
        "{head:person} is a resident of the town {tail:city}.",
        "{head:person} moved to {tail:city}.",
    ],
    "per:country_of_birth": [
        "{head:person} was born in the country {tail:country}.",
        "{tail:country} is the country of birth of {head:person}.",
        "{head:person} is a native of {tail:country}.",
    ],
    "org:alternate_names": [
        "{head:organization} is also known as {tail:name}.",
        "{tail:name} is an abbreviation or another name of the organization {head:organization}.",
        "{head:organization} ({tail:name})",
    ],
    "org:subsidiaries": [
        "{head:organization} owns the company {tail:organization}.",
        "{tail:organization} is a subsidiary or division of {head:organization}.",
        "{tail:organization} is part of the parent company {head:organization}.",
    ],
    "org:top_members/employees": [
        "{head:organization} is led by {tail:person}.",
        "{tail:person} is the president, chairman or director of {head:organization}.",
        "{tail:person} is the chief executive of {head:organization}.",
    ],
    "org:founded": [
        "{head:organization} was founded in {tail:date}.",
        "{head:organization} was established in the year {tail:date}.",
        "{tail:date} is the date when {head:organization} was formed.",
    ],
    "org:founded_by": [
        "{head:organization} was founded by {tail:person}.",
        "{tail:person} is the founder of {head:organization}.",
        "{tail:person} established {head:organization}.",
    ],
    "org:country_of_headquarters": [
        "{head:organization} has its headquarters in the country {tail:country}.",
        "{head:organization} is based in {tail:country}.",
        "{head:organization} is an organization of the country {tail:country}.",
    ],
    "org:stateorprovince_of_headquarters": [
        "{head:organization} has its headquarters in the state or province {tail:state}.",
        "{head:organization} is based in the state of {tail:state}.",
        "{head:organization} is located in the province {tail:state}.",
    ],
    "org:city_of_headquarters": [
        "{head:organization} has its headquarters in the city {tail:city}.",
        "{head:organization} is based in the city of {tail:city}.",
        "{head:organization} is located in the town {tail:city}.",
    ],
    "org:members": [
        "{head:organization} has the member {tail:organization}.",
        "{tail:organization} is a member of the league, association or union {head:organization}.",
        "{tail:organization} belongs to {head:organization}.",
    ],
}


def read(path: Path) -> list[Doc]:
    """Read sentences, with head and tail of each relation in its own order."""
    docs = []
    for doc in tacred_to_docs(path):
        (relation,) = get_relations(doc)
        label, _, order = relation.label.partition("(")
        head, tail = relation.head, relation.tail
        if order == "e2,e1)":
            head, tail = tail, head
        set_relations(doc, [Relation(head, tail, label)])
        docs.append(doc)
    return docs


def label_of(doc: Doc) -> str:
    (relation,) = get_relations(doc)
    return relation.label


def draw_unseen(n: int, choice: int) -> list[str]:
    """Draw the relations that training does not see."""
    return sorted(random.Random(choice).sample(sorted(DESCRIPTIONS), n))


def draw_examples(docs: Sequence[Doc], labels: Sequence[str], seed: int) -> dict[str, list[Doc]]:
    """Draw the most examples of each relation; fewer are the first of them."""
    examples: dict[str, list[Doc]] = defaultdict(list)
    order = list(range(len(docs)))
    random.Random(f"examples {seed}").shuffle(order)
    for i in order:
        label = label_of(docs[i])
        if label in labels and len(examples[label]) < max(SHOTS):
            examples[label].append(docs[i])
    return examples


def make_nlp(config: str, args: argparse.Namespace, **settings: Any) -> Language:
    """Make the pipeline of a config, not initialized."""
    overrides = {"paths.encoder": args.checkpoint, "components.relation_classifier.scorer": None}
    loaded = load_config(
        CONFIGS / config,
        overrides={
            **overrides,
            **{f"components.relation_classifier.{k}": v for k, v in settings.items()},
        },
        interpolate=True,
    )
    choose_device(args.device, loaded)
    return spacy.util.load_model_from_config(loaded)


def pipe_of(nlp: Language) -> RelationClassifier:
    pipe = nlp.get_pipe("relation_classifier")
    assert isinstance(pipe, RelationClassifier)
    return pipe


def train(
    nlp: Language, docs: Sequence[Doc], steps: int, batch: int, lr: float, head_lr: float, seed: int
) -> float:
    """Initialize and train with a linear schedule, 10 % of it warm-up. Returns CPU seconds."""
    fix_random_seed(seed)
    examples = [Example(doc.copy(), doc) for doc in docs]
    nlp.initialize(lambda: examples)
    start = time.process_time()

    def rate(peak: float) -> Iterator[float]:
        for step in range(steps):
            yield peak * min((step + 1) / max(1, steps // 10), 1 - step / steps)

    optimizer = create_adamw(learn_rate=lr, weight_decay=0.01, grad_clip=1.0)
    order: list[Example] = []
    rng = random.Random(seed)
    for now, of_head in zip(rate(lr), rate(head_lr), strict=True):
        while len(order) < batch:
            order += rng.sample(examples, len(examples))
        optimizer.learn_rate, optimizer.head_learn_rate = now, of_head
        nlp.update(order[:batch], sgd=optimizer)
        del order[:batch]
    return time.process_time() - start


def scores_of(nlp: Language, docs: Sequence[Doc], labels: Sequence[str]) -> np.ndarray:
    """Return the probabilities of labels for the pairs of the gold annotation."""
    pipe = pipe_of(nlp)
    pairs = [[(relation.head, relation.tail)] for doc in docs for relation in get_relations(doc)]
    columns = [pipe.labels.index(label) for label in labels]
    predictions = pipe.classify(list(docs), pairs)
    return np.concatenate([prediction.scores[:, columns] for prediction in predictions])


def macro_f1(truth: np.ndarray, predicted: np.ndarray, n_labels: int) -> float:
    """Return the mean of the F1 of all labels, in percent."""
    values = []
    for label in range(n_labels):
        hits = int(((truth == label) & (predicted == label)).sum())
        total = int((truth == label).sum() + (predicted == label).sum())
        values.append(2 * hits / total if total else 0.0)
    return 100 * statistics.mean(values)


def best(scores: np.ndarray, directions: int = 1) -> np.ndarray:
    """Return the label of each sentence. With two directions, the columns of the second one follow."""
    return scores.argmax(axis=1) % (scores.shape[1] // directions)


def run_described(
    unseen: Sequence[str],
    choice: int,
    train_docs: Sequence[Doc],
    dev: Sequence[Doc],
    args: argparse.Namespace,
) -> Iterator[Row]:
    """Train with described labels on the other relations, and score the unseen ones."""
    docs = [doc for doc in train_docs if label_of(doc) not in unseen][: args.sentences]
    nlp = make_nlp(
        "relation_classifier_described.cfg",
        args,
        descriptions=[
            [label, text]
            for label, texts in DESCRIPTIONS.items()
            if label not in unseen
            for text in texts
        ],
        symmetric=[label for label in SYMMETRIC if label not in unseen],
    )
    steps = -(-len(docs) * args.epochs // BATCH)
    seconds = train(nlp, docs, steps, BATCH, args.lr, 1e-3, choice)
    pipe = pipe_of(nlp)
    for label in unseen:
        pipe.add_label(label, description=DESCRIPTIONS[label])
    truth = np.asarray([unseen.index(label_of(doc)) for doc in dev])
    both = [scores_of(nlp, docs, unseen) for docs in (dev, reversed_pairs(dev))]
    # The direction is right where the sentence fits the relation better than it does backwards.
    directed = np.concatenate(both, axis=1).argmax(axis=1)
    common = {"train_seconds": round(seconds), "sentences": len(docs)}
    yield {
        **common,
        "shots": 0,
        "f1": macro_f1(truth, best(both[0]), len(unseen)),
        "direction": 100 * float((directed == truth).mean()),
    }
    known = pipe.cfg["label_examples"]
    for seed in args.seeds:
        examples = draw_examples(train_docs, unseen, seed)
        for shots in SHOTS:
            pipe.cfg["label_examples"] = known
            for label in unseen:
                relations = [get_relations(doc)[0] for doc in examples[label][:shots]]
                pipe.add_label(label, examples=relations)
            f1 = macro_f1(truth, best(scores_of(nlp, dev, unseen)), len(unseen))
            yield {**common, "shots": shots, "seed": seed, "f1": f1}


def reversed_pairs(docs: Sequence[Doc]) -> list[Doc]:
    """Return copies of Docs with head and tail swapped."""
    copies = []
    for doc in docs:
        copies.append(doc.copy())
        (relation,) = get_relations(copies[-1])
        set_relations(copies[-1], [Relation(relation.tail, relation.head, relation.label)])
    return copies


def run_similarity(
    unseen: Sequence[str], dev: Sequence[Doc], args: argparse.Namespace
) -> Iterator[Row]:
    """Compare sentences and verbalized relations with the encoder as it was published."""
    module, _, _ = load_checkpoint(args.checkpoint, None, None, False)
    on_gpu = args.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    module.to(device).eval()

    def encode(texts: Sequence[str]) -> torch.Tensor:
        rows = [
            [*module.pieces.prefix, *pieces.ids[:126].tolist(), *module.pieces.suffix]
            for pieces in module.pieces(texts)
        ]
        ids, mask = padded(rows, module.pieces.pad_id, device)
        summed = (module(ids, mask) * mask[:, :, None]).sum(dim=1)
        return torch.nn.functional.normalize(summed, dim=-1)

    def verbalized(description: str, head: str, tail: str) -> str:
        marked = parse_description(description)
        parts = sorted([(marked.head, head), (marked.tail, tail)])
        (first, one), (second, other) = parts
        text = marked.text
        return text[: first[0]] + one + text[first[1] : second[0]] + other + text[second[1] :]

    truth, scores = [], []
    with torch.no_grad():
        for doc in dev:
            (relation,) = get_relations(doc)
            names = relation.head.text, relation.tail.text
            texts = [
                verbalized(text, *order)
                for order in (names, names[::-1])
                for label in unseen
                for text in DESCRIPTIONS[label][:1]
            ]
            scores.append((encode(texts) @ encode([doc.text])[0]).cpu().numpy())
            truth.append(unseen.index(relation.label))
    both, gold = np.stack(scores), np.asarray(truth)
    yield {
        "shots": 0,
        "f1": macro_f1(gold, best(both[:, : len(unseen)]), len(unseen)),
        "direction": 100 * float((both.argmax(axis=1) == gold).mean()),
    }


def run_fixed(
    unseen: Sequence[str], train_docs: Sequence[Doc], dev: Sequence[Doc], args: argparse.Namespace
) -> Iterator[Row]:
    """Train a fixed head on the examples alone."""
    truth = np.asarray([unseen.index(label_of(doc)) for doc in dev])
    for seed in args.seeds:
        examples = draw_examples(train_docs, unseen, seed)
        for shots in SHOTS:
            docs = [doc for label in unseen for doc in examples[label][:shots]]
            nlp = make_nlp("relation_classifier_minilm.cfg", args, negative_label=None)
            # At least 30 steps, and each sentence eight times.
            steps = max(30, -(-8 * len(docs) // 16))
            seconds = train(nlp, docs, steps, min(16, len(docs)), 3e-4, 1e-3, seed)
            f1 = macro_f1(truth, best(scores_of(nlp, dev, unseen)), len(unseen))
            yield {
                "shots": shots,
                "seed": seed,
                "f1": f1,
                "train_seconds": round(seconds),
                "sentences": len(docs),
            }


def speed(args: argparse.Namespace) -> Iterator[Row]:
    """Compare the processor time of described and of fixed labels, both without training, in turns.

    The descriptions have been read before, as in every batch but the first.
    """
    docs = read(args.data / "kbp37" / "dev.json")[:200]
    labels = [f"label {i}" for i in range(200)]
    rows = [
        [label, f"{{head:person}} has the {i}. relation to {{tail:city}}."]
        for i, label in enumerate(labels)
    ]
    pipelines = {}
    for name, config, settings in (
        ("fixed", "relation_classifier_minilm.cfg", {}),
        ("described", "relation_classifier_described.cfg", {"descriptions": rows}),
    ):
        settings |= {"negative_label": None, "model.casing": False, "model.precision": "float32"}
        nlp = make_nlp(config, args, **settings)
        examples = [Example(doc.copy(), doc) for doc in docs[:1]]
        relation = get_relations(docs[0])[0]
        for example in examples:
            set_relations(example.reference, [Relation(relation.head, relation.tail, labels[0])])
        pipe_of(nlp).initialize(
            lambda examples=examples: examples, nlp=nlp, labels={"labels": labels}
        )
        scores_of(nlp, docs[:8], labels)
        pipelines[name] = nlp
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(7):
        for name, nlp in pipelines.items():
            start = time.process_time()
            scores_of(nlp, docs, labels)
            seconds[name].append(time.process_time() - start)
    ratios = [b / a for a, b in zip(seconds["fixed"], seconds["described"], strict=True)]
    yield {
        "what": "described and fixed labels, speed",
        "labels": len(labels),
        "pairs": len(docs),
        "seconds_fixed": statistics.median(seconds["fixed"]),
        "seconds_described": statistics.median(seconds["described"]),
        "ratio": statistics.median(ratios),
    }


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of macro F1, averaged over choices and seeds."""
    lines = [
        "| encoder | unseen | method | 0 examples | 1 | 5 | 20 | direction, 0 examples | choices |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (encoder, n, method), group in sorted(
        groups_of(rows, "encoder", "unseen", "method").items()
    ):
        cells = []
        for shots in (0, *SHOTS):
            by_choice = groups_of([row for row in group if row["shots"] == shots], "choice")
            means = [statistics.mean(row["f1"] for row in some) for some in by_choice.values()]
            spread = f" ± {statistics.stdev(means):.1f}" if len(means) > 1 else ""
            cells.append(f"{statistics.mean(means):.1f}{spread}" if means else "")
        directions = [row["direction"] for row in group if "direction" in row]
        cells.append(f"{statistics.mean(directions):.1f}" if directions else "")
        cells.append(str(len({row["choice"] for row in group})))
        lines.append(f"| {encoder} | {n} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of these sections."""
    parser.add_argument("--unseen", nargs="+", type=int, default=[5, 10])
    parser.add_argument("--choices", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--sentences", type=int, default=1500, help="of training")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--held-out", action="store_true", help="score sentences of train, to tune")


def identify(row: Row) -> tuple[Any, ...]:
    """Return the columns by which a row of this section is known."""
    return tuple(row.get(key) for key in ("encoder", "unseen", "choice", "method", "shots", "seed"))


def unseen(args: argparse.Namespace) -> Iterator[Row]:
    """Score what is missing in the output; the table is printed after each part."""
    rows = [row for row in read_rows(args.output) if row["what"] == WHAT]
    done = set(map(identify, rows))
    folder = args.data / "kbp37"
    train_docs = read(folder / "train.json")
    random.Random(0).shuffle(train_docs)
    dev = train_docs[-3000:] if args.held_out else read(folder / "dev.json")
    if args.held_out:
        train_docs = train_docs[:-3000]
    encoder = Path(args.checkpoint).name
    with_examples = [{"shots": shots, "seed": seed} for seed in args.seeds for shots in SHOTS]
    without = [{"shots": 0}]
    wanted = {
        "similarity": without,
        "described": without + with_examples,
        "fixed head": with_examples,
    }
    for n in args.unseen:
        for method in args.methods:
            for choice in args.choices:
                same = {
                    "what": WHAT,
                    "encoder": ENCODERS.get(encoder, encoder),
                    "unseen": n,
                    "choice": choice,
                    "method": method,
                }
                if all(identify({**same, **row}) in done for row in wanted[method]):
                    continue
                labels = draw_unseen(n, choice)
                docs = [doc for doc in dev if label_of(doc) in labels]
                same |= {"relations": labels, "dev": dict(Counter(map(label_of, docs)))}
                if method == "described":
                    new = run_described(labels, choice, train_docs, docs, args)
                elif method == "fixed head":
                    new = run_fixed(labels, train_docs, docs, args)
                else:
                    new = run_similarity(labels, docs, args)
                device = {"device": device_name(args.device)}
                # All rows of a part at once, so that an interrupted part is run again as a whole.
                part = [{**same, **row, **device} for row in new]
                part = [row for row in part if identify(row) not in done]
                yield from part
                rows += part
                print(table(rows), flush=True)
