"""Defences tried on one audit: each under several seeds, against an attacker who knows it, beside what it costs."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, field_validator

from mia_core import parquet
from mia_core.attacks.catalogue import configured
from mia_core.attacks.evidence import Evidence
from mia_core.errors import ConfigError, MemberScopeError
from mia_core.evaluate.metrics import FPR_LEVELS, users_needed
from mia_core.evaluate.trade import Interval, Outcome, detections, leakage, usefulness
from mia_core.experiment import Experiment, Protection, Runtime, Section, explain, parse_experiment, read_toml
from mia_core.keys import content_key
from mia_core.report.defending import DefenseResult, OnionLayer, TriedDefense, read_defenses
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.report.studies import read_study_table
from mia_core.seeds import derive_seed, generator
from mia_core.storage.store import Store
from mia_core.studies.study import Point, Study, run_study
from mia_core.types import Progress, Role, Silent

if TYPE_CHECKING:
    from mia_core.audit.stages import Run

VERSION = 3
"""Raised when the code changes what is said of the same audits."""
PANELS = Path(__file__).parents[2] / "assets" / "defenses"
UNDEFENDED = "No defence"
AUDITED = (Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT)
QUALITIES = {"hit_rate_at_10": "hit", "ndcg_at_10": "gain", "likes_auc": "likes"}
"""Figures of quality and the column of the table ``ranked`` that each is the mean of."""


class Tried(Section):
    """One defence, or several together, at one strength."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    settings: dict[str, dict[str, bool | int | float | str | None]] = Field(default={})

    @property
    def protection(self) -> Protection:
        """As a config says it."""
        return Protection(names=self.names, settings=self.settings)


class Defending(Section):
    """Which defences are tried on which audit."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = "Defences"
    experiment: Experiment = Experiment()
    tried: Annotated[tuple[Tried, ...], Field(min_length=1, max_length=60)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1, max_length=20)] = (
        0,
        1,
        2,
    )
    """Splits and trainings that each is tried on."""

    @field_validator("tried")
    @classmethod
    def _titles_differ(cls, tried: tuple[Tried, ...]) -> tuple[Tried, ...]:
        titles = [one.title for one in tried]
        for title in titles:
            if titles.count(title) > 1 or title == UNDEFENDED:
                raise ValueError(f"tried holds {title!r} twice; give each its own title")
        return tried


def panel(experiment: Experiment, path: Path | None = None) -> list[Tried]:
    """The defences that come with the product for such a target, at the strengths that are tried, or those of a file.

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    document = read_toml(path or PANELS / f"{experiment.kind}.toml", "panel")
    try:
        return [Tried.model_validate(one) for one in document["tried"]]
    except (KeyError, TypeError, ValidationError) as error:
        told = (
            "; ".join(explain(item, Tried) for item in error.errors())
            if isinstance(error, ValidationError)
            else "no list"
        )
        raise ConfigError(
            f"panel: {str(path)!r} must hold a list named tried of title, names and settings, as in assets/defenses ({told})"
        ) from None


def refusal(experiment: Experiment, tried: Tried) -> str:
    """Why a defence cannot be tried on this audit; empty where it can."""
    try:
        _defended(experiment, tried.protection)
    except (MemberScopeError, ValidationError) as error:
        return str(error).removeprefix("defense: ")
    return ""


def parse_defending(document: Mapping[str, Any]) -> Defending:
    """A validated document from plain data.

    Raises:
        ConfigError: a key is unknown, a value is out of range, a defence cannot be used on such a target.
    """
    try:
        defending = Defending.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(item, Defending) for item in error.errors())) from None
    if defending.experiment.defense.names:
        raise ConfigError(
            f"defense.names is {list(defending.experiment.defense.names)}; defences are compared with a target without any: "
            "leave [defense] out"
        )
    for tried in defending.tried:
        if refused := refusal(defending.experiment, tried):
            raise ConfigError(f"{tried.title}: {refused}")
    return defending


def _defended(experiment: Experiment, protection: Protection) -> Experiment:
    document = experiment.model_dump(mode="json")
    document["defense"] = protection.model_dump(mode="json")
    return parse_experiment(document)


