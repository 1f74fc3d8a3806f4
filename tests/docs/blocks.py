"""The examples of a page, and how each kind of them is run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import spacy
import srsly
from spacy.cli._util import app
from spacy.schemas import ConfigSchemaTraining
from spacy.util import load_config, load_model_from_config, registry
from thinc.api import Config
from typer.testing import CliRunner

from .workspace import ENCODER, GOLD, ROOT, SAMPLES

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)(?P<more>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
COMPONENTS = ("span_relation", "relation_classifier", "extractive_qa")
# Kinds that are there to be read.
SHOWN = ("text", "console", "html", "mermaid")
# Programs of the shell that every Linux has.
SHELL = ("head", "tail", "mkdir")
# Two steps instead of a training.
FEW_STEPS = {
    "paths.encoder": ENCODER,
    "training.max_steps": "2",
    "training.eval_frequency": "1",
}


@dataclass(frozen=True)
class Block:
    """An example.

    page (Path): Where it stands.
    line (int): Of its first line of text.
    kind (str): What it is written in.
    title (str | None): The file that it is.
    text (str): The example.
    """

    page: Path
    line: int
    kind: str
    title: str | None
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in their order."""
    content = page.read_text(encoding="utf-8")
    assert content.count("```") == 2 * len(_BLOCK.findall(content)), f"{page}: a fence is open"
    for found in _BLOCK.finditer(content):
        line = content[: found.start()].count("\n") + 2
        title = _TITLE.search(found["more"])
        yield Block(
            page,
            line,
            found["kind"],
            title[1] if title else None,
            textwrap.dedent(found["text"]),
        )


