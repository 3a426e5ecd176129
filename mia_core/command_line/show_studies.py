"""What the command line shows of studies: the presets, and the table of a finished one."""

from __future__ import annotations

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.command_line.show_audits import KEY_SHOWN, printable
from mia_core.report.studies import StudyResult, metric_title, modality_sentences
from mia_core.report.wording import erased_sentence
from mia_core.studies.study import Study


def show_study(console: Console, result: StudyResult, tables: dict[str, pl.DataFrame]) -> None:
    """The question, one row for each point and attack, what differs between seeds, what failed."""
    wide = not console.is_terminal
    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    if result.erased:
        console.print(Text(erased_sentence(result.erased)), soft_wrap=wide)
    console.print(Text(printable(result.summary)), soft_wrap=wide)
    figures = tables["figures"]
    shown = [*result.metrics, *(m for m in ("hit_rate_at_10", "loss_gap") if m in figures["metric"])]
    table = Table(
        box=box.SIMPLE, padding=(0, 1, 0, 0), caption=f"Below each figure its interval over {result.unit.many}."
    )
    for title in [*(field.title for field in result.varied), "attack"]:
        table.add_column(Text(printable(title)))
    for metric in shown:
        table.add_column(metric_title(metric, result.unit).partition(",")[0].partition(":")[0], justify="right")
    found = {(row["point"], row["attack"], row["metric"]): row for row in figures.iter_rows(named=True)}
    places = figures.unique("point", maintain_order=True).select("point", *(field.path for field in result.varied))
    for point, *values in places.iter_rows():
        for attack, title in result.attacks.items():
            keys = [(point, attack if metric in result.metrics else "", metric) for metric in shown]
            cells = [_study_cell(found.get(key)) for key in keys]
            table.add_row(*(Text(printable(_plain(value))) for value in values), Text(title), *cells)
        table.add_section()
    console.print(table)
    if tables["spread"].height:
        console.print(_spread_table(result, tables["spread"]))
    tested = f"Dip test of each feature over {result.unit.many}, p < 0.05."
    for sentence in modality_sentences(tables["modality"]):
        console.print(Text(f"• {printable(sentence)} {tested}"), soft_wrap=wide)
    for failure in result.failures:
        console.print(Text(f"• {printable(failure.point)} failed: {printable(failure.reason)}", "red"), soft_wrap=wide)
    for point in result.invalid:
        console.print(Text(f"• {printable(point)}: a gate failed, so its figures mean nothing", "red"), soft_wrap=wide)


def show_presets(console: Console, studies: dict[str, Study]) -> None:
    """The studies that come with the product."""
    table = Table(box=box.SIMPLE)
    for name in ("Name", "Audits", "Question"):
        table.add_column(name, justify="right" if name == "Audits" else "left")
    for name, study in studies.items():
        table.add_row(name, str(len(study.points)), study.summary)
    console.print(table)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spread_table(result: StudyResult, spread: pl.DataFrame) -> Table:
    table = Table(box=box.SIMPLE, title="Between seeds", title_justify="left")
    fields = [field for field in result.varied if field.path in spread.columns]
    for title in [*(field.title for field in fields), "attack", "figure"]:
        table.add_column(Text(printable(title)))
    for title in ("mean", "standard deviation", "lowest", "highest", "seeds"):
        table.add_column(title, justify="right")
    for row in spread.iter_rows(named=True):
        if row["attack"] in result.attacks:
            values = [printable(_plain(row[field.path])) for field in fields]
            numbers = [row[name] for name in ("mean", "standard_deviation", "lowest", "highest")]
            cells = ["—" if number is None else f"{number:.3f}" for number in numbers]
            title = result.attacks[row["attack"]]
            figure = metric_title(row["metric"], result.unit)
            table.add_row(*map(Text, values), Text(title), figure, *cells, str(row["seeds"]))
    return table


def _study_cell(row: dict[str, float | None] | None) -> Text:
    if row is None or row["value"] is None:
        return Text("—", style="dim")
    value, low, high = row["value"], row["low"], row["high"]
    if low is None or high is None:
        return Text(f"{value:.3f}")
    return Text.assemble(f"{value:.3f}\n", (f"{low:.2f}–{high:.2f}", "dim"))
