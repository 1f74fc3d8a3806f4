"""Reference tables of the documentation, made from the code, so that they are always up to date.

This is a hook of MkDocs (see mkdocs.yml). A line of a page with one of these comments becomes a table
or a section:

    <!-- settings: factory span_relation -->               settings of a component
    <!-- settings: architectures spacy-spanrel.SpERT.v1 -->  arguments of a registered function
    <!-- object: spacy_spanrel.visualize.render -->        a function or class of the package
    <!-- commands -->                                      all commands of `python -m spacy spanrel`
    <!-- results: speed.jsonl -->                          results of a benchmark (docs/results)

The meanings of settings come from the docstrings of their functions ("name (type): meaning").
"""

from __future__ import annotations

import html
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

# Arguments of every factory, which docstrings need not repeat; None for those that users never give.
COMMON: dict[str, tuple[str, str] | None] = {
    "nlp": None,
    "name": None,
    "model": ("Model", "The network: an architecture with settings of its own."),
}

RESULTS = Path(__file__).parents[1] / "docs" / "results"
_MARKER = re.compile(r"^<!-- (settings|object|commands|results)(?:: (.+?))? -->$", re.MULTILINE)
# "name (type): ", "name, other (type): " or "name (type), other (type): "
_NAMES = r"\*{0,2}\w+(?:, \*{0,2}\w+)*"
_ARGUMENT = re.compile(rf"({_NAMES} \([^()]*\)(?:, {_NAMES} \([^()]*\))*): ?(.*)")
_BARE_ARGUMENT = re.compile(r"(\*{0,2}[a-z_]+): ?(.*)")
_ONE = re.compile(rf"({_NAMES}) \(([^()]*)\)")
_QA_SCORES = ("qa_exact", "qa_f1", "qa_has_ans_f1", "qa_no_ans_f1", "qa_best_f1")
_RESULT = re.compile(r"(RETURNS|YIELDS|RAISES)(?: \((.*?)\))?: ?(.*)")


