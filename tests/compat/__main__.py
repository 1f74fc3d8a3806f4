"""Pipelines that are saved under one version of transformers and loaded under another.

    python -m tests.compat save FOLDER     in the one environment
    python -m tests.compat check FOLDER    in the other one

`make compat` does this with transformers 4 and 5, in both directions.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before transformers is imported: nothing may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.compat.pipelines import check_all, save_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat")
    parser.add_argument("action", choices=["save", "check"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.action == "save":
        save_all(given.folder)
        return 0
    problems = check_all(given.folder)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
