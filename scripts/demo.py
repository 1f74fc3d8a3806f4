"""Train the three components on the sample corpus, score them on its test part, and draw a page.

    python scripts/demo.py
    python scripts/demo.py --precision float32

Two processes share the processor's cores: one trains `span_relation` and then `relation_classifier`,
the other one `extractive_qa`. Small networks gain less from a second core than this. The settings
were chosen on the development part of the corpus. The trained pipelines are saved in `training`, the
scores, a report of all predictions for each component and the page in `metrics`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spacy
from ask import read as read_questions
from ask import show as show_answer
from jinja2 import Environment, FileSystemLoader
from show import read_texts, relation_rows
from spacy.cli.train import train as spacy_train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import load_config, registry
from wasabi import msg, row

from spacy_spanrel import get_answers, set_questions
from spacy_spanrel.cli import convert, evaluate, make_questions
from spacy_spanrel.visualize import render
from spacy_spanrel.visualize.page import make_page

ROOT = Path(__file__).parents[1]
SAMPLE, CONFIGS = ROOT / "assets" / "sample", ROOT / "configs"
CORPUS, TRAINING, METRICS = ROOT / "corpus", ROOT / "training", ROOT / "metrics"
PAGE = METRICS / "demo.html"
PARTS = ("train", "dev", "test")
# What a pipeline is asked after each evaluation, so that one can watch it learn.
SENTENCE = "Ada Bergstrom , a chemist at Kelvin Labs in Oslo , was born in Trondheim ."
QUESTION = "Where was Ada Bergstrom born?"
LOGGER = "spacy-spanrel.demo"
# Seconds between two lines of progress.
PAUSE = 10


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    config (str): File in `configs`.
    batch_size, epochs (int): Docs or questions in a batch, and passes over the data.
    learn_rate, head_learn_rate (float): Highest learning rates of the encoder and of the head.
    evaluations (int): Evaluations on the development part.
    settings (dict[str, Any]): Other settings by their path in the config.
    """

    config: str
    batch_size: int
    epochs: int
    learn_rate: float
    head_learn_rate: float
    evaluations: int
    settings: dict[str, Any] = field(default_factory=dict)


RELATIONS = Recipe(
    "span_relation_minilm.cfg",
    batch_size=8,
    epochs=10,
    learn_rate=3e-4,
    head_learn_rate=1.5e-3,
    evaluations=5,
    settings={"components.span_relation.model.encoder.frozen_layers": 2},
)
PAIRS = Recipe(
    "relation_classifier_minilm.cfg",
    batch_size=8,
    epochs=4,
    learn_rate=3e-4,
    head_learn_rate=1e-3,
    evaluations=2,
    settings={
        "components.relation_classifier.max_negatives": 2,
        "components.relation_classifier.model.frozen_layers": 2,
    },
)
# The reader learns from questions made from the texts first, and then from those of the corpus.
MADE_QUESTIONS = Recipe(
    "extractive_qa_minilm.cfg",
    batch_size=8,
    epochs=1,
    learn_rate=2e-4,
    head_learn_rate=1e-3,
    evaluations=1,
    settings={"components.extractive_qa.model.frozen_layers": 2},
)
QUESTIONS = Recipe(
    "extractive_qa_continue.cfg",
    batch_size=8,
    epochs=3,
    learn_rate=2e-4,
    head_learn_rate=5e-4,
    evaluations=3,
    settings={"paths.reader": str(TRAINING / "sample_made" / "model-last")},
)
# Score in metrics/*.json: its name here.
SCORES = {
    "sample": {"ents_f": "entities, F1", "rel_strict_f": "relations, strict F1"},
    "sample_paragraphs": {"rel_strict_f": "relations in paragraphs, strict F1"},
    "sample_pairs": {"rel_f": "relations of given pairs, F1"},
    "sample_qa": {
        "qa_has_ans_f1": "questions with an answer, F1",
        "qa_no_ans_f1": "questions without an answer, F1",
    },
}
COMPONENT = {
    "sample": "span_relation",
    "sample_paragraphs": "span_relation",
    "sample_pairs": "relation_classifier",
    "sample_qa": "extractive_qa",
}