@dataclass(frozen=True)
class Argument:
    """An argument as a docstring describes it.

    name, type, meaning (str): The parts of its description; `type` may be "".
    """

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring.

    text (str): The prose, as Markdown.
    arguments (dict[str, Argument]): The arguments by name.
    results (list[tuple[str, str, str]]): "RETURNS", "YIELDS" or "RAISES", type, meaning.
    """

    text: str
    arguments: dict[str, Argument]
    results: list[tuple[str, str, str]]


def parse_docstring(docstring: str) -> Docstring:
    """Split a docstring into its parts.

    docstring (str): The docstring as written in the code.
    RETURNS (Docstring): Its parts.
    """
    text: list[str] = []
    arguments: dict[str, Argument] = {}
    results: list[tuple[str, str, str]] = []
    lines = inspect.cleandoc(docstring).splitlines()
    begun = False  # before the first argument, "word: ..." without a type is prose
    while lines:
        line = lines.pop(0)
        result, argument = _RESULT.fullmatch(line), _ARGUMENT.fullmatch(line)
        bare = _BARE_ARGUMENT.fullmatch(line) if begun and argument is None else None
        match = result or argument or bare
        if match is None:
            text.append(line)
            continue
        more = []
        while lines and lines[0].startswith("    "):
            more.append(lines.pop(0).strip())
        meaning = " ".join([match[match.re.groups], *more]).strip()
        if result is not None:
            results.append((result[1], result[2] or "", meaning))
            continue
        begun = True
        groups = _ONE.findall(match[1]) if argument is not None else [(match[1], "")]
        for names, kind in groups:
            for name in names.split(", "):
                arguments[name.lstrip("*")] = Argument(name.lstrip("*"), kind, meaning)
    return Docstring("\n".join(text).strip(), arguments, results)


def registered(kind: str, name: str) -> Callable[..., Any]:
    """Return a registered function.

    kind (str): "factory", or a registry of spaCy such as "architectures".
    name (str): Its name.
    RETURNS (Callable): The function; for a factory, the function that makes the component.
    """
    import spacy
    from spacy.language import Language

    if kind == "factory":
        spacy.blank("xx").has_factory(name)  # loads the entry points
        Language.get_factory_meta(name)
        factory: Callable[..., Any] = spacy.registry.get("factories", name)
        return factory
    function: Callable[..., Any] = spacy.registry.get(kind, name)
    return function


def arguments_of(kind: str, name: str) -> list[tuple[Argument, Any]]:
    """Return the arguments of a registered function with their defaults.

    kind, name (str): As in `registered`.
    RETURNS (list[tuple[Argument, Any]]): Arguments in the order of the signature. The default of a
        required one is `inspect.Parameter.empty`.
    RAISES (ValueError): If the docstring does not describe an argument.
    """
    from spacy.language import Language

    function = registered(kind, name)
    described = parse_docstring(function.__doc__ or "").arguments
    defaults: Mapping[str, Any] = {}
    if kind == "factory":
        defaults = Language.get_factory_meta(name).default_config
    arguments = []
    for parameter in inspect.signature(function).parameters.values():
        argument = described.get(parameter.name)
        if argument is None and kind == "factory" and parameter.name in COMMON:
            common = COMMON[parameter.name]
            if common is None:
                continue
            argument = Argument(parameter.name, *common)
        if argument is None:
            raise ValueError(f"The docstring of {name!r} does not describe {parameter.name!r}.")
        arguments.append((argument, defaults.get(parameter.name, parameter.default)))
    return arguments


def settings_table(kind: str, name: str) -> str:
    """Return the settings of a registered function as a table in Markdown."""
    rows = [
        (code(a.name), code(a.type), show_default(default), inline(a.meaning))
        for a, default in arguments_of(kind, name)
    ]
    if not rows:
        return "*No settings.*"
    return table(("Setting", "Type", "Default", "Meaning"), rows)


def show_default(value: Any) -> str:
    """Return a default as it is written in a config file."""
    if value is inspect.Parameter.empty:
        return "*required*"
    if isinstance(value, Mapping):
        nested = next((str(value[key]) for key in value if str(key).startswith("@")), None)
        if nested is not None:
            return code(nested.removeprefix("spacy-spanrel."))
    return code(json.dumps(value))


def object_section(path: str) -> str:
    """Return the description of a function or class, with its arguments.

    path (str): Module and name, such as "spacy_spanrel.visualize.render".
    RETURNS (str): Markdown.
    """
    module, _, name = path.rpartition(".")
    parts = [module]
    while True:
        try:
            target = importlib.import_module(parts[0])
            break
        except ModuleNotFoundError:
            head, _, last = parts[0].rpartition(".")
            if not head:
                raise
            parts = [head, last, *parts[1:]]
    for part in [*parts[1:], name]:
        target = getattr(target, part)
    docs = parse_docstring(target.__doc__ or "")
    owner = f"{parts[-1]}." if len(parts) > 1 else ""
    parameters = [p for p in inspect.signature(target).parameters.values() if p.name != "self"]
    names = [_parameter(p) for p in parameters]
    kinds = [p.kind for p in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        names.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    lines = ["```python", f"{owner}{name}({', '.join(names)})", "```", "", _prose(docs.text), ""]
    rows = [
        (code(p.name), code(argument.type), inline(argument.meaning))
        for p in parameters
        if (argument := docs.arguments.get(p.name)) is not None
    ]
    if rows:
        lines += [table(("Argument", "Type", "Meaning"), rows), ""]
    for what, kind_of, meaning in docs.results:
        lines.append(
            f"- *{what.lower()}* {code(kind_of)}{': ' if kind_of else ''}{inline(meaning)}"
        )
    return "\n".join(lines)


def _parameter(parameter: inspect.Parameter) -> str:
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    name = prefix.get(parameter.kind, "") + parameter.name
    if parameter.default is inspect.Parameter.empty:
        return name
    value = repr(parameter.default)
    # Some defaults have no literal, such as the factory of a dataclass.
    return f"{name}={'...' if value.startswith('<') else value}"


def _prose(text: str) -> str:
    """Return the prose of a docstring as Markdown; samples after "::" become blocks of code."""
    parts = []
    for block in re.split(r"(?m)(?<=::)\n\n((?:(?:    .*)?\n?)+)", text):
        if block.endswith("::"):
            parts.append(block[:-1])
        elif block.startswith("    "):
            parts.append(f"\n```text\n{textwrap.dedent(block).strip()}\n```\n")
        else:
            parts.append(block)
    return "\n".join(parts)


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command.

    name (str): Its name as users write it: "MODEL", or "--output, -o".
    value (str): The kind of value, as Markdown; "" for a switch.
    default (str): The default, as Markdown; "" for none.
    help (str): Its meaning.
    is_option (bool): Whether it is an option.
    """

    name: str
    value: str
    default: str
    help: str
    is_option: bool


