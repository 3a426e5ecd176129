"""What an audit found, as a section of its report: figures, curves and every attack."""

from __future__ import annotations

import numpy as np
import polars as pl

from mia_core.report import vector_charts
from mia_core.report.document import Block, Chart, Notice, Paragraph, Points, Table
from mia_core.report.finished import Finished
from mia_core.report.protocols import both_ways, explain_both_ways
from mia_core.report.results import AuditResult
from mia_core.report.wording import (
    METRIC_WORDS,
    PLAIN_NUMBERS,
    STATUS_CAVEATS,
    explain_chance,
    explain_metric,
    explain_repeats,
    format_p,
    headline,
    no_repeats,
    percent_at_most,
)
from mia_core.types import Metric

STRONGEST = 20
"""Attacks in the chart; the tables hold all."""


def findings(finished: Finished) -> list[Block]:
    """The blocks of the section."""
    result, say = finished.result, finished.result.unit.say
    confidence = _confidence(result)
    blocks: list[Block] = []
    if not result.valid:
        blocks.append(Notice("Not to be relied upon", headline(result), failed=True))
    lead = next((attack for attack in result.attacks if attack.name == result.lead), None)
    if lead is not None and lead.status in STATUS_CAVEATS:
        blocks.append(Notice("About the lead attack", say(STATUS_CAVEATS[lead.status])))
    figures = [metric for metric in result.metrics if metric.attack == result.lead]
    blocks.append(
        Table(
            f"The lead attack, {title_of(result, result.lead)}, in figures",
            ("Figure", "Value", f"{100 * confidence:g}% interval", "In words"),
            tuple(
                (
                    METRIC_WORDS.get(metric.metric, metric.metric),
                    _value(metric),
                    _limits(metric),
                    explain_metric(metric, confidence, result.unit),
                )
                for metric in figures
            ),
            words=1,
            widths=(0.2, 0.1, 0.16, 0.54),
        )
    )
    blocks += [
        Paragraph(told, "quiet")
        for told in (explain_repeats(finished.repeats, result), no_repeats(finished.repeats, result))
        if told
    ]
    blocks += _curves(finished)
    blocks += _attacks(finished)
    return blocks


def _curves(finished: Finished) -> list[Block]:
    result, say = finished.result, finished.result.unit.say
    blocks: list[Block] = []
    roc = finished.table("roc")
    points = roc.filter(pl.col("attack") == result.lead) if roc.height else roc
    auc = result.metric(result.lead, "auc")
    if points.height:
        told = "" if auc is None or auc.value is None else f" AUC {_value(auc)}."
        for logarithmic, axes in ((False, "linear"), (True, "logarithmic")):
            chart = vector_charts.roc(points, logarithmic=logarithmic, unit=result.unit)
            blocks.append(
                Chart(
                    vector_charts.as_svg(chart),
                    f"ROC of the lead attack, {axes} axes",
                    say(
                        f"Share of members recognised against share of held-out users wrongly accused, {axes} axes.{told}"
                    ),
                    say("The low end is what matters to a named person.")
                    if logarithmic
                    else f"The dotted line is guessing; the band is the {100 * _confidence(result):g}% interval.",
                    half=True,
                )
            )
    score = f"score.{result.lead}"
    if score in finished.columns("users"):
        scores = finished.table("users", "role", score).rename({score: "value"})
        if not result.brought:
            scores = scores.filter(~pl.col("role").str.starts_with("known"))
        picture = vector_charts.densities(
            scores, "Score of the lead attack (further right = more member-like)", result.unit
        )
        if picture is not None:
            blocks.append(
                Chart(
                    vector_charts.as_svg(picture),
                    say("Scores of members and of held-out users"),
                    say(_densities_words(scores)),
                    say("The further the two lie apart, the better users can be told apart."),
                )
            )
    return blocks


def _densities_words(scores: pl.DataFrame) -> str:
    def median(ending: str) -> str:
        values = scores.filter(pl.col("role").str.ends_with(ending))["value"].drop_nulls().to_numpy()
        return f"{np.median(values):.3f}" if len(values) else "none"

    return f"Two histograms. Median score of members {median('_member')}, of held-out users {median('_held_out')}."


