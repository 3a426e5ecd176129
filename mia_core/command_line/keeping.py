"""Commands about what stays: reports and their seals, deletion, the examples that come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mia_core.command_line.application import (
    Audit,
    application,
    open_store,
    progress_bars,
    show_check_of_forgetting,
    show_comparison_of_defenses,
)
from mia_core.command_line.show_audits import (
    printable,
    show_report,
)
from mia_core.errors import Cancelled, ConfigError, DataError, NotFound, StoreError

if TYPE_CHECKING:
    from mia_core.storage.store import Entry, Store


@application.command()
def report(
    audit: Audit,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures as JSON.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Also write the report as one sealed HTML file.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(metavar="PATH", help="Also write it as a sealed PDF.")] = None,
    package: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Also write report, tables and settings as one sealed ZIP file.")
    ] = None,
    annex: Annotated[
        Literal["none", "pseudonyms", "ids"], typer.Option(help="How the written files name users, if at all.")
    ] = "none",
) -> None:
    """Show a finished audit, comparison of defences or check of forgetting; write an audit's report for others."""
    from mia_core.report.export import check_destination
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.forgetting import read_forgetting
    from mia_core.report.lookup import find_finished
    from mia_core.report.repeats import find_repeats
    from mia_core.report.results import read_result

    wanted = {"--json": json_path, "--html": html, "--pdf": pdf, "--package": package}
    for option, path in wanted.items():
        if path is not None:
            check_destination(path, option)
    store = open_store()
    entry = find_finished(store, audit)
    if entry.kind not in ("audit", "point") and (html or pdf or package):
        raise ConfigError("report: --html, --pdf and --package go with an audit; a comparison or check has --json")
    if entry.kind == "defenses":
        show_comparison_of_defenses(entry.path, json_path)
    elif entry.kind == "forgetting":
        show_check_of_forgetting(read_forgetting(entry.path), json_path)
    else:
        result = read_result(entry.path)
        show_report(Console(), result, find_repeats(store, result), follow_ups(store, result))
        files = {"audit.json": json_path, "report.html": html, "report.pdf": pdf, "package": package}
        _write_report(store, entry.key, annex, files)


def _write_report(
    store: Store, key: str, annex: Literal["none", "pseudonyms", "ids"], wanted: dict[str, Path | None]
) -> None:
    if not any(wanted.values()):
        return
    from mia_core.report.export import write_file
    from mia_core.report.finished import read_finished
    from mia_core.report.package import exported, sealed_package
    from mia_core.storage import journal
    from mia_core.storage.seal import SealingKey

    finished, own = read_finished(store, key), SealingKey(store.home)
    files = exported(finished, own, annex)
    files["package"] = lambda: sealed_package(finished, own, annex)
    for name, path in wanted.items():
        if path is not None:
            write_file(path, files[name]())
            journal.note(store.home, "report exported", audit=key, file=name, users=annex)
            typer.echo(f"Written: {printable(str(path))}")


@application.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="REPORT", help="A sealed HTML, PDF or ZIP file.")],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Public key or fingerprint of who is said to have sealed it; see 'key'."),
    ] = None,
) -> None:
    """Is a report as it was sealed, and by whom? Exit code 0 only if it is unedited and its key is known."""
    from mia_core.report.export import read_sealed
    from mia_core.storage.seal import check_seal, in_groups, is_own, names_key
    from mia_core.storage.store import home_folder

    seal = check_seal(read_sealed(path))
    if key is not None and not names_key(key, seal):
        raise DataError("the seal was not made with the key that you gave: somebody else sealed this file")
    typer.echo(
        f"Unedited since it was sealed: {seal.sealed.replace('T', ' ').removesuffix('Z')} UTC by the clock of the machine that "
        f"sealed it, MemberScope {seal.version}.\nKey: {in_groups(seal.fingerprint)}"
    )
    if key is not None:
        typer.echo("It was sealed with the key that you gave.")
    elif is_own(home_folder(), seal):
        typer.echo("It was sealed on this machine, with the key of this home folder.")
    else:
        raise DataError(
            "whose key this is, is not known here, so nothing shows who made the report: anybody may seal a file with a key of "
            "their own. Ask the one who is said to have made it for their fingerprint, and give it with --key"
        )


