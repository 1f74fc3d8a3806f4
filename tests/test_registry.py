from __future__ import annotations

import json
import sys
from configparser import ConfigParser
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from thinc.api import registry as thinc_registry

from .util import run_python

SETUP = ConfigParser()
SETUP.read(Path(__file__).parents[1] / "setup.cfg")
ENTRY_POINTS = {
    group: dict(
        tuple(part.strip() for part in line.split("=", 1)) for line in lines.strip().splitlines()
    )
    for group, lines in SETUP["options.entry_points"].items()
}

# Programs and commands are in no registry of functions.
COMMANDS = ("spacy_cli", "console_scripts")

# Imports every module of the package, then lists all that the registries hold of it. Entry points
# are left out: only what decorators put there counts.
SCAN = """
import importlib, json, pkgutil, sys
import catalogue, spacy, thinc.api
from spacy.language import Language

replace_listeners = Language.replace_listeners
import spacy_spanrel

for module in pkgutil.walk_packages(spacy_spanrel.__path__, "spacy_spanrel."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

# Replaced only for a pipeline with a listener of ours.
assert Language.replace_listeners is replace_listeners

found = {}
for (library, group, name), function in catalogue.REGISTRY.items():
    if (getattr(function, "__module__", None) or "").startswith("spacy_spanrel"):
        found.setdefault(f"{library}_{group.replace('internal_', '')}", []).append(name)
print(json.dumps(found))
"""


def test_installed_entry_points_are_those_of_setup_cfg() -> None:
    for group, names in ENTRY_POINTS.items():
        installed = {
            e.name: e.value for e in entry_points(group=group) if "spacy_spanrel" in e.value
        }
        assert installed == names, f"{group}: install the package again"


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group, names in ENTRY_POINTS.items()
        if group not in ("spacy_factories", "spacy_cli", "console_scripts")
        for name in names
    ],
)
def test_entry_point_resolves(group: str, name: str) -> None:
    library, kind = group.split("_", 1)
    registry = {"spacy": spacy.registry, "thinc": thinc_registry}[library]
    function = registry.get(kind, name)
    module, attribute = ENTRY_POINTS[group][name].split(":")
    assert function is getattr(sys.modules[module], attribute)
    if library == "thinc":  # spaCy reads thinc's registries too
        assert spacy.registry.get(kind, name) is function


@pytest.mark.parametrize("name", ENTRY_POINTS["spacy_factories"])
def test_factory_resolves(name: str) -> None:
    nlp = spacy.blank("en")
    assert nlp.has_factory(name)
    assert Language.get_factory_meta(name).default_score_weights
    assert nlp.add_pipe(name).name == name


def test_decorated_functions_are_entry_points(tmp_path: Path) -> None:
    """A saved pipeline loads where only spaCy was imported: nothing may hang on an import of ours."""
    decorated = {
        group: sorted(names) for group, names in json.loads(run_python(SCAN, cwd=tmp_path)).items()
    }
    declared = {g: sorted(names) for g, names in ENTRY_POINTS.items() if g not in COMMANDS}
    assert decorated == declared


def test_import_is_light(tmp_path: Path) -> None:
    # thinc imports torch where it is installed, and goes without it where it is not: so must we.
    code = """
import sys
sys.modules["torch"] = None
import spacy_spanrel
import spacy_spanrel.annotations, spacy_spanrel.cli, spacy_spanrel.converters, spacy_spanrel.scoring.counts
print("transformers" in sys.modules)
"""
    assert run_python(code, cwd=tmp_path).strip() == "False"


def test_public_names() -> None:
    import spacy_spanrel

    for name in spacy_spanrel.__all__:
        assert getattr(spacy_spanrel, name) is not None
    assert spacy_spanrel.__version__
