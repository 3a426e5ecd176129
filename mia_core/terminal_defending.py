"""What the command line shows of defences: which there are, and what each costs and buys."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.defending import Tried
from mia_core.report.defending import DefenseResult, Row, by_defense, onion_sentences, recommendation
from mia_core.terminal import KEY_SHOWN, printable


def show_defenses(console: Console, result: DefenseResult, figures: pl.DataFrame) -> None:
    """One row for each defence: what leaks to the adaptive attacker, to the one of before, and what it costs."""
    wide = not console.is_terminal
    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        caption=(
            f"{result.lead}, rebuilt for each defence; means over {len(result.seeds)} seeds, below each its "
            f"{100 * result.confidence:.0f}% interval over seeds and {result.unit.many}."
        ),
    )
    table.add_column("defence")
    titles = (
        f"detected at {100 * result.level:g}% FPR",
        "most exposed tenth",
        "not adaptive",
        "ε proven",
        "ε promised",
        "HR@10",
        "NDCG@10",
        "likes AUC",
    )
    for title in titles:
        table.add_column(title, justify="right")
    rows = by_defense(figures)
    for one in result.tried:
        mine = rows.get(one.number, {})
        shares = [_cell(mine.get(name), 100, "%") for name in ("tpr", "exposed", "old_tpr")]
        epsilons = [_cell(mine.get(name), 1, "", limits=False) for name in ("epsilon", "promised_epsilon")]
        quality = [_cell(mine.get(name), 1, "") for name in ("hit_rate_at_10", "ndcg_at_10", "likes_auc")]
        style = "bold red" if one.broken else ""
        table.add_row(Text(printable(one.title), style=style), *shares, *epsilons, *quality)
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


def _cell(row: Row | None, scale: float, sign: str, *, limits: bool = True) -> Text:
    if row is None or row["value"] is None:
        return Text("—", style="dim")
    digits = 0 if sign else (2 if not limits else 3)
    value = f"{scale * row['value']:.{digits}f}{sign}"
    if not limits or row["low"] is None or row["high"] is None:
        return Text(value)
    return Text.assemble(f"{value}\n", (f"{scale * row['low']:.{digits}f}–{scale * row['high']:.{digits}f}", "dim"))
