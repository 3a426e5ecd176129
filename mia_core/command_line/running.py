"""Commands that run something, or plan it: the demonstration, audits, studies, defences, checks of forgetting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mia_core.command_line.application import (
    Device,
    Json,
    RuntimeSettings,
    Settings,
    Source,
    Threads,
    application,
    lines_of_file,
    open_store,
    overrides,
    progress_bars,
    show_check_of_forgetting,
    show_comparison_of_defenses,
    write_json,
)
from mia_core.command_line.show_audits import (
    show_report,
)
from mia_core.errors import ConfigError

if TYPE_CHECKING:
    from mia_core.experiment import Experiment, Runtime


@application.command()
def demo(
    json_path: Json = None, device: Device = "auto", threads: Threads = 0, runtime: RuntimeSettings = None
) -> None:
    """Audit the built-in data: a small model, trained here, in about a minute."""
    from mia_core.experiment import Experiment, load_experiment, runtime_of_machine

    config = Path(__file__).parents[2] / "assets" / "demo.toml"
    experiment = load_experiment(config) if config.is_file() else Experiment(name="Demo")
    _audit(experiment, json_path, runtime_of_machine(runtime or (), device=device, threads=threads))


@application.command()
def audit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A .toml file; see the ones in assets/.")],
    data: Source = None,
    settings: Settings = None,
    json_path: Json = None,
    device: Device = "auto",
    threads: Threads = 0,
    runtime: RuntimeSettings = None,
) -> None:
    """Run an audit, or find it in the store. Run it again after a stop: finished stages are kept."""
    from mia_core.experiment import load_experiment, runtime_of_machine

    on = runtime_of_machine(runtime or (), device=device, threads=threads)
    _audit(load_experiment(config, overrides(data, settings)), json_path, on)


@application.command()
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A .toml file; see the ones in assets/.")],
    data: Source = None,
    settings: Settings = None,
    price: Annotated[
        float | None,
        typer.Option(metavar="MONEY", help="What this machine costs an hour, in any currency, 0 to 10,000."),
    ] = None,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """What an audit would take here, before it is launched: time, memory and, given a price, money.

    Where no finished audit of its shape tells, this machine is measured first, in some seconds.
    """
    from mia_core.command_line.show_plans import show_plan
    from mia_core.data.opening import open_interactions
    from mia_core.experiment import Runtime, load_experiment
    from mia_core.planning.capacity import DEAREST, forecast, memory, past_audits

    if price is not None and not 0 <= price <= DEAREST:
        raise ConfigError(f"--price {price:g}: give what this machine costs an hour, from 0 to {DEAREST:,.0f}")
    experiment, store = load_experiment(config, overrides(data, settings)), open_store()
    runtime = Runtime(device=device, threads=threads)
    summary = open_interactions(experiment.data, experiment.seed, store).summary()
    past = past_audits(store)
    found = forecast(store, experiment, summary, past, runtime)
    if not found.measured and experiment.base.source != "hub":
        from mia_core.planning.throughput import measure

        with progress_bars() as progress:
            measure(experiment, store, runtime, progress)
        found = forecast(store, experiment, summary, past, runtime)
    show_plan(Console(), experiment, found, memory(experiment, summary), price)


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
    runtime: RuntimeSettings = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the presets.")] = False,
) -> None:
    """Vary one setting of an audit, or cross two. Run it again after a stop: finished audits are kept."""
    from mia_core.command_line.show_studies import show_presets, show_study
    from mia_core.experiment import runtime_of_machine
    from mia_core.report.export import check_destination, write_document
    from mia_core.report.lookup import find_audit
    from mia_core.report.repeats import find_repeats
    from mia_core.report.results import read_result
    from mia_core.report.studies import STUDY_TABLES, read_study_table, study_document
    from mia_core.storage import journal
    from mia_core.studies.study import load_study, presets, repetition, run_study

    if show_list:
        show_presets(Console(), {name: load_study(name) for name in presets()})
        return
    on = runtime_of_machine(runtime or (), device=device, threads=threads)
    if (name is None) == (repeat is None):
        raise ConfigError("study: give a preset (study --list shows them), a .toml file, or --repeat AUDIT")
    if repeat is not None and (data or settings):
        raise ConfigError("study: --repeat changes the seed alone; --data and --set go with a STUDY")
    if json_path is not None:
        check_destination(json_path)
    if name is not None:
        chosen, store = load_study(name, overrides(data, settings)), open_store()
    else:
        store = open_store()
        result = read_result(find_audit(store, str(repeat)).path)
        chosen = repetition(result, find_repeats(store, result))
    with journal.work(store.home, "study") as finished, progress_bars() as progress:
        done = run_study(chosen, store, progress, on)
        finished(key=done.key)
    folder = store.find(done.key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    tables = {name: read_study_table(folder, name) for name in STUDY_TABLES}
    show_study(Console(), done, tables)
    if json_path is not None:
        write_document(json_path, study_document(done, tables))
        journal.note(store.home, "table exported", key=done.key)


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
    runtime: RuntimeSettings = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show which defences would be tried.")] = False,
) -> None:
    """Try what would close a leak: each defence audited by an attacker who knows it, beside what it costs."""
    from mia_core.command_line.show_defending import show_panel
    from mia_core.experiment import load_experiment, runtime_of_machine
    from mia_core.report.export import check_destination
    from mia_core.storage import journal
    from mia_core.studies.defending import parse_defending, refused_of_panel, run_defending

    experiment = load_experiment(config, overrides(data, settings))
    panel = list(refused_of_panel(experiment, panel_path))
    if show_list:
        show_panel(Console(), panel)
        return
    on = runtime_of_machine(runtime or (), device=device, threads=threads)
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
    store = open_store()
    with journal.work(store.home, "comparison of defences") as finished, progress_bars() as progress:
        done = run_defending(defending, store, progress, on)
        finished(key=done.key)
    folder = store.find(done.key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    show_comparison_of_defenses(folder, json_path)


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
    runtime: RuntimeSettings = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the ways to forget that this target allows.")] = False,
) -> None:
    """Has a model that was told to forget somebody forgotten them? Compared with models that never saw them."""
    from mia_core.command_line.show_forgetting import show_methods
    from mia_core.experiment import runtime_of_machine
    from mia_core.report.export import check_destination
    from mia_core.storage import journal
    from mia_core.studies.forgetting import load_forgetting, run_forgetting

    if users is not None and share is not None:
        raise ConfigError("forget: give either --users FILE or --share, not both")
    listed = lines_of_file(users, "--users", "user id") if users is not None else None
    given = {"forget": listed or share, "methods": methods, "seeds": seeds, "margin": margin}
    changes = {name: value for name, value in given.items() if value is not None}
    document = load_forgetting(config, overrides(data, settings), **changes)
    if show_list:
        show_methods(Console(), document.chosen)
        return
    on = runtime_of_machine(runtime or (), device=device, threads=threads)
    if json_path is not None:
        check_destination(json_path)
    store = open_store()
    with journal.work(store.home, "check of forgetting") as finished, progress_bars() as progress:
        done = run_forgetting(document, store, progress, on)
        finished(key=done.key)
    show_check_of_forgetting(done, json_path)


def _audit(experiment: Experiment, json_path: Path | None, runtime: Runtime) -> None:
    from mia_core.report.export import check_destination
    from mia_core.report.follow_ups import follow_ups
    from mia_core.report.repeats import find_repeats
    from mia_core.storage import journal

    if json_path is not None:
        check_destination(json_path)
    store = open_store()
    with journal.work(store.home, "audit") as finished, progress_bars() as progress:
        from mia_core.pipeline import run_audit

        result = run_audit(experiment, store, progress, runtime)
        finished(key=result.key)
    show_report(Console(), result, find_repeats(store, result), follow_ups(store, result))
    write_json(store, result, json_path)
