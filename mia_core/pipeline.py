"""The straight line of an audit: data, split, target, references, observations, scores, calibration, report."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from mia_core.attacks.catalogue import ATTACKS, GROUPS, configured
from mia_core.attacks.contract import is_transductive, out_of_fold_scores
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import hidden, scalars
from mia_core.attacks.sets import share_used
from mia_core.audit import estimate
from mia_core.audit.claims import judge_gates, list_bound, make_claims, placebo_experiment, with_names
from mia_core.audit.errands import others
from mia_core.audit.exposures import exposures_of
from mia_core.audit.gathering import gather, possible, train
from mia_core.audit.single_interactions import interaction_figures
from mia_core.audit.stages import VERSION, Model, Run
from mia_core.audit.traces import map_table, token_table, training_table
from mia_core.data.interactions import Interactions
from mia_core.data.opening import open_interactions
from mia_core.errors import NotFound
from mia_core.evaluate.calibration import mondrian_p_values, p_values, strata
from mia_core.evaluate.intervals import auc_interval, mean_interval
from mia_core.evaluate.metrics import attack_metrics, best_threshold, roc_table
from mia_core.experiment import Data, Experiment, Runtime, parse_experiment
from mia_core.keys import content_key, file_key
from mia_core.machines.tasks import for_tasks, in_background, spare_cores
from mia_core.models.device import choose_device, device_name, resolve_precision, use_threads
from mia_core.models.llm.distillation import agreement
from mia_core.models.ranking import (
    RankingTask,
    hits_and_gains,
    language_model_scores,
    liking_aucs,
    liking_task,
    popularity_scores,
    ranking_task,
    recommender_scores,
)
from mia_core.report.results import Agreement, AttackSummary, AuditResult, Promise, Quality, read_result
from mia_core.seeds import derive_seed, generator
from mia_core.storage.store import Store
from mia_core.types import SESSION, UNITS, USER, Metric, Progress, Role, Silent, Unit

SHOWN_MODELS = ("target", "base", "leaking", "self_prompted")
"""Models whose feature distributions are kept for the charts, beside soft references and students."""
FEATURES = ("loss", "confidence", "entropy", "hidden")


KINDS = ("placebo", "point", "audit")
"""What an audit is kept as, the least wanted first: another one's placebo, a point of a study, one for itself."""
ONE_THREAD_BELOW = 96
"""Models of less width than this lose more by sharing out their small products over cores than they gain."""


def run_audit(
    experiment: Experiment,
    store: Store,
    progress: Progress | None = None,
    runtime: Runtime | None = None,
    kind: Literal["audit", "point", "placebo"] = "audit",
    interactions: Interactions | None = None,
) -> AuditResult:
    """Runs a whole audit, or finds it in the store; a copy of its data that has gone is kept anew.

    Args:
        kind: a placebo and a point of a study are kept like an audit, but not listed among them.
        interactions: what the experiment's data are, where somebody has opened them already.

    Raises:
        DataError, ConfigError, ModelError: what the user can mend.
    """
    run = start(experiment, store, progress or Silent(), runtime or Runtime(), interactions=interactions)
    key = audit_key(run.experiment, run.interactions)
    found = store.find(key)
    if found is None:
        found = store.build(key, kind, lambda folder: _audit(run, key).write(folder), name=experiment.name, keep=True)
    elif key in {entry.key for lesser in KINDS[: KINDS.index(kind)] for entry in store.entries(lesser)}:
        # What was somebody's placebo, or a point of a study, is now wanted for itself, under its own name.
        name = experiment.name
        store.alter(key, lambda folder: read_result(folder).renamed(name).write(folder, {}), kind=kind, name=name)
    _keep_data(run)
    return read_result(found)


def start(
    experiment: Experiment,
    store: Store,
    progress: Progress,
    runtime: Runtime,
    *,
    announce: bool = True,
    interactions: Interactions | None = None,
) -> Run:
    """Opens the data and settles what depends on the machine: the device and, before hashing, the precision."""
    device = choose_device(runtime.device)
    small = experiment.base.source == "offline" and experiment.base.width < ONE_THREAD_BELOW
    # Numbers do not depend on which machine of a cluster computes them.
    if runtime.threads or small or runtime.backend == "ray":
        use_threads(runtime.threads or 1)
    experiment = with_precision(experiment, device)
    if interactions is None:
        interactions = open_interactions(experiment.data, experiment.seed, store)
    if announce:
        progress.plan(estimate.plan(experiment, interactions.summary()))
    return Run(experiment, interactions, store, progress, device, runtime=runtime)


