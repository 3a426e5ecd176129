"""Commands that look at finished audits: people, lists, cohorts, comparisons, and what a method is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mia_core.command_line.application import (
    Audit,
    Device,
    Threads,
    application,
    lines_of_file,
    open_store,
    progress_bars,
)
from mia_core.command_line.show_audits import (
    printable,
    show_audits,
    show_cohort,
    show_lookup,
    show_others,
)
from mia_core.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from mia_core.report.results import LookupResult
    from mia_core.storage.store import Store


@application.command()
def lookup(
    audit: Audit,
    user: Annotated[str | None, typer.Argument(metavar="USER", help="An id, exactly as in the data.")] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of an id: a history, one title or item id a line.")
    ] = None,
    attack: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the one that leads the report.")
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="How likely you take membership to be before the audit, such as 0.1."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--every-attack", help="Also show what each attack says.")] = False,
    letter: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the answer as a letter: .pdf (sealed), or .txt to be edited."),
    ] = None,
    language: Annotated[Literal["en", "de", "fr", "es"], typer.Option(help="Of the letter.")] = "en",
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Was this person's data used? The evidence for one user, or for a pasted history."""
    from mia_core.report.lookup import find_audit, lookup_user
    from mia_core.report.results import read_result
    from mia_core.storage import journal

    if (user is None) == (history is None):
        raise ConfigError("lookup: give either a USER id or --history FILE")
    if letter is not None:
        _check_letter(letter, attack)
    store = open_store()
    entry = find_audit(store, audit)
    journal.note(store.home, "looked up", audit=entry.key, **_person(store, user))
    if history is not None:
        if attack is not None:
            raise ConfigError("--attack goes with a USER id; a history is judged by the attack that leads the report")
        found = _lookup_history(store, entry.key, history, device, threads)
    else:
        if letter is not None:
            # Also where the id is not in the data: that is an answer, too.
            _write_letter(store, entry.key, None, str(user), letter, language)
        found = lookup_user(store, entry.key, str(user), attack)
    show_lookup(Console(), found, read_result(entry.path), prior, every)
    if letter is not None and history is not None:
        _write_letter(store, entry.key, found, "", letter, language)


def _lookup_history(
    store: Store, key: str, path: Path, device: Literal["auto", "cpu", "cuda"], threads: int
) -> LookupResult:
    from mia_core.experiment import Runtime

    lines = lines_of_file(path, "--history", "title or item id")
    with progress_bars("stopped; run the same command again") as progress:
        from mia_core.studies.lookup import lookup_history

        return lookup_history(key, lines, store, progress, Runtime(device=device, threads=threads))


def _person(store: Store, user: str | None) -> dict[str, str]:
    """What stands for a person in the log; a pasted history is nobody's whom the log could name."""
    from mia_core.storage import journal

    return {} if user is None else {"person": journal.person(store.home, user)}


def _check_letter(path: Path, attack: str | None) -> None:
    from mia_core.report.export import check_destination

    if path.suffix.lower() not in (".pdf", ".txt"):
        raise ConfigError(f"--letter {str(path)!r}: a letter is a .pdf, sealed, or a .txt, to be edited")
    if attack is not None:
        raise ConfigError("--letter speaks of the attack that leads the report; leave --attack out")
    check_destination(path, "--letter")


def _write_letter(
    store: Store, key: str, found: LookupResult | None, user: str, path: Path, language: Literal["en", "de", "fr", "es"]
) -> None:
    from mia_core.report.export import write_file
    from mia_core.report.letter import Office, as_text, compose_letter, find_subject, letter_pdf
    from mia_core.report.results import read_result
    from mia_core.storage import journal
    from mia_core.storage.seal import SealingKey

    folder = store.find(key)
    assert folder is not None, "it was found a moment ago"  # noqa: S101
    told = found or find_subject(store, key, user)
    written = compose_letter(told, read_result(folder), language, Office(), subject=user)
    pdf = path.suffix.lower() == ".pdf"
    write_file(path, letter_pdf(written, SealingKey(store.home)) if pdf else as_text(written).encode())
    journal.note(store.home, "letter exported", audit=key, **_person(store, user or None))
    typer.echo(f"Written: {printable(str(path))}")


@application.command()
def cohort(
    audit: Audit,
    ids: Annotated[Path, typer.Argument(metavar="IDS.txt", help="A list of user ids, one a line.")],
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write the answer as JSON.")
    ] = None,
) -> None:
    """Was this list of users trained on, and how much of it? Their evidence taken together."""
    from mia_core.report.export import check_destination, write_document
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result

    if json_path is not None:
        check_destination(json_path)
    store = open_store()
    entry = find_audit(store, audit)
    lines = lines_of_file(ids, "IDS.txt", "user id")
    from mia_core.storage import journal
    from mia_core.studies.cohort import cohort_document, judge_cohort

    journal.note(store.home, "list looked up", audit=entry.key, people=len(lines))
    found, result = judge_cohort(store, entry.key, lines), read_result(entry.path)
    show_cohort(Console(), found, result)
    if json_path is not None:
        write_document(json_path, cohort_document(found, result))
        journal.note(store.home, "table exported", audit=entry.key)