@dataclass
class Outcome:
    """The result of one of the two processes.

    times (list[tuple[str, str, float, float]]): Component, step, seconds and CPU seconds.
    pictures (dict[str, str]): Markup by component.
    """

    times: list[tuple[str, str, float, float]] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, step: str) -> Iterator[None]:
        """Take the time of a step."""
        start, start_cpu = time.perf_counter(), time.process_time()
        yield
        seconds = (time.perf_counter() - start, time.process_time() - start_cpu)
        self.times.append((COMPONENT[name], step, *seconds))


def say(name: str, text: str) -> None:
    """Print lines, each behind the name of a component, at once."""
    lines = [f"{COMPONENT[name]:19} {line}" for line in text.splitlines()]
    print("\n".join(lines), file=sys.__stdout__, flush=True)


def follow(name: str) -> None:
    """Register a logger that prints short lines for a component."""

    def logger(**_: Any) -> Callable[..., Any]:
        def setup(nlp: Language, *_: Any) -> tuple[Callable[..., None], Callable[[], None]]:
            start = said = time.perf_counter()
            step, total = -1, nlp.config["schedule"]["total_steps"]

            def log(info: dict[str, Any] | None) -> None:
                nonlocal step, said
                step, now = step + 1, time.perf_counter()
                if step == 0 or (info is None and now - said < PAUSE):
                    return
                said = now
                line = f"{now - start:4.0f} s  step {step:3} of {total}"
                if info is not None:
                    dev = {k: info["other_scores"].get(k) for k in SCORES[name]}
                    scores = [f"{SCORES[name][k]} {100 * v:.1f}" for k, v in dev.items() if v]
                    line += f"  dev: {', '.join(scores) or 'nothing yet'}{_sample(name, nlp)}"
                say(name, line)

            return log, lambda: None

        return setup

    registry.loggers.register(LOGGER, func=logger)


def _sample(name: str, nlp: Language) -> str:
    """Return what a pipeline finds in the example, as lines."""
    if name == "sample":
        rows = relation_rows(nlp(SENTENCE), "relations")
        return "".join(f"\n    {head} -- {label} --> {tail}" for head, label, tail, _ in rows)
    if name == "sample_qa":
        qa: Any = nlp.get_pipe("extractive_qa")
        return f"\n    {QUESTION} {show_answer(qa.ask(SENTENCE, QUESTION))}"
    return ""


def train(name: str, recipe: Recipe, folder: str, data: Path, n_items: int, args: Any) -> None:
    """Train a pipeline by `spacy train`, whose own messages are left out.

    name (str): Name of the pipeline's corpus.
    recipe (Recipe): The settings.
    folder (str): Folder in `training` for the pipeline.
    data (Path): The training data; the development data lies beside it.
    n_items (int): Number of its Docs or questions.
    args (Namespace): The command line.
    """
    epoch = math.ceil(n_items / recipe.batch_size)
    steps = epoch * recipe.epochs
    component = f"components.{COMPONENT[name]}"
    overrides = {
        "paths.train": str(data),
        "paths.dev": str(data.parent / "dev.spacy"),
        "system.seed": args.seed,
        "schedule.batch_size": recipe.batch_size,
        "schedule.epochs": recipe.epochs,
        "schedule.warmup_steps": steps // 10,
        "schedule.total_steps": steps,
        "training.max_steps": args.max_steps,
        # The last evaluation comes with the last steps.
        "training.eval_frequency": max(
            1, (min(steps, args.max_steps or steps) - 1) // recipe.evaluations
        ),
        "training.logger": {"@loggers": LOGGER},
        "training.optimizer.learn_rate.initial_rate": recipe.learn_rate,
        "training.optimizer.head_learn_rate.initial_rate": recipe.head_learn_rate,
        **recipe.settings,
    }
    if "paths.reader" not in overrides:
        encoder = ".encoder" if name == "sample" else ""
        overrides[f"{component}.model{encoder}.precision"] = args.precision
    say(name, f"training for {steps} steps ({recipe.epochs} epochs of {n_items} items)")
    follow(name)
    with redirect_stdout(io.StringIO()) as messages:
        try:
            spacy_train(CONFIGS / recipe.config, TRAINING / folder, overrides=overrides)
        except SystemExit as error:  # spaCy has printed why
            raise RuntimeError(messages.getvalue()) from error
    logger = load_config(CONFIGS / recipe.config)["training"]["logger"]
    for model in ("model-best", "model-last"):  # nobody else knows the logger of this program
        path = TRAINING / folder / model / "config.cfg"
        config = load_config(path)
        config["training"]["logger"] = logger
        config.to_disk(path)


