"""What the command line shows of defences: which there are, and what each costs and buys."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.command_line.show_audits import KEY_SHOWN, printable
from mia_core.report.defending import DefenseResult, Row, by_defense, onion_sentences, recommendation
from mia_core.report.wording import erased_sentence
from mia_core.studies.defending import Tried

WIDE = 110
"""Columns of a terminal in which all figures fit."""


def show_defenses(console: Console, result: DefenseResult, figures: pl.DataFrame) -> None:
    """One row for each defence: what leaks to the adaptive attacker, to the one of before, and what it costs."""
    wide = not console.is_terminal
    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    if result.erased:
        console.print(Text(erased_sentence(result.erased)), soft_wrap=wide)
    seeds = "1 seed" if len(result.seeds) == 1 else f"{len(result.seeds)} seeds"
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        caption=(
            f"{result.lead}, rebuilt for each defence; means over {seeds}, below each its "
            f"{100 * result.confidence:.0f}% interval over seeds and {result.unit.many}. The most exposed tenth stood out most "
            "without a defence, so that its first figure is high by choice."
        ),
    )
    columns = {
        f"found at {100 * result.level:g}% FPR": ("tpr", 100, "%"),
        "of most exposed": ("exposed", 100, "%"),
        "not adaptive": ("old_tpr", 100, "%"),
        "HR@10": ("hit_rate_at_10", 1, ""),
        "NDCG@10": ("ndcg_at_10", 1, ""),
        "likes AUC": ("likes_auc", 1, ""),
    }
    if console.width < WIDE:
        # The rest is in --json, and in the browser.
        columns = {title: kind for title, kind in columns.items() if kind[0] in ("tpr", "old_tpr", "hit_rate_at_10")}
    table.add_column("defence")
    for title in (*columns, "ε"):
        table.add_column(title, justify="right")
    rows = by_defense(figures)
    for one in result.tried:
        mine = rows.get(one.number, {})
        cells = [_cell(mine.get(name), scale, sign) for name, scale, sign in columns.values()]
        style = "bold red" if one.broken else ""
        table.add_row(Text(printable(one.title), style=style), *cells, _epsilon(mine))
    console.print(table)
    for sentence in [*recommendation(result, figures), *onion_sentences(result)]:
        console.print(Text(f"• {printable(sentence)}"), soft_wrap=wide)
    for one in result.tried:
        if one.failed:
            console.print(Text(f"• {printable(one.title)}: {printable(one.failed)}", "red"), soft_wrap=wide)
        if one.invalid:
            seeds = ", ".join(map(str, one.invalid))
            console.print(
                Text(f"• {printable(one.title)}: a gate failed under seed {seeds}; its figures mean nothing", "red"),
                soft_wrap=wide,
            )
        if one.not_adaptive:
            console.print(
                Text(
                    f"• {printable(one.title)}: no figure of the attack of before, which {printable(one.not_adaptive)}",
                    "dim",
                ),
                soft_wrap=wide,
            )


def show_panel(console: Console, panel: Sequence[tuple[Tried, str]]) -> None:
    """The defences that would be tried, and those that cannot be, with the reason."""
    table = Table(box=box.SIMPLE)
    for name in ("Defence", "Left out because"):
        table.add_column(name)
    for tried, refused in panel:
        table.add_row(Text(printable(tried.title)), Text(printable(refused), style="dim"))
    console.print(table)


def _epsilon(mine: dict[str, Row]) -> Text:
    """What is proven at least and, of private training, what is promised at most."""
    signs = {"epsilon": "≥", "promised_epsilon": "≤"}
    told = [f"{sign} {mine[name]['value']:.2g}" for name, sign in signs.items() if name in mine]
    return Text("\n".join(told)) if told else Text("—", style="dim")


def _cell(row: Row | None, scale: float, sign: str) -> Text:
    if row is None or row["value"] is None:
        return Text("—", style="dim")
    digits = 0 if sign else 3
    value = f"{scale * row['value']:.{digits}f}{sign}"
    if row["low"] is None or row["high"] is None:
        return Text(value)
    return Text.assemble(f"{value}\n", (f"{scale * row['low']:.{digits}f}–{scale * row['high']:.{digits}f}", "dim"))