@application.command("key")
def show_key() -> None:
    """Print the public key that checks the seals of this home folder's reports; hand it out freely."""
    from mia_core.storage.seal import SealingKey, in_groups
    from mia_core.storage.store import home_folder

    own = SealingKey(home_folder())
    typer.echo(f"Public key:  {own.public_key}\nFingerprint: {in_groups(own.fingerprint)}")


@application.command()
def remove(
    audit: Annotated[str | None, typer.Argument(metavar="AUDIT", help="As for report.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead: a saved data set, with every audit of it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Delete an audit, a comparison, a check or a saved data set, with everything that nothing else rests on."""
    from mia_core.data import library
    from mia_core.data_rights.removal import remove_audit, remove_data_set, remove_defenses, remove_forgetting
    from mia_core.report.lookup import find_finished
    from mia_core.storage import journal

    if (audit is None) == (data is None):
        raise ConfigError("remove: give either an AUDIT or --data NAME")
    store = open_store()
    entry = find_finished(store, audit) if audit is not None else _saved_data(library.saved(store), str(data))
    if not yes and not typer.confirm(f"Delete {printable(entry.name)!r} ({entry.key[:12]}) for good?"):
        raise Cancelled("nothing was deleted")
    if audit is not None:
        kinds = {"defenses": remove_defenses, "forgetting": remove_forgetting}
        gone = kinds.get(entry.kind, remove_audit)(store, entry.key) - 1
        typer.echo(f"Deleted, with {gone} parts that nothing else rests on.")
    else:
        gone = remove_data_set(store, entry.key)
        typer.echo(f"Deleted, with {gone} audits of it.")
    journal.note(store.home, f"{journal.KINDS[entry.kind]} deleted", key=entry.key, with_it=gone)


@application.command("check-store")
def check_store(
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged; what needs it makes it again.")
    ] = False,
) -> None:
    """Read everything in the store anew: is it as it was written? Exit code 0 only if nothing damaged is left."""
    from mia_core.storage.store import Store, homes

    counts = Counter[str]()
    for home in homes():
        for checked in Store(home).check(repair=repair):
            counts[checked.state] += 1
            if checked.state == "damaged":
                what = checked.kind or "unknown"
                typer.echo(f"Damaged: {printable(checked.key[:12])} ({printable(what)}): {printable(checked.fault)}")
    old = counts["not verifiable"]
    earlier = f", {old} not verifiable (an earlier version noted no hashes)" if old else ""
    typer.echo(f"{counts.total()} artifacts: {counts['sound']} sound, {counts['damaged']} damaged{earlier}.")
    if counts["damaged"] and not repair:
        raise StoreError("the store holds damaged artifacts; 'check-store --repair' sets them aside")
    if counts["damaged"]:
        typer.echo("What was damaged is set aside. Run the audits in question again: the rest is kept.")


def _saved_data(saved: Sequence[Entry], name: str) -> Entry:
    for entry in saved:
        if name in (entry.key, entry.name):
            return entry
    raise NotFound(f"--data {name!r}: there is no saved data set of this name; the Data page shows them all")


@application.command()
def example(
    make: Annotated[bool, typer.Option("--make", help="Make the shipped example anew; takes minutes.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Make it anew elsewhere and compare it byte for byte; takes minutes.")
    ] = False,
) -> None:
    """Put the finished example audits that come with the program into the store, or make or check them."""
    from mia_core import example as shipped

    if make and check:
        raise ConfigError("example: give either --make or --check")
    if not make and not check:
        key = shipped.install(open_store())
        typer.echo(f"The example audits are in the store; 'report {key[:12]}' shows the first, 'list' all of them.")
        return
    with progress_bars() as progress:
        if make:
            shipped.remake(progress)
        said = shipped.check(progress) if check else []
    if said:
        typer.echo("\n".join(said))
        raise typer.Exit(1)
    typer.echo(
        f"{'Made' if make else 'Checked'}: {len(shipped.manifest().files)} files, {shipped.manifest().digest[:12]}"
    )
