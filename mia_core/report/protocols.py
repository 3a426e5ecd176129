"""Published attacks on recommenders under two ways of serving: one recommender for everybody, and as they were published.

As published, members are served by the recommender and everybody else is served what is popular. A rule that only asks how
popular a list is then knows who is who, and stands beside every such figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mia_core.attacks.contract import CONFOUNDED
from mia_core.report.results import AuditResult
from mia_core.types import Metric

RULE = "list_popularity"
PUBLISHED, OWN_VECTORS = "_published", "_own_vectors"


@dataclass(frozen=True)
class ServedBothWays:
    """The AUC of one attack under each way of serving."""

    attack: str
    title: str
    one_recommender: Metric | None
    """Everybody is served by the recommender, from their history alone; None where it was not run."""
    own_vectors: Metric | None
    """Members are served by their own trained vector, others from their history; None where it was not run."""
    published: Metric | None
    """Members are served by the recommender, others are served what is popular; None where it was not run."""
    explained: bool | None
    """Whether the one-line rule explains the published figure: its interval reaches at least the estimate. None for the
    rule itself, and where either was not run."""

    @property
    def is_rule(self) -> bool:
        """Whether this is the rule that the others have to beat."""
        return self.attack == RULE


def both_ways(result: AuditResult) -> list[ServedBothWays]:
    """Every attack that ran where members and others are served differently: the one-line rule first, then by published AUC."""
    rule = _auc(result, RULE + PUBLISHED)
    confounded = [attack.name for attack in result.attacks if attack.status == CONFOUNDED and _auc(result, attack.name)]
    names = dict.fromkeys(name.removesuffix(PUBLISHED).removesuffix(OWN_VECTORS) for name in confounded)
    rows = []
    for name in names:
        published = _auc(result, name + PUBLISHED)
        rows.append(
            ServedBothWays(
                attack=name,
                title=_title(result, name),
                one_recommender=_auc(result, name),
                own_vectors=_auc(result, name + OWN_VECTORS),
                published=published,
                explained=None if not rule or not published or name == RULE else _reaches(rule, published),
            )
        )
    return sorted(rows, key=lambda row: (not row.is_rule, -_value(row.published)))


def explain_both_ways(rows: list[ServedBothWays]) -> list[str]:
    """What follows from the two ways of serving, a sentence or two each; empty where nothing ran as published."""
    told = []
    rule = next((row for row in rows if row.is_rule), None)
    attacks = [row for row in rows if not row.is_rule]
    if rule is not None and rule.published is not None:
        told.append(
            f"The baseline is a rule of one line, “{rule.title}”: it asks how popular the recommended items are and learns "
            f"nothing. As published, it tells members from others {_pairs(rule.published)}."
        )
    elif any(row.published is not None for row in rows):
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


def _title(result: AuditResult, name: str) -> str:
    titles = {attack.name: attack.title for attack in result.attacks}
    # A variant's title says at its end how people are served: "Biased-MIA, as published".
    variant = titles.get(name + PUBLISHED) or titles.get(name + OWN_VECTORS, name)
    return titles.get(name) or variant.rpartition(", ")[0]


def _auc(result: AuditResult, attack: str) -> Metric | None:
    found = result.metric(attack, "auc")
    return None if found is None or found.value is None else found


def _reaches(rule: Metric, published: Metric) -> bool:
    return (_value(rule) if rule.high is None else rule.high) >= _value(published)


def _value(metric: Metric | None) -> float:
    return 0.0 if metric is None or metric.value is None else metric.value


def _low(metric: Metric | None) -> float:
    return 0.0 if metric is None or metric.low is None else metric.low


def _pairs(metric: Metric) -> str:
    return f"{100 * _value(metric):.3g} times in 100"
