"""Save pipelines under one version of transformers, and check them under another.

    python -m tests.compat save FOLDER     in one environment
    python -m tests.compat check FOLDER    in the other

`make compat` does this with transformers 4 and 5, in both directions.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Set before transformers is imported, so that nothing is downloaded.
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.compat.pipelines import check_all, save_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat")
    parser.add_argument("action", choices=["save", "check"])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.action == "save":
        save_all(args.folder)
        return 0
    problems = check_all(args.folder)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