def study_of(defending: Defending) -> Study:
    """All audits that are needed: every defence, and none, under every seed."""
    document = defending.experiment.model_dump(mode="json")
    # The undefended audit has a placebo of its own; a defence does not change who was drawn.
    document["evaluation"] |= {"placebo": False, "map_users": 0}
    # One score, named beforehand, is followed through all of them.
    lead = document["attacks"]["lead"]
    document["attacks"]["names"] = [lead]
    protections = [Protection(), *(one.protection for one in defending.tried)]
    return Study(
        name=defending.name,
        summary="What does each defence cost in recommendation quality, and what does it buy against an attacker who knows it?",
        experiment=parse_experiment(document),
        vary={
            "defense": tuple(one.model_dump(mode="json") for one in protections),
            "seed": tuple(defending.seeds),
        },
        titles={"defense": "defence"},
        labels={"defense": (UNDEFENDED, *(one.title for one in defending.tried))},
        attacks=(lead,),
        metrics=("auc", "tpr_at_fpr_0.05", "tpr_at_fpr_0.01"),
    )


def run_defending(
    defending: Defending, store: Store, progress: Progress | None = None, runtime: Runtime | None = None
) -> DefenseResult:
    """Audits the target without and with each defence, several at once where there are cores, and compares them by user.

    What an earlier run finished costs nothing.

    Raises:
        ConfigError, DataError: the undefended target cannot be audited.
    """
    progress, runtime = progress or Silent(), runtime or Runtime()
    study = study_of(defending)
    finished = run_study(study, store, progress, runtime)
    failed = {failure.point: failure.reason for failure in finished.failures}
    figures = read_study_table(_folder(store, finished.key), "figures")
    audits = {
        point: read_result(_folder(store, key)) for point, key in figures.select("point", "audit").unique().rows()
    }
    return _Gathering(defending, study.points, failed, audits, store, runtime).result()


