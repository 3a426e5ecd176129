"""What the command line shows: progress bars, a report, the evidence about one user, the list of audits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mia_core.types import Metric, StagePlan

if TYPE_CHECKING:
    from mia_core.report.results import AuditResult, LookupResult

COLUMNS = ("auc", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05", "tpr_at_fpr_0.1", "accuracy", "f1")
STATUS_MARKS = {"published": " (published protocol)", "demonstration": " (leaks on purpose)"}
KEY_SHOWN = 12


def printable(text: str) -> str:
    """Text without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


class ProgressBars:
    """A Progress that draws one bar for each stage and one for the whole run; use it in a ``with`` block."""

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        self._bars = Progress(*columns, TextColumn("{task.fields[note]}", style="dim"), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._whole: TaskID | None = None
        self._done_before = 0.0

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def plan(self, stages: Sequence[StagePlan]) -> None:
        """Draws an empty bar for each stage."""
        self._started = time.monotonic()
        self._whole = self._bars.add_task("Everything", total=sum(stage.seconds for stage in stages), note="")
        for stage in stages:
            self._add(stage.name, stage.seconds)

    def start(self, stage: str) -> None:
        """Starts the clock of a stage."""
        if stage not in self._tasks:
            self._add(stage, 0.0)
        self._bars.start_task(self._tasks[stage])
        self._running.append(stage)

    def advance(self, fraction: float) -> None:
        """Moves the bar of the running stage."""
        if self._running:
            self._bars.update(self._tasks[self._running[-1]], completed=fraction)
            self._show_whole(fraction * self._seconds[self._running[-1]])

    def finish(self, stage: str, cached: bool) -> None:
        """Fills the bar of a stage."""
        self._running = [name for name in self._running if name != stage]
        self._bars.update(self._tasks[stage], completed=1, note="from the store" if cached else "")
        self._bars.stop_task(self._tasks[stage])
        self._done_before += self._seconds[stage]
        self._show_whole(0.0)

    def _add(self, stage: str, seconds: float) -> None:
        self._tasks[stage] = self._bars.add_task(f"  {stage}", total=1, start=False, note="")
        self._seconds[stage] = seconds

    def _show_whole(self, of_running: float) -> None:
        if self._whole is None:
            return
        done = self._done_before + of_running
        planned = sum(self._seconds.values())
        # The plan says how stages compare; this machine's pace so far says how long they take here.
        left = (planned - done) * (time.monotonic() - self._started) / done if done > 0.03 * planned else planned - done
        note = f"about {max(1, round(left))} s left" if planned - done > 1e-9 else ""
        self._bars.update(self._whole, completed=done, total=planned, note=note)


def show_report(console: Console, result: AuditResult) -> None:
    """Headline, table of attacks, quality of the recommendations, notes."""
    from mia_core.report.wording import claim_sentences, headline

    console.print(Text(printable(result.name), style="bold"), Text(result.key[:KEY_SHOWN], style="dim"))
    for gate in result.gates:
        mark, style = ("passed", "green") if gate.passed else ("FAILED", "bold red")
        console.print(
            Text.assemble((f"{gate.name} gate {mark}. ", style), gate.sentence), soft_wrap=not console.is_terminal
        )
        if not gate.passed:
            console.print(Text(f"  What to do: {gate.way_out}"), soft_wrap=not console.is_terminal)
    console.print(Text(headline(result)), soft_wrap=not console.is_terminal)
    console.print(_attack_table(result))
    for sentence in claim_sentences(result):
        console.print(Text(f"• {sentence}"), soft_wrap=not console.is_terminal)
    if result.quality:
        console.print(_quality_table(result))
    for note in result.notes:
        console.print(Text(f"• {printable(note)}"), soft_wrap=not console.is_terminal)


def show_lookup(console: Console, lookup: LookupResult, result: AuditResult) -> None:
    """The evidence about one person, then what it means."""
    from mia_core.report.wording import explain_lookup, explain_role, format_p

    title = next((attack.title for attack in result.attacks if attack.name == lookup.attack), lookup.attack)
    rows = {
        "Subject": printable(lookup.subject),
        "Role": explain_role(lookup.role, result),
        "Attack": title,
        "History": f"{lookup.matched} items found in the catalogue, {lookup.windows} windows",
        "Not found": printable("; ".join(lookup.unmatched)),
        "Score": "none" if lookup.score is None else f"{lookup.score:.4f}",
        "p-value": "none"
        if lookup.p_value is None
        else f"{format_p(lookup.p_value)} (n = {lookup.calibration_users:,})",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)
    for sentence in explain_lookup(lookup, result):
        console.print(Text(sentence), soft_wrap=not console.is_terminal)


def show_audits(console: Console, results: Sequence[AuditResult]) -> None:
    """One row for each audit."""
    if not results:
        console.print("There is no finished audit yet. Run 'demo', or 'audit CONFIG.toml'.")
        return
    table = Table(box=box.SIMPLE)
    for name in ("Key", "Name", "Made (UTC)", "Users", "Lead attack", "AUC"):
        table.add_column(name, justify="right" if name in ("Users", "AUC") else "left")
    for result in results:
        auc = result.metric(result.lead, "auc")
        made = result.created[:16].replace("T", " ")
        row = (result.key[:KEY_SHOWN], printable(result.name), made, f"{sum(result.roles.values()):,}", result.lead)
        table.add_row(*(Text(cell) for cell in row), _cell(auc))
    console.print(table)


def _attack_table(result: AuditResult) -> Table:
    from mia_core.report.wording import METRIC_WORDS

    confidence = 100 * result.config.get("evaluation", {}).get("confidence", 0.95)
    shown = [name for name in COLUMNS if any(m.metric == name and m.value is not None for m in result.metrics)]
    missing = [METRIC_WORDS[name] for name in COLUMNS if name not in shown]
    caption = f"Below each figure its {confidence:g}% interval over users."
    if missing:
        caption += f" Not resolvable with these users: {', '.join(missing)}."
    if any(m.metric in shown and m.value is None for m in result.metrics):
        caption += " —: no figure, and --json gives the reason."
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("Attack")
    for name in shown:
        table.add_column(METRIC_WORDS[name], justify="right")
    for attack in result.attacks:
        style = "bold" if attack.name == result.lead else ""
        title = attack.title + STATUS_MARKS.get(attack.status, "") + (" (did not run)" if attack.skipped else "")
        table.add_row(Text(title, style=style), *(_cell(result.metric(attack.name, name)) for name in shown))
    return table


def _quality_table(result: AuditResult) -> Table:
    users = result.quality[0].n
    table = Table(
        box=box.SIMPLE, caption=f"Ranking the true next item of {users:,} held-out users.", caption_justify="left"
    )
    table.add_column("Recommender")
    table.add_column("HR@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    for row in result.quality:
        hits = f"{row.hit_rate_at_10:.3f} ({row.hit_rate_low:.3f}–{row.hit_rate_high:.3f})"
        gains = f"{row.ndcg_at_10:.3f} ({row.ndcg_low:.3f}–{row.ndcg_high:.3f})"
        table.add_row(row.recommender, hits, gains)
    return table


def _cell(metric: Metric | None) -> Text:
    if metric is None or metric.value is None:
        return Text("—", style="dim")
    return Text.assemble(f"{metric.value:.3f}\n", (f"{_short(metric.low)}–{_short(metric.high)}", "dim"))


def _short(value: float | None) -> str:
    return f"{value or 0.0:.2f}".removeprefix("0")