@dataclass
class Run:
    """The examples of a page, run one after the other in a folder.

    folder (Path): A copy of the workspace; the current directory.
    names (dict[str, Any]): What the page's Python has defined so far.
    made (set[str]): Files that the page itself has shown or made: they are used as they are.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__docs__"})
    made: set[str] = field(default_factory=set)

    def run(self, block: Block) -> None:
        """Run an example; whatever it raises has its place in the page."""
        runners = {
            "python": self._python,
            "bash": self._bash,
            "ini": self._config,
            "json": self._json,
            "yaml": self._yaml,
        }
        if block.kind in SHOWN:
            return
        assert block.kind in runners, f"{block.place}: what is {block.kind!r}?"
        runners[block.kind](block)

    def _python(self, block: Block) -> None:
        # Blank lines before it, so that a traceback shows the line of the page.
        source = "\n" * (block.line - 1) + block.text
        exec(compile(source, str(block.page), "exec"), self.names)

    def _json(self, block: Block) -> None:
        try:
            json.loads(block.text)
        except json.JSONDecodeError:
            for line in block.text.splitlines():
                json.loads(line)
        if block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
            self.made.add(block.title)

    def _yaml(self, block: Block) -> None:
        srsly.yaml_loads(block.text)
        if block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")

    # Configs

    def _config(self, block: Block) -> None:
        """Put the block into the config of its component, and build all that this names."""
        own = Config().from_str(_with_parents(block.text), interpolate=False)
        if "spacy-transformers." in block.text and not find_spec("spacy_transformers"):
            return
        parts = own.get("components", {})
        component = next((name for name in COMPONENTS if name in parts), COMPONENTS[0])
        base = load_config(self.folder / "configs" / f"{component}_minilm.cfg")
        paths = {"train": "train.spacy", "dev": "dev.spacy", "encoder": ENCODER}
        config = Config(base).merge({"paths": paths}).merge(own)
        nlp = load_model_from_config(config, auto_fill=True, validate=True)
        resolved = nlp.config.interpolate()
        for name, section in own.get("components", {}).items():
            for setting in section:
                assert setting in (*resolved["components"][name], "source"), (name, setting)
        registry.fill(resolved["training"], schema=ConfigSchemaTraining)  # checks arguments
        if not re.search("Wandb|MLflow", block.text):  # these are not among our dependencies
            registry.resolve(resolved["training"], schema=ConfigSchemaTraining)
        for reader in registry.resolve(resolved["corpora"]).values():
            assert next(iter(reader(nlp)), None) is not None

    # Commands

    def _bash(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                self._command(words, line, block.place)

    def _command(self, words: list[str], line: str, place: str) -> None:
        if words[0] in SHELL:
            subprocess.run(line, shell=True, check=True, cwd=self.folder)
            if ">" in words and (self.folder / words[-1]).stat().st_size:
                self.made.add(words[-1])
            return
        if words[0] == "spacy-spanrel":
            words = ["python", "-m", "spacy", "spanrel", *words[1:]]
        if check_not_run(words):
            return
        assert words[:3] == ["python", "-m", "spacy"], f"{place}: {line}"
        args = self._adapt(words[3:])
        result = CliRunner().invoke(app, args)
        if args[:2] == ["spanrel", "calibrate"]:
            # The pipeline knows the sample by heart, so its scores cannot be too high or too low.
            assert "E_SR938" in result.output, (place, args, result.output, result.exception)
            return
        assert result.exit_code == 0, (place, args, result.output, result.exception)
        if args[0] == "train":
            self._take_trained(args)

    def _adapt(self, args: list[str]) -> list[str]:
        """Make a command one for the tiny workspace."""
        if "--gpu-id" in args:
            at = args.index("--gpu-id")
            args = args[:at] + args[at + 2 :]
        name = args[1] if args[0] == "spanrel" else args[0]
        if name in ("train", "learning-curve"):
            return [*args, *(part for key, v in FEW_STEPS.items() for part in (f"--{key}", v))]
        if "--review" in args:
            # The pipeline knows the sample by heart: nothing is doubtful but for this border.
            at = args.index("--review")
            return [*args[: at + 2], "1.0", *args[at + 3 :]]
        if name == "package":
            return [*args, "--build", "none"]
        if name == "debug-data" and "--config" in args:
            return [*args, "--paths.encoder", ENCODER]
        if name in ("find-threshold", "find-null-threshold"):
            args = list(args)
            args[args.index(name) + 2] = GOLD
        if name == "convert" and args[2] in SAMPLES:
            inputs = args[3 : next(i for i, a in enumerate(args) if a.endswith(".spacy"))]
            for path in set(inputs) - self.made:
                shutil.copy(self.folder / "samples" / args[2], self.folder / path)
        return args

    def _take_trained(self, args: Sequence[str]) -> None:
        """Two steps teach nothing: go on with a pipeline that knows the sample."""
        output = self.folder / args[args.index("--output") + 1] / "model-best"
        assert spacy.load(output)
        component = next(name for name in COMPONENTS if name in args[1])
        known = self.folder / "trained" / component
        if known.exists():
            shutil.rmtree(output)
            shutil.copytree(known, output)


def _with_parents(text: str) -> str:
    """Declare the sections around those of a part of a config."""
    names = re.findall(r"^\[(.+)\]$", text, re.MULTILINE)
    parts = [name.split(".") for name in names]
    around = {".".join(part[:i]) for part in parts for i in range(1, len(part))}
    return "".join(f"[{name}]\n" for name in sorted(around - set(names))) + text


def check_not_run(words: Sequence[str]) -> bool:
    """Whether a command cannot run in a test; what it names must be there all the same.

    words (Sequence[str]): The command.
    RETURNS (bool): True for those below.
    """
    if words[:2] == ["pip", "install"]:  # needs the network
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")
        for extra in re.findall(r"spacy-spanrel\[([^\]]+)\]", " ".join(words)):
            assert extra in setup["options.extras_require"], extra
        return True
    if words[:5] == ["python", "-m", "spacy", "spanrel", "import-transformer"]:
        return True  # needs spacy-transformers, and a pipeline on it
    if words[0] == "make":  # makes a virtual environment, and trains for minutes
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        return True
    if words[:4] == ["python", "-m", "spacy", "project"]:  # downloads data, and trains for hours
        project = srsly.read_yaml(ROOT / "project.yml")
        names = [*project["workflows"], *(command["name"] for command in project["commands"])]
        assert words[4] == "assets" or words[5] in names, words
        return True
    if words[0] == "python" and words[1].startswith(("benchmarks/", "scripts/")):  # hours
        assert (ROOT / words[1]).is_file(), words
        return True
    return False