@application.command()
def cohorts(
    audit: Audit,
    count: Annotated[int, typer.Option(min=2, max=8, help="How many cohorts.")] = 4,
    references_only: Annotated[
        bool, typer.Option("--references-only", help="Leave aside what the target itself shows of users.")
    ] = False,
) -> None:
    """Among whom is the leak? By cohorts of users who look alike to the models, by history length and by popularity."""
    from mia_core.command_line.show_inspecting import show_cohorts
    from mia_core.report.cohorts import form_cohorts, leaks_by_cohort, leaks_by_value, portraits
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result, read_table

    folder = find_audit(open_store(), audit).path
    result = read_result(folder)
    kinds = {"history_length": "By history length", "mean_popularity": "By popularity of the items"}
    users = read_table(folder, "users", ("user", "role", f"score.{result.lead}", *kinds))
    if result.brought:
        raise NotFound("cohorts: of a target of your own only listed users are known; there is nobody to compare with")
    cohort_of, formed = form_cohorts(
        portraits(folder, by_target=not references_only), count, int(result.config["seed"])
    )
    bins = {title: leaks_by_value(users, value, result) for value, title in kinds.items()}
    show_cohorts(Console(), formed, leaks_by_cohort(users, cohort_of, result), bins, result)


@application.command()
def compare(
    audits: Annotated[list[str], typer.Argument(metavar="AUDIT...", help="Two audits or more; see 'list'.")],
    attack: Annotated[
        str | None, typer.Option(help="By which attack; the first one's lead if nothing is said.")
    ] = None,
) -> None:
    """How much more, or less, do audits show than the first? Paired by user, each difference with its interval."""
    from mia_core.command_line.show_inspecting import show_comparison
    from mia_core.report.comparing import common_attacks, compare_audits, differing_settings
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result

    store = open_store()
    folders = [find_audit(store, text).path for text in audits]
    if len(set(folders)) < 2:
        raise ConfigError("compare: give two different audits or more; 'list' shows them")
    results = [read_result(folder) for folder in folders]
    offered = common_attacks(results)
    chosen = attack or (offered[0] if offered else "")
    if chosen not in offered:
        raise NotFound(
            f"attack {chosen!r} did not run in all of these audits; choose one of {', '.join(offered) or 'none'}"
        )
    first = (results[0], folders[0])
    pairs = [compare_audits(*first, *other, chosen) for other in zip(results[1:], folders[1:], strict=True)]
    show_comparison(Console(), results, pairs, differing_settings(results))


@application.command()
def without(
    audit: Audit,
    user: Annotated[str, typer.Argument(metavar="USER", help="An id, exactly as in the data.")],
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Which interactions make a person look like a member? The score without each of them in turn."""
    from mia_core.command_line.show_inspecting import show_without
    from mia_core.experiment import Runtime
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result
    from mia_core.storage import journal
    from mia_core.studies.without import score_without_each

    store = open_store()
    entry = find_audit(store, audit)
    journal.note(store.home, "looked up", audit=entry.key, **_person(store, user))
    with progress_bars() as progress:
        found = score_without_each(entry.key, user, store, progress, Runtime(device=device, threads=threads))
    show_without(Console(), found, read_result(entry.path))


@application.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Such as min_k, or defence.temperature.")] = None,
    words: Annotated[str, typer.Option("--search", help="Only methods in whose texts these words stand.")] = "",
) -> None:
    """What a method asks, its formula, source, access, cost, and where it fails; without a name, all of them."""
    from mia_core.command_line.show_inspecting import show_method, show_methods
    from mia_core.report.methods import KINDS, find_method, matching, methods_of

    if name is None:
        show_methods(Console(), matching([method for kind in KINDS for method in methods_of(kind)], words))
        return
    found = find_method(name)
    if found is None:
        raise NotFound(f"method {name!r}: there is none; 'methods --search WORDS' finds what there is")
    show_method(Console(), found)


@application.command("list")
def list_audits(
    every: Annotated[bool, typer.Option("--all", help="Also show the audits that are points of a study.")] = False,
) -> None:
    """Show the finished audits, the newest first, then comparisons of defences and checks of forgetting."""
    from mia_core.report.results import read_result
    from mia_core.report.studies import points_by_study

    store = open_store()
    entries = store.entries("audit", "point") if every else store.entries("audit")
    left_out = {} if every else points_by_study(store)
    show_audits(Console(), [read_result(entry.path) for entry in entries], left_out)
    show_others(Console(), store.entries("defenses", "forgetting"))
