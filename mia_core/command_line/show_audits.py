"""What the command line shows: progress bars, a report, the evidence about one user, the list of audits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mia_core.types import Metric, StagePlan

if TYPE_CHECKING:
    from mia_core.report.follow_ups import FollowUp
    from mia_core.report.repeats import Repeats
    from mia_core.report.results import AuditResult, CohortResult, LookupResult
    from mia_core.storage.store import Entry

COLUMNS = ("auc", "tpr_at_fpr_0.001", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05", "tpr_at_fpr_0.1", "accuracy", "f1")
STATUS_MARKS = {
    "published": " (published protocol)",
    "confounded": " (confounded)",
    "demonstration": " (leaks on purpose)",
}
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

    def tell(self, figure: str, row: Mapping[str, float | str | None]) -> None:
        """First figures are for the page; here the result is awaited."""

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


def show_report(console: Console, result: AuditResult, repeats: Repeats, follow_ups: Sequence[FollowUp] = ()) -> None:
    """Headline, table of attacks, what other seeds gave, quality of the recommendations, notes, what was done about a leak."""
    from mia_core.report.wording import (
        claim_sentences,
        explain_repeats,
        headline,
        interaction_sentences,
        no_repeats,
    )

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
    seeds = explain_repeats(repeats, result)
    if missing := no_repeats(repeats, result):
        seeds = f"{missing} 'study --repeat {result.key[:KEY_SHOWN]}' runs it with two more seeds."
    for sentence in filter(None, [seeds, *claim_sentences(result), *interaction_sentences(result)]):
        console.print(Text(f"• {sentence}"), soft_wrap=not console.is_terminal)
    if result.quality:
        console.print(_quality_table(result))
    for note in result.notes:
        console.print(Text(f"• {printable(note)}"), soft_wrap=not console.is_terminal)
    for one in follow_ups:
        title = "Defences" if one.kind == "defenses" else "Forgetting"
        console.print(Text.assemble((f"{title}: {printable(one.name)} ", "bold"), (one.key[:KEY_SHOWN], "dim")))
        for sentence in one.sentences:
            console.print(Text(f"• {printable(sentence)}"), soft_wrap=not console.is_terminal)


def show_lookup(
    console: Console, lookup: LookupResult, result: AuditResult, prior: float | None = None, every: bool = False
) -> None:
    """The evidence about one person, then what it means; with a prior, what the evidence makes of it."""
    from mia_core.report.lookup import weigh
    from mia_core.report.wording import explain_lookup, explain_posterior, explain_role, format_p, no_posterior

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
        f"p, like {result.unit.many}": "" if lookup.stratum_p_value is None else format_p(lookup.stratum_p_value),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)
    sentences = explain_lookup(lookup, result)
    if prior is not None:
        missing = no_posterior(lookup, result)
        if lookup.flag is None or missing:
            sentences.append(missing)
        else:
            confidence = float(result.config.get("evaluation", {}).get("confidence", 0.95))
            sentences += explain_posterior(lookup.flag, *weigh(lookup.flag, prior, confidence), confidence, result.unit)
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    if every:
        console.print(_evidence_table(lookup, result))


def show_cohort(console: Console, cohort: CohortResult, result: AuditResult) -> None:
    """What a list of users shows together, then what that does not establish."""
    from mia_core.report.wording import cohort_limits, explain_cohort

    answer, *rest = explain_cohort(cohort, result)
    console.print(Text(answer, style="bold"), soft_wrap=not console.is_terminal)
    for sentence in [*rest, *cohort_limits(cohort, result)]:
        console.print(Text(f"• {sentence}"), soft_wrap=not console.is_terminal)


def show_audits(console: Console, results: Sequence[AuditResult], left_out: Mapping[str, int]) -> None:
    """One row for each audit, then how many are not shown, by the study they belong to."""
    if results:
        console.print(_audit_table(results))
    elif not left_out:
        console.print("There is no finished audit yet. Run 'demo', or 'audit CONFIG.toml'.")
    for study, count in left_out.items():
        belong = "belongs" if count == 1 else "belong"
        console.print(Text(f"… {count} more {belong} to {printable(study)}"), soft_wrap=not console.is_terminal)
    if left_out:
        console.print("'list --all' shows them, too.")


def show_others(console: Console, entries: Sequence[Entry]) -> None:
    """One row for each comparison of defences and each check of forgetting."""
    from mia_core.report.wording import minute

    if not entries:
        return
    table = Table(box=box.SIMPLE)
    for name in ("Key", "What", "Name", "Made (UTC)"):
        table.add_column(name)
    for entry in entries:
        made = minute(entry.created)
        table.add_row(*map(Text, (entry.key[:KEY_SHOWN], entry.kind, printable(entry.name), made)))
    console.print(table)


def _audit_table(results: Sequence[AuditResult]) -> Table:
    from mia_core.report.wording import erased_mark, minute

    table = Table(box=box.SIMPLE)
    judged = " or ".join(sorted({result.unit.many for result in results}, reverse=True)).capitalize()
    for name in ("Key", "Name", "Made (UTC)", judged, "Lead attack", "AUC"):
        table.add_column(name, justify="right" if name in (judged, "AUC") else "left")
    for result in results:
        auc = result.metric(result.lead, "auc")
        made, name = minute(result.created), printable(result.name) + erased_mark(result.erased)
        row = (result.key[:KEY_SHOWN], name, made, f"{sum(result.roles.values()):,}", result.lead)
        table.add_row(*(Text(cell) for cell in row), _cell(auc))
    return table


def _attack_table(result: AuditResult) -> Table:
    from mia_core.report.wording import METRIC_WORDS

    confidence = 100 * result.config.get("evaluation", {}).get("confidence", 0.95)
    shown = [name for name in COLUMNS if any(m.metric == name and m.value is not None for m in result.metrics)]
    missing = [METRIC_WORDS[name] for name in COLUMNS if name not in shown]
    caption = f"Below each figure its {confidence:g}% interval over {result.unit.many}"
    if any(m.metric in shown and m.fpr_limit is not None for m in result.metrics):
        caption += f", below a TPR the {confidence:g}% upper limit of the FPR at its threshold"
    caption += "."
    if missing:
        caption += f" Not resolvable with these {result.unit.many}: {', '.join(missing)}."
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


def _evidence_table(lookup: LookupResult, result: AuditResult) -> Table:
    from mia_core.report.wording import MANY_ATTACKS, format_p

    table = Table(box=box.SIMPLE, caption=MANY_ATTACKS, caption_justify="left")
    for name in ("Group", "Attack", "Score", "p", f"p, like {result.unit.many}"):
        table.add_column(name, justify="left" if name in ("Group", "Attack") else "right")
    group = ""
    for row in lookup.evidence:
        cells = ["—" if p is None else format_p(p) for p in (row.p_value, row.stratum_p_value)]
        title = Text(row.title + STATUS_MARKS.get(row.status, ""), style="bold" if row.attack == result.lead else "")
        score = "—" if row.score is None else f"{row.score:.4g}"
        table.add_row("" if row.group == group else row.group, title, score, *cells)
        group = row.group
    return table


def _quality_table(result: AuditResult) -> Table:
    ranked = f"Ranking the true next item of {result.quality[0].n:,} held-out {result.unit.many}."
    table = Table(box=box.SIMPLE, caption=ranked, caption_justify="left")
    table.add_column("Recommender")
    table.add_column("HR@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    table.add_column("likes AUC", justify="right")
    for row in result.quality:
        hits = f"{row.hit_rate_at_10:.3f} ({row.hit_rate_low:.3f}–{row.hit_rate_high:.3f})"
        gains = f"{row.ndcg_at_10:.3f} ({row.ndcg_low:.3f}–{row.ndcg_high:.3f})"
        likes = "—" if row.likes_auc is None else f"{row.likes_auc:.3f} ({row.likes_low:.3f}–{row.likes_high:.3f})"
        table.add_row(row.recommender, hits, gains, likes)
    return table


def _cell(metric: Metric | None) -> Text:
    if metric is None or metric.value is None:
        return Text("—", style="dim")
    limits = f"{_short(metric.low)}–{_short(metric.high)}"
    if metric.fpr_limit is not None:
        from mia_core.report.wording import percent_at_most

        limits += f"\nFPR ≤ {percent_at_most(metric.fpr_limit)}"
    return Text.assemble(f"{metric.value:.3f}\n", (limits, "dim"))


def _short(value: float | None) -> str:
    return f"{value or 0.0:.2f}".removeprefix("0")
