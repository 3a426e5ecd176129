"""The command line: the same audits, from the same store, as in the browser."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mia_core import __version__
from mia_core.errors import Cancelled, ConfigError, DataError, MemberScopeError, NotFound
from mia_core.terminal import ProgressBars, printable, show_audits, show_cohort, show_lookup, show_others, show_report

if TYPE_CHECKING:
    from mia_core.experiment import Experiment
    from mia_core.report.forgetting import ForgettingResult
    from mia_core.report.results import AuditResult, LookupResult
    from mia_core.store import Entry, Store

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


@application.command()
def demo(json_path: Json = None, device: Device = "auto", threads: Threads = 0) -> None:
    """Audit the built-in data: a small model, trained here, in about a minute."""
    from mia_core.experiment import Experiment, load_experiment

    config = Path(__file__).parent.parent / "assets" / "demo.toml"
    _audit(load_experiment(config) if config.is_file() else Experiment(name="Demo"), json_path, device, threads)


@application.command()
def audit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A .toml file; see the ones in assets/.")],
    data: Source = None,
    settings: Settings = None,
    json_path: Json = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Run an audit, or find it in the store. Run it again after a stop: finished stages are kept."""
    from mia_core.experiment import load_experiment

    _audit(load_experiment(config, _overrides(data, settings)), json_path, device, threads)