def score(name: str, model: Path, corpus: Path) -> None:
    """Score a pipeline on a corpus, and write a report of its predictions."""
    (METRICS / f"{name}.json").unlink(missing_ok=True)
    evaluate(model, corpus, output=METRICS / f"{name}.json", report=METRICS / f"{name}.html")
    say(name, "test: " + ", ".join(f"{label} {value}" for label, value in read_scores(name)))


def read_scores(name: str) -> list[tuple[str, str]]:
    """Return names and values of the scores of a pipeline on the test part."""
    scores = json.loads((METRICS / f"{name}.json").read_text(encoding="utf8"))
    return [(label, f"{100 * scores[key]:.1f}") for key, label in SCORES[name].items()]


def draw(name: str, docs: list[Doc]) -> str:
    """Print the relations of texts, and return their pictures."""
    for doc in docs:
        lines = [
            f"    {h} -- {label} --> {t}" for h, label, t, _ in relation_rows(doc, "relations")
        ]
        say(name, "\n".join([doc.text, *(lines or ["    no relation"])]))
    return figures(docs, "relations")


def figures(docs: list[Doc], style: Any) -> str:
    """Return the pictures of Docs as figures of a page."""
    pictures = (render(doc, style, jupyter=False) for doc in docs)
    return "\n".join(f"<figure>{picture}</figure>" for picture in pictures)


def convert_spert(name: str, negatives: str | None = None) -> int:
    """Convert the entities and relations, and return the number of texts to train on."""
    for part in PARTS:
        convert(
            "spert",
            [SAMPLE / f"{part}.json"],
            CORPUS / name / f"{part}.spacy",
            types=SAMPLE / "types.json",
            negatives=negatives,
            quiet=True,
        )
    return len(DocBin().from_disk(CORPUS / name / "train.spacy"))


def relations(args: argparse.Namespace) -> Outcome:
    """Train both components for relations, score them, and draw what they find in new texts."""
    outcome = Outcome()
    texts = list(read_texts([str(SAMPLE / "new.txt")]))
    paragraphs = CORPUS / "sample" / "paragraphs.spacy"
    finder: Language | None = None
    for name, recipe, negatives in (
        ("sample", RELATIONS, None),
        ("sample_pairs", PAIRS, "no_relation"),
    ):
        with outcome.step(name, "convert"):
            n_docs = convert_spert(name, negatives)
            if name == "sample":
                folder = SAMPLE / "paragraphs_test"
                types = SAMPLE / "types.json"
                convert("brat", [folder], paragraphs, types=types, coref="Coref", quiet=True)
        with outcome.step(name, "train"):
            train(name, recipe, name, CORPUS / name / "train.spacy", n_docs, args)
        with outcome.step(name, "score"):
            model = TRAINING / name / "model-best"
            score(name, model, CORPUS / name / "test.spacy")
            if name == "sample":
                score("sample_paragraphs", model, paragraphs)
        with outcome.step(name, "read new texts"):
            nlp = spacy.load(model)
            if finder is not None:
                for pipe in reversed(finder.pipe_names):  # finds the entities
                    nlp.add_pipe(pipe, source=finder, first=True)
            outcome.pictures[name] = draw(name, list(nlp.pipe(texts)))
            finder = nlp
    return outcome


