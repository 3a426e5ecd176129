"""What the command line shows of finished audits from near: their cohorts, two of them compared, one person, one method."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.command_line.show_audits import KEY_SHOWN, printable
from mia_core.report.cohorts import Bin, Cohort, Leak
from mia_core.report.comparing import AuditComparison, explain_finding
from mia_core.report.methods import Method
from mia_core.report.results import AuditResult, WithoutResult


def show_cohorts(
    console: Console, cohorts: Sequence[Cohort], leaks: dict[int, Leak], bins: dict[str, list[Bin]], result: AuditResult
) -> None:
    """A row for each cohort, then one for each bin of what is known of users."""
    say = result.unit.say
    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    rows = [(f"cohort {one.number}, like {printable(one.exemplar)[:40]}", leaks.get(one.number)) for one in cohorts]
    _leaks(console, say("Users who look alike to the models"), rows)
    for title, found in bins.items():
        _leaks(console, title, [(f"{one.lowest:.3g} to {one.highest:.3g}", one.leak) for one in found])
    console.print(say("Intervals hold for all rows of a table at once."), style="dim")


def _leaks(console: Console, title: str, rows: Sequence[tuple[str, Leak | None]]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for heading in ("", "Members", "Held-out", "AUC"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, leak in rows:
        if leak is None:
            table.add_row(name, "–", "–", "–")
            continue
        auc = "too few to say" if leak.auc is None else f"{leak.auc:.3f} ({leak.low:.3f}–{leak.high:.3f})"
        table.add_row(Text(name), f"{leak.members:,}", f"{leak.held_out:,}", auc)
    console.print(table)


def show_comparison(
    console: Console, results: Sequence[AuditResult], pairs: Sequence[AuditComparison], settings: pl.DataFrame
) -> None:
    """The audits by number, each difference in words, and what was set differently."""
    for number, result in enumerate(results, start=1):
        failed = "" if result.valid else "  A GATE FAILED"
        console.print(
            Text(f"Audit {number}: {printable(result.name)}", style="bold"), Text(result.key[:KEY_SHOWN] + failed)
        )
    for number, pair in enumerate(pairs, start=2):
        if pair.reason:
            console.print(f"Audits 1 and {number} are not compared user by user: {pair.reason}", soft_wrap=True)
        for finding in pair.findings:
            console.print(Text(f"  {explain_finding(finding, number)}"), soft_wrap=True)
    table = Table(title="What was set differently", title_justify="left", box=box.SIMPLE)
    for name in settings.columns:
        table.add_column("Setting" if name == "setting" else f"Audit {name}")
    for row in settings.iter_rows():
        table.add_row(*(Text(printable(value)[:60]) for value in row))
    console.print(table)


def show_without(console: Console, found: WithoutResult, result: AuditResult) -> None:
    """The score of a person, and how it changes without each interaction, the most telling one first."""
    title = next((attack.title for attack in result.attacks if attack.name == found.attack), found.attack)
    whole = "no score" if found.score is None else f"{found.score:.4f}"
    console.print(Text(f"{printable(found.subject)}: {title}, {whole}", style="bold"))
    table = Table(box=box.SIMPLE)
    for heading in ("Without", "Window", "As", "Score", "Change"):
        table.add_column(heading, justify="right" if heading in ("Score", "Change") else "left")
    for row in sorted(found.rows, key=lambda row: 0.0 if row.change is None else row.change):
        score, change = ("–" if value is None else f"{value:.4f}" for value in (row.score, row.change))
        table.add_row(Text(printable(row.title)[:60]), str(row.window + 1), row.part, score, change)
    console.print(table)
    console.print("A change below 0: with this interaction the person looks more like a member.", style="dim")


def show_method(console: Console, method: Method) -> None:
    """Everything that is told of one method."""
    console.print(Text(f"{method.title} ({method.address})", style="bold"))
    told = {
        "Asks": method.asks,
        "Formula": method.formula,
        "How": method.text,
        "Source": method.source,
        "Differs": method.differs,
        "Relations": method.relations,
        "Access": method.access,
        "Cost": method.cost,
        "Known": method.expected,
        "Fails": method.fails,
    }
    for name, text in told.items():
        if text:
            console.print(Text.assemble((f"{name}: ", "bold"), text), soft_wrap=not console.is_terminal)
    for setting in method.settings:
        console.print(Text(f"  {setting.name} = {setting.default}: {setting.text}"), soft_wrap=not console.is_terminal)


def show_methods(console: Console, methods: Sequence[Method]) -> None:
    """A line for each."""
    for method in methods:
        console.print(Text.assemble((method.address, "bold"), f": {method.asks}"), soft_wrap=not console.is_terminal)
