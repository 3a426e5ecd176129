"""A study: one setting of an audit varied, or two crossed, everything else shared through the store."""

from __future__ import annotations

import contextlib
import copy
import datetime
import difflib
import itertools
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
from pydantic import Field, JsonValue, ValidationError, model_validator

from mia_core.audit import estimate
from mia_core.errors import ConfigError, MemberScopeError, shortened
from mia_core.experiment import (
    Base,
    Experiment,
    Runtime,
    Section,
    apply_override,
    explain,
    parse_experiment,
    read_toml,
    resolve_paths,
)
from mia_core.experiment import to_toml as experiment_toml
from mia_core.keys import content_key
from mia_core.machines.tasks import for_tasks, map_tasks, side_by_side, spare_cores
from mia_core.report.repeats import Repeats
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.report.studies import Failure, StudyResult, Varied, read_study
from mia_core.report.wording import METRIC_WORDS
from mia_core.storage.store import Store
from mia_core.toml import toml_value
from mia_core.types import Progress, Role, Silent, StagePlan

if TYPE_CHECKING:
    import torch

    from mia_core.data.interactions import Interactions

VERSION = 1
"""Raised when the code changes what a study says of the same audits."""
PRESETS = Path(__file__).parents[2] / "assets" / "studies"
MOST_POINTS = 200
OPEN, GATHER = "Open the data", "Gather the figures"
STUDENT = "distillation.student"


class Study(Section):
    """What is varied, around which audit, and what is shown."""

    name: str = "Study"
    summary: str = ""
    """The question it answers."""
    experiment: Experiment = Experiment()
    """The audit that every point starts from."""
    vary: Annotated[dict[str, Annotated[tuple[JsonValue, ...], Field(min_length=1)]], Field(min_length=1, max_length=2)]
    """Values by field, such as ``"distillation.alpha" = [0, 0.5, 1]``; two fields are crossed. A field may be a whole section
    and its values groups of settings, laid over that section."""
    titles: dict[str, str] = Field(default={})
    """What a varied field is called in charts."""
    labels: dict[str, tuple[str, ...]] = Field(default={})
    """Words that stand for a field's values."""
    attacks: tuple[str, ...] = ()
    """Attacks shown; empty: all that run."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("auc", "tpr_at_fpr_0.05")

    @model_validator(mode="after")
    def _points_are_audits(self) -> Study:
        for name in self.labels:
            if len(self.labels[name]) != len(self.vary.get(name, ())):
                raise ValueError(f"labels of {name!r} must be as many as its values in vary")
        for name in self.metrics:
            if name not in METRIC_WORDS:
                raise ValueError(f"metrics holds {name!r}, which is none of {', '.join(METRIC_WORDS)}")
        count = math.prod(len(values) for values in self.vary.values())
        if count > MOST_POINTS:
            raise ValueError(f"vary makes {count} audits; at most {MOST_POINTS} are one study")
        for point in self.points:
            for name in self.attacks:
                if name not in point.experiment.attacks.names:
                    raise ValueError(f"attacks holds {name!r}, which the experiment's attacks.names does not run")
        return self

    @property
    def points(self) -> list[Point]:
        """The audits, the last field varying fastest."""
        numbered = [list(enumerate(values)) for values in self.vary.values()]
        points = []
        for chosen in itertools.product(*numbered):
            values = dict(zip(self.vary, (value for _, value in chosen), strict=True))
            shown = tuple(field.values[i] for field, (i, _) in zip(self.varied, chosen, strict=True))
            words = ", ".join(f"{field.title} {value}" for field, value in zip(self.varied, shown, strict=True))
            document = laid_over(self.experiment, values)
            points.append(Point(words, shown, parse_experiment({**document, "name": f"{self.name}: {words}"})))
        return points

    @property
    def varied(self) -> list[Varied]:
        """The varied fields in words, with what stands for each of their values."""
        fields = []
        for path, values in self.vary.items():
            title = self.titles.get(path) or path.removeprefix("attacks.settings.").replace(".", " ").replace("_", " ")
            plain: list[Any] = [*self.labels.get(path, values)]
            field = Varied(path, title, plain)
            fields.append(field if field.numeric else Varied(path, title, [_word(value) for value in plain]))
        return fields


@dataclass(frozen=True)
class Point:
    """One audit of a study."""

    words: str
    shown: tuple[Any, ...]
    """What stands for the value of each varied field."""
    experiment: Experiment


def laid_over(experiment: Experiment, values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain config data of an experiment with other values of some fields, given by their paths."""
    document = experiment.model_dump(mode="json")
    # A student that is not described otherwise is like the base, so the base comes first.
    for path in sorted(values, key=lambda path: path.startswith(STUDENT)):
        if path.startswith(STUDENT) and document["distillation"]["student"] is None:
            document["distillation"]["student"] = copy.deepcopy(document["base"])
        *parents, name = path.split(".")
        section = document
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"vary.{path}: {parent!r} is not a section of the config")
        section[name] = _merged(section.get(name), values[path])
    return document


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
    return copy.deepcopy(new)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_word(item)}" for name, item in value.items()) or "as it is"
    return "none" if value in (None, "") else str(value)


