"""Commands for the sake of the people in the data: the log of what was done, and erasing one of them."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Literal

import typer
from rich.console import Console

from mia_core.command_line.application import Audit, application, open_store
from mia_core.command_line.show_audits import printable
from mia_core.errors import Cancelled, DataError


@application.command("log")
def show_log(
    check: Annotated[
        bool, typer.Option("--verify", help="Check every line, and the end; exit code 0 only if intact.")
    ] = False,
    noted: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:HASH", help="With --verify: a mark noted elsewhere. Repeatable."),
    ] = None,
    most: Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many of the latest events.")] = 50,
) -> None:
    """Who ran, looked up, exported, deleted or erased what, and when; and whether the log was altered."""
    from mia_core.command_line.show_protecting import show_events
    from mia_core.storage import journal
    from mia_core.storage.store import home_folder

    home = home_folder()
    if not check and not noted:
        show_events(Console(), journal.read(home, most))
        return
    verdict = journal.verify(home, tuple(noted or ()))
    if not verdict.intact:
        told = "\n".join(f"line {line} {what}" for line, what in verdict.faults)
        raise DataError(f"the log is not as it was written:\n{told}")
    typer.echo(
        f"Intact: {verdict.lines} lines.\nMark: {verdict.mark}\n"
        "Note it elsewhere, and check later with --noted that it still holds."
    )


@application.command()
def erase(
    user: Annotated[str, typer.Option(metavar="ID", help="Whom to erase: the id, exactly as in the data.")],
    models: Annotated[
        Literal["delete", "retrain"],
        typer.Option(
            help="Models that rest on this person go; or what was computed with them is queued anew without the person, too."
        ),
    ] = "delete",
    audits: Annotated[
        Literal["keep", "delete"],
        typer.Option(help="Finished audits stay in figures alone, without the person's rows, and say so; or they go."),
    ] = "keep",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Erase one person: everything that was derived from their data, then search every file for what is left."""
    from mia_core.command_line.show_protecting import show_plan
    from mia_core.data_rights.erasing import erase as erase_person
    from mia_core.data_rights.erasing import explain_erased, plan_erasing

    store = open_store()
    if dry_run or not yes:
        plan = plan_erasing(store, user)
        show_plan(Console(), plan)
        if dry_run or plan.empty:
            return
        if not typer.confirm("Erase all of this for good?"):
            raise Cancelled("nothing was erased")
    done = erase_person(store, user, models, audits)
    typer.echo(printable("\n".join(explain_erased(done))))


@application.command()
def pseudonymise(audit: Audit, yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False) -> None:
    """Keep a finished audit with pseudonyms in place of ids; its data and models go. A lookup still takes the real id."""
    from mia_core.data_rights.pseudonyms import pseudonymise as replace_ids
    from mia_core.report.lookup import find_audit

    store = open_store()
    entry = find_audit(store, audit)
    told = f"Replace the ids of {printable(entry.name)!r} ({entry.key[:12]}) and delete its data and models for good?"
    if not yes and not typer.confirm(told):
        raise Cancelled("nothing was changed")
    done = replace_ids(store, entry.key)
    parts = f"{done.gone} {'part' if done.gone == 1 else 'parts'} with real ids"
    deleted = f"; {parts} {'is' if done.gone == 1 else 'are'} deleted" if done.gone else ""
    typer.echo(f"Its users go by pseudonyms now, under the key {done.key[:12]}{deleted}.")
    for name in done.with_ids:
        typer.echo(f"The same users are still here by their ids, in {printable(name)!r}.")


@application.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete what has been kept for its time: see MIA_KEEP_UPLOADS_DAYS and MIA_KEEP_INTERMEDIATES_DAYS in the README."""
    from mia_core.data_rights.retention import due, enforce, rules
    from mia_core.storage.store import Store, homes

    kept = rules()
    for name, days in (("Intermediates", kept.intermediates), ("Uploads", kept.uploads)):
        typer.echo(f"{name} are kept {'until somebody deletes them' if days is None else f'{days:g} days'}.")
    for home in homes():
        with closing(Store(home)) as store:
            found = (due if dry_run else enforce)(store, kept)
        said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in found.counts().items() if count)
        typer.echo(f"{printable(str(home))}: {said or 'nothing'} {'would go' if dry_run else 'went'}.")