def _attacks(finished: Finished) -> list[Block]:
    result = finished.result
    adjusted = {row.attack: row for row in (result.claims.comparisons if result.claims else [])}
    shown = [metric.metric for metric in result.metrics if metric.attack == result.lead]
    aucs = {attack.name: result.metric(attack.name, "auc") for attack in result.attacks}
    ran = [attack for attack in result.attacks if not attack.skipped]
    ran.sort(key=lambda attack: -(getattr(aucs[attack.name], "value", None) or 0.0))
    drawn = [
        {
            "title": title_of(result, a.name),
            "lead": a.name == result.lead,
            "value": m.value,
            "low": m.low,
            "high": m.high,
        }
        for a in ran
        if (m := aucs[a.name]) is not None and m.value is not None
    ]
    blocks: list[Block] = []
    if drawn:
        kept = pl.DataFrame([row for i, row in enumerate(drawn) if i < STRONGEST or row["lead"]])
        more = f" The {STRONGEST} highest of {len(drawn)} and the lead." if len(drawn) > STRONGEST else ""
        blocks.append(
            Chart(
                vector_charts.as_svg(vector_charts.auc_by_attack(kept)),
                "AUC of every attack with its interval",
                f"AUC by attack, the highest first: {drawn[0]['title']} {drawn[0]['value']:.3f}. Figures: the table below.",
                f"The diamond is the lead, which was named before the run. The dotted line is guessing.{more}",
            )
        )
    first = ["auc", *(name for name in shown if name.startswith("tpr_at_fpr"))]
    third = [name for name in shown if name.startswith("precision_at_recall")]
    second = [name for name in shown if name not in (*first, *third)]
    compared = bool(adjusted)
    for names, title, extra in (
        (first, "How well each attack tells members apart", compared),
        (second, result.unit.say("Their verdicts at a threshold fixed on known users"), False),
        (third, "How many of the shortest list with so many of the members are members", False),
    ):
        names = [name for name in names if any(m.metric == name and m.value is not None for m in result.metrics)]
        if not names:
            continue
        rows = []
        for attack in ran:
            row = [
                _attack_words(result, attack.name, attack.status),
                *(_cell(result.metric(attack.name, m)) for m in names),
            ]
            if extra:
                p = adjusted.get(attack.name)
                row.append("–" if p is None or p.adjusted_p is None else format_p(p.adjusted_p))
            rows.append(tuple(row))
        columns = ("Attack", *(_heading(name) for name in names), *(("adjusted p",) if extra else ()))
        blocks.append(
            Table(title, columns, tuple(rows), widths=(0.27, *(0.73 / (len(columns) - 1),) * (len(columns) - 1)))
        )
    reasons: dict[str, list[str]] = {}
    for metric in result.metrics:
        if metric.value is None and metric.reason:
            words = METRIC_WORDS.get(metric.metric, metric.metric)
            reasons.setdefault(metric.reason, []).append(words)
    limits = any(metric.fpr_limit is not None for metric in result.metrics)
    notes = [
        f"Below each figure stands its {100 * _confidence(result):g}% interval over {result.unit.many}"
        + (", below a TPR the upper limit of the FPR at its threshold." if limits else "."),
        *(f"No figure (“–”) for {', '.join(dict.fromkeys(names))}: {reason}." for reason, names in reasons.items()),
        *explain_chance(result),
    ]
    blocks.append(Points(tuple(notes)))
    blocks += _served(result)
    return blocks


def _served(result: AuditResult) -> list[Block]:
    rows = both_ways(result)
    if not rows:
        return []
    say = result.unit.say
    table = Table(
        "AUC under two ways of serving",
        ("Attack", "One recommender for everybody", "Own vectors", "As published"),
        tuple((row.title, _cell(row.one_recommender), _cell(row.own_vectors), _cell(row.published)) for row in rows),
    )
    return [table, *([Points(tuple(say(told) for told in explain_both_ways(rows)))] if result.valid else [])]


def title_of(result: AuditResult, name: str) -> str:
    """What an attack is called."""
    return next((attack.title for attack in result.attacks if attack.name == name), name)


def _attack_words(result: AuditResult, name: str, status: str) -> str:
    marks = {"published": "published protocol", "confounded": "confounded", "demonstration": "leaks on purpose"}
    told = [word for word in ("lead" if name == result.lead else "", marks.get(status, "")) if word]
    return title_of(result, name) + (f" ({', '.join(told)})" if told else "")


def _heading(metric: str) -> str:
    return METRIC_WORDS.get(metric, metric).replace(" at ", " at\n")


def _confidence(result: AuditResult) -> float:
    return float(result.config.get("evaluation", {}).get("confidence", 0.95))


def _number(value: float, metric: str) -> str:
    return f"{value:.3f}" if metric in PLAIN_NUMBERS else f"{100 * value:.1f}%"


def _value(metric: Metric) -> str:
    return "–" if metric.value is None else _number(metric.value, metric.metric)


def _limits(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return "–"
    return f"{_number(metric.low, metric.metric)}–{_number(metric.high, metric.metric)}"


def _cell(metric: Metric | None) -> str:
    if metric is None or metric.value is None or metric.low is None or metric.high is None:
        return "–"
    limit = "" if metric.fpr_limit is None else f"\nFPR ≤ {percent_at_most(metric.fpr_limit)}"
    return f"{metric.value:.3f}\n{metric.low:.3f}–{metric.high:.3f}{limit}"