# Studies as files


def presets() -> dict[str, Path]:
    """The studies that come with the product, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}


def load_study(name: str, overrides: Sequence[str] = ()) -> Study:
    """A study by the name of a preset or the path of a TOML file.

    The file holds the fields of `Study`; its ``config`` names the file of the audit that every point starts from, and
    ``[experiment]`` what is different from it. Overrides change the audit, or, as ``vary.FIELD=[…]``, what is varied.

    Raises:
        ConfigError: there is no such study, a key is unknown, a value is out of range.
    """
    path = presets().get(name, Path(name))
    document = _toml(path, name)
    config = document.pop("config", None)
    experiment = document.pop("experiment", {})
    if not isinstance(experiment, dict):
        raise ConfigError(f"{name}: experiment must be a section")
    resolve_paths(experiment, path.parent)
    if config is not None:
        common = _toml(path.parent / str(config), str(config))
        resolve_paths(common, (path.parent / str(config)).parent)
        experiment = _merged(common, experiment)
    for override in overrides:
        field, equals, _ = override.partition("=")
        if equals and field.startswith("vary."):
            found: dict[str, Any] = {}
            apply_override(found, f"value={override.partition('=')[2]}")
            document.setdefault("vary", {})[field.removeprefix("vary.").strip()] = found["value"]
        else:
            apply_override(experiment, override)
    return parse_study({**document, "experiment": experiment})


def parse_study(document: Mapping[str, Any]) -> Study:
    """A validated study from plain data.

    Raises:
        ConfigError: a key is unknown or a value is out of range, of the study or of any of its audits.
    """
    experiment = parse_experiment(document.get("experiment", {}))
    try:
        return Study.model_validate({**document, "experiment": experiment})
    except ValidationError as error:
        raise ConfigError("\n".join(explain(item, Study) for item in error.errors())) from None


def repetition(result: AuditResult, repeats: Repeats, more: int = 2) -> Study:
    """A finished audit under every seed it was run with, and under so many more.

    Raises:
        ConfigError: its config is of another version of this program and can no longer be run.
    """
    document = copy.deepcopy(result.config)
    if document["data"]["source"] == "file" and not repeats.redrawn:
        # What was read then, even if the file is another one by now.
        document["data"] = {"source": "kept", "key": result.data["key"]}
    run = {*repeats.seeds, *repeats.refused}
    fresh = itertools.islice((seed for seed in itertools.count() if seed not in run), more)
    return parse_study(
        {
            "name": f"{result.name[:150]}: other seeds",
            "summary": "How far do its figures move by chance in splitting and training?",
            "experiment": document,
            "vary": {"seed": [*sorted(run), *fresh]},
            "attacks": [result.lead],
            "metrics": ["auc", "tpr_at_fpr_0.05", "tpr_at_fpr_0.01"],
        }
    )


def _toml(path: Path, name: str) -> dict[str, Any]:
    if not os.path.exists(path):
        near = difflib.get_close_matches(name, presets(), n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"study: {shortened(name)!r} is neither a preset nor a .toml file{hint}")
    return read_toml(path, "study")


def to_toml(study: Study) -> str:
    """The study as a TOML file, settings that differ from the defaults alone."""
    plain = study.model_dump(mode="json", exclude_defaults=True, exclude={"experiment"})
    lines = [f"{name} = {_inline(value)}" for name, value in plain.items() if not isinstance(value, dict)]
    for name, value in plain.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{toml_value(path)} = {_inline(item)}" for path, item in value.items())]
    # Only the heads of sections begin a line with a bracket.
    experiment = re.sub(r"(?m)^\[", "[experiment.", experiment_toml(study.experiment))
    return "\n".join(lines) + f"\n\n[experiment]\n{experiment}"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_value(name)} = {_inline(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return toml_value(value)


# Running


def run_study(
    study: Study, store: Store, progress: Progress | None = None, runtime: Runtime | None = None
) -> StudyResult:
    """Audits every point, several at once where there are cores, and gathers their figures.

    What an earlier run finished costs nothing; a point that fails is recorded with its reason, and the rest go on.

    Raises:
        ConfigError, DataError: no point can be audited.
    """
    from mia_core.audit.errands import stays_here
    from mia_core.models.device import choose_device

    progress, runtime = progress or Silent(), runtime or Runtime()
    if stays_here(study.experiment, store):
        runtime = runtime.model_copy(update={"backend": "local"})
    device = choose_device(runtime.device)
    points = study.points
    asked = [_ask(point, data, device, store) for point, data in zip(points, _data_of(points, store), strict=True)]
    waiting = [i for i, one in enumerate(asked) if one.key and store.find(one.key) is None]
    # One GPU is not shared out.
    workers = 1 if device.type == "cuda" else spare_cores() + 1
    seconds = {i: asked[i].seconds / min(workers, len(waiting)) if i in waiting else 0.0 for i in range(len(points))}
    progress.plan(
        [StagePlan(OPEN, 1.0), *(StagePlan(points[i].words, seconds[i]) for i in seconds), StagePlan(GATHER, 2.0)]
    )
    progress.start(OPEN)
    progress.finish(OPEN, cached=False)
    reasons = [one.reason for one in asked]
    threads = runtime.threads or (1 if device.type == "cpu" else 0)
    here = runtime.model_copy(update={"device": device.type, "threads": threads})
    on = for_tasks(runtime if runtime.backend == "ray" else here) if waiting else here
    with tempfile.TemporaryDirectory() as folder:
        tasks = [_Task(asked[i].experiment, asked[i].data_key, on, f"{folder}/{i}") for i in waiting]
        outcomes = _outcomes(tasks, store, runtime, workers)
        for i, point in enumerate(points):
            progress.start(point.words)
            if i in waiting:
                with _told(progress, Path(folder) / str(i)):
                    reasons[i] = next(outcomes)
            progress.finish(point.words, cached=i not in waiting)
    progress.start(GATHER)
    keys = ["" if reason else one.key for reason, one in zip(reasons, asked, strict=True)]
    if not any(keys):
        raise ConfigError(f"none of the {len(points)} audits of this study could be run; the first: {reasons[0]}")
    result = _kept(study, points, keys, reasons, store)
    progress.finish(GATHER, cached=False)
    return result


@dataclass(frozen=True)
class _Asked:
    """What is known of a point before it runs."""

    key: str = ""
    seconds: float = 0.0
    reason: str = ""
    experiment: dict[str, Any] = field(default_factory=dict)
    """As plain data, its precision settled."""
    data_key: str = ""


def _data_of(points: Sequence[Point], store: Store) -> Iterator[Interactions | MemberScopeError]:
    """The data of each point, read once where they are the same, or why they cannot be read."""
    from mia_core.data.opening import open_interactions

    opened: dict[tuple[str, int], Interactions | MemberScopeError] = {}
    for point in points:
        data, seed = point.experiment.data, point.experiment.seed
        place = (data.model_dump_json(), seed)
        if place not in opened:
            try:
                opened[place] = open_interactions(data, seed, store)
            except MemberScopeError as error:
                opened[place] = error
        yield opened[place]


def _ask(point: Point, data: Interactions | MemberScopeError, device: torch.device, store: Store) -> _Asked:
    from mia_core.pipeline import audit_key, with_precision

    if isinstance(data, MemberScopeError):
        return _Asked(reason=str(data))
    seconds = sum(stage.seconds for stage in estimate.plan(point.experiment, data.summary()))
    experiment = with_precision(point.experiment, device)
    # Whoever audits the point may be on another machine, which has this store and no other file.
    store.build(data.key, "interactions", data.write, keep=True)
    return _Asked(audit_key(experiment, data), seconds, "", experiment.model_dump(mode="json"), data.key)


@dataclass(frozen=True)
class _Task:
    """One audit for another process."""

    experiment: dict[str, Any]
    data_key: str
    runtime: Runtime
    progress_file: str


def _run_point(task: _Task, store: Store) -> str:
    """Runs the audit of one point; returns why it failed, or nothing."""
    from mia_core.data.interactions import Interactions
    from mia_core.pipeline import run_audit

    try:
        experiment, folder = parse_experiment(task.experiment), store.find(task.data_key)
        data = Interactions.read(folder) if folder is not None else None
        run_audit(experiment, store, _ToFile(Path(task.progress_file)), task.runtime, "point", data)
    except MemberScopeError as error:
        return str(error)
    except Exception as error:
        # Its text may hold somebody's data.
        return f"it ran into a fault of ours ({type(error).__name__})"
    return ""


def _outcomes(tasks: Sequence[_Task], store: Store, runtime: Runtime, workers: int) -> Iterator[str]:
    """Why each task failed, or nothing, in order."""
    done = 0
    try:
        for reason in map_tasks(_run_point, tasks, store, runtime, workers):
            done += 1
            yield reason
    except BrokenProcessPool:
        # A process that died ended those beside it; nobody can say which it was. What was finished is in the store.
        for task in tasks[done:]:
            yield _outcome_alone(task, store, runtime)


def _outcome_alone(task: _Task, store: Store, runtime: Runtime) -> str:
    try:
        with side_by_side(store, runtime) as submit:
            return submit(_run_point, task)()
    except BrokenProcessPool:
        return "its process died, often for lack of memory; run the study again with smaller audits"


class _ToFile(Silent):
    """Says how far one audit is, to whoever reads the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.seconds, self.done, self.stage, self.written = path, dict[str, float](), 0.0, "", 0.0

    def plan(self, stages: Sequence[StagePlan]) -> None:
        self.seconds = {stage.name: stage.seconds for stage in stages}

    def start(self, stage: str) -> None:
        self.stage = stage

    def advance(self, fraction: float) -> None:
        if time.monotonic() - self.written > 0.5:
            self.written = time.monotonic()
            far = self.done + fraction * self.seconds.get(self.stage, 0.0)
            # The folder is gone when nobody waits any more.
            with contextlib.suppress(OSError):
                self.path.write_text(str(min(1.0, far / (sum(self.seconds.values()) or 1.0))))

    def finish(self, stage: str, cached: bool) -> None:
        self.done += self.seconds.get(stage, 0.0)
        self.advance(0.0)


