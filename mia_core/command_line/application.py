"""The command line: its options, and what all commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mia_core import __version__
from mia_core.command_line.show_audits import (
    ProgressBars,
)
from mia_core.errors import Cancelled, DataError, shortened

if TYPE_CHECKING:
    from mia_core.report.forgetting import ForgettingResult
    from mia_core.report.results import AuditResult
    from mia_core.storage.store import Store

# What a command needs is imported in the command, so that --help and list start without a wait.
application = typer.Typer(
    name="memberscope",
    help="Was a recommender trained on a person's data? Audits in which one user is one observation.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
LARGEST_TEXT = 1_000_000

Json = Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures and users as JSON.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where models run; no setting of the audit.")]
Threads = Annotated[int, typer.Option(min=0, max=256, help="CPU threads; 0 leaves it to the machine.")]
RuntimeSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        metavar="FIELD=VALUE",
        help="Where and on what it runs, such as backend=ray, address=HOST:6379, gpus_per_task=1, processes=2. Repeatable.",
    ),
]
Source = Annotated[
    Path | None, typer.Option("--data", metavar="PATH", help="A file or folder, instead of the config's.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change one setting, such as seed=3. Repeatable."),
]
Audit = Annotated[
    str, typer.Argument(metavar="AUDIT", help="Key, its first four characters or more, name, or 'latest'.")
]


@application.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@contextmanager
def progress_bars(
    stopped: str = "stopped; run the same command again to go on where it was",
) -> Iterator[ProgressBars]:
    """Shows how far work is; an interrupt ends it with these words."""
    try:
        with ProgressBars(Console(stderr=True)) as progress:
            yield progress
    except KeyboardInterrupt:
        raise Cancelled(stopped) from None


def open_store() -> Store:
    """The store that MIA_HOME names."""
    from mia_core.storage.store import Store

    return Store()


def overrides(data: Path | None, settings: list[str] | None) -> list[str]:
    """The settings of a command line, its data first."""
    if data is None:
        return list(settings or [])
    if not os.path.exists(data):
        raise DataError(f"--data {shortened(str(data))!r}: there is no such file or folder")
    path = json.dumps(str(data.resolve()), ensure_ascii=False)
    return ["data.source=file", f"data.path={path}", *(settings or [])]


def lines_of_file(path: Path, option: str, what: str) -> list[str]:
    """The lines of a list that an option names.

    Raises:
        DataError: it is empty, too large or no text.
    """
    from mia_core.data.split import read_lines

    lines = read_lines(path, option, what, LARGEST_TEXT)
    if not lines:
        raise DataError(f"{option} {path.name!r} is empty; write one {what} a line")
    return lines


def write_json(store: Store, result: AuditResult, path: Path | None) -> None:
    """Writes all figures and users of an audit, where a file is asked for."""
    from mia_core.report.export import metrics_document, write_document
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.results import read_table
    from mia_core.storage import journal

    folder = store.find(result.key)
    if path is not None and folder is not None:
        write_document(path, metrics_document(result, read_table(folder, "users"), follow_ups(store, result)))
        journal.note(store.home, "report exported", audit=result.key, file="audit.json", users="ids")


def show_comparison_of_defenses(folder: Path, json_path: Path | None) -> None:
    """Shows a finished comparison of defences, and writes it where a file is asked for."""
    from mia_core.command_line.show_defending import show_defenses
    from mia_core.report.defending import defense_document, read_defenses, read_trade
    from mia_core.report.export import write_document
    from mia_core.storage import journal
    from mia_core.storage.store import home_folder

    found, figures = read_defenses(folder), read_trade(folder)
    show_defenses(Console(), found, figures)
    if json_path is not None:
        write_document(json_path, defense_document(found, figures))
        journal.note(home_folder(), "table exported", key=found.key)


def show_check_of_forgetting(found: ForgettingResult, json_path: Path | None) -> None:
    """Shows a finished check of forgetting, and writes it where a file is asked for."""
    from mia_core.command_line.show_forgetting import show_forgetting
    from mia_core.report.export import write_document
    from mia_core.report.forgetting import forgetting_document
    from mia_core.storage import journal
    from mia_core.storage.store import home_folder

    show_forgetting(Console(), found)
    if json_path is not None:
        write_document(json_path, forgetting_document(found))
        journal.note(home_folder(), "table exported", key=found.key)
