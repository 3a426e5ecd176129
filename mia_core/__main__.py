"""The command line: the same audits, from the same store, as in the browser."""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path

import typer

from mia_core.command_line import inspecting, keeping, protecting, running
from mia_core.command_line.application import application
from mia_core.command_line.show_audits import printable
from mia_core.errors import Cancelled, MemberScopeError
from mia_core.storage import journal

__all__ = ["application", "inspecting", "keeping", "main", "protecting", "running"]


def main() -> None:
    """Runs a command. Exit codes: 0 done, 1 a fault of ours, 2 to 8 what the user can mend (see `errors`), 130 stopped."""
    journal.by_way_of("command line")
    try:
        application()
    except Cancelled as error:
        said = printable(str(error))
        typer.echo(f"{said[:1].upper()}{said[1:]}.", err=True)
        sys.exit(error.exit_code)
    except MemberScopeError as error:
        typer.echo(f"Error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        typer.echo(f"Error: this is a fault of ours ({type(error).__name__}). {_note(error)}", err=True)
        sys.exit(1)


def _note(error: Exception) -> str:
    """Notes where a fault happened and says where to look. The error's own text may hold somebody's data: it stays out."""
    from mia_core.storage.store import home_folder

    try:
        path = home_folder() / "logs" / "command-line.log"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        places = " < ".join(
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in reversed(traceback.extract_tb(error.__traceback__))
        )
        log = logging.FileHandler(path, encoding="utf-8")
        log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.emit(logging.makeLogRecord({"msg": f"{type(error).__name__} at {places}", "levelno": logging.ERROR}))
        log.close()
    except (OSError, MemberScopeError):
        return "What is finished is kept."
    return f"What is finished is kept; where it happened is noted in {path}"


if __name__ == "__main__":
    main()
