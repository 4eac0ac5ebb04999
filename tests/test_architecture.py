"""The house has five floors: every import goes down, and the public face is what `__all__` says.

`HOUSE` is the rank table, lowest first. A module may import what stands before it. A module of
a floor's folder that is not listed belongs to that floor as well, without a rank: it imports
from lower floors, and from its own as long as no circle arises. Imports under `TYPE_CHECKING`
and inside functions count like any other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import sqlmodel_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

# fmt: off
HOUSE: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "latency", "stats", "events", "causes", "config", "_state"),
    (
        "keys", "codec.wire", "codec.packing", "codec.moments", "codec.sameness", "codec.generic",
        "codec.scalars", "codec.containers", "codec.custom", "codec.converter", "codec",
    ),
    (
        "protocol.ops", "protocol.frames", "protocol.dating", "protocol.read", "protocol.write",
        "protocol",
    ),
    (
        "transport._protocols", "transport.clients", "transport.commands", "transport.breaker",
        "transport.memory", "transport.basic", "transport.sync", "transport.async_",
        "transport.per_loop", "transport.drive", "transport.url", "transport.stores", "transport",
    ),
    (
        "orm._sqlalchemy", "orm.owned", "orm.model.policy", "orm.model.uniques", "orm.model.plan",
        "orm.namespace", "orm.model.tables", "orm.model.keying", "orm.bridge",
        "orm.writes.sqltext", "orm.writes.statements", "orm.model.hydrate", "orm.model.reader",
        "orm.cache", "orm.connections.ledger", "orm.connections.publish",
        "orm.connections.transactions", "orm.connections.snapshots", "orm.reads.decide",
        "orm.writes.listeners", "orm.reads.lookup", "orm.reads.selects", "orm.reads.executing",
        "orm.sessions", "orm",
    ),
    ("api", ""),  # "" is the package itself
    (
        "fastapi", "testing.statements", "testing.temporary", "testing.asserting", "testing.faults",
        "testing.contract.store", "testing.contract.small", "testing.contract.full",
        "testing.contract", "testing.everywhere", "testing",
    ),
    (  # tools stand on api
        "instrumentation.metrics", "instrumentation.prometheus_files", "instrumentation.prometheus",
        "instrumentation", "cli.show", "cli.target", "cli.fleet", "cli.entries", "cli.doctor",
        "cli.app", "cli", "__main__", "dashboard.history", "dashboard.picture", "dashboard.app",
        "dashboard",
    ),
)
# fmt: on

MAX_LINES = 400
PACKAGE = "sqlmodel_cache"
ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / PACKAGE).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return a file's name in the package: "orm.reads.lookup", "orm" for its __init__, or ""."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module of the package: where it stands and what it names."""

    importer: str
    target: str
    names: tuple[str, ...]
    line: int

    def __str__(self) -> str:
        return f"{MODULES[self.importer].relative_to(ROOT)}:{self.line} imports {self.target!r}"


def floor(module: str) -> int:
    """Return the storey of a module: that of the longest entry of `HOUSE` it lies under."""
    while True:
        for number, names in enumerate(HOUSE, start=1):
            if module in names:
                return number
        module, dot, _ = module.rpartition(".")
        assert dot, f"{module!r} stands on no floor: add it to HOUSE"


def rank(module: str) -> int | None:
    """Return a listed module's place within its floor, None for one that is not listed."""
    names = HOUSE[floor(module) - 1]
    return names.index(module) if module in names else None