@application.command()
def study(
    name: Annotated[str | None, typer.Argument(metavar="STUDY", help="A preset (see --list) or a .toml file.")] = None,
    repeat: Annotated[
        str | None,
        typer.Option("--repeat", metavar="AUDIT", help="Instead: a finished audit again, with two more seeds."),
    ] = None,
    data: Source = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change the audit, or what is varied: vary.seed=[0,1]. Repeatable."
        ),
    ] = None,
    json_path: Json = None,
    device: Device = "auto",
    threads: Threads = 0,
    show_list: Annotated[bool, typer.Option("--list", help="Show the presets.")] = False,
) -> None:
    """Vary one setting of an audit, or cross two. Run it again after a stop: finished audits are kept."""
    from mia_core.experiment import Runtime
    from mia_core.report.export import check_destination, write_document
    from mia_core.report.lookup import find_audit
    from mia_core.report.repeats import find_repeats
    from mia_core.report.results import read_result
    from mia_core.report.studies import STUDY_TABLES, read_study_table, study_document
    from mia_core.study import load_study, presets, repetition, run_study
    from mia_core.terminal_studies import show_presets, show_study

    if show_list:
        show_presets(Console(), {name: load_study(name) for name in presets()})
        return
    if (name is None) == (repeat is None):
        raise ConfigError("study: give a preset (study --list shows them), a .toml file, or --repeat AUDIT")
    if repeat is not None and (data or settings):
        raise ConfigError("study: --repeat changes the seed alone; --data and --set go with a STUDY")
    if json_path is not None:
        check_destination(json_path)
    if name is not None:
        chosen, store = load_study(name, _overrides(data, settings)), _store()
    else:
        store = _store()
        result = read_result(find_audit(store, str(repeat)).path)
        chosen = repetition(result, find_repeats(store, result))
    with _progress() as progress:
        done = run_study(chosen, store, progress, Runtime(device=device, threads=threads))
    folder = store.find(done.key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    tables = {name: read_study_table(folder, name) for name in STUDY_TABLES}
    show_study(Console(), done, tables)
    if json_path is not None:
        write_document(json_path, study_document(done, tables))


@application.command()
def defend(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The audit of a target without defences, a .toml file.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--defense", metavar="TITLE", help="Try only this one of the panel (see --list). Repeatable."),
    ] = None,
    panel_path: Annotated[
        Path | None,
        typer.Option(
            "--panel", metavar="FILE.toml", help="Other defences or strengths; see the files in assets/defenses."
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Repeatable; by default 0, 1 and 2.")
    ] = None,
    data: Source = None,
    settings: Settings = None,
    json_path: Json = None,
    device: Device = "auto",
    threads: Threads = 0,
    show_list: Annotated[bool, typer.Option("--list", help="Show which defences would be tried.")] = False,
) -> None:
    """Try what would close a leak: each defence audited by an attacker who knows it, beside what it costs."""
    from mia_core.defending import parse_defending, refused_of_panel, run_defending
    from mia_core.experiment import Runtime, load_experiment
    from mia_core.report.export import check_destination
    from mia_core.terminal_defending import show_panel

    experiment = load_experiment(config, _overrides(data, settings))
    panel = list(refused_of_panel(experiment, panel_path))
    if show_list:
        show_panel(Console(), panel)
        return
    titles = [tried.title for tried, _ in panel]
    for title in only or []:
        if title not in titles:
            raise ConfigError(f"--defense {title!r} is not in the panel; there are {', '.join(titles)}")
    if json_path is not None:
        check_destination(json_path)
    # One that was asked for by name is not left out silently.
    chosen = [tried for tried, refused in panel if (tried.title in only if only else not refused)]
    defending = parse_defending(
        {
            "name": f"Defences of {experiment.name}",
            "experiment": experiment.model_dump(mode="json"),
            "tried": [tried.model_dump(mode="json") for tried in chosen],
            **({"seeds": seeds} if seeds else {}),
        }
    )
    store = _store()
    with _progress() as progress:
        done = run_defending(defending, store, progress, Runtime(device=device, threads=threads))
    folder = store.find(done.key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    _show_comparison(folder, json_path)


@application.command()
def forget(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="The audit whose target is told to forget, a .toml file.")
    ],
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Members to forget: a list of user ids, one a line.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Instead: a share of the members, drawn by the seed; 0.1.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="Only this way to forget (see --list). Repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Trainings of each kind, at least 5.")] = None,
    margin: Annotated[float | None, typer.Option(metavar="SHARE", help="What may be left of the memory; 0.2.")] = None,
    data: Source = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change the audit, or a way to forget: settings.gradient_ascent.epochs=20. Repeatable.",
        ),
    ] = None,
    json_path: Json = None,
    device: Device = "auto",
    threads: Threads = 0,
    show_list: Annotated[bool, typer.Option("--list", help="Show the ways to forget that this target allows.")] = False,
) -> None:
    """Has a model that was told to forget somebody forgotten them? Compared with models that never saw them."""
    from mia_core.experiment import Runtime
    from mia_core.forgetting import load_forgetting, run_forgetting
    from mia_core.report.export import check_destination
    from mia_core.terminal_forgetting import show_methods

    if users is not None and share is not None:
        raise ConfigError("forget: give either --users FILE or --share, not both")
    listed = _lines(users, "--users", "user id") if users is not None else None
    given = {"forget": listed or share, "methods": methods, "seeds": seeds, "margin": margin}
    changes = {name: value for name, value in given.items() if value is not None}
    document = load_forgetting(config, _overrides(data, settings), **changes)
    if show_list:
        show_methods(Console(), document.chosen)
        return
    if json_path is not None:
        check_destination(json_path)
    with _progress() as progress:
        done = run_forgetting(document, _store(), progress, Runtime(device=device, threads=threads))
    _show_check(done, json_path)


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

    if (user is None) == (history is None):
        raise ConfigError("lookup: give either a USER id or --history FILE")
    if letter is not None:
        _check_letter(letter, attack)
    store = _store()
    entry = find_audit(store, audit)
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
    from mia_core.seal import SealingKey

    folder = store.find(key)
    assert folder is not None, "it was found a moment ago"  # noqa: S101
    told = found or find_subject(store, key, user)
    written = compose_letter(told, read_result(folder), language, Office(), subject=user)
    pdf = path.suffix.lower() == ".pdf"
    write_file(path, letter_pdf(written, SealingKey(store.home)) if pdf else as_text(written).encode())
    typer.echo(f"Written: {printable(str(path))}")


@application.command()
def cohorts(
    audit: Audit,
    count: Annotated[int, typer.Option(min=2, max=8, help="How many cohorts.")] = 4,
    references_only: Annotated[
        bool, typer.Option("--references-only", help="Leave aside what the target itself shows of users.")
    ] = False,
) -> None:
    """Among whom is the leak? By cohorts of users who look alike to the models, by history length and by popularity."""
    from mia_core.report.cohorts import form_cohorts, leaks_by_cohort, leaks_by_value, portraits
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result, read_table
    from mia_core.terminal_inspecting import show_cohorts

    folder = find_audit(_store(), audit).path
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
    from mia_core.report.comparing import common_attacks, compare_audits, differing_settings
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result
    from mia_core.terminal_inspecting import show_comparison

    store = _store()
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
    from mia_core.experiment import Runtime
    from mia_core.report.lookup import find_audit
    from mia_core.report.results import read_result
    from mia_core.terminal_inspecting import show_without
    from mia_core.without import score_without_each

    store = _store()
    entry = find_audit(store, audit)
    with _progress() as progress:
        found = score_without_each(entry.key, user, store, progress, Runtime(device=device, threads=threads))
    show_without(Console(), found, read_result(entry.path))


