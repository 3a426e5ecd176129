"""What the command line shows of a check whether a model has forgotten: the verdicts, and what forgetting cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.command_line.show_audits import KEY_SHOWN, printable
from mia_core.report.forgetting import (
    VERDICT_TITLES,
    ForgettingResult,
    MethodOutcome,
    cost_sentence,
    percent,
    verdict_sentences,
)
from mia_core.report.wording import erased_sentence

if TYPE_CHECKING:
    from mia_core.models.llm.unlearning import Unlearning

STYLES = {"forgotten": "green", "not forgotten": "bold red", "over-forgotten": "bold red", "undecided": "yellow"}


def show_forgetting(console: Console, result: ForgettingResult) -> None:
    """Who was forgotten, a row for each way to forget, and each verdict in words."""
    wide = not console.is_terminal
    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    if result.erased:
        console.print(Text(erased_sentence(result.erased)), soft_wrap=wide)
    told = result.unit.say(
        f"{result.forgotten:,} of {result.members:,} members are to be forgotten. Models that were told to are compared with "
        f"models that were trained without them, {result.seeds} of each."
    )
    console.print(Text(told), soft_wrap=wide)
    console.print(_table(result))
    for outcome in result.outcomes:
        verdict, *statistics = verdict_sentences(outcome, result.unit)
        style = STYLES[outcome.judgement.verdict]
        console.print(Text.assemble((f"{outcome.title}. ", "bold"), (verdict, style)), soft_wrap=wide)
        for sentence in (*statistics, cost_sentence(outcome, result.unit)):
            console.print(Text(f"  {sentence}"), soft_wrap=wide)


def show_methods(console: Console, methods: Mapping[str, Unlearning]) -> None:
    """The ways to forget, with their settings."""
    table = Table(box=box.SIMPLE)
    for title in ("Name", "Way to forget", "Settings"):
        table.add_column(title)
    for name, method in methods.items():
        settings = ", ".join(f"{setting} {value}" for setting, value in vars(method).items())
        table.add_row(name, f"{method.title}: {method.summary}", settings)
    console.print(table)


def _table(result: ForgettingResult) -> Table:
    interval, margin = percent(1 - 2 * result.alpha), percent(result.margin)
    limits = f"Below each share its {interval} interval; up to ±{margin} counts as forgotten."
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), caption=limits)
    for title in ("way to forget", "verdict", "memory left", "HR@10", "without them", "of those who stay", "time"):
        table.add_column(title, justify="left" if title in ("way to forget", "verdict") else "right")
    for outcome in result.outcomes:
        verdict = outcome.judgement.verdict
        time = outcome.relative_seconds
        hits = {useful.world: f"{useful.hit_rate_at_10.value:.3f}" for useful in outcome.usefulness}
        table.add_row(
            outcome.title,
            Text(VERDICT_TITLES[verdict] + (", uneven" if outcome.judgement.uneven else ""), STYLES[verdict]),
            _left(outcome),
            hits.get("unlearned", "—"),
            hits.get("retrained", "—"),
            f"{outcome.drift.value:+.3f}",
            "—" if time is None else percent(time),
        )
    return table


def _left(outcome: MethodOutcome) -> Text:
    found = outcome.judgement
    if found.left is None:
        return Text("—", style="dim")
    low, high = ("" if limit is None else percent(limit) for limit in (found.left_low, found.left_high))
    return Text.assemble(f"{percent(found.left)}\n", (f"{low} to {high}", "dim"))
