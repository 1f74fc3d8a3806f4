"""Run the fuzz targets.

    python -m tests.fuzz --minutes 10                          all targets
    python -m tests.fuzz --target loading --seed 7             one target, other cases
    python -m tests.fuzz --target loading --case 7-123         a failure once more

Every case depends on its target and its number alone, so each failure can be repeated. Exit code 1
if there were any.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random, SystemRandom

# Before transformers is imported: nothing may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TARGETS = ("loading", "converting", "outputs", "documents")
SHOWN = 20  # failures of a target, in full


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=2.0, help="time for all targets together")
    parser.add_argument("--seed", type=int, help="first part of the cases' numbers")
    parser.add_argument("--target", choices=TARGETS, help="run this one alone")
    parser.add_argument("--case", help="run this case alone, as a failure prints it")
    arguments = parser.parse_args()
    if arguments.case and not arguments.target:
        parser.error("--case needs --target")
    seed = SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    targets = [arguments.target] if arguments.target else list(TARGETS)
    # What a case is warned of is no failure.
    warnings.simplefilter("ignore")
    cases = [arguments.case] if arguments.case else None
    print(f"seed {seed}", flush=True)
    seconds = 60 * arguments.minutes / len(targets)
    return int(sum(run(target, seed, seconds, cases) for target in targets) > 0)


def run(target: str, seed: int, seconds: float, cases: list[str] | None = None) -> int:
    """Run cases of a target.

    target (str): Its module.
    seed (int): First part of the cases' numbers.
    seconds (float): For how long.
    cases (list[str] | None): These alone.
    RETURNS (int): How many failed.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        check: Callable[[Random], None] = import_module(f"tests.fuzz.{target}").make_check(
            Path(folder)
        )
        begin, n, failures = time.monotonic(), 0, Counter[str]()
        while n < len(cases) if cases else time.monotonic() - begin < seconds:
            case = cases[n] if cases else f"{seed}-{n}"
            n += 1
            try:
                check(Random(f"{target} {case}"))
            except KeyboardInterrupt:
                raise
            # A panic of a library in Rust is no Exception.
            except BaseException as error:
                kind = f"{type(error).__name__}: {str(error).split(':')[0][:60]!r}"
                failures[kind] += 1
                if failures[kind] == 1 and len(failures) <= SHOWN:
                    print(f"\nFAILED: python -m tests.fuzz --target {target} --case {case}")
                    traceback.print_exc(file=sys.stdout)
                    sys.stdout.flush()
    print(f"{target}: {n} cases, {failures.total()} failures", flush=True)
    for kind, count in failures.most_common(SHOWN):
        print(f"  {count} x {kind}")
    return failures.total()


if __name__ == "__main__":
    sys.exit(main())
