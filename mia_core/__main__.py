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
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Was this person's data used? The evidence for one user, or for a pasted history."""
    from mia_core.report.lookup import find_audit, lookup_user
    from mia_core.report.results import read_result

    if (user is None) == (history is None):
        raise ConfigError("lookup: give either a USER id or --history FILE")
    store = _store()
    entry = find_audit(store, audit)
    if history is not None:
        if attack is not None:
            raise ConfigError("--attack goes with a USER id; a history is judged by the attack that leads the report")
        found = _lookup_history(store, entry.key, history, device, threads)
    else:
        found = lookup_user(store, entry.key, str(user), attack)
    show_lookup(Console(), found, read_result(entry.path), prior, every)


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
def report(audit: Audit, json_path: Json = None) -> None:
    """Show a finished audit, comparison of defences or check of forgetting."""
    from mia_core.report.export import check_destination
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.forgetting import read_forgetting
    from mia_core.report.lookup import find_finished
    from mia_core.report.repeats import find_repeats
    from mia_core.report.results import read_result

    if json_path is not None:
        check_destination(json_path)
    store = _store()
    entry = find_finished(store, audit)
    if entry.kind == "defenses":
        _show_comparison(entry.path, json_path)
    elif entry.kind == "forgetting":
        _show_check(read_forgetting(entry.path), json_path)
    else:
        result = read_result(entry.path)
        show_report(Console(), result, find_repeats(store, result), follow_ups(store, result))
        _write_json(store, result, json_path)


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
