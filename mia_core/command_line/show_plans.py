"""What the command line shows before an audit is launched."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mia_core.command_line.show_audits import printable
from mia_core.experiment import Experiment
from mia_core.planning.capacity import GIGABYTE, Forecast, Memory


def show_plan(console: Console, experiment: Experiment, found: Forecast, memory: Memory, price: float | None) -> None:
    """A row for each stage, then time, memory and money of all together."""
    table = Table(title=Text(printable(experiment.name)), title_justify="left", box=box.SIMPLE)
    table.add_column("Stage")
    table.add_column("Seconds", justify="right")
    for stage in found.stages:
        table.add_row(stage.name, f"{stage.seconds:,.0f}")
    table.add_row("All stages", f"{found.seconds:,.0f}", style="bold")
    console.print(table)
    console.print(f"Likely to take that long, {found.accuracy}.")
    console.print(found.basis, style="dim")
    console.print("Stages that are in the store already take no time.", style="dim")
    if memory.needed is None:
        console.print("The memory it needs is known once the model is here.")
    else:
        few = "" if memory.enough else ", which is not enough"
        console.print(
            f"Memory: about {memory.needed / GIGABYTE:.1f} GB of {memory.available / GIGABYTE:.1f} GB free{few}."
        )
    if price is not None:
        console.print(f"Money: about {found.money(price):,.2f} at {price:,.2f} an hour.")