def reopen(result: AuditResult, store: Store, progress: Progress, runtime: Runtime) -> Run:
    """The run of a finished audit, on the data that it kept.

    Raises:
        NotFound: these are gone.
    """
    if store.find(result.data["key"]) is None:
        raise NotFound("the data of this audit are no longer in the store; run the audit again")
    data = Data(source="kept", key=result.data["key"])
    experiment = parse_experiment(result.config).model_copy(update={"data": data})
    return start(experiment, store, progress, runtime, announce=False)


def audit_key(experiment: Experiment, interactions: Interactions) -> str:
    """The content key of an audit: every setting but its name and where the data came from."""
    settings = experiment.model_dump(exclude={"name", "data"})
    own = {name: _file_text(settings["target"][name]) for name in ("members", "held_out", "judged")}
    served = settings["target"]["lists"]
    own["lists"] = file_key(Path(served)) if served else ""
    return content_key("audit", VERSION, {"settings": settings, "own": own}, [interactions.key])


class _Findings:
    """Result and tables of one audit, written together."""

    def __init__(self, result: AuditResult, tables: Mapping[str, pl.DataFrame]) -> None:
        self.result = result
        self.tables = tables

    def write(self, folder: Any) -> None:
        self.result.write(folder, dict(self.tables))


def _keep_data(run: Run) -> None:
    run.build(run.interactions.key, "interactions", run.interactions.write, keep=True)


def _audit(run: Run, key: str) -> _Findings:
    with run.stage(estimate.READ):
        _keep_data(run)
        _ = run.split, run.samples
    with others(run), _placebo_beside(run) as placebo:
        return _judged(run, key, placebo)


@contextmanager
def _placebo_beside(run: Run) -> Iterator[Callable[[], AuditResult] | None]:
    """Runs the same line on strangers, on a spare core while this one goes on; yields what waits for its result."""
    if not estimate.wants_placebo(run.experiment):
        yield None
        return
    # The base is common to both.
    _ = run.base
    twin = placebo_experiment(run.experiment, run.interactions.key)
    document = twin.model_dump(mode="json")
    read = lambda key: read_result(run.store.find(key) or Path())  # noqa: E731
    there = run.store.find(audit_key(twin, run.interactions)) is not None
    if run.submit is not None and not there:
        result = run.submit(_run_placebo, (document, for_tasks(run.runtime)))
        yield lambda: read(result())
        return
    device: Literal["cpu", "cuda"] = "cuda" if run.device.type == "cuda" else "cpu"
    job = (document, Runtime(device=device, threads=1 if device == "cpu" else 0))
    if there or run.device.type != "cpu":
        yield lambda: read(_run_placebo(job, run.store))
        return
    if spare_cores():
        use_threads(spare_cores())
    with in_background(_run_placebo, job, run.store, job[1]) as result:
        yield lambda: read(result())


def _run_placebo(job: tuple[dict[str, Any], Runtime], store: Store) -> str:
    document, runtime = job
    return run_audit(Experiment.model_validate(document), store, Silent(), runtime, "placebo").key