@contextlib.contextmanager
def _told(progress: Progress, path: Path) -> Iterator[None]:
    """Passes on, meanwhile, how far the audit that writes the file is."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(OSError, ValueError):
                progress.advance(float(path.read_text()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


# Gathering


def _kept(
    study: Study, points: Sequence[Point], keys: Sequence[str], reasons: Sequence[str], store: Store
) -> StudyResult:
    settings = study.model_dump(mode="json", include={"vary", "titles", "labels", "attacks", "metrics"})
    key = content_key("study", VERSION, {"study": settings, "failures": list(reasons)}, list(keys))

    def write(folder: Path) -> None:
        audits = {i: read_result(_folder(store, key)) for i, key in enumerate(keys) if key}
        figures = pl.concat([_figures(study, points[i], i, audits[i], store) for i in audits])
        tables = {
            "figures": figures,
            "spread": _spread(study, figures),
            "modality": pl.concat([_modality(study, points[i], i, audits[i], store) for i in audits]),
        }
        first = next(iter(audits.values()))
        titles = {attack.name: attack.title for attack in first.attacks}
        StudyResult(
            key=key,
            name=study.name,
            summary=study.summary,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            config=study.model_dump(mode="json"),
            varied=study.varied,
            attacks={name: titles[name] for name in study.attacks or titles},
            metrics=list(study.metrics),
            points=len(points),
            failures=[Failure(p.words, reason) for p, reason in zip(points, reasons, strict=True) if reason],
            invalid=[points[i].words for i, audit in audits.items() if not audit.valid],
            judged=first.unit.one,
        ).write(folder, tables)

    return read_study(store.build(key, "study", write, name=study.name, keep=True))


def _folder(store: Store, key: str) -> Path:
    folder = store.find(key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    return folder


def _place(study: Study, point: Point, number: int) -> dict[str, Any]:
    return {"point": number, **dict(zip(study.vary, point.shown, strict=True))}


def _figures(study: Study, point: Point, number: int, audit: AuditResult, store: Store) -> pl.DataFrame:
    """Rows of the table ``figures`` for one point."""
    rows: list[tuple[str, str, float | None, float | None, float | None, int | None]] = []
    for attack in study.attacks or [attack.name for attack in audit.attacks]:
        for metric in study.metrics:
            found = audit.metric(attack, metric)
            if found is not None:
                rows.append((attack, metric, found.value, found.low, found.high, found.n))
    target = next((quality for quality in audit.quality if quality.recommender == "target"), None)
    if target is not None:
        hits = (target.hit_rate_at_10, target.hit_rate_low, target.hit_rate_high)
        gains = (target.ndcg_at_10, target.ndcg_low, target.ndcg_high)
        rows += [("", "hit_rate_at_10", *hits, target.n), ("", "ndcg_at_10", *gains, target.n)]
    students = [row for row in audit.agreement if row.reference.startswith("student")]
    if students:
        rows.append(("", "agreement_top1", sum(row.top1 for row in students) / len(students), None, None, None))
        rows.append(("", "agreement_kl", sum(row.kl for row in students) / len(students), None, None, None))
    rows += _losses(audit, store)
    rows += [("", name, value, None, None, None) for name, value in _properties(audit, store).items()]
    columns = ("attack", "metric", "value", "low", "high", "n")
    schema = dict(zip(columns, (pl.String, pl.String, pl.Float64, pl.Float64, pl.Float64, pl.Int64), strict=True))
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return _placed(study, point, number, table, audit=audit.key)


def _placed(study: Study, point: Point, number: int, table: pl.DataFrame, **more: str) -> pl.DataFrame:
    """The table with the point's number and values in front."""
    values: dict[str, Any] = {**_place(study, point, number), **more}
    # Whole and broken numbers of one field are one column.
    kinds = {field.path: pl.Float64 if field.numeric else pl.String for field in study.varied}
    front = [pl.lit(value, dtype=kinds.get(name)).alias(name) for name, value in values.items()]
    return table.select(*front, pl.all())


