"""The reference pages name everything there is, and nothing that is not."""

from __future__ import annotations

import inspect
import re
from configparser import ConfigParser
from dataclasses import fields

import sqlmodel_cache
import sqlmodel_cache.dashboard
import sqlmodel_cache.testing
import sqlmodel_cache.testing.contract
import sqlmodel_cache.transport
from sqlmodel_cache import CacheConfig, CacheError, SQLModelCache, cached_sessionmaker
from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.config import Configuration
from sqlmodel_cache.dashboard import cache_dashboard
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.orm.reads.options import KNOWN
from sqlmodel_cache.stats import Stats
from sqlmodel_cache.transport.url import _OPTIONS
from tests.docs.pages import ROOT

CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text("utf-8")
DEPENDENCIES = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
_ROW = re.compile(r"^\| (?P<first>[^|]+) \|", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")


def first_column(heading: str, text: str = CONFIGURATION) -> list[str]:
    """Return what stands in backticks in the first column of the tables below a heading."""
    _, _, rest = text.partition(f"\n## {heading}\n")
    assert rest, f"no heading {heading!r}"
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return [name for row in _ROW.finditer(section) for name in _QUOTED.findall(row["first"])]


def test_the_glance_has_every_setting_where_it_can_be_made() -> None:
    """A column for each place; the tables below it, which are compared with the code, say what."""
    section = CONFIGURATION.partition("\n## Everything at a glance\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    columns = [
        [name for cell in column for name in _QUOTED.findall(cell)]
        for column in zip(*rows, strict=True)
    ]
    places = [
        "`SQLModelCache.configure(transport, ...)`",
        "`CacheConfig`",
        "Execution options",
        "`cached_sessionmaker(factory, ...)`",
        "Environment variables",
    ]
    for place, names in zip(places, columns[1:], strict=True):
        described = [name.removeprefix("SQLMODEL_CACHE_") for name in first_column(place)]
        assert sorted(names) == sorted(described), place


def test_every_parameter_of_configure_is_described() -> None:
    """Names and defaults, as the signature has them."""
    parameters = inspect.signature(SQLModelCache.configure).parameters
    assert first_column("`SQLModelCache.configure(transport, ...)`") == list(parameters)
    assert [field.name for field in fields(Configuration)] == list(parameters)
    for parameter in list(parameters.values())[1:]:
        shown = str(parameter.default)
        if isinstance(parameter.default, str):
            shown = f'"{shown}"'
        assert f"| `{parameter.name}` | `{shown}` |" in CONFIGURATION


def test_every_field_of_cache_config_is_described() -> None:
    """Names and defaults, as the dataclass has them."""
    assert first_column("`CacheConfig`") == [field.name for field in fields(CacheConfig)]
    for field in fields(CacheConfig):
        assert f"| `{field.name}` | `{field.default}` |" in CONFIGURATION


def test_every_parameter_of_cached_sessionmaker_is_described() -> None:
    """Names as the signature has them."""
    parameters = list(inspect.signature(cached_sessionmaker).parameters)
    assert first_column("`cached_sessionmaker(factory, ...)`") == parameters


def test_every_execution_option_is_described() -> None:
    """Each name that is not refused as a slip."""
    assert first_column("Execution options") == list(KNOWN)


def test_every_bypass_reason_is_described() -> None:
    """Each reason that stats() can show has a cause and a remedy, and no other has."""
    assert sorted(first_column("Bypass reasons")) == sorted(reason.value for reason in Bypass)


def test_every_bypass_reason_is_given_somewhere() -> None:
    """A reason that nothing gives would be a promise that nobody keeps."""
    source = "".join(
        path.read_text("utf-8")
        for path in (ROOT / "sqlmodel_cache").rglob("*.py")
        if path.name not in ("events.py", "causes.py")
    )
    unused = [one.name for one in Bypass if not re.search(rf"Bypass\.{one.name}\b", source)]
    assert unused == []


def test_every_bypass_reason_can_be_explained() -> None:
    """explain() and the command line have words for each."""
    assert set(CAUSES) == set(Bypass)


def test_every_error_is_described() -> None:
    """Each public exception below CacheError."""
    public = [getattr(sqlmodel_cache, name) for name in sqlmodel_cache.__all__]
    errors = [one for one in public if inspect.isclass(one) and issubclass(one, CacheError)]
    assert sorted(first_column("Errors")) == sorted(
        one.__name__ for one in errors if one is not CacheError
    )


def test_every_environment_variable_is_described() -> None:
    """Each name that the source asks the environment for."""
    asked = {
        name
        for path in (ROOT / "sqlmodel_cache").rglob("*.py")
        for name in re.findall(r"environment\(\"([A-Z_]+)\"\)", path.read_text("utf-8"))
    }
    described = first_column("Environment variables")
    assert sorted(described) == sorted(f"SQLMODEL_CACHE_{name}" for name in asked)


def test_every_count_of_stats_is_described() -> None:
    """Each field of the record."""
    described = first_column("Explicit calls")
    assert {field.name for field in fields(Stats)} <= set(described)


def test_every_url_option_is_described() -> None:
    """Each scheme, and each option of any."""
    section = CONFIGURATION.partition("\n## URLs\n")[2].partition("\n## ")[0]
    named = set(_QUOTED.findall(section))
    for scheme, options in _OPTIONS.items():
        assert f"{scheme}://" in section
        assert set(options) <= named


def test_every_parameter_of_the_dashboard_is_described() -> None:
    """Names as the signature has them."""
    operating = (ROOT / "docs" / "operating.md").read_text("utf-8")
    assert first_column("Dashboard", operating) == list(
        inspect.signature(cache_dashboard).parameters
    )


def test_every_public_name_is_in_the_reference() -> None:
    """Each name that a package offers has its docstring on the site."""
    shown = set(
        re.findall(r"^::: (\S+)", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.M)
    )
    public = {
        f"{package.__name__}.{name}"
        for package in (
            sqlmodel_cache,
            sqlmodel_cache.dashboard,
            sqlmodel_cache.testing,
            sqlmodel_cache.testing.contract,
            sqlmodel_cache.transport,
        )
        for name in package.__all__
    }
    assert public - shown == set()


def test_every_dependency_has_its_reason() -> None:
    """Each package of setup.cfg, and each extra."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    def packages(lines: str) -> set[str]:
        found = (re.match(r"[A-Za-z0-9_.-]+", line) for line in lines.split("\n"))
        return {match.group() for match in found if match}

    hard = packages(setup["options"]["install_requires"])
    assert set(first_column("Extras", DEPENDENCIES)) == set(setup["options.extras_require"])
    named = set(_QUOTED.findall(DEPENDENCIES))
    for lines in setup["options.extras_require"].values():
        assert packages(lines) <= named
    assert hard == {
        name
        for row in _ROW.finditer(DEPENDENCIES.partition("\n## ")[0])
        for name in _QUOTED.findall(row["first"])
    }
