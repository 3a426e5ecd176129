"""The log, and what erasing a person takes, as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mia_core.command_line.show_audits import printable
from mia_core.data_rights.erasing import Plan, explain_plan
from mia_core.storage.journal import Event, describe


def show_events(console: Console, events: Sequence[Event]) -> None:
    """Prints events, the latest first."""
    if not events:
        console.print("The log of this home folder is empty.", markup=False)
        return
    for event in events:
        when = event.at[:19].replace("T", " ")
        told = f"{event.number:>5}  {when}  {event.who} ({event.way})  {event.what}  {describe(event)}"
        console.print(printable(told.rstrip()), markup=False, highlight=False, soft_wrap=True)


def show_plan(console: Console, plan: Plan) -> None:
    """Prints what there is of a person, and the models one by one."""
    for sentence in explain_plan(plan):
        console.print(printable(sentence), markup=False)
    if plan.models:
        table = Table("Model", "What it is", "Of the audit", "Of this person it was")
        for model in plan.models:
            table.add_row(model.key[:12], printable(model.name) or "not known", model.audit[:12], model.learned)
        console.print(table)
