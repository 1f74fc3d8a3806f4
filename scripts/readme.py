"""Run every command and every piece of Python of README.md, as a stranger would: in a fresh clone, with a
fresh environment.

    python scripts/readme.py                 # without `make demo` and `make test`
    python scripts/readme.py --demo --test   # with them: half an hour
    python scripts/readme.py --trained .     # with the pipelines that `make demo` left in this checkout

The clone has what is committed. `<this repository>` is an address for which git takes the clone, so the
command that installs from a git address runs too, with the versions of constraints.txt. The files that
a reader brings (train.jsonl and dev.jsonl) are made of the sample corpus, and training takes a few
steps. Examples that need a checkpoint of the model hub are skipped where the hub cannot be reached. The
exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HUB = "https://huggingface.co"
# The address that a reader fills in; git takes the clone instead.
ADDRESS = "https://git.example.org/spacy-spanrel.git"
TRAINED = "training"
# Appended to commands that take long.
SHORT = {
    "python -m spacy train": (
        # Enough for a pipeline that finds relations, which the commands after it need.
        "--schedule.total_steps 72 --schedule.warmup_steps 8 "
        "--training.max_steps 72 --training.eval_frequency 24"
    ),
}
# The reader's own data: an export of an annotation tool.
DATA = """
import json
from spacy_spanrel.cli import convert, export

for name, part, n in (("train", "train", 96), ("dev", "dev", 32)):
    convert("spert", [f"assets/sample/{part}.json"], "all.spacy", types="assets/sample/types.json")
    export("doccano", "all.spacy", f"{name}.jsonl")
    lines = open(f"{name}.jsonl", encoding="utf-8").readlines()[:n]
    open(f"{name}.jsonl", "w", encoding="utf-8").writelines(lines)
"""


def read_examples(page: str) -> Iterator[tuple[str, str]]:
    """Yield the kind of each example of a page ("bash" or "python") and its text, command by command."""
    for kind, text in BLOCK.findall(page):
        if kind == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*", "", line).strip()
                if command:
                    yield kind, command
        elif kind == "python":
            yield kind, text
        else:
            raise ValueError(f"README.md has an example in {kind!r}, which this script cannot run.")


def hub_answers() -> bool:
    """Check whether the model hub can be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    with suppress(OSError), urllib.request.urlopen(HUB, timeout=10):
        return True
    return False


class Reader:
    """A stranger with a clone and an environment.

    folder (Path): An empty folder for both.
    arguments (argparse.Namespace): What to run.
    """

    def __init__(self, folder: Path, arguments: argparse.Namespace):
        self.clone = folder / "clone"
        self.arguments = arguments
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], check=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
        self.env = {
            **os.environ,
            "PATH": f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        for name in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"):
            self.env.pop(name, None)
        # Where several builds of torch are offered, the one that was tested.
        constraints = self.clone / "constraints.txt"
        torch = re.search(r"^torch==.*$", constraints.read_text(encoding="utf-8"), re.MULTILINE)
        assert torch is not None
        self.run(["python", "-m", "pip", "install", "--quiet", "--no-input", torch[0]])
        self.env |= {
            "PIP_CONSTRAINT": str(constraints),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.clone.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": ADDRESS,
        }
        self.hub = hub_answers()

    def run(self, command: list[str] | str) -> None:
        """Run a command in the clone; a CalledProcessError if it fails."""
        subprocess.run(
            command, shell=isinstance(command, str), check=True, cwd=self.clone, env=self.env
        )

    def reason_to_skip(self, kind: str, text: str) -> str | None:
        """Return why an example does not run; None if it runs."""
        arguments = self.arguments
        if text.startswith("make ") and not getattr(arguments, text.split()[1], False):
            return f"run it with --{text.split()[1]}"
        if kind == "python":
            for folder in re.findall(rf'"({TRAINED}/[^"]+)"', text):
                if not (self.clone / folder).is_dir():
                    return "needs a pipeline of the demo: --demo or --trained"
            if re.search(r'"name": "\w+/', text) and not self.hub:
                return "needs the model hub, which cannot be reached"
        return None

    def read(self, kind: str, text: str) -> None:
        """Do what an example says."""
        if kind == "python":
            self.run(["python", "-c", text])
            return
        command = text.replace("<this repository>", ADDRESS)
        for long, more in SHORT.items():
            if command.startswith(long):
                command += f" {more}"
        if ".jsonl" in command and not (self.clone / "train.jsonl").exists():
            self.run(["python", "-c", DATA])
        self.run(command)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the examples of README.md.")
    parser.add_argument("--demo", action="store_true", help="also `make demo` (minutes)")
    parser.add_argument("--test", action="store_true", help="also `make test` (minutes)")
    parser.add_argument(
        "--trained", type=Path, metavar="CHECKOUT", help="where `make demo` has trained already"
    )
    arguments = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder), arguments)
        source = arguments.trained / TRAINED if arguments.trained else None
        if source is not None and source.is_dir():
            shutil.copytree(source, reader.clone / TRAINED)
        page = (reader.clone / "README.md").read_text(encoding="utf-8")
        for kind, text in read_examples(page):
            shown = text if kind == "bash" else f"Python:\n{text}"
            reason = reader.reason_to_skip(kind, text)
            if reason is not None:
                print(f"\n== skipped ({reason}): {shown}", flush=True)
                counts["skipped"] += 1
                continue
            print(f"\n== {shown}", flush=True)
            start = time.monotonic()
            try:
                reader.read(kind, text)
                outcome = "passed"
            except subprocess.CalledProcessError as error:
                outcome = "failed"
                print(error)
            counts[outcome] += 1
            print(f"== {outcome}, {time.monotonic() - start:.1f} s", flush=True)
    print("\nREADME.md: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
