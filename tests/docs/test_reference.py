"""The reference tables say all there is, and nothing that is not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from spacy_spanrel.cli import app
from spacy_spanrel.cli.convert import CONVERTERS
from spacy_spanrel.cli.export import WRITERS

from ..test_registry import ENTRY_POINTS
from ..util import load_script
from .workspace import ROOT

DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("source distributions have no docs", allow_module_level=True)


reference: Any = load_script("reference")
SOURCE = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
REGISTERED = [
    ("factory" if group == "spacy_factories" else group.split("_", 1)[1], name)
    for group, names in ENTRY_POINTS.items()
    if group not in ("spacy_cli", "console_scripts")
    for name in names
]


@pytest.mark.parametrize(("kind", "name"), REGISTERED)
def test_every_registered_function_is_documented(kind: str, name: str) -> None:
    # Raises where the docstring says nothing about an argument.
    arguments = reference.arguments_of(kind, name)
    assert all(argument.meaning for argument, _ in arguments)
    if arguments:
        assert f"<!-- settings: {kind} {name} -->" in SOURCE
        table = reference.settings_table(kind, name)
        assert len(table.splitlines()) == len(arguments) + 2
        for argument, _ in arguments:
            assert f"| {reference.code(argument.name)} |" in table
    else:
        assert name in SOURCE


@pytest.mark.parametrize(("kind", "name"), REGISTERED)
def test_docstrings_describe_no_argument_that_is_not_there(kind: str, name: str) -> None:
    function = reference.registered(kind, name)
    described = reference.parse_docstring(function.__doc__).arguments
    assert set(described) <= {argument.name for argument, _ in reference.arguments_of(kind, name)}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_comments_are_replaced(page: Path) -> None:
    filled = reference.fill(page.read_text(encoding="utf-8"))
    assert "<!-- " not in filled


def test_every_command_with_every_option() -> None:
    page = reference.fill((DOCS / "commands.md").read_text(encoding="utf-8"))
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(reference.commands())
    for name, command in group.commands.items():
        assert f"\n## {name}\n" in page
        assert f"(#{name})" in page, "the table of contents leaves it out"
        section = reference.command_section(name, reference.commands()[name])
        shown = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*|-[A-Z](?![\w-])", section))
        for parameter in command.params:
            options = {*parameter.opts, *parameter.secondary_opts}
            if getattr(parameter, "hidden", False):
                assert not options & shown
            elif parameter.param_type_name == "option" and parameter.name != "help":
                assert options <= shown, (name, options - shown)


def examples() -> list[list[str]]:
    lines = []
    for info in app.registered_commands:
        text = (info.help or info.callback.__doc__ or "").replace("\\\n", " ")
        lines += [line.strip() for line in text.splitlines() if line.strip().startswith("$ ")]
    return [shlex.split(line.removeprefix("$ ")) for line in lines]


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_examples_of_commands_are_understood(words: list[str]) -> None:
    assert words[:4] == ["python", "-m", "spacy", "spanrel"]
    group: Any = typer.main.get_command(app)
    # Parses arguments and options, and raises where one is unknown or missing.
    assert group.commands[words[4]].make_context(words[4], words[5:])


def test_formats() -> None:
    data = (DOCS / "data.md").read_text(encoding="utf-8")
    formats = (DOCS / "formats.md").read_text(encoding="utf-8")
    for name in {*CONVERTERS, *WRITERS}:
        (row,) = [line for line in data.splitlines() if line.startswith(f"| `{name}` |")]
        reads, writes = [cell.strip() == "yes" for cell in row.split("|")[3:5]]
        assert (reads, writes) == (name in CONVERTERS, name in WRITERS), name
    for name in CONVERTERS:
        assert f"\n## {name}\n" in formats


def test_parse_docstring() -> None:
    found = reference.parse_docstring(
        """Do a thing.

        Not an argument: prose. A sample::

            {"a": 1}

        first, second (int): Both
            of them.
        third (str | None), fourth (list[int]): Others.
        fifth: No type.
        RETURNS (dict[str, int]): What there is.
        RAISES (ValueError): If not.
        """
    )
    assert list(found.arguments) == ["first", "second", "third", "fourth", "fifth"]
    assert found.arguments["second"].meaning == "Both of them."
    assert found.arguments["third"].type == "str | None"
    assert found.arguments["fourth"].type == "list[int]"
    assert found.arguments["fifth"].meaning == "No type."
    assert [kind for kind, _, _ in found.results] == ["RETURNS", "RAISES"]
    assert found.text.endswith('{"a": 1}')


def test_defaults_are_written_as_in_a_config() -> None:
    assert reference.show_default(None) == "<code>null</code>"
    assert reference.show_default(True) == "<code>true</code>"
    nested = {"@architectures": "spacy-spanrel.SpERT.v1", "dropout": 0.1}
    assert reference.show_default(nested) == "<code>SpERT.v1</code>"


def test_results_are_those_of_the_files() -> None:
    section = reference.results_section("speed.jsonl")
    lines = (DOCS / "results" / "speed.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        value = row.get("words_per_s") or row.get("docs_per_s") or row.get("peak_mib")
        assert f"{value:,}" in section
