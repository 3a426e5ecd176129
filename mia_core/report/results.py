"""The typed result of an audit: everything a page, the command line or a report shows, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mia_core import parquet
from mia_core.types import UNITS, Unit
from mia_core.types import Gate as Gate
from mia_core.types import Metric as Metric

AUDITS = ("audit", "point", "placebo")
"""Kinds of artifacts that are audits: by themselves, of a study, of the target on data of nobody."""
RESULTS = (*AUDITS, "study", "defenses", "forgetting")
"""Kinds of artifacts that say what was found; everything else in the store is data, or rests on data."""
ROWS_TOGETHER = 50_000
"""Rows of one group of a Parquet file: whoever reads a few rows of a sorted table reads the groups they are in."""

SHIPPED = "example.json"
"""Lies beside the result of an audit that came with the program, and of what was made of it: it was not run on this machine."""
CHANGES = ("erased", "pseudonyms_of")
"""Fields of a result that say how it was changed since it was computed; one that was not changed says nothing of them."""


@dataclass(frozen=True)
class AttackSummary:
    """What ran, in words."""

    name: str
    title: str
    summary: str
    """One plain sentence: what evidence the attack looks at."""
    access: str
    """labels only, logits, white box."""
    status: str
    """honest; published (a published protocol, shown for comparison); confounded (a published protocol in which members and
    others are served differently); demonstration (leaks on purpose)."""
    passes: str
    """Cost in forward passes per sample, in words."""
    source: str
    """Paper and equation."""
    skipped: str = ""
    """Why the attack did not run; empty when it ran."""
    group: str = ""
    """Title of the kind of evidence it belongs to; empty in audits of before there were groups."""


@dataclass(frozen=True)
class Quality:
    """How well one recommender ranks the true next item against sampled negatives."""

    recommender: str
    """target, base, popularity."""
    hit_rate_at_10: float
    hit_rate_low: float
    hit_rate_high: float
    ndcg_at_10: float
    ndcg_low: float
    ndcg_high: float
    n: int
    likes_auc: float | None = None
    """How often an item that a user rated as liked scores above one that they did not like; None: too few ratings."""
    likes_low: float | None = None
    likes_high: float | None = None
    likes_n: int = 0


@dataclass(frozen=True)
class Agreement:
    """How far a reference answers like its teacher, on held-out-by-design windows."""

    reference: str
    kl: float
    """Mean KL(teacher || reference) per answer token, nats."""
    top1: float
    """Share of answer tokens whose likeliest token is the same."""


@dataclass(frozen=True)
class InteractionFigure:
    """How well single interactions that were trained on are told from others of the same member."""

    evidence: str
    """popularity (of the item alone), history (members served by their history), own vector (by their trained one)."""
    auc: float
    """Mean over members."""
    low: float
    high: float
    users: int
    interactions: int


@dataclass(frozen=True)
class StageTime:
    """One finished stage."""

    name: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class PrivacyBound:
    """How private the training was at best, by one way of counting."""

    method: str
    """one_run, f_dp, clopper_pearson."""
    epsilon: float
    """With the result's confidence epsilon is at least so large; 0: nothing is refuted."""
    delta: float
    sentence: str


LEADING_BOUNDS = ("f_dp", "clopper_pearson")
"""The bound that is held against a promise, named beforehand: the first that could be computed."""


@dataclass(frozen=True)
class Promise:
    """What private training promises of every unit of its data."""

    epsilon: float | None
    """None: clipping or noise alone, which promises nothing."""
    delta: float
    unit: str
    """user: everything of one user together; record: each of a user's windows for itself."""
    noise_multiplier: float
    sampling_rate: float
    steps: int
    accountant: str


@dataclass(frozen=True)
class AttackComparison:
    """One attack beside the lead, on the same users."""

    attack: str
    adjusted_p: float | None
    """How often the best of all attacks would do as well by chance."""
    difference: float | None
    """AUC minus that of the lead."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Claims:
    """What may be said of many users at once, by the lead attack."""

    discovery_rate: float
    """Share of the named users that may be wrong on average (Benjamini-Hochberg)."""
    named: int
    named_correctly: int | None
    """Of the named, those who are members; None where nobody knows."""
    resolution: str
    """How few can be named at all with so many calibration users."""
    correlation: float | None
    """Between windows of one held-out user."""
    effective_windows: float | None
    """Independent windows that a user's windows are worth."""
    privacy: list[PrivacyBound]
    comparisons: list[AttackComparison]
    best_single_feature: str
    """Where an ensemble ran: its best single feature, and the AUC of that alone on known users."""