def commands() -> dict[str, Any]:
    """Return typer's records of all commands of the package, by name."""
    from spacy_spanrel.cli import app

    return {str(info.name): info for info in sorted(app.registered_commands, key=lambda i: i.name)}


def parameters_of(callback: Callable[..., Any]) -> list[Parameter]:
    """Return the arguments and options of a command.

    callback (Callable): The function of the command. Its annotations are the same with every version
        of typer.
    RETURNS (list[Parameter]): Parameters in the order of the signature, without hidden options.
    """
    hints = get_type_hints(callback, include_extras=True)
    parameters = []
    for parameter in inspect.signature(callback).parameters.values():
        annotation = hints[parameter.name]
        if get_origin(annotation) is not Annotated:
            continue  # the context
        kind, info = get_args(annotation)
        if info.hidden:
            continue
        if info.hidden:
            continue  # an old name
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not NoneType)
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
        is_option = type(info).__name__ == "OptionInfo"
        # In an Annotated, typer stores the first name as the default.
        names = [name for name in (info.default, *(info.param_decls or ())) if is_name(name)]
        name = ", ".join(names) or info.metavar or parameter.name.upper()
        default = parameter.default
        if default is inspect.Parameter.empty:
            shown = "*required*"
        elif default is None or default is False or default == "":
            shown = ""
        else:
            shown = code(str(getattr(default, "value", default)))
        parameters.append(Parameter(name, _values(kind, info.metavar), shown, info.help, is_option))
    return parameters


def is_name(value: object) -> bool:
    """Return whether a value is the name of an option."""
    return isinstance(value, str) and value.startswith("-")


def _values(kind: Any, metavar: str | None) -> str:
    if kind is bool:
        return ""
    if metavar is None and issubclass(kind, Enum):
        return ", ".join(code(str(member.value)) for member in kind)
    names = {Path: "PATH", str: "TEXT", int: "NUMBER", float: "NUMBER"}
    return code(metavar or names[kind])


def command_section(name: str, command: Any) -> str:
    """Return the description of a command, with its arguments and options.

    name (str): Its name.
    command (typer.models.CommandInfo): typer's record of it.
    RETURNS (str): Markdown, with a heading of the second level.
    """
    parameters = parameters_of(command.callback)
    arguments = [p for p in parameters if not p.is_option]
    options = [p for p in parameters if p.is_option]
    usage = ["python -m spacy spanrel", name, *(p.name for p in arguments)]
    if options:
        usage.append("[OPTIONS]")
    lines = [f"## {name}", "", "```console", " ".join(usage), "```", ""]
    lines += [_help(command.help or command.callback.__doc__ or ""), ""]
    if command.epilog:
        lines += [_help(command.epilog), ""]
    rows = [(code(p.name), inline(p.help)) for p in arguments]
    lines += [table(("Argument", "Meaning"), rows), ""]
    rows = [(code(p.name), p.value, p.default, inline(p.help)) for p in options]
    if rows:
        lines += [table(("Option", "Value", "Default", "Meaning"), rows), ""]
    return "\n".join(lines)


