"""Published attacks on recommenders under two ways of serving: one recommender for everybody, and as they were published.

As published, members are served by the recommender and everybody else is served what is popular. A rule that only asks how
popular a list is then knows who is who, and stands beside every such figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mia_core.attacks.contract import CONFOUNDED
from mia_core.report.results import AttackSummary, AuditResult
from mia_core.types import Metric

RULE = "list_popularity"
PUBLISHED, OWN_FACTORS = "_published", "_own_factors"
TITLE_ENDING = ", as published"


@dataclass(frozen=True)
class ServedBothWays:
    """The AUC of one attack under each way of serving."""

    attack: str
    title: str
    one_recommender: Metric | None
    """Everybody is served by the recommender, from their history alone; None where it was not run."""
    own_factors: Metric | None
    """Members are served by their own trained vector, others from their history; None where it was not run."""
    published: Metric
    explained: bool | None
    """Whether the one-line rule explains the published figure: its interval reaches at least the estimate. None for the
    rule itself, and where it was not run."""

    @property
    def is_rule(self) -> bool:
        """Whether this is the rule that the others have to beat."""
        return self.attack == RULE


def both_ways(result: AuditResult) -> list[ServedBothWays]:
    """Every attack that ran as published, the one-line rule first, then the highest published AUC."""
    rule = _auc(result, RULE + PUBLISHED)
    rows = []
    for attack in result.attacks:
        name, published = attack.name.removesuffix(PUBLISHED), _auc(result, attack.name)
        if attack.status != CONFOUNDED or name == attack.name or published is None:
            continue
        rows.append(
            ServedBothWays(
                attack=name,
                title=_title(result, name, attack),
                one_recommender=_auc(result, name),
                own_factors=_auc(result, name + OWN_FACTORS),
                published=published,
                explained=None if rule is None or name == RULE else _reaches(rule, published),
            )
        )
    return sorted(rows, key=lambda row: (not row.is_rule, -(row.published.value or 0.0)))


def explain_both_ways(rows: list[ServedBothWays]) -> list[str]:
    """What follows from the two ways of serving, a sentence or two each; empty where nothing ran as published."""
    told = []
    rule = next((row for row in rows if row.is_rule), None)
    attacks = [row for row in rows if not row.is_rule]
    if rule is not None:
        told.append(
            f"The baseline is a rule of one line, “{rule.title}”: it asks how popular the recommended items are and learns "
            f"nothing. As published, it tells members from others {_pairs(rule.published)}."
        )
    elif rows:
        told.append(
            "The rule that only asks how popular a list is was not run as published, so it is not known how much of these "
            "figures it would explain: choose the attack “Popularity of the list, as published”."
        )
    explained = [row.title for row in attacks if row.explained]
    beyond = [row.title for row in attacks if row.explained is False]
    if explained:
        told.append(f"That alone explains the published figure of: {'; '.join(explained)}.")
    if beyond:
        told.append(f"As published, more than the rule is found by: {'; '.join(beyond)}.")
    honest = [row for row in rows if row.one_recommender is not None]
    above = [row.title for row in honest if _low(row.one_recommender) > 0.5]
    if above:
        told.append(f"With one recommender for everybody, members are still told from others by: {'; '.join(above)}.")
    elif honest:
        told.append(
            "With one recommender for everybody, none of them is surely better than guessing: every interval reaches down to "
            "0.5 or below."
        )
    return told


def _title(result: AuditResult, name: str, published: AttackSummary) -> str:
    own = next((attack.title for attack in result.attacks if attack.name == name), None)
    return own or published.title.removesuffix(TITLE_ENDING)


def _auc(result: AuditResult, attack: str) -> Metric | None:
    found = result.metric(attack, "auc")
    return None if found is None or found.value is None else found


def _reaches(rule: Metric, published: Metric) -> bool:
    most = rule.value if rule.high is None else rule.high
    return (most or 0.0) >= (published.value or 0.0)


def _low(metric: Metric | None) -> float:
    return 0.0 if metric is None or metric.low is None else metric.low


def _pairs(metric: Metric) -> str:
    return f"{100 * (metric.value or 0.0):.3g} times in 100"