@application.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Such as min_k, or defence.temperature.")] = None,
    words: Annotated[str, typer.Option("--search", help="Only methods in whose texts these words stand.")] = "",
) -> None:
    """What a method asks, its formula, source, access, cost, and where it fails; without a name, all of them."""
    from mia_core.report.methods import KINDS, find_method, matching, methods_of
    from mia_core.terminal_inspecting import show_method, show_methods

    if name is None:
        show_methods(Console(), matching([method for kind in KINDS for method in methods_of(kind)], words))
        return
    found = find_method(name)
    if found is None:
        raise NotFound(f"method {name!r}: there is none; 'methods --search WORDS' finds what there is")
    show_method(Console(), found)


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
    store = _store()
    entry = find_audit(store, audit)
    lines = _lines(ids, "IDS.txt", "user id")
    from mia_core.cohort import cohort_document, judge_cohort

    found, result = judge_cohort(store, entry.key, lines), read_result(entry.path)
    show_cohort(Console(), found, result)
    if json_path is not None:
        write_document(json_path, cohort_document(found, result))


@application.command()
def report(
    audit: Audit,
    json_path: Json = None,
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
    store = _store()
    entry = find_finished(store, audit)
    if entry.kind not in ("audit", "point") and (html or pdf or package):
        raise ConfigError("report: --html, --pdf and --package go with an audit; a comparison or check has --json")
    if entry.kind == "defenses":
        _show_comparison(entry.path, json_path)
    elif entry.kind == "forgetting":
        _show_check(read_forgetting(entry.path), json_path)
    else:
        result = read_result(entry.path)
        show_report(Console(), result, find_repeats(store, result), follow_ups(store, result))
        _write_json(store, result, json_path)
        _write_report(store, entry.key, annex, {"report.html": html, "report.pdf": pdf, "package": package})


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
    from mia_core.seal import check_seal, in_groups, is_own, names_key
    from mia_core.store import home_folder

    seal = check_seal(read_sealed(path))
    typer.echo(
        f"Unedited since it was sealed: {seal.sealed.replace('T', ' ').removesuffix('Z')} UTC by the clock of the machine that "
        f"sealed it, MemberScope {seal.version}.\nKey: {in_groups(seal.fingerprint)}"
    )
    if key is not None:
        if not names_key(key, seal):
            raise DataError("the seal was not made with the key that you gave: somebody else sealed this file")
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
    from mia_core.seal import SealingKey, in_groups
    from mia_core.store import home_folder

    own = SealingKey(home_folder())
    typer.echo(f"Public key:  {own.public_key}\nFingerprint: {in_groups(own.fingerprint)}")


def _write_report(
    store: Store, key: str, annex: Literal["none", "pseudonyms", "ids"], wanted: dict[str, Path | None]
) -> None:
    if not any(wanted.values()):
        return
    from mia_core.report.export import write_file
    from mia_core.report.finished import read_finished
    from mia_core.report.package import exported, sealed_package
    from mia_core.seal import SealingKey

    finished, own = read_finished(store, key), SealingKey(store.home)
    files = exported(finished, own, annex)
    files["package"] = lambda: sealed_package(finished, own, annex)
    for name, path in wanted.items():
        if path is not None:
            write_file(path, files[name]())
            typer.echo(f"Written: {printable(str(path))}")


def _show_comparison(folder: Path, json_path: Path | None) -> None:
    from mia_core.report.defending import defense_document, read_defenses, read_trade
    from mia_core.report.export import write_document
    from mia_core.terminal_defending import show_defenses

    found, figures = read_defenses(folder), read_trade(folder)
    show_defenses(Console(), found, figures)
    if json_path is not None:
        write_document(json_path, defense_document(found, figures))


def _show_check(found: ForgettingResult, json_path: Path | None) -> None:
    from mia_core.report.export import write_document
    from mia_core.report.forgetting import forgetting_document
    from mia_core.terminal_forgetting import show_forgetting

    show_forgetting(Console(), found)
    if json_path is not None:
        write_document(json_path, forgetting_document(found))


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
    from mia_core.report.lookup import find_finished
    from mia_core.report.removal import remove_audit, remove_data_set, remove_defenses, remove_forgetting

    if (audit is None) == (data is None):
        raise ConfigError("remove: give either an AUDIT or --data NAME")
    store = _store()
    entry = find_finished(store, audit) if audit is not None else _saved_data(library.saved(store), str(data))
    if not yes and not typer.confirm(f"Delete {printable(entry.name)!r} ({entry.key[:12]}) for good?"):
        raise Cancelled("nothing was deleted")
    if audit is not None:
        kinds = {"defenses": remove_defenses, "forgetting": remove_forgetting}
        typer.echo(
            f"Deleted, with {kinds.get(entry.kind, remove_audit)(store, entry.key) - 1} parts that nothing else rests on."
        )
    else:
        typer.echo(f"Deleted, with {remove_data_set(store, entry.key)} audits of it.")


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
        key = shipped.install(_store())
        typer.echo(f"The example audits are in the store; 'report {key[:12]}' shows the first, 'list' all of them.")
        return
    with _progress() as progress:
        if make:
            shipped.remake(progress)
        said = shipped.check(progress) if check else []
    if said:
        typer.echo("\n".join(said))
        raise typer.Exit(1)
    typer.echo(
        f"{'Made' if make else 'Checked'}: {len(shipped.manifest().files)} files, {shipped.manifest().digest[:12]}"
    )


@application.command("list")
def list_audits(
    every: Annotated[bool, typer.Option("--all", help="Also show the audits that are points of a study.")] = False,
) -> None:
    """Show the finished audits, the newest first, then comparisons of defences and checks of forgetting."""
    from mia_core.report.results import read_result
    from mia_core.report.studies import points_by_study

    store = _store()
    entries = store.entries("audit", "point") if every else store.entries("audit")
    left_out = {} if every else points_by_study(store)
    show_audits(Console(), [read_result(entry.path) for entry in entries], left_out)
    show_others(Console(), store.entries("defenses", "forgetting"))


def main() -> None:
    """Runs a command. Exit codes: 0 done, 1 a fault of ours, 2 to 6 what the user can mend (see `errors`), 130 stopped."""
    try:
        application()
    except MemberScopeError as error:
        typer.echo(f"Error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        typer.echo(f"Error: this is a fault of ours ({type(error).__name__}). {_note(error)}", err=True)
        sys.exit(1)


@contextmanager
def _progress(
    stopped: str = "stopped; run the same command again to go on where it was",
) -> Iterator[ProgressBars]:
    """Shows how far work is; an interrupt ends it with these words."""
    try:
        with ProgressBars(Console(stderr=True)) as progress:
            yield progress
    except KeyboardInterrupt:
        raise Cancelled(stopped) from None


def _store() -> Store:
    from mia_core.store import Store

    return Store()


def _overrides(data: Path | None, settings: list[str] | None) -> list[str]:
    """The settings of a command line, its data first."""
    if data is None:
        return list(settings or [])
    if not data.exists():
        raise DataError(f"--data {str(data)!r}: there is no such file or folder")
    path = json.dumps(str(data.resolve()), ensure_ascii=False)
    return ["data.source=file", f"data.path={path}", *(settings or [])]


def _audit(
    experiment: Experiment, json_path: Path | None, device: Literal["auto", "cpu", "cuda"], threads: int
) -> None:
    from mia_core.experiment import Runtime
    from mia_core.report.export import check_destination
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.repeats import find_repeats

    if json_path is not None:
        check_destination(json_path)
    store = _store()
    with _progress() as progress:
        from mia_core.pipeline import run_audit

        result = run_audit(experiment, store, progress, Runtime(device=device, threads=threads))
    show_report(Console(), result, find_repeats(store, result), follow_ups(store, result))
    _write_json(store, result, json_path)


def _lookup_history(
    store: Store, key: str, path: Path, device: Literal["auto", "cpu", "cuda"], threads: int
) -> LookupResult:
    from mia_core.experiment import Runtime

    lines = _lines(path, "--history", "title or item id")
    with _progress("stopped; run the same command again") as progress:
        from mia_core.lookup import lookup_history

        return lookup_history(key, lines, store, progress, Runtime(device=device, threads=threads))


def _lines(path: Path, option: str, what: str) -> list[str]:
    from mia_core.data.split import read_lines

    lines = read_lines(path, option, what, LARGEST_TEXT)
    if not lines:
        raise DataError(f"{option} {path.name!r} is empty; write one {what} a line")
    return lines


def _write_json(store: Store, result: AuditResult, path: Path | None) -> None:
    from mia_core.report.export import metrics_document, write_document
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.results import read_table

    folder = store.find(result.key)
    if path is not None and folder is not None:
        write_document(path, metrics_document(result, read_table(folder, "users"), follow_ups(store, result)))


def _note(error: Exception) -> str:
    """Notes where a fault happened and says where to look. The error's own text may hold somebody's data: it stays out."""
    from mia_core.store import home_folder

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