def _judged(run: Run, key: str, placebo: Callable[[], AuditResult] | None) -> _Findings:
    config, split, samples = run.experiment, run.split, run.samples
    asked = ["target", *estimate.needs(config)]
    impossible = {need: reason for need in asked if (reason := possible(run, need))}
    skipped = _skipped(run, impossible)
    needs = [need for need in estimate.needs(config) if need not in impossible]
    train(run, needs)
    evidence = gather(run, samples, needs)
    roles = np.array([split.roles[user] for user in run.scored], dtype=object)
    unit = UNITS[run.interactions.unit]

    with run.stage(estimate.QUALITY):
        quality, ranked = _quality(run)
        agreements = _agreement(run, needs) if config.evaluation.ranked_users else []

    # So little work is slower when it is shared out over cores.
    with run.stage(estimate.ATTACK), threadpool_limits(1):
        known, audited, audited_at = divide(run, evidence, roles)
        scores, thresholds = {}, {}
        known_at = np.flatnonzero([role.known for role in roles])
        running = [name for name in config.attacks.names if name not in skipped]
        for i, name in enumerate(running):
            attack = configured(name, config.attacks.settings.get(name, {}))
            if is_transductive(attack):
                # It learns from everybody it judges, without a label of theirs, and that once.
                scores[name] = attack.score(evidence, known)
            else:
                scores[name] = np.full(len(run.scored), np.nan)
                scores[name][known_at] = out_of_fold_scores(attack, known, seed=config.seed)
                scores[name][audited_at] = attack.score(audited, known)
            thresholds[name] = best_threshold(scores[name][known_at], known.member)
            _tell(run, name, scores[name][known_at], known.member)
            run.progress.advance((i + 1) / len(running))

    with run.stage(estimate.REPORT):
        judged_by = truth_of(roles, own=config.target.brought)
        metrics: list[Metric] = []
        rocs = []
        for name, mine in scores.items():
            at, member = judged_by
            seed = derive_seed(config.seed, "intervals", name)
            figures = attack_metrics(name, mine[at], member, thresholds[name], config.evaluation, seed)
            metrics += [dataclasses.replace(figure, reason=unit.say(figure.reason)) for figure in figures]
            table = roc_table(mine[at], member, config.evaluation.resamples, config.evaluation.confidence, seed)
            rocs.append(table.select(pl.lit(name).alias("attack"), pl.all()))
        users = with_names(run, _user_table(run, roles, scores)).join(
            _shares_used(run, audited, known), on="user", how="left", maintain_order="left"
        )
        features = _feature_table(run, evidence, roles, known)
        claims = make_claims(run, users, evidence, known, scores, judged_by)
    with run.stage(estimate.GATES), threadpool_limits(1):
        gates = judge_gates(run, roles, users, placebo)

    result = AuditResult(
        key=key,
        name=config.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config=config.model_dump(mode="json"),
        data={**run.interactions.summary(), "key": run.interactions.key},
        roles=split.counts(),
        lead=config.attacks.lead,
        attacks=[summarise(name, skipped.get(name, ""), unit) for name in config.attacks.names],
        metrics=metrics,
        quality=quality,
        agreement=agreements,
        stages=run.times,
        notes=_notes(run, users, skipped),
        device=device_name(run.device),
        gates=gates,
        claims=claims,
        promise=_promise(run),
        interactions=interaction_figures(run) if config.kind == "recommender" else [],
        artifacts=sorted(run.used),
        versions={name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "scikit-learn")},
    )
    tables = {"users": users, "features": features, "list_bound": list_bound(run, users)}
    further = {"ranked": ranked, "tokens": token_table(run, evidence), "training": training_table(run)}
    tables |= {name: table for name, table in further.items() if table.height}
    if config.evaluation.map_users and "target" in evidence.views:
        with run.stage(estimate.MAP):
            tables["map"] = map_table(run)
    if rocs:
        tables["roc"] = pl.concat(rocs)
    return _Findings(result, tables)


def _tell(run: Run, name: str, scores: np.ndarray, member: np.ndarray) -> None:
    """A first figure for whoever waits: how the attack does on known users, whose labels it may look at."""
    there = ~np.isnan(scores)
    groups = scores[there & member], scores[there & ~member]
    if all(len(group) for group in groups):
        auc, low, high = auc_interval(*groups, run.experiment.evaluation.confidence)
        attack = ATTACKS[name]
        figures = {"auc": auc, "low": low, "high": high}
        run.progress.tell("scores", {"attack": attack.title, "status": attack.status, **figures})


def _promise(run: Run) -> Promise | None:
    found = run.guarantee
    if found is None:
        return None
    epsilon = found.epsilon if math.isfinite(found.epsilon) else None
    return Promise(**{**dataclasses.asdict(found), "epsilon": epsilon})


def divide(run: Run, evidence: Evidence, roles: np.ndarray) -> tuple[Known, Evidence, np.ndarray]:
    """(known users with their labels, everybody else without any, where everybody else stands)."""
    is_known = np.array([role.known for role in roles])
    known_at, audited_at = np.flatnonzero(is_known), np.flatnonzero(~is_known)
    fold = np.array([run.fold[run.scored[i]] for i in known_at])
    member = np.array([bool(roles[i].member) for i in known_at])
    known = Known(evidence.take(known_at).unmet(fold), member)
    return known, evidence.take(audited_at), audited_at


def summarise(name: str, skipped: str = "", unit: Unit = USER) -> AttackSummary:
    """An attack in words."""
    attack = ATTACKS[name]
    group = next(group.title for group in GROUPS.values() if name in group.attacks)
    return AttackSummary(
        name,
        attack.title,
        unit.say(attack.summary),
        attack.access,
        attack.status,
        attack.passes,
        attack.source,
        unit.say(skipped),
        group,
    )


