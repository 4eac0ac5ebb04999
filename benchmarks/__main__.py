"""`python -m benchmarks [--quick] [group ...]`: exit code 1 where a target is missed."""

from __future__ import annotations

import argparse
import sys

from benchmarks import commits, crowds, hits, memory, misses, others
from benchmarks.place import opened
from benchmarks.report import header
from benchmarks.timing import QUICK, THOROUGH

GROUPS = {
    "hits": hits.measure,
    "others": others.measure,
    "misses": misses.measure,
    "crowds": crowds.measure,
    "commits": commits.measure,
    "memory": memory.measure,
}


def main(arguments: list[str]) -> int:
    """Measure, print, and say in the exit code whether every target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, more noise")
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="only these")
    chosen = parser.parse_args(arguments)
    missed = []
    with opened(QUICK if chosen.quick else THOROUGH) as place:
        print(header(" ".join(["python -m benchmarks", *arguments]), place.described))
        for name in chosen.groups or GROUPS:
            for one in GROUPS[name](place):
                print(one.line(), flush=True)
                if one.missed:
                    missed.append(one.number)
    if missed:
        print(f"missed by more than the noise: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