def reader(args: argparse.Namespace) -> Outcome:
    """Train the reader, score it, and draw its answers to questions of the test part."""
    name, outcome = "sample_qa", Outcome()
    data = CORPUS / name
    with outcome.step(name, "convert"):
        for part in PARTS:
            convert("squad", [SAMPLE / f"qa_{part}.json"], data / f"{part}.spacy", quiet=True)
        convert_spert("sample_qa/texts")
    with outcome.step(name, "make questions"):
        made = make_questions(
            [data / "train.spacy", data / "texts" / "train.spacy"],
            data / "made.spacy",
            per_text=8,
            seed=args.seed,
        )
        say(name, f"{made.questions} questions made from {made.texts} texts")
    with outcome.step(name, "train on made questions"):
        train(name, MADE_QUESTIONS, "sample_made", data / "made.spacy", made.questions, args)
    with outcome.step(name, "train on questions of the corpus"):
        docs = DocBin().from_disk(data / "train.spacy").get_docs(spacy.blank("en").vocab)
        n_questions = sum(len(get_answers(doc)) for doc in docs)
        train(name, QUESTIONS, name, data / "train.spacy", n_questions, args)
    with outcome.step(name, "score"):
        model = TRAINING / name / "model-best"
        score(name, model, data / "test.spacy")
    with outcome.step(name, "read new texts"):
        nlp, docs = spacy.load(model), []
        for text, questions, _ in read_questions([str(SAMPLE / "qa_test.json")], limit=2):
            doc = nlp.make_doc(text)
            set_questions(doc, questions)
            docs.append(nlp(doc))
            answers = [f"    {a.question.text} {show_answer(a)}" for a in get_answers(doc)]
            say(name, "\n".join([text[:100] + " ...", *answers]))
        outcome.pictures[name] = figures(docs, "answers")
    return outcome


def write_page(pictures: dict[str, str], times: list[tuple[str, ...]], total: str) -> None:
    """Write the page with pictures, scores and times."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    content = environment.get_template("demo.html.j2").render(
        scores=[(COMPONENT[name], name, *row) for name in SCORES for row in read_scores(name)],
        sections=[(COMPONENT[name], pictures[name]) for name in SCORES if name in pictures],
        times=times,
        total=total,
    )
    PAGE.write_text(
        make_page(content, title="spacy-spanrel: demo", lang="en", direction="ltr"), encoding="utf8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--max-steps", type=int, default=0, help="stop trainings after so many steps"
    )
    args = parser.parse_args()
    start = time.perf_counter()
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // 2))  # for each of the two processes
    METRICS.mkdir(exist_ok=True)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        outcomes = [job.result() for job in [pool.submit(f, args) for f in (relations, reader)]]
    rows = [time for outcome in outcomes for time in outcome.times]
    times = [(name, step, f"{wall:.0f}", f"{cpu:.0f}") for name, step, wall, cpu in rows]
    total = f"{time.perf_counter() - start:.0f}"
    write_page({k: v for o in outcomes for k, v in o.pictures.items()}, times, total)
    msg.divider("Time")
    aligns = ("l", "l", "r", "r")
    header = ("Component", "Step", "Seconds", "CPU seconds")
    msg.table(times, header=header, divider=True, aligns=aligns)
    print(row(["Both processes, side by side", f"{total} s"]))
    msg.divider("Scores on the test part")
    msg.table([(COMPONENT[n], *scores) for n in SCORES for scores in read_scores(n)])
    msg.good(f"Pictures and scores: {PAGE}")


if __name__ == "__main__":
    main()