@dataclass(frozen=True)
class AuditResult:
    """A finished audit. Per-user and per-point tables lie beside it as Parquet (see `read_table`)."""

    key: str
    name: str
    created: str
    """ISO 8601, UTC."""
    config: dict[str, Any]
    data: dict[str, Any]
    """users, items, interactions, ratings, timestamps, titles (bools), notes (list of sentences)."""
    roles: dict[str, int]
    lead: str
    attacks: list[AttackSummary]
    metrics: list[Metric]
    quality: list[Quality]
    agreement: list[Agreement]
    stages: list[StageTime]
    notes: list[str]
    """Plain sentences a reader must know: what was left out, what could not be scored, what does not hold."""
    device: str
    versions: dict[str, str]
    gates: list[Gate] = field(default_factory=list)
    """Checks that must hold before any result is believed."""
    claims: Claims | None = None
    promise: Promise | None = None
    """Of the target's training, where it takes clipping or noise."""
    interactions: list[InteractionFigure] = field(default_factory=list)
    """Whether single interactions were used; asked where the target was not trained on all of its members'."""
    artifacts: list[str] = field(default_factory=list)
    """Keys of everything in the store that this audit rests on; some of it may be shared with other audits."""
    erased: int = 0
    """Persons whose rows were taken out of its tables since; its figures stand as they were computed."""
    pseudonyms_of: str = ""
    """The key of the audit that this was before ids gave way to pseudonyms; empty where there are ids."""

    @property
    def valid(self) -> bool:
        """Whether every gate that was tried let this audit pass."""
        return all(gate.passed for gate in self.gates)

    @property
    def leading_bound(self) -> PrivacyBound | None:
        """The lower bound on ε that is held against a promise."""
        found = {bound.method: bound for bound in (self.claims.privacy if self.claims else [])}
        return next((found[name] for name in LEADING_BOUNDS if name in found), None)

    @property
    def promise_broken(self) -> bool:
        """Whether more is proven of a user's privacy loss than the training promised at most."""
        promise, bound = self.promise, self.leading_bound
        if promise is None or promise.epsilon is None or promise.unit != "user" or bound is None:
            return False
        # A promise at a larger delta says nothing about a smaller one.
        return bound.epsilon > promise.epsilon and bound.delta >= promise.delta

    @property
    def unit(self) -> Unit:
        """What is judged here. Audits of before there were sessions do not say: they judge users."""
        return UNITS[self.data.get("unit", "user")]

    @property
    def brought(self) -> bool:
        """Whether nobody here made the target, so that lists alone say who is a member."""
        return self.config.get("target", {}).get("source") in ("own", "lists")

    def metric(self, attack: str, metric: str) -> Metric | None:
        """The figure of one attack, or None if it was not computed."""
        return next((m for m in self.metrics if m.attack == attack and m.metric == metric), None)

    def attack(self, name: str) -> AttackSummary:
        """The summary of one attack."""
        return next(a for a in self.attacks if a.name == name)

    def renamed(self, name: str) -> AuditResult:
        """The same result under another name."""
        return dataclasses.replace(self, name=name, config={**self.config, "name": name})

    def write(self, folder: Path, tables: dict[str, pl.DataFrame]) -> None:
        """Saves the result and its tables into an artifact folder."""
        fresh = folder / "result.json.new"
        document = {name: value for name, value in dataclasses.asdict(self).items() if value or name not in CHANGES}
        fresh.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        fresh.replace(folder / "result.json")
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet", row_group_size=ROWS_TOGETHER)


def read_result(folder: Path) -> AuditResult:
    """The result saved in an artifact folder."""
    document = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    lists = {
        "attacks": AttackSummary,
        "metrics": Metric,
        "quality": Quality,
        "agreement": Agreement,
        "stages": StageTime,
        "gates": Gate,
        "interactions": InteractionFigure,
    }
    for name, kind in lists.items():
        document[name] = [kind(**row) for row in document.get(name, [])]
    claims = document.get("claims")
    if claims is not None:
        claims["privacy"] = [PrivacyBound(**row) for row in claims["privacy"]]
        claims["comparisons"] = [AttackComparison(**row) for row in claims["comparisons"]]
        document["claims"] = Claims(**claims)
    if document.get("promise") is not None:
        document["promise"] = Promise(**document["promise"])
    return AuditResult(**document)