def imports_in(importer: str, source: str) -> Iterator[Import]:
    """Yield every import of the package's own modules, wherever in the source it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield Import(importer, alias.name[len(PACKAGE) + 1 :], (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}:{node.lineno}: a relative import"
            package, _, inner = (node.module or "").partition(".")
            if package == PACKAGE:
                yield from _from_import(importer, inner, node)


def _from_import(importer: str, inner: str, node: ast.ImportFrom) -> Iterator[Import]:
    names = [alias.name for alias in node.names]
    submodules = {name: f"{inner}.{name}".lstrip(".") for name in names}
    for name in names:
        if submodules[name] in MODULES:
            yield Import(importer, submodules[name], (), node.lineno)
    if plain := tuple(name for name in names if submodules[name] not in MODULES):
        yield Import(importer, inner, plain, node.lineno)


def climbs(found: Import) -> bool:
    """Tell whether an import goes up, or sideways against the order of its floor."""
    here, there = floor(found.importer), floor(found.target)
    if here != there:
        return there > here
    ranks = rank(found.importer), rank(found.target)
    return None not in ranks and ranks[1] >= ranks[0]  # type: ignore[operator]


ALL_IMPORTS = [
    found for module, path in MODULES.items() for found in imports_in(module, path.read_text())
]


def test_every_module_has_a_floor():
    """Every file of the package lies on a floor of the rank table."""
    assert {floor(module) for module in MODULES} <= set(range(1, len(HOUSE) + 1))


def test_imports_go_down():
    """No module imports from a higher floor, or from a later one of its own."""
    assert [str(found) for found in ALL_IMPORTS if climbs(found)] == []


def test_imports_make_no_circle():
    """The modules can be put in one order."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in ALL_IMPORTS:
        graph[found.importer].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_private_is_shared():
    """No module imports an underscored name out of another."""
    private = [
        f"{found}.{name}" for found in ALL_IMPORTS for name in found.names if name.startswith("_")
    ]
    assert private == []


@pytest.mark.parametrize(
    ("importer", "source", "target"),
    [
        ("keys", "from sqlmodel_cache.orm import lookup", "orm"),
        ("protocol.read", "def f():\n    import sqlmodel_cache.api", "api"),
        ("errors", "if TYPE_CHECKING:\n    from sqlmodel_cache.keys import Entry", "keys"),
        ("protocol.ops", "from sqlmodel_cache.protocol.read import lookup", "protocol.read"),
        ("keys", "from sqlmodel_cache import keys", "keys"),
        ("keys", "from sqlmodel_cache import SQLModelCache", ""),
    ],
)
def test_the_rules_see(importer, source, target):
    """Each way of climbing is seen, also inside functions and under TYPE_CHECKING."""
    (found,) = imports_in(importer, source)
    assert found.target.startswith(target)
    assert climbs(found)


def test_no_event_loop_at_import():
    """No module imports redis.asyncio at its top: importing the library needs no event loop."""
    offending = []
    for path in SOURCES:
        for node in run_at_import(ast.parse(path.read_text())):
            named = {alias.name for alias in getattr(node, "names", ())}
            source = getattr(node, "module", None) or ""
            if (
                source.startswith("redis.asyncio")
                or any(name.startswith("redis.asyncio") for name in named)
                or (source == "redis" and "asyncio" in named)
            ):
                offending.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert offending == []


def run_at_import(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported: none in functions or for types."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def test_import_needs_no_greenlet():
    """The library can be imported without greenlet, which SQLAlchemy 2.1 installs no more."""
    code = f"import sys; sys.modules['greenlet'] = None; import {PACKAGE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exports():
    """`__all__` is one tuple, without repetition, and names exactly what is public."""
    exported = getattr(sqlmodel_cache, "__all__", ())
    public = {
        name
        for name, value in vars(sqlmodel_cache).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert isinstance(exported, tuple)
    assert len(exported) == len(set(exported))
    assert {name for name in exported if not name.startswith("__")} == public


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_small(path):
    """No file of the package is longer than 400 lines."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_no_path_of_one_machine():
    """Nothing in the tree names a folder that exists on one machine only."""
    elsewhere = re.compile(
        r"(?<![\w.])/(?:" + "|".join(("work", "home", "root", "Users")) + r")/\w"
    )
    offending = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in written_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if elsewhere.search(line)
    ]
    assert offending == []


def written_files() -> Iterator[Path]:
    """Yield what somebody wrote: known kinds of text outside generated and hidden folders."""
    kinds = {".py", ".md", ".lua", ".cfg", ".toml", ".yaml", ".yml", ".in", ".txt"}
    generated = {"build", "dist", "site", "__pycache__"}
    for top in ROOT.iterdir():
        if top.name in generated or top.suffix == ".egg-info":
            continue
        if top.is_file() and (top.suffix in kinds or top.name == "Makefile"):
            yield top
        elif top.is_dir() and (not top.name.startswith(".") or top.name == ".ci"):
            yield from (
                path
                for path in top.rglob("*")
                if path.is_file() and (path.suffix in kinds or top.name == ".ci")
            )