def _folder(store: Store, key: str) -> Path:
    folder = store.find(key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    return folder


@dataclass
class _Gathering:
    """From the finished audits to what is said of each defence."""

    defending: Defending
    points: Sequence[Point]
    failed: Mapping[str, str]
    audits: Mapping[int, AuditResult]
    """By the number of their point."""
    store: Store
    runtime: Runtime

    def result(self) -> DefenseResult:
        seeds = self.defending.seeds
        plain = self.of(0)
        if not plain:
            reason = next(iter(self.failed.values()), "it did not finish")
            raise ConfigError(f"the target without a defence could not be audited: {reason}")
        key = content_key(
            "defenses",
            VERSION,
            {"titles": [one.title for one in self.defending.tried], "failed": dict(self.failed), "seeds": list(seeds)},
            sorted(audit.key for audit in self.audits.values()),
        )

        def write(folder: Path) -> None:
            tried = [self.told(i) for i in range(1 + len(self.defending.tried))]
            first = next(iter(plain.values()))
            DefenseResult(
                key=key,
                name=self.defending.name,
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                config=self.defending.model_dump(mode="json"),
                lead=first.attack(first.lead).title,
                level=self.level,
                confidence=self.evaluation.confidence,
                seeds=sorted(plain),
                tried=[one for one, _ in tried],
                judged=first.unit.one,
                data=[audit.data["key"] for audit in plain.values()],
            ).write(folder, pl.concat([rows for _, rows in tried]))

        return read_defenses(self.store.build(key, "defenses", write, name=self.defending.name, keep=True))

    @cached_property
    def evaluation(self) -> Any:
        return self.defending.experiment.evaluation

    @cached_property
    def level(self) -> float:
        """The smallest false positive rate that every undefended audit resolves."""
        fewest = min(int((~self.outcome(audit).member).sum()) for audit in self.of(0).values())
        return next((level for level in FPR_LEVELS if users_needed(level) <= fewest), FPR_LEVELS[-1])

    def numbers(self, number: int) -> dict[int, int]:
        """Points of one defence, by seed."""
        seeds = self.defending.seeds
        return {seed: number * len(seeds) + i for i, seed in enumerate(seeds)}

    def of(self, number: int) -> dict[int, AuditResult]:
        """The finished audits of one defence, by seed."""
        return {seed: self.audits[point] for seed, point in self.numbers(number).items() if point in self.audits}

    def told(self, number: int) -> tuple[TriedDefense, pl.DataFrame]:
        """What is said of one defence, and its figures as rows."""
        tried = self.defending.tried[number - 1] if number else None
        chosen = tried.protection.chosen if tried else ()
        audits, plain = self.of(number), self.of(0)
        seeds = [seed for seed in audits if seed in plain]
        after, before = [audits[seed] for seed in seeds], [plain[seed] for seed in seeds]
        figures = self.figures(before, after) if seeds else {}
        not_adaptive = ""
        if tried and seeds:
            old, not_adaptive = self.asked_as_before(before, after)
            figures |= old
        words = [self.points[point].words for point in self.numbers(number).values()]
        one = TriedDefense(
            number=number,
            title=tried.title if tried else UNDEFENDED,
            names=list(tried.names) if tried else [],
            seeds=seeds,
            audits=[audit.key for audit in after],
            invalid=[seed for seed in seeds if not audits[seed].valid],
            failed=next((self.failed[word] for word in words if word in self.failed), ""),
            broken=any(audit.promise_broken for audit in after),
            hides_only=bool(chosen) and all(defense.where == "serving" for defense in chosen),
            not_adaptive=not_adaptive,
            onion=self.onion(before, after) if any(defense.spared_share for defense in chosen) else [],
        )
        return one, _table(number, figures)

    def asked_as_before(
        self, before: Sequence[AuditResult], after: Sequence[AuditResult]
    ) -> tuple[dict[str, tuple[Interval, Interval]], str]:
        """Figures of the attack that does not know the defence, or none and why it cannot be asked."""
        asked = []
        for new, old in zip(after, before, strict=True):
            scores = self.not_adaptive(new, old)
            if isinstance(scores, str):
                return {}, scores
            asked.append(self.outcome(new, scores))
        return self.leaks([self.outcome(audit) for audit in before], asked, "old_"), ""

    def outcome(self, audit: AuditResult, scores: pl.DataFrame | None = None, quality: str = "") -> Outcome:
        """What one audit says of its audited users, in the order of their ids."""
        folder = _folder(self.store, audit.key)
        users = read_table(folder, "users").filter(pl.col("role").is_in(AUDITED)).sort("user")
        if scores is not None:
            users = users.join(scores, on="user", how="left", maintain_order="left")
        column = "old" if scores is not None else f"score.{audit.lead}"
        recommended = np.zeros(0)
        if quality and (folder / "ranked.parquet").is_file():
            ranked = read_table(folder, "ranked").filter(pl.col("recommender") == "target").sort("user")
            recommended = ranked[quality].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return Outcome(
            users[column].cast(pl.Float64).fill_null(np.nan).to_numpy(),
            (users["role"] == Role.AUDITED_MEMBER).to_numpy(),
            recommended,
        )

    def figures(
        self, before: Sequence[AuditResult], after: Sequence[AuditResult]
    ) -> dict[str, tuple[Interval, Interval]]:
        found = self.leaks([self.outcome(audit) for audit in before], [self.outcome(audit) for audit in after])
        for name, column in QUALITIES.items():
            old, new = ([self.outcome(audit, quality=column) for audit in audits] for audits in (before, after))
            found[name] = usefulness(old, new, **self._resampling(name))
        nothing = (np.nan, np.nan, np.nan)
        bounds = [audit.leading_bound.epsilon for audit in after if audit.leading_bound is not None]
        if bounds:
            # Each is a bound of its own; of several seeds the largest is shown, and the least.
            found["epsilon"] = ((max(bounds), min(bounds), max(bounds)), nothing)
        promised = [
            audit.promise.epsilon for audit in after if audit.promise is not None and audit.promise.epsilon is not None
        ]
        if promised:
            found["promised_epsilon"] = ((max(promised), np.nan, np.nan), nothing)
        return found

    def leaks(
        self, before: Sequence[Outcome], after: Sequence[Outcome], prefix: str = ""
    ) -> dict[str, tuple[Interval, Interval]]:
        found = leakage(before, after, self.level, **self._resampling("leakage"))
        return {f"{prefix}{name}": figure for name, figure in found.items()}

    def _resampling(self, purpose: str) -> dict[str, Any]:
        # The same resamples for every defence, so that they are compared on the same draws.
        rng = generator(derive_seed(self.defending.experiment.seed, "defences"), purpose)
        return {"resamples": self.evaluation.resamples, "confidence": self.evaluation.confidence, "rng": rng}

    def not_adaptive(self, audit: AuditResult, plain: AuditResult) -> pl.DataFrame | str:
        """user, old: scores by the attack as it was built on the undefended target; or why it cannot be asked."""
        key = content_key("not adaptive", VERSION, {}, [audit.key, plain.key])

        def write(folder: Path) -> None:
            run = _reopened(audit, self.store, self.runtime)
            found = _asked_as_before(run)
            if isinstance(found, str):
                (folder / "reason.txt").write_text(found, encoding="utf-8")
            else:
                found.write_parquet(folder / "scores.parquet")

        folder = self.store.build(key, "scores", write, keep=True)
        if (folder / "scores.parquet").is_file():
            return parquet.read(folder / "scores.parquet")
        return (folder / "reason.txt").read_text(encoding="utf-8")

    def onion(self, before: Sequence[AuditResult], after: Sequence[AuditResult]) -> list[OnionLayer]:
        """Detections before and after among the spared members, among those next at risk, and among all others."""
        layers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for old, new in zip(before, after, strict=True):
            run = _reopened(new, self.store, self.runtime)
            share = next(defense.spared_share for defense in run.defenses if defense.spared_share)
            trainees = sorted(run.members_trained_on, key=lambda user: (-run.risks[user], user))
            step = round(share * len(trainees))
            place = {user: i // max(1, step) for i, user in enumerate(trainees)}
            folder = _folder(self.store, new.key)
            users = read_table(folder, "users").filter(pl.col("role").is_in(AUDITED)).sort("user")["user"].to_list()
            member = self.outcome(new).member
            layer = np.array([min(2, place.get(user, -1)) for user in users])
            flags = [detections(self.outcome(audit).scores, member, self.level) for audit in (old, new)]
            for i, name in enumerate(("spared", "next", "others")):
                mine = member & (layer == i)
                layers.setdefault(name, []).append((flags[0][mine], flags[1][mine]))
        return [
            OnionLayer(
                name,
                sum(len(old) for old, _ in parts),
                float(np.mean([old.mean() for old, _ in parts if len(old)])),
                float(np.mean([new.mean() for _, new in parts if len(new)])),
            )
            for name, parts in layers.items()
            if any(len(old) for old, _ in parts)
        ]


def _table(number: int, figures: Mapping[str, tuple[Interval, Interval]]) -> pl.DataFrame:
    columns = ("value", "low", "high", "change", "change_low", "change_high")
    schema: dict[str, Any] = {"tried": pl.Int64, "metric": pl.String, **dict.fromkeys(columns, pl.Float64)}
    rows = [(number, name, *value, *change) for name, (value, change) in figures.items()]
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def _reopened(audit: AuditResult, store: Store, runtime: Runtime) -> Run:
    # With it comes torch, which a config that is only checked should not load.
    from mia_core.pipeline import reopen

    return reopen(audit, store, Silent(), runtime)


def _asked_as_before(run: Run) -> pl.DataFrame | str:
    """The lead attack, fitted on the undefended target, asked what the defended one says of the audited users."""
    from mia_core.audit import estimate
    from mia_core.audit.gathering import gather, possible
    from mia_core.pipeline import divide

    plain, name = run.undefended, run.experiment.attacks.lead
    attack = configured(name, run.experiment.attacks.settings.get(name, {}))
    wanted = {"target", "base", *(need.rstrip("?") for need in attack.needs)}
    needs = [need for need in estimate.needs(run.experiment) if need in wanted and not possible(plain, need)]
    refused = [reason for need in needs if (reason := possible(run, need))]
    if refused:
        return refused[0]
    before = gather(plain, plain.samples, needs, announce=False)
    now = gather(run, run.samples, [need for need in needs if _of_target(need)], announce=False)
    mixed: Evidence = replace(
        before,
        views={**before.views, **now.views},
        lists={**before.lists, **now.lists},
        signals={**before.signals, **now.signals},
    )
    shapes = [(mixed.views[view].hidden.shape[1:], before.views[view].hidden.shape[1:]) for view in now.views]
    if attack.learned and attack.access == "white box" and any(new != old for new, old in shapes):
        return "looks at hidden vectors, which the defended target no longer shows"
    roles = np.array([run.split.roles[user] for user in run.scored], dtype=object)
    known, _, _ = divide(plain, before, roles)
    _, audited, at = divide(plain, mixed, roles)
    return pl.DataFrame({"user": [run.scored[i] for i in at], "old": attack.score(audited, known)})


def _of_target(need: str) -> bool:
    model = need.partition("/")[0]
    return model not in {"base", "soft", "student", "leaking", "shadows", "trajectory", "self_prompted", "shadow_world"}


def refused_of_panel(experiment: Experiment, path: Path | None = None) -> Iterator[tuple[Tried, str]]:
    """Each defence of the panel with why it cannot be tried on such a target; empty where it can."""
    for tried in panel(experiment, path):
        yield tried, refusal(experiment, tried)