def read_table(folder: Path, name: str, columns: Sequence[str] = ()) -> pl.DataFrame:
    """One table of a finished audit, or only some of its columns.

    users: user, role, windows (int), history_length (int), mean_popularity (float: mean share of public users who
        have the item), score.ATTACK (float, null = could not be scored), p.ATTACK (float, null = no p-value),
        p_stratum.ATTACK (the same against held-out users of like history length and popularity only), named (bool: stands
        out by the lead attack at the discovery rate of the claims).
        For known users score.ATTACK is out of fold.
    features: user, role, model (target, base, student, soft reference), feature (loss, confidence, entropy, hidden),
        value. `hidden` is the first principal component of the hidden vector, fitted on public users.
    ranked: user, recommender, hit, gain (null: only rated items could be asked), likes (null: not both liked and disliked
        items): what the figures of `Quality` are means of.
    map (where it was asked for): user, role, drawn_from (outputs, correlation, hidden), method (t-SNE, PCA), epoch (null: the
        finished target; else PCA of hidden vectors on the plane of the last epoch), x, y.
    tokens: user, window (0 is the oldest), place (of the token in the answer), text, item (null: the token belongs to none),
        target, base, reference (log-probability, nats; null where there is no such model; the references' mean). One row
        per answer token, sorted by user, window and place.
    training (of targets trained here): epoch (0 is before), members, held_out (mean loss of some audited users, nats per
        token), auc, low, high (of the loss as a score, on these users), n_members, n_held_out.
    list_bound: listed, wrong_at_most (of so many users with the smallest p-values by the lead attack; for all lists at once).
    roc: attack, fpr, tpr, low, high (pointwise interval on tpr), false_positives (int).
    """
    return parquet.read(folder / f"{name}.parquet", list(columns) or None)


@dataclass(frozen=True)
class Flag:
    """What the attack's verdict about one person rests on: a threshold, and how often it flags others."""

    threshold: float
    """Fixed on users who are not counted; who reaches it is flagged."""
    flagged: bool
    hits: int
    """Flagged among the other members."""
    members: int
    alarms: int
    """Flagged among the other held-out users."""
    held_out: int
    counted: Literal["audited", "known", "offsets"] = "audited"
    """audited: the other audited users, at the threshold of the report; known: for a target that was brought along, a
    random half of the known members and the users who calibrate; offsets: for a pasted history, random halves of the users
    who are compared with it at every offset."""


@dataclass(frozen=True)
class AttackEvidence:
    """What one attack says of one person."""

    attack: str
    title: str
    group: str
    status: str
    score: float | None
    p_value: float | None
    stratum_p_value: float | None


@dataclass(frozen=True)
class LookupResult:
    """What can be said of one person."""

    subject: str
    """The user's id, or "pasted history"."""
    role: str
    """A Role, or "" for a pasted history."""
    attack: str
    windows: int
    matched: int
    """Items of the history found in the catalogue."""
    unmatched: list[str]
    score: float | None
    p_value: float | None
    calibration_users: int
    share_below: float | None
    """Share of calibration users with a lower score, themselves excluded."""
    member_scores: list[float]
    """Scores of the comparison members, for the picture; scored the same way as the subject."""
    held_out_scores: list[float]
    """Scores of the calibration users, scored the same way as the subject."""
    reason: str = ""
    """Why there is no score or no p-value; empty when both are there."""
    stratum_p_value: float | None = None
    """The p-value against held-out users of like history length and popularity only."""
    flag: Flag | None = None
    """None where there is nobody to count on whose truth is known and who did not fix the threshold."""
    evidence: list[AttackEvidence] = field(default_factory=list)
    """What every attack of the audit says, for users of the audit."""
    share_used: tuple[float, float, float] | None = None
    """Estimated share of the user's windows that the target was trained on, with its interval; None with a single window."""


@dataclass(frozen=True)
class WithoutRow:
    """The score of a person without one of their interactions."""

    window: int
    """0 is the oldest."""
    item: str
    title: str
    part: str
    """history: the question is asked without it; answer: the window is left out."""
    score: float | None
    """None: nothing is left to score."""
    change: float | None
    """The score less that of the whole; below 0 the interaction makes the person look more like a member."""


@dataclass(frozen=True)
class WithoutResult:
    """What changes in the score of a person when one interaction is taken away."""

    subject: str
    attack: str
    score: float | None
    """Of the whole."""
    rows: list[WithoutRow]


@dataclass(frozen=True)
class CohortResult:
    """What can be said of a list of users together."""

    listed: int
    """Different users on the list."""
    repeated: int
    """Lines that named a user again."""
    scored: int
    """Listed users that every attack used here could score."""
    control_users: int
    """Audited held-out users who are not on the list and could be scored."""
    attacks: list[str]
    """Honest attacks whose scores were put together."""
    p_value: float | None
    """One-sided: how often held-out users would score so much higher than the control users by chance."""
    effect: float | None
    """How much higher the list scores, in standard deviations."""
    counted: int
    """Listed users that the lead attack could score."""
    share: float | None
    """Estimated share of the list that was trained on, by the lead attack; None where it cannot be counted with."""
    share_low: float
    share_high: float
    control_share: float | None
    """The same estimate for the control users, of whom nobody was trained on."""
    true_positive_rate: float | None
    false_positive_rate: float | None
    """How often the lead attack flags known members and known held-out users."""
    recorded_members: int | None
    """Members on the list by the audit's own record; None where nobody knows."""
    differences: list[str]
    """In what the list and the control users differ that no model was asked about."""
    confidence: float
