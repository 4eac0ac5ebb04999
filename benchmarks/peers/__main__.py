"""`python -m benchmarks.peers`: each peer in an environment of its own, and one table of all.

Environments lie under `build/peers` and are made by the ordinary pip, by name. What cannot be
installed or run is a line that says so. Peers without one of the stores are left out there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.place import opened
from benchmarks.timing import QUICK

HERE = Path(__file__).parent
FOLDER = HERE.parent.parent / "build" / "peers"
BASE = ("sqlmodel", "psycopg[binary]", "greenlet", "redis>=5", "hiredis>=3")
SITUATIONS = ("committed", "uncommitted", "bulk", "for_update", "lazy_load", "types")


class Candidate(NamedTuple):
    """A peer, what pip installs for it (None: this tree and its own environment), and where."""

    name: str
    base: str
    requirements: tuple[str, ...] | None
    stores: tuple[str, ...] = ("redis", "memory")


CANDIDATES = (
    Candidate("ours", "none", None),
    Candidate("same name", "none", ("sqlmodel-cache",), ("redis",)),
    Candidate("dogpile recipe", "none", ("dogpile.cache",)),
    Candidate("ours, async", "none, async", None),
    Candidate("sqlacache", "none, async", ("sqlacache[redis]",)),
    Candidate("cashews", "none, async", ("cashews[redis]",)),
)


def main() -> int:
    """Print the table."""
    with ExitStack() as stack:
        place = stack.enter_context(opened(QUICK))
        if place.redis_url is None or place.postgres is None:
            print("not measured: it takes a Redis and a PostgreSQL")
            return 1
        database = place.postgres.url.render_as_string(hide_password=False)
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: python -m benchmarks.peers")
        print("\n".join(place.described))
        heads = ("", "hit", "no cache", "commit", "no cache", *SITUATIONS, "versions")
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for one in CANDIDATES:
            for store in one.stores:
                with place.client() as client:
                    client.flushdb()
                where = place.redis_url if store == "redis" else store
                print(_row(one, store, database, where), flush=True)
    return 0


def _row(one: Candidate, store: str, database: str, where: str) -> str:
    name = f"{one.name}, {store}"
    try:
        python = Path(sys.executable) if one.requirements is None else _environment(one)
        base = _run(python, one.base, database, where)
        found = _run(python, one.name, database, where)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        return f"| {name} | not run: {said[-1] if said else type(error).__name__} |"
    hit = f"{found['hit']}" if not found["sql"] else f"{found['hit']} (sends SQL)"
    versions = ", ".join(f"{package} {number}" for package, number in found["packages"].items())
    times = (hit, base["hit"], found["commit"], base["commit"])
    cells = (name, *times, *(found[each] for each in SITUATIONS), versions)
    return f"| {' | '.join(map(str, cells))} |"


def _environment(one: Candidate) -> Path:
    """Return the Python of a peer's own environment, made once."""
    assert one.requirements is not None
    folder = FOLDER / one.name.replace(" ", "-")
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = [*one.requirements, *BASE]
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True, capture_output=True, text=True, timeout=600)
        (folder / "done").touch()
    return python


def _run(python: Path, name: str, database: str, where: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if name.startswith("ours"):
        environment["PYTHONPATH"] = str(HERE.parent.parent)
    done = subprocess.run(
        [str(python), str(HERE / "stage.py"), name, database, where],
        check=True, capture_output=True, text=True, timeout=300, env=environment, cwd=HERE,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