def _losses(audit: AuditResult, store: Store) -> list[tuple[str, str, float, float, float, int]]:
    """The target's loss on members and on held-out users, and the gap between them."""
    from scipy import stats

    from mia_core.evaluate.intervals import mean_interval

    features = read_table(_folder(store, audit.key), "features")
    losses = features.filter((pl.col("model") == "target") & (pl.col("feature") == "loss")).drop_nulls("value")
    groups = [losses.filter(pl.col("role").is_in(roles))["value"].to_numpy() for roles in (MEMBERS, HELD_OUT)]
    if min(map(len, groups)) < 2:
        return []
    confidence, resamples = audit.config["evaluation"]["confidence"], audit.config["evaluation"]["resamples"]
    rows = [
        ("", name, *mean_interval(values, confidence, resamples, 0), len(values))
        for name, values in zip(("member_loss", "held_out_loss"), groups, strict=True)
    ]
    members, held_out = groups
    gap = stats.ttest_ind(held_out, members, equal_var=False).confidence_interval(confidence)
    difference = float(held_out.mean() - members.mean())
    return [*rows, ("", "loss_gap", difference, float(gap.low), float(gap.high), len(members) + len(held_out))]


MEMBERS = [str(role) for role in Role if role.member]
HELD_OUT = [str(role) for role in Role if role.member is False]


