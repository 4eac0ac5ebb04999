"""`python -m sqlmodel_cache`, and the command `sqlmodel-cache`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the extra `cli`, say how to install it."""
    try:
        from sqlmodel_cache.cli.app import app
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit("sqlmodel-cache needs the extra 'cli': pip install 'sqlmodel-cache[cli]'")
    app(prog_name="sqlmodel-cache")


if __name__ == "__main__":
    main()
