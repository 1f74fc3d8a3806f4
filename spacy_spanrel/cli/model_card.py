"""`python -m spacy spanrel model-card`: the README of a trained pipeline, with its results.

Names, labels and descriptions come from files that others may have written. They are escaped, so that
they appear on the page as they are and add no markup to it. Of a checkpoint's path only the last part
is published.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import typer

from ..about import __version__
from ..errors import Errors
from ..files import check_folder, check_output, place_whole, to_json, to_plain, write_whole
from ..markup import clean, escape
from ..reading import JsonValue, Place, argument_error, read_json
from ._app import app, done, failing_with

# Tables of results: title, and a heading and the name of a score for each column.
RESULTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Entities and relations (F1; P and R in the JSON file)",
        (
            ("entities", "ents_f"),
            ("relations: label and both spans", "rel_f"),
            ("and both entity types", "rel_strict_f"),
            ("mean over relations, both directions of a label together", "rel_semeval_macro_f"),
            ("relations between entities", "rel_entity_f"),
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
# The settings of a component that readers ask for first.
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
        "# Classifies the relations between the entities in doc.ents, so an NER must come before it.",
        'doc = nlp("Put your text here.")',
        "for relation in doc._.relations:",
        "    print(relation.head.text, relation.label, relation.tail.text, relation.score)",
    ),
    "extractive_qa": (
        "qa = nlp.get_pipe({name})",
        'print(qa.ask("Put your text here.", "And your question?").to_dict())',
    ),
}
# A package of the pipeline needs such a name; and nothing in it is markup.
_NAME = re.compile(r"\w+(?:[.-]\w+)*")
_VERSION = re.compile(r"[\w.+!-]+")
# Characters that begin markup anywhere; "_" inside a word does not, as in names of labels.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
# Headings, lists, quotes and rules begin with one of these.
_LINE_START = re.compile(r"^(?:[#+=>-]|\d+[.)])")


@app.command("model-card", no_args_is_help=True)
def model_card_cli(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a saved pipeline")],
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            "-m",
            metavar="NAME=FILE",
            help="Name of a data set and a file that `evaluate --output` wrote for it; may be repeated",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the pipeline, without its language")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", "-v", help="Version of the pipeline")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", "-T", help="Heading, if not the full name")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option("--description", "-d", help="Plain text: what it is for, and what it is not"),
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

    The file is written into the pipeline's folder, where `spacy package` finds it. Name, version,
    description, licence and scores are also stored in meta.json.

    Examples:

    \b
    $ python -m spacy spanrel model-card out/model-best --metrics test=metrics.json
    $ python -m spacy spanrel model-card out/model-best -m dev=dev.json -m test=test.json -l MIT
    $ python -m spacy spanrel model-card out/model-best -m test=metrics.json --output release
    """
    with failing_with(f"Nothing written to {(output or model) / 'README.md'}"):
        write_model_card(
            model,
            dict(_named_file(argument) for argument in metrics or []),
            name=name,
            version=version,
            title=title,
            description=description,
            license_name=license_name,
            output=output,
        )
    done(f"Wrote {(output or model) / 'README.md'}")


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

    model (str | Path): The pipeline's folder.
    metrics (Mapping[str, str | Path]): Files of scores, as `evaluate --output` and `spacy evaluate
        --output` write them, by the name of the data.
    name, version, title, description, license_name (str | None): As in the command; None keeps the
        value in meta.json.
    output (str | Path | None): Folder of the copy. It is replaced if it holds a saved pipeline and
        nothing else.
    RAISES (OSError): If a file cannot be read or written.
    RAISES (ValueError): If a file does not hold what it should, or the output would overwrite an
        input.
    """
    folder = Path(model)
    if not (folder / "meta.json").is_file() or not (folder / "config.cfg").is_file():
        raise argument_error("MODEL", repr(str(folder)), "the folder of a saved pipeline")
    if output is not None:
        check_folder(output, folder, *metrics.values())
    else:
        for file in ("README.md", "meta.json"):
            check_output(folder / file, *metrics.values())
    given = {"name": name, "version": version, "description": description, "license": license_name}
    meta = _read_meta(folder / "meta.json", given)
    results = {data: _read_scores(Path(file)) for data, file in metrics.items()}
    if results:
        # spaCy's meta.json holds the scores of one data set: the last one.
        meta["performance"] = list(results.values())[-1]
    card = model_card(meta, _read_config(folder / "config.cfg"), results, title=title)

    def write(target: Path) -> None:
        if target != folder:
            shutil.copytree(folder, target)
        write_whole(target / "meta.json", json.dumps(to_plain(meta), indent=2).encode())
        write_whole(target / "README.md", card.encode())

    if output is None:
        write(folder)
    else:
        place_whole(output, write, inputs=[folder, *metrics.values()])


def model_card(
    meta: Mapping[str, Any],
    config: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    *,
    title: str | None = None,
) -> str:
    """Return the README of a pipeline.

    meta (Mapping[str, Any]): The pipeline's meta.json.
    config (Mapping[str, Any]): Its config.
    results (Mapping[str, Mapping[str, Any]]): Scores, by the name of the data.
    title (str | None): Heading; None for the pipeline's full name.
    RETURNS (str): Markdown.
    """
    full_name = f"{meta['lang']}_{meta['name']}"
    lines = [f"# {_text(title or full_name)}", ""]
    if meta.get("description"):
        paragraphs = re.split(r"\n\s*\n", str(meta["description"]).strip())
        lines += [line for paragraph in paragraphs for line in (_paragraph(paragraph), "")]
    lines += ["## Use", "", "```bash", f"pip install {full_name}-{meta['version']}-*.whl", "```"]
    components = {
        name: config["components"][name]
        for name in config["nlp"]["pipeline"]
        if config["components"][name].get("factory") in USE
    }
    lines += ["", "```python", "import spacy", "", f'nlp = spacy.load("{full_name}")']
    for name, settings in components.items():
        lines += [line.replace("{name}", to_json(name)) for line in USE[settings["factory"]]]
    lines += ["```", "", "## What it is", ""]
    lines += _table(
        ("", ""),
        [
            ("Name", full_name),
            ("Version", meta["version"]),
            ("spaCy", meta.get("spacy_version")),
            ("Made with", f"spacy-spanrel {__version__}"),
            ("Pipeline", ", ".join(config["nlp"]["pipeline"])),
            *((row, meta.get(key)) for row, key in (("Licence", "license"), ("Author", "author"))),
        ],
    )
    for name, settings in components.items():
        lines += ["", f"{_code(name)}:", "", *_table(("setting", "value"), _settings(settings))]
        labels = _section(meta, "labels").get(name)
        if labels:
            lines += ["", *_labels(labels)]
    lines += ["", "## Training", "", *_table(("setting", "value"), _training(config))]
    if results:
        lines += ["", "## Results", "", *_results(results)]
    return clean("\n".join(lines)) + "\n"


def _settings(component: Mapping[str, Any]) -> list[tuple[str, Any]]:
    model = _section(component, "model")
    encoder = _section(model, "encoder") or model
    rows = [
        ("encoder", _checkpoint_name(encoder.get("name"))),
        ("precision", encoder.get("precision")),
    ]
    return rows + [(key, component[key]) for key in SETTINGS if key in component]


def _checkpoint_name(name: Any) -> Any:
    """Return the name of a checkpoint without the folders of its author's machine.

    Names on the Hugging Face Hub have one slash at most, and stay as they are.
    """
    if not isinstance(name, str) or re.fullmatch(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", name):
        return name
    return PureWindowsPath(name).name  # knows both kinds of slashes


def _labels(labels: Any) -> list[str]:
    by_kind = labels if isinstance(labels, Mapping) else {"labels": labels}
    lines = []
    for kind, names in by_kind.items():
        names = names if isinstance(names, list) else [names]
        lines.append(f"- {_text(kind)}: {', '.join(map(_code, names)) or 'none'}")
    return lines


def _training(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    training = _section(config, "training")
    optimizer = _section(training, "optimizer")
    rows = [("seed", training.get("seed")), ("epochs", training.get("max_epochs"))]
    rows.append(("batch size", _section(training, "batcher").get("size")))
    for title, key in (("learning rate", "learn_rate"), ("of the heads", "head_learn_rate")):
        rate = optimizer.get(key)
        rows.append((title, rate.get("initial_rate") if isinstance(rate, Mapping) else rate))
    return [(title, value) for title, value in rows if value is not None]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a config; an empty one if it has none of that name."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _results(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for title, columns in RESULTS:
        used = [
            (heading, key)
            for heading, key in columns
            if any(scores.get(key) is not None for scores in results.values())
        ]
        if used:
            rows = [
                (data, *(_percent(scores.get(key)) for _, key in used))
                for data, scores in results.items()
            ]
            lines += [f"{title}:", "", *_table(("data", *(name for name, _ in used)), rows), ""]
    for data, scores in results.items():
        for title, key in PER_TYPE:
            if scores.get(key):
                rows = [
                    (label, *(_percent(values.get(name)) for name in "prf"))
                    for label, values in sorted(scores[key].items())
                ]
                lines += [f"{title}, {_text(data)}:", "", *_table(("", "P", "R", "F1"), rows), ""]
    return lines[:-1]


def _percent(score: float | None) -> str:
    return "-" if score is None or not math.isfinite(score) else f"{100 * score:.2f}"


# Markdown


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else _text(value)


def _text(value: Any) -> str:
    """Return a value as one line of text that neither Markdown nor HTML takes for markup."""
    line = " ".join(str(value).split())
    return escape(_MARKDOWN.sub(r"\\\g<0>", line)).replace("&quot;", '"').replace("&#x27;", "'")


def _paragraph(text: str) -> str:
    """Return text as a paragraph, whatever it begins with."""
    return _LINE_START.sub(lambda match: match[0][:-1] + "\\" + match[0][-1], _text(text))


def _code(value: Any) -> str:
    """Return a value as code within a line."""
    line = " ".join(str(value).split())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


# Reading


def _read_meta(path: Path, given: Mapping[str, str | None]) -> dict[str, Any]:
    """Read meta.json, with the values that the user gives instead of those that it has."""
    meta = read_json(path)
    meta.as_dict().update({key: value for key, value in given.items() if value is not None})
    rules = {
        "lang": (_NAME, "letters, digits and '_'"),
        "name": (_NAME, "letters, digits, '_', '-' and '.' (choose one with --name)"),
        "version": (_VERSION, "a version such as 1.0.0 (choose one with --version)"),
    }
    for key, (pattern, expected) in rules.items():
        value = meta[key]
        if not isinstance(value.raw, str) or not pattern.fullmatch(value.raw):
            raise value.wrong_kind(expected)
    return meta.as_dict()


def _read_scores(path: Path) -> dict[str, Any]:
    scores = read_json(path)
    numbers = [scores.get(key) for _, columns in RESULTS for _, key in columns]
    for _, key in PER_TYPE:
        per_type = scores.get(key)
        if per_type is not None:
            numbers += [values.get(name) for _, values in per_type.items() for name in "prf"]
    for n in numbers:
        if n is not None and (isinstance(n.raw, bool) or not isinstance(n.raw, (int, float))):
            raise n.wrong_kind("a number, or null")
    return scores.as_dict()


def _read_config(path: Path) -> dict[str, Any]:
    from thinc.api import Config

    place = Place(str(path))
    try:
        config = JsonValue(Config().from_disk(path, interpolate=True), place)
    except Exception as error:  # the parser of configs has many ways to fail
        raise place.error(
            Errors.E604, found=str(error), expected="the config of a pipeline"
        ) from error
    pipeline = config["nlp"]["pipeline"]
    components = config.get("components")
    names = {} if components is None else components.as_dict()
    for name in pipeline:
        if not isinstance(names.get(name.as_str()), Mapping):
            raise name.wrong_kind(f"one of the [components]: {', '.join(names) or '(none)'}")
    return config.as_dict()
