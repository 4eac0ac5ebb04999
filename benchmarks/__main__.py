"""`python -m benchmarks [--quick] [group ...]`: exit code 1 where a target is missed.

`zipf` (P10) and `growth` (draws the pictures of docs/performance.md) take minutes, and run only
if named, or with `--all`.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import (
    commits,
    crowds,
    growth,
    hits,
    memory,
    misses,
    others,
    packed,
    queries,
    staleness,
    zipf,
)
from benchmarks.place import opened
from benchmarks.report import header
from benchmarks.timing import QUICK, THOROUGH

GROUPS = {
    "hits": hits.measure,
    "others": others.measure,
    "misses": misses.measure,
    "crowds": crowds.measure,
    "commits": commits.measure,
    "queries": queries.measure,
    "memory": memory.measure,
    "packed": packed.measure,
    "staleness": staleness.measure,
    "zipf": zipf.measure,
    "growth": growth.measure,
}
ON_DEMAND = {"zipf", "growth"}


def main(arguments: list[str]) -> int:
    """Measure, print, and say in the exit code whether every target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, more noise")
    parser.add_argument("--all", action="store_true", help="every group")
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="only these")
    chosen = parser.parse_args(arguments)
    missed = []
    with opened(QUICK if chosen.quick else THOROUGH) as place:
        print(header(" ".join(["python -m benchmarks", *arguments]), place.described))
        usual = [name for name in GROUPS if chosen.all or name not in ON_DEMAND]
        for name in chosen.groups or usual:
            for one in GROUPS[name](place):
                print(one.line(), flush=True)
                if one.missed:
                    missed.append(one.number)
    if missed:
        print(f"missed by more than the noise: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
