"""`python -m spacy spanrel model-card`: the README of a trained pipeline, with its results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..about import __version__
from ..files import place_whole, write_whole
from ..reading import argument_error
from ._app import Printer, app, nothing_written

# Columns of the results: title of the table, and (heading, name of the score).
RESULTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Entities and relations (F1; P and R in the JSON file)",
        (
            ("entities", "ents_f"),
            ("relations: label and both spans", "rel_f"),
            ("and both entity types", "rel_strict_f"),
        ),
    ),
    (
        "Answers",
        (
            ("exact", "qa_exact"),
            ("F1", "qa_f1"),
            ("F1, questions with an answer", "qa_has_ans_f1"),
            ("F1, questions without", "qa_no_ans_f1"),
            ("best F1 of any null threshold", "qa_best_f1"),
        ),
    ),
)
PER_TYPE = (
    ("Entities by type", "ents_per_type"),
    ("Relations by label", "rel_per_type"),
    ("Relations by label, with both entity types", "rel_strict_per_type"),
)
# What of a component's settings a reader asks for first.
SETTINGS = (
    "mode",
    "relation_threshold",
    "threshold",
    "type_constraints",
    "overlaps",
    "symmetric",
    "negative_label",
    "no_answer",
    "null_threshold",
    "max_span_size",
    "max_answer_length",
)
USE = {
    "span_relation": (
        'doc = nlp("Put your text here.")',
        "for relation in doc._.relations:",
        "    print(relation.head.text, relation.label, relation.tail.text, relation.score)",
    ),
    "relation_classifier": (
        "# Reads the relations between the entities in doc.ents: put it behind an NER.",
        'doc = nlp("Put your text here.")',
        "for relation in doc._.relations:",
        "    print(relation.head.text, relation.label, relation.tail.text, relation.score)",
    ),
    "extractive_qa": (
        'qa = nlp.get_pipe("{name}")',
        'print(qa.ask("Put your text here.", "And your question?").to_dict())',
    ),
}


@app.command("model-card", no_args_is_help=True)
def model_card_cli(
    model: Annotated[Path, typer.Argument(help="Folder of a saved pipeline")],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            "-m",
            metavar="NAME=FILE",
            help="Scores of `evaluate --output` on the data NAME; may be given again",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the pipeline, without its language")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", "-v", help="Its version")] = None,
    title: Annotated[str | None, typer.Option("--title", "-T", help="First line")] = None,
    description: Annotated[
        str | None, typer.Option("--description", "-d", help="What it is for, and what it is not")
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", "-l", help="Licence of the weights")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for a copy with the card; MODEL stays as it is"
        ),
    ] = None,
) -> None:
    """Write the README.md of a trained pipeline: what it is, how good it is, how to use it.

    It stands in the pipeline's folder, where `spacy package` finds it; name, version, description,
    licence and scores go into meta.json, too.

    Examples:

    \b
    $ python -m spacy spanrel model-card out/model-best --metrics test=metrics.json
    $ python -m spacy spanrel model-card out/model-best -m dev=dev.json -m test=test.json -l MIT
    $ python -m spacy spanrel model-card out/model-best -m test=metrics.json --output release
    """
    try:
        named = [_named_file(argument) for argument in metrics or []]
        write_model_card(
            model,
            dict(named),
            name=name,
            version=version,
            title=title,
            description=description,
            license_name=license_name,
            output=output,
        )
    except (OSError, ValueError) as error:
        nothing_written((output or model) / "README.md", error)
    typer.echo(Printer(no_print=True).good(f"Wrote {(output or model) / 'README.md'}"))


def _named_file(argument: str) -> tuple[str, Path]:
    name, equals, file = argument.partition("=")
    if not (name and equals and file):
        raise argument_error("--metrics", repr(argument), "NAME=FILE, as in test=metrics.json")
    return name, Path(file)


def write_model_card(
    model: str | Path,
    metrics: Mapping[str, str | Path],
    *,
    name: str | None = None,
    version: str | None = None,
    title: str | None = None,
    description: str | None = None,
    license_name: str | None = None,
    output: str | Path | None = None,
) -> None:
    """Write README.md and complete meta.json in the folder of a pipeline, or in a copy of it.

    model (str | Path): The folder.
    metrics (Mapping[str, str | Path]): Files of scores, as `spacy evaluate --output` writes them,
        by the name of the data.
    name, version, title, description, license_name (str | None): As in the command; None keeps what
        meta.json has.
    output (str | Path | None): Folder of the copy, replaced if it exists.
    RAISES (OSError): If a file cannot be read.
    RAISES (ValueError): If it is no JSON object, or the folder holds no pipeline.
    """
    folder = Path(model)
    if not (folder / "meta.json").is_file() or not (folder / "config.cfg").is_file():
        raise argument_error("MODEL", repr(str(folder)), "the folder of a saved pipeline")
    meta = _read_object(folder / "meta.json")
    results = {data: _read_object(Path(file)) for data, file in metrics.items()}
    given = {"name": name, "version": version, "description": description, "license": license_name}
    meta |= {key: value for key, value in given.items() if value is not None}
    if results:
        # The last data set is the one that counts: spaCy knows one.
        meta["performance"] = list(results.values())[-1]
    config = _read_config(folder / "config.cfg")
    card = model_card(meta, config, results, title=title)
    if output is not None:
        copied = folder
        folder = Path(output)
        place_whole(folder, partial(shutil.copytree, copied))
    write_whole(folder / "meta.json", json.dumps(meta, indent=2).encode("utf8"))
    write_whole(folder / "README.md", card.encode("utf8"))


def model_card(
    meta: Mapping[str, Any],
    config: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    *,
    title: str | None = None,
) -> str:
    """Return a pipeline's README.

    meta (Mapping[str, Any]): Its meta.json.
    config (Mapping[str, Any]): Its config.
    results (Mapping[str, Mapping[str, Any]]): Scores by the name of the data.
    title (str | None): First line; None for the pipeline's full name.
    RETURNS (str): Markdown.
    """
    full_name = f"{meta['lang']}_{meta['name']}"
    lines = [f"# {title or full_name}", ""]
    if meta.get("description"):
        lines += [str(meta["description"]), ""]
    lines += ["## Use", "", "```bash", f"pip install {full_name}-{meta['version']}-*.whl", "```"]
    components = {
        name: config["components"][name]
        for name in config["nlp"]["pipeline"]
        if config["components"][name].get("factory") in USE
    }
    lines += ["", "```python", "import spacy", "", f'nlp = spacy.load("{full_name}")']
    for name, settings in components.items():
        lines += [line.format(name=name) for line in USE[settings["factory"]]]
    lines += ["```", "", "## What it is", ""]
    lines += _table(
        ("", ""),
        [
            ("Name", full_name),
            ("Version", meta["version"]),
            ("spaCy", meta.get("spacy_version") or "-"),
            ("Made with", f"spacy-spanrel {__version__}"),
            ("Pipeline", ", ".join(config["nlp"]["pipeline"])),
            *((row, meta.get(key)) for row, key in (("Licence", "license"), ("Author", "author"))),
        ],
    )
    for name, settings in components.items():
        lines += ["", f"`{name}`:", "", *_table(("setting", "value"), _settings(settings))]
        labels = meta.get("labels", {}).get(name)
        if labels:
            lines += ["", *_labels(labels)]
    lines += ["", "## Training", "", *_table(("setting", "value"), _training(config))]
    if results:
        lines += ["", "## Results", "", *_results(results)]
    return "\n".join(lines) + "\n"


def _settings(component: Mapping[str, Any]) -> list[tuple[str, Any]]:
    model = component.get("model", {})
    encoder = model.get("encoder", model)
    found = [("encoder", encoder.get("name")), ("precision", encoder.get("precision"))]
    return found + [(key, component[key]) for key in SETTINGS if key in component]


def _labels(labels: Any) -> list[str]:
    parts = labels.items() if isinstance(labels, Mapping) else [("labels", labels)]
    lines = []
    for kind, names in parts:
        listed = ", ".join(f"`{name}`" for name in names) if names else "none"
        lines.append(f"- {kind}: {listed}")
    return lines


def _training(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    training = config.get("training", {})
    optimizer = training.get("optimizer", {})
    rows = [("seed", training.get("seed")), ("epochs", training.get("max_epochs"))]
    rows.append(("batch size", training.get("batcher", {}).get("size")))
    for title, key in (("learning rate", "learn_rate"), ("of the heads", "head_learn_rate")):
        rate = optimizer.get(key)
        rows.append((title, rate.get("initial_rate") if isinstance(rate, Mapping) else rate))
    return [(title, value) for title, value in rows if value is not None]


def _results(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for title, columns in RESULTS:
        shown = [
            (heading, key)
            for heading, key in columns
            if any(isinstance(scores.get(key), (int, float)) for scores in results.values())
        ]
        if shown:
            rows = [
                (data, *(_percent(scores.get(key)) for _, key in shown))
                for data, scores in results.items()
            ]
            lines += [f"{title}:", "", *_table(("data", *(name for name, _ in shown)), rows), ""]
    for data, scores in results.items():
        for title, key in PER_TYPE:
            found = scores.get(key)
            if found:
                rows = [
                    (label, *(_percent(parts.get(part)) for part in "prf"))
                    for label, parts in sorted(found.items())
                ]
                lines += [f"{title}, {data}:", "", *_table(("", "P", "R", "F1"), rows), ""]
    return lines[:-1]


def _percent(score: Any) -> str:
    return f"{100 * score:.2f}" if isinstance(score, (int, float)) else "-"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(value: Any) -> str:
    text = "-" if value is None or value == "" else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except json.JSONDecodeError as error:
        raise argument_error(str(path), str(error), "JSON") from error
    if not isinstance(found, dict):
        raise argument_error(str(path), type(found).__name__, "a JSON object of scores")
    return found


def _read_config(path: Path) -> Mapping[str, Any]:
    from thinc.api import Config

    return Config().from_disk(path, interpolate=True)