def _help(text: str) -> str:
    """Return the help of a command as Markdown: paragraphs, and blocks after "\\b" as code."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            body = textwrap.dedent(paragraph.removeprefix("\b").strip("\n"))
            title, _, rest = body.partition("\n")
            if title.endswith(":") and rest:
                lines += [f"{title}\n"]
                body = textwrap.dedent(rest)
            kind = "console" if "$ " in body else "text"
            lines.append(f"```{kind}\n{body}\n```\n")
        else:
            lines.append(inline(" ".join(paragraph.split())) + "\n")
    return "\n".join(lines).strip()


_SPEED = re.compile(r"baseline_(\w+)_per_s")


def results_section(name: str) -> str:
    """Return the results of a benchmark as tables.

    name (str): A file of JSON lines in docs/results.
    RETURNS (str): Markdown: speeds beside those of the baseline, peak memory, scores in percent, and
        other rows as they are; or a note that there are no results, if there is no such file.
    """
    if not (RESULTS / name).exists():
        return "*Not measured yet.*"
    lines = (RESULTS / name).read_text(encoding="utf-8").splitlines()
    results = [json.loads(line) for line in lines if line.strip()]
    speeds, memory, scores = [], [], []
    others: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in results:
        what = ", ".join(str(row[key]) for key in ("device", "what", "precision") if row.get(key))
        unit = next((match[1] for key in row if (match := _SPEED.fullmatch(key))), None)
        if unit is not None:
            baseline, ours = row[f"baseline_{unit}_per_s"], row[f"{unit}_per_s"]
            cells = (f"{baseline:,}", f"{ours:,}", f"{row['ratio']:.2f}")
            speeds.append((inline(what), f"{unit}/s", inline(str(row["baseline"])), *cells))
        elif {"text", "docs", "peak_mib"} <= row.keys():
            memory.append((inline(str(row["text"])), f"{row['docs']:,}", f"{row['peak_mib']:,}"))
        elif "qa_f1" in row:
            cells = tuple(f"{row[key]:.2f}" for key in _QA_SCORES)
            scores.append((inline(row["variant"]), str(row["seed"]), *cells))
        else:
            others.setdefault(tuple(row), []).append(
                tuple("" if v is None else inline(str(v)) for v in row.values())
            )
    sections = []
    if speeds:
        header = ("What", "Unit", "Baseline", "Its speed", "Speed here", "Ratio")
        sections.append(table(header, speeds))
    if memory:
        sections.append(table(("Text", "Docs", "Peak memory, MiB"), memory))
    if scores:
        header = ("Recipe", "Seed", "Exact", "F1", "F1 with an answer", "F1 without", "Best F1")
        sections.append(table(header, scores))
    for keys, rows in others.items():
        header = tuple(key.replace("_", " ").replace(" per s", "/s").capitalize() for key in keys)
        sections.append(table(header, rows))
    return "\n\n".join(sections)


# Markdown


def code(text: str) -> str:
    """Return text as code for use in a table."""
    return f"<code>{_escape(text)}</code>" if text else ""


def inline(text: str) -> str:
    """Return a sentence of a docstring as Markdown for use in a table."""
    parts = re.split(r"(``.+?``|`[^`]+`)", text)
    return "".join(code(p.strip("`")) if p.startswith("`") else _escape(p) for p in parts)


def _escape(text: str) -> str:
    text = html.escape(text, quote=False).replace("|", "&#124;")
    return re.sub(r"([*_\[\]])", lambda match: f"&#{ord(match[1])};", text)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def fill(markdown: str) -> str:
    """Replace the comments of a page with the tables that they stand for.

    markdown (str): The page.
    RETURNS (str): The page with its tables.
    """

    def replace(match: re.Match[str]) -> str:
        what, given = match[1], match[2] or ""
        if what == "settings":
            kind, name = given.split()
            return settings_table(kind, name)
        if what == "object":
            return object_section(given)
        if what == "results":
            return results_section(given)
        return "\n".join(command_section(*item) for item in commands().items())

    # The tables of benchmarks/accuracy.py are in the page already.
    markdown = re.sub(r"<!-- (accuracy: |end of )[^>]* -->", "", markdown)
    return _MARKER.sub(replace, markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page; MkDocs calls this for each one."""
    return fill(markdown)