def _properties(audit: AuditResult, store: Store) -> dict[str, float]:
    """What the data of an audit are like."""
    from mia_core.data.interactions import Interactions

    users, items, count = (float(audit.data[name]) for name in ("users", "items", "interactions"))
    found = {"users": users, "items": items, "density": count / (users * items), "mean_history": count / users}
    kept = store.find(audit.data["key"])
    if kept is not None:
        found["popularity_gini"] = Interactions.read(kept).popularity_gini
    return found


def _spread(study: Study, figures: pl.DataFrame) -> pl.DataFrame:
    """How much each figure differs between seeds; empty where the seed is not varied."""
    from mia_core.evaluate.dependence import between_seed_spread

    by = [path for path in study.vary if path != "seed"]
    schema: dict[str, Any] = {
        **{name: figures.schema[name] for name in (*by, "attack", "metric")},
        **dict.fromkeys(("mean", "standard_deviation", "lowest", "highest"), pl.Float64),
        "seeds": pl.Int64,
    }
    rows = []
    if "seed" in study.vary:
        for place, group in figures.group_by([*by, "attack", "metric"], maintain_order=True):
            spread = between_seed_spread(group["value"].cast(pl.Float64).fill_null(math.nan).to_numpy())
            rows.append((*place, *spread))
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def _modality(study: Study, point: Point, number: int, audit: AuditResult, store: Store) -> pl.DataFrame:
    """Rows of the table ``modality`` for one point."""
    from mia_core.evaluate.modality import modes_of_features

    base = point.experiment.base
    student = point.experiment.distillation.student or base

    def family(origin: Base) -> str:
        return origin.family if origin.source == "offline" else origin.hub_id or Path(origin.path).name

    modes = modes_of_features(read_table(_folder(store, audit.key), "features"))
    of_base = pl.col("model").is_in(["target", "base"])
    whose = pl.when(of_base).then(pl.lit(family(base))).otherwise(pl.lit(family(student))).alias("family")
    return _placed(study, point, number, modes.select("model", whose, pl.exclude("model")))