def truth_of(roles: np.ndarray, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where the users stand whose truth measures the attacks, and that truth.

    In an owner audit these are the audited users. For a target brought along nobody knows more than the lists say:
    the known users, each scored by attacks that were not fitted on them.
    """
    wanted = [role for role in Role if role.member is not None and role.known == own]
    at = np.flatnonzero([role in wanted for role in roles])
    return at, np.array([bool(roles[i].member) for i in at])


def _skipped(run: Run, impossible: Mapping[str, str]) -> dict[str, str]:
    """Why an attack cannot run, by attack name."""
    reasons = {}
    for name in run.experiment.attacks.names:
        missing = [need for need in estimate.asked_by(name) if need in impossible]
        if missing:
            reasons[name] = impossible[missing[0]]
    return reasons


def _quality(run: Run) -> tuple[list[Quality], pl.DataFrame]:
    """HR@10, NDCG@10 and how well liked items are told from disliked ones, on held-out users; and the same by user."""
    config = run.experiment.evaluation
    users = run.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT)
    if config.ranked_users == 0 or not users or run.served is not None:
        return [], pl.DataFrame()
    chosen = [str(u) for u in generator(run.experiment.seed, "ranked users").permutation(users)[: config.ranked_users]]
    catalogue = sorted(run.interactions.items["item"])
    task = ranking_task(chosen, run.events, catalogue, run.writer, config.negatives, run.experiment.seed)
    likes, liked = liking_task(chosen, run.events, run.writer)
    quality, tables = [], []
    for name, scores_of in _recommenders(run).items():
        hits, gains = hits_and_gains(scores_of(task))
        told = liking_aucs(scores_of(likes), liked)
        seed = derive_seed(run.experiment.seed, "quality", name)
        hit, gain = (mean_interval(values, config.confidence, config.resamples, seed) for values in (hits, gains))
        one = Quality(name, *hit, *gain, n=len(hits))
        if len(told):
            like, low, high = mean_interval(told, config.confidence, config.resamples, seed)
            one = dataclasses.replace(one, likes_auc=like, likes_low=low, likes_high=high, likes_n=len(told))
        quality.append(one)
        ranked = pl.DataFrame({"user": task.users, "hit": hits, "gain": gains})
        by_likes = pl.DataFrame({"user": likes.users, "likes": told}, schema_overrides={"user": pl.String})
        tables.append(
            ranked.join(by_likes, on="user", how="left").select(
                "user", pl.lit(name).alias("recommender"), pl.exclude("user")
            )
        )
    return quality, pl.concat(tables)


def _recommenders(run: Run) -> dict[str, Callable[[RankingTask], list[np.ndarray]]]:
    """What is compared by how well it recommends: each scores the candidates of a task."""
    found: dict[str, Callable[[RankingTask], list[np.ndarray]]] = {}
    if run.experiment.kind == "recommender":
        exposures = exposures_of(run)
        settings = exposures.target.settings
        # Where a list is not in the order of the scores, what is served is measured.
        served = exposures.as_served if settings.candidates or settings.shuffled else None
        found["target"] = lambda task: recommender_scores(exposures.recommender, task, run.catalogue.position, served)
    else:
        # A target that serves from a prompt has the base's weights.
        own_weights = run.experiment.target.serving == "weights"
        for name, model in {"target": run.target if own_weights else None, "base": run.base}.items():
            if model is not None:
                found[name] = lambda task, model=model: _told_of(run, model, task)  # type: ignore[misc]
    found["popularity"] = lambda task: popularity_scores(task, run.popularity)
    return found


def _told_of(run: Run, model: Model, task: RankingTask) -> list[np.ndarray]:
    """Log-probability of each candidate; asked once of the base, which many audits share."""
    asked = {"users": task.users, "candidates": task.candidates, "prompt": run.experiment.prompt}
    key = content_key("ranking scores", VERSION, asked, [model.key, run.split_key])

    def write(folder: Path) -> None:
        told = language_model_scores(model.load(), task, run.writer, run.progress.advance)
        np.save(folder / "scores.npy", np.concatenate([*told, np.zeros(0)]))

    scores = np.load(run.build(key, "scores", write) / "scores.npy", allow_pickle=False)
    ends = np.cumsum([len(candidates) for candidates in task.candidates])
    return np.split(scores, ends[:-1]) if len(ends) else []


def _agreement(run: Run, needs: Sequence[str]) -> list[Agreement]:
    """KL and top-1 agreement of each reference with the target, on audited users' windows that it never met."""
    users = run.split.users(Role.AUDITED_HELD_OUT, Role.AUDITED_MEMBER)[:60]
    samples = run.windows(users)
    rows = []
    for view in [
        view for need in needs if need in {"soft", "student"} for view in estimate.views(run.experiment, need)
    ]:
        if len(samples):
            teacher, reference = run.target.load(), run.view_model(view).load()
            encoded = teacher.encode(samples.prompts, samples.answers)
            rows.append(Agreement(view, *agreement(teacher, reference, encoded)))
    return rows


def _user_table(run: Run, roles: np.ndarray, scores: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """One row per user: role, covariates, scores and conformal p-values."""
    rows: dict[str, Any] = {
        "user": list(run.scored),
        "role": [str(role) for role in roles],
        "windows": run.samples.counts().astype(int),
        "history_length": [len(run.events.get(user, [])) for user in run.scored],
        "mean_popularity": [
            float(np.mean([run.popularity.get(event.item, 0.0) for event in run.events.get(user, [])] or [0.0]))
            for user in run.scored
        ],
    }
    calibration_at = np.flatnonzero(roles == Role.AUDITED_HELD_OUT)
    judged_at = np.flatnonzero([not role.known for role in roles])
    index = np.full(len(roles), -1)
    index[calibration_at] = np.arange(len(calibration_at))
    kinds = strata(
        np.array(rows["history_length"]), np.array(rows["mean_popularity"]), calibrating=roles == Role.AUDITED_HELD_OUT
    )
    rows["stratum"] = kinds
    for name, mine in scores.items():
        among_all = np.full(len(mine), np.nan)
        rng = generator(run.experiment.seed, "ties", name)
        among_all[judged_at] = p_values(mine[judged_at], mine[calibration_at], index[judged_at], rng)
        by_stratum = np.full(len(mine), np.nan)
        by_stratum[judged_at] = mondrian_p_values(
            mine[judged_at], mine[calibration_at], kinds[judged_at], kinds[calibration_at], index[judged_at], rng
        )
        rows[f"score.{name}"] = mine
        rows[f"p.{name}"] = by_stratum if run.experiment.evaluation.compared_with == "like" else among_all
        rows[f"p_stratum.{name}"] = by_stratum
    public = {
        "user": run.public,
        "role": [str(Role.PUBLIC)] * len(run.public),
        "windows": [0] * len(run.public),
        "history_length": [len(run.events.get(user, [])) for user in run.public],
    }
    table = pl.DataFrame(rows).with_columns(pl.col(pl.Float64).fill_nan(None))
    return pl.concat([table, pl.DataFrame(public, schema_overrides={"windows": pl.Int64})], how="diagonal_relaxed")


def _shares_used(run: Run, audited: Evidence, known: Known) -> pl.DataFrame:
    """user, share_used, share_low, share_high: what part of each audited user's windows the target was trained on.

    Source: Tong et al., ICLR 2025 (DUCI), by the windows' log-likelihood over the base's; see `share_used`.
    """
    empty = {"user": pl.String, **dict.fromkeys(("share_used", "share_low", "share_high"), pl.Float64)}
    if run.writer.style.whole or "target" not in audited.views:
        return pl.DataFrame(schema=empty)
    told, told_known = (_over_base(evidence) for evidence in (audited, known.evidence))
    of_known = known.evidence.user_index
    threshold = best_threshold(told_known, known.member[of_known])
    if threshold is None:
        return pl.DataFrame(schema=empty)
    found = share_used(
        told,
        audited.user_index,
        told_known,
        of_known,
        known.member,
        threshold,
        collections=len(audited.users),
        confidence=run.experiment.evaluation.confidence,
        seed=derive_seed(run.experiment.seed, "share used"),
    )
    figures = {"share_used": found.share, "share_low": found.lower, "share_high": found.upper}
    several = np.bincount(audited.user_index, minlength=len(audited.users)) > 1
    table = pl.DataFrame({"user": list(audited.users), **figures}).filter(pl.Series(several & ~np.isnan(found.share)))
    return table if table.height else pl.DataFrame(schema=empty)


def _over_base(evidence: Evidence) -> np.ndarray:
    """(n_samples,) mean log-probability of each window's answer, over what the base gives it where there is one."""
    values = evidence.views["target"].sample_mean("log_probability")
    return values - evidence.views["base"].sample_mean("log_probability") if "base" in evidence.views else values


def _feature_table(run: Run, evidence: Evidence, roles: np.ndarray, known: Known) -> pl.DataFrame:
    """Every feature of every model per user, for the distributions."""
    parts = []
    for view in evidence.views:
        if view not in SHOWN_MODELS and not view.startswith("soft "):
            continue
        parts.append(_features_of(view, evidence, known, run, roles))
    if "student" in evidence.cross_fitted:
        for k, resolved in enumerate(evidence.per_fold()):
            parts.append(_features_of("student", resolved, known, run, roles, column=f"student {k}"))
    empty = {"user": pl.String, "role": pl.String, "model": pl.String, "feature": pl.String, "value": pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=empty)


def _features_of(
    view: str, evidence: Evidence, known: Known, run: Run, roles: np.ndarray, column: str = ""
) -> pl.DataFrame:
    values = scalars(evidence, view)
    fitted_on = hidden(known.evidence, view)
    component = PCA(1, random_state=0).fit(fitted_on[~np.isnan(fitted_on).any(axis=1)])
    vectors = hidden(evidence, view)
    first = np.full(len(vectors), np.nan)
    scorable = ~np.isnan(vectors).any(axis=1)
    first[scorable] = component.transform(vectors[scorable])[:, 0]
    columns = {"loss": -values[:, 0], "confidence": values[:, 1], "entropy": values[:, 2], "hidden": first}
    wide = pl.DataFrame({"user": list(run.scored), "role": [str(role) for role in roles], **columns})
    long = wide.unpivot(FEATURES, index=["user", "role"], variable_name="feature", value_name="value")
    return long.with_columns(pl.lit(column or view).alias("model"), pl.col("value").fill_nan(None)).select(
        "user", "role", "model", "feature", "value"
    )


def _notes(run: Run, users: pl.DataFrame, skipped: Mapping[str, str]) -> list[str]:
    config, unit = run.experiment, UNITS[run.interactions.unit]
    notes = list(run.interactions.notes)
    everybody = run.interactions.summary()["users"]
    left_out = everybody - len(run.split.roles)
    window = run.writer.window
    if unit is SESSION:
        notes.append(
            "What is judged here are sessions. A session is no person: those of one person may stand on both sides of the split, "
            "and nothing is said of anybody's sessions together."
        )
    if left_out:
        notes.append(
            f"{left_out} of {everybody} {unit.many} have fewer than {window} interactions, which is one window; they are not "
            "part of this audit."
        )
    unscored = int(users.filter((pl.col("role") != Role.PUBLIC) & (pl.col("windows") == 0)).height)
    if unscored:
        notes.append(f"{unscored} {unit.many} could not be scored: they fill no window of {window} items.")
    if not run.interactions.has_timestamps:
        notes.append(f"These data have no times: each {unit.one}'s interactions are taken in the order of the file.")
    if config.target.world == "null":
        notes.append(
            unit.say(
                "Null world: the target was made with strangers' data alone, so nobody audited is a member. Honest attacks must "
                "stay near 0.5 here; the leaking demonstration does not, which is why its figures mean nothing."
            )
        )
    if config.target.serving == "prompt":
        notes.append(
            unit.say(
                "The target serves from its prompt: a member is somebody whose own window stands among the examples before each "
                "question. Nothing was trained on members; these figures say nothing about membership in weights."
            )
        )
    if run.served is not None:
        notes += run.served.notes
        notes.append("Only lists were brought along, so only attacks that look at lists alone could run.")
    if config.target.brought:
        notes.append(
            unit.say(
                "Your own target: the figures come from known users, each scored by attacks that were not fitted on them. "
                "A p-value holds only if the judged person is exchangeable with the held-out users you listed: drawn "
                "from the same people, in the same way, at the same time."
            )
        )
        if not run.public:
            notes.append("Nobody is left as an unlabelled third party, so there are no soft-only references.")
    notes += [f"{ATTACKS[name].title} did not run: it {unit.say(reason)}." for name, reason in skipped.items()]
    return notes


def with_precision(experiment: Experiment, device: Any) -> Experiment:
    """The experiment with every "auto" precision replaced by what it means on this device."""
    precision = resolve_precision("auto", device)

    def settle(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: precision if (name, item) == ("precision", "auto") else settle(item)
                for name, item in value.items()
            }
        return value

    return Experiment.model_validate(settle(experiment.model_dump()))


def _file_text(path: str) -> str:
    if not path:
        return ""
    with open(path, encoding="utf-8-sig") as stream:
        return stream.read()
