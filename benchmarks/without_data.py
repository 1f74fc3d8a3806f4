"""Relations of CoNLL04 without a training sentence of it: the section `without_data` of few_shot.py.

The entities of the sentences, with their types, are those of the gold annotation, so a pair whose types no
relation allows is not asked about. Three ways tell which of the other pairs are related:

- `types`: all of them.
- `described`: `relation_classifier` with described labels, trained on the relations of KBP37. In each
  sentence that has a relation, up to three pairs of other names are added as pairs that are not related.
  Then the relations of CoNLL04 are added with their descriptions.
- `questions`: `pre-annotate --questions`, with a reader that was trained on a part of SQuAD 2.0.
- `both`: the mean of the two scores; an answer that the reader would not give has its low score.

Precision, recall and F1 are given at the thresholds that were learned without a sentence about these
relations (threshold: "learned"; for `both`: a mean of 0.5), and at the threshold with the best F1 on the
sample corpus (assets/sample, all three parts), which was written for this project. With the rules
"at most one tail for each head, and one head for each tail" (see docs/evaluation.md), precision is higher.

With `--entities trained`, the entities are those of a `span_relation` that was trained on the entities of
CoNLL04 train, without its relations, and relations are scored strictly: with boundaries and types.

With `--keep`, the pairs and their scores are written there, and read by `both`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import conll04
import numpy as np
import spacy
import squad
from recipes import ENCODERS, Row, device_name, fit, write_docs
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from unseen import BATCH, DESCRIPTIONS, NEGATIVE, SYMMETRIC, make_nlp, pipe_of, read, train

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.cli import pre_annotate
from spacy_spanrel.converters import spert_to_docs, squad_to_docs
from spacy_spanrel.rules import apply_rules, read_rules

ROOT = Path(__file__).resolve().parent.parent
WHAT = "without data"
WAYS = ("types", "described", "questions", "both")
TYPES = {
    "Work_For": ("Peop", "Org"),
    "Live_In": ("Peop", "Loc"),
    "OrgBased_In": ("Org", "Loc"),
    "Located_In": ("Loc", "Loc"),
    "Kill": ("Peop", "Peop"),
}
# What the reader of the command line answered, for each kind of entities.
ASKED: dict[str, tuple[dict[Key, float], list[Key]]] = {}
DESCRIBED: dict[str, list[str]] = {
    "Work_For": [
        "{head:person} works for {tail:organization}.",
        "{head:person} is the director, the spokesman or a member of {tail:organization}.",
        "{tail:organization} employs {head:person}.",
    ],
    "Live_In": [
        "{head:person} lives in {tail:place}.",
        "{head:person} was born in {tail:place} or is at home there.",
        "{head:person} represents {tail:place}.",
    ],
    "OrgBased_In": [
        "{head:organization} is based in {tail:place}.",
        "{head:organization} has its headquarters in {tail:city}.",
        "{head:organization} is an organization of {tail:country}.",
    ],
    "Located_In": [
        "{head:city} is a place in {tail:country}.",
        "{head:city}, {tail:state}",
        "{tail:region} contains {head:place}.",
    ],
    "Kill": [
        "{head:murderer} killed {tail:victim}.",
        "{tail:victim} was shot by {head:murderer}.",
        "{head:assassin} is the murderer of {tail:victim}.",
    ],
}
QUESTIONS = {
    "Work_For": [
        "Who does {head} work for?",
        "What is {head} a member of?",
        "Who works for {tail}?",
    ],
    "Live_In": ["Where does {head} live?", "Where is {head} from?", "Who lives in {tail}?"],
    "OrgBased_In": ["Where is {head} based?", "What organization is based in {tail}?"],
    "Located_In": ["Where is {head}?", "What state or country is {head} located in?"],
    "Kill": ["Who did {head} kill?", "Who killed {tail}?"],
}
# Pairs of other names that are added to a sentence.
OTHER_PAIRS = 3
# Doc, head and tail in tokens, label.
Key = tuple[int, int, int, int, int, str]


def candidates(docs: Sequence[Doc]) -> list[tuple[Key, Span, Span]]:
    """Return all pairs of entities whose types a relation allows."""
    return [
        ((i, head.start, head.end, tail.start, tail.end, label), head, tail)
        for i, doc in enumerate(docs)
        for head in doc.ents
        for tail in doc.ents
        if head.start != tail.start
        for label, types in TYPES.items()
        if types == (head.label_, tail.label_)
    ]


def add_other_names(doc: Doc, rng: random.Random) -> None:
    """Pair other names of a sentence with each other and with the arguments of its relation, as not
    related. Names are words with a capital letter."""
    (relation,) = get_relations(doc)
    if relation.label == NEGATIVE:
        return
    arguments = [relation.head, relation.tail]
    taken = {token.i for span in arguments for token in span}
    names: list[Span] = []
    start = None
    for i in range(len(doc) + 1):
        is_name = i < len(doc) and i not in taken and doc[i].text[:1].isupper()
        if is_name and start is None:
            start = i
        elif not is_name and start is not None:
            if start:  # the first word of a sentence is seldom a name
                names.append(doc[start:i])
            start = None
    pairs: dict[tuple[int, int], Relation] = {}
    for _ in range(OTHER_PAIRS if names else 0):
        name = rng.choice(names)
        pair = [name, rng.choice([s for s in [*arguments, *names] if s.start != name.start])]
        rng.shuffle(pair)
        pairs.setdefault((pair[0].start, pair[1].start), Relation(*pair, NEGATIVE))
    set_relations(doc, [relation, *pairs.values()])


def train_described(seed: int, args: argparse.Namespace) -> Language:
    docs = read(args.data / "kbp37" / "train.json")
    rng = random.Random(seed)
    rng.shuffle(docs)
    docs = docs[: args.sentences]
    for doc in docs:
        add_other_names(doc, rng)
    nlp = make_nlp(
        "relation_classifier_described.cfg",
        args,
        descriptions=[[label, text] for label, texts in DESCRIPTIONS.items() for text in texts],
        symmetric=SYMMETRIC,
    )
    train(nlp, docs, -(-len(docs) * args.epochs // BATCH), BATCH, args.lr, 1e-3, seed)
    pipe = pipe_of(nlp)
    for label in DESCRIPTIONS:
        pipe.remove_label(label)
    for label, texts in DESCRIBED.items():
        pipe.add_label(label, description=texts)
    return nlp


def get_reader(seed: int, args: argparse.Namespace, folder: Path) -> Language:
    """Load the reader of the command line, or train one."""
    if args.reader_model is not None:
        return spacy.load(args.reader_model)
    for name in ("train", "dev"):
        write_docs(
            folder / f"{name}.spacy", squad_to_docs(args.data / "squad" / f"en-v2-{name}.json")
        )
    recipe = squad.VARIANTS[args.reader]
    return squad.train_reader(recipe, folder, argparse.Namespace(**{**vars(args), "seed": seed}))


def found_entities(gold: Sequence[Doc], args: argparse.Namespace) -> list[Doc]:
    """Return the sentences with the entities of a network that was trained on those of CoNLL04 with the
    first seed, without its relations; they are read from the folder of --keep if they are there."""
    path = None if args.keep is None else args.keep / "entities.spacy"
    if path is not None and path.exists():
        return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("dev", "train"):
            docs = list(spert_to_docs(args.data / "conll04" / f"{split}.json"))
            for doc in docs:
                set_relations(doc, [])
            n = write_docs(folder / f"{split}.spacy", docs)
        of_seed = argparse.Namespace(**{**vars(args), "seed": args.seeds[0]})
        settings = {f"{conll04.PIPE}.scope": "doc"}
        nlp = fit(conll04.CONFIG, conll04.VARIANTS["best"], of_seed, folder, n, settings)
    words = [Doc(nlp.vocab, words=[token.text for token in doc]) for doc in gold]
    docs = list(nlp.pipe(words))
    if path is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
        write_docs(path, docs)
    return docs


def score_described(nlp: Language, docs: Sequence[Doc]) -> dict[Key, float]:
    """Return how probable each candidate is, beside none of the relations."""
    pipe = pipe_of(nlp)
    rows = candidates(docs)
    by_doc: list[list[tuple[Key, Span, Span]]] = [[] for _ in docs]
    for row in rows:
        by_doc[row[0][0]].append(row)
    predictions = pipe.classify(list(docs), [[row[1:] for row in some] for some in by_doc])
    negative = pipe.labels.index(NEGATIVE)
    scores = {}
    for some, prediction in zip(by_doc, predictions, strict=True):
        for (key, _, _), row in zip(some, prediction.scores, strict=True):
            score = row[pipe.labels.index(key[-1])]
            scores[key] = float(score / (score + row[negative]))
    return scores


def score_questions(
    nlp: Language, docs: Sequence[Doc], folder: Path, doubtful: bool
) -> dict[Key, float]:
    """Return the scores of the answers; with `doubtful`, of those that the reader would not give, too."""
    relations = {
        label: {"head": TYPES[label][0], "tail": TYPES[label][1], "questions": questions}
        for label, questions in QUESTIONS.items()
    }
    (folder / "relations.json").write_text(json.dumps(relations))
    write_docs(folder / "asked.spacy", docs)
    pre_annotate(
        nlp,
        folder / "asked.spacy",
        folder / "found.spacy",
        questions=folder / "relations.json",
        doubtful=doubtful,
    )
    return {
        (i, r.head.start, r.head.end, r.tail.start, r.tail.end, r.label): float(r.score or 0)
        for i, doc in enumerate(DocBin().from_disk(folder / "found.spacy").get_docs(nlp.vocab))
        for r in get_relations(doc)
    }


def ask(
    nlp: Language, docs: Sequence[Doc], folder: Path, args: argparse.Namespace, name: str
) -> tuple[dict[Key, float], list[Key]]:
    """Return the scores of all answers, and the pairs whose answers the reader gives. A reader that is the
    same for all seeds is asked about the same entities once."""
    if args.reader_model is None or name not in ASKED:
        ASKED[name] = (
            score_questions(nlp, docs, folder, doubtful=True),
            list(score_questions(nlp, docs, folder, doubtful=False)),
        )
    return ASKED[name]


def measure(keys: Iterable[Key], docs: Sequence[Doc]) -> Row:
    """Score predictions strictly, in percent: with boundaries and types."""
    gold = {
        (i, r.head.start, r.head.end, r.tail.start, r.tail.end, r.label)
        for i, doc in enumerate(docs)
        for r in get_relations(doc)
    }
    predicted = set(keys)
    row: Row = {}
    for label in ("", *TYPES):
        wanted, found = (
            {key for key in some if label in ("", key[-1])} for some in (gold, predicted)
        )
        hits = len(wanted & found)
        numbers = {
            "precision": 100 * hits / len(found) if found else 0.0,
            "recall": 100 * hits / len(wanted) if wanted else 0.0,
            "f1": 200 * hits / (len(wanted) + len(found)) if wanted or found else 0.0,
        }
        numbers = {name: round(value, 1) for name, value in numbers.items()}
        row |= numbers if not label else {label: list(numbers.values())}
    return row


def obey(keys: Iterable[Key], scores: dict[Key, float]) -> list[Key]:
    """Return the predictions with the best scores of which no two with one label share a head or a tail."""
    labels = list(TYPES)
    setting = [[kind, label, 1] for kind in ("max_tails", "max_heads") for label in labels]
    rules = read_rules(setting, labels)
    assert rules is not None
    rows = list(keys)
    # Entities are Doc and tokens.
    entities = [((i, a, b), (i, c, d)) for i, a, b, c, d, _ in rows]
    spans = sorted({span for pair in entities for span in pair})
    numbers = {span: n for n, span in enumerate(spans)}
    pairs = [[numbers[head], numbers[tail]] for head, tail in entities]
    chosen = apply_rules(
        rules,
        np.asarray(pairs, dtype=np.int64).reshape(-1, 2),
        np.asarray([labels.index(k[-1]) for k in rows], dtype=np.int64),
        np.asarray([scores.get(k, 0.0) for k in rows], dtype=np.float32),
    )
    return [
        (*spans[head], *spans[tail][1:], labels[label])
        for (head, tail), label in zip(chosen[0].tolist(), chosen[1].tolist(), strict=True)
    ]


def best_threshold(scores: dict[Key, float], docs: Sequence[Doc]) -> float:
    """Return the threshold with the best F1."""
    choices = sorted({round(score, 3) for score in scores.values()})
    return max(choices, key=lambda t: measure([k for k, s in scores.items() if s >= t], docs)["f1"])


def without_data(args: argparse.Namespace) -> Iterator[Row]:
    sample = [
        doc
        for name in ("train", "dev", "test")
        for doc in spert_to_docs(ROOT / "assets" / "sample" / f"{name}.json")
    ]
    gold = list(spert_to_docs(args.data / "conll04" / "dev.json"))
    entities: dict[str, Sequence[Doc]] = {"sample": sample, "gold": gold}
    if args.entities == "trained":
        entities["trained"] = found_entities(gold, args)
    encoder = Path(args.checkpoint).name
    for seed in args.seeds:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            yield from (
                {
                    "what": WHAT,
                    "encoder": ENCODERS.get(encoder, encoder),
                    "seed": seed,
                    "sentences": args.sentences,
                    **row,
                    "seconds": round(time.perf_counter() - start),
                    "device": device_name(args.device),
                }
                for row in run(entities, seed, args, Path(name))
            )


def run(
    entities: dict[str, Sequence[Doc]], seed: int, args: argparse.Namespace, folder: Path
) -> Iterator[Row]:
    """Score the ways with one seed, on sentences with entities of each kind."""
    scores: dict[tuple[str, str], dict[Key, float]] = {}
    for way in args.ways:
        nlp = None
        if way == "described":
            nlp = train_described(seed, args)
        elif way == "questions":
            nlp = get_reader(seed, args, folder)
        tuned = 0.0
        for name, docs in entities.items():
            if way == "types":
                new = dict.fromkeys((key for key, *_ in candidates(docs)), 1.0)
            elif way == "both":
                new = both(name, seed, scores, args)
            elif way == "described":
                assert nlp is not None
                new = score_described(nlp, docs)
            else:
                assert nlp is not None
                new, learned = ask(nlp, docs, folder, args, name)
            scores[way, name] = new
            if name == "sample":
                tuned = best_threshold(new, docs)
            if args.keep is not None:
                args.keep.mkdir(parents=True, exist_ok=True)
                path = args.keep / f"{way}_{name}_{seed}.json"
                path.write_text(json.dumps([[*key, s] for key, s in new.items()]))
            if way != "questions":
                learned = [key for key, score in new.items() if score >= 0.5]
            kinds = {"learned": learned}
            if way != "types":
                kinds["sample"] = [key for key, score in new.items() if score >= tuned]
            for kind, rules in ((kind, rules) for kind in kinds for rules in (False, True)):
                keys = obey(kinds[kind], new) if rules else kinds[kind]
                yield {
                    "data": "sample" if name == "sample" else "conll04 dev",
                    "entities": "trained" if name == "trained" else "gold",
                    "way": way,
                    "threshold": kind,
                    "rules": rules,
                    **({"value": tuned} if kind == "sample" else {}),
                    **measure(keys, entities["sample" if name == "sample" else "gold"]),
                }


def both(
    name: str,
    seed: int,
    scores: dict[tuple[str, str], dict[Key, float]],
    args: argparse.Namespace,
) -> dict[Key, float]:
    """Return the means of the scores of descriptions and questions."""
    parts = []
    for way in ("described", "questions"):
        if (way, name) not in scores:
            rows = json.loads((args.keep / f"{way}_{name}_{seed}.json").read_text())
            scores[way, name] = {tuple(row[:-1]): row[-1] for row in rows}
        parts.append(scores[way, name])
    return {
        key: (parts[0].get(key, 0) + parts[1].get(key, 0)) / 2 for key in {**parts[0], **parts[1]}
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--entities", choices=["gold", "trained"], default="gold")
    parser.add_argument(
        "--reader", choices=list(squad.VARIANTS), default="made questions, then 6 epochs"
    )
    parser.add_argument(
        "--reader-model",
        type=Path,
        help="a pipeline that `squad.py --keep` has kept, instead of training --reader",
    )
    parser.add_argument("--keep", type=Path, help="without_data: folder for pairs and scores")
