"""Has a model that was told to forget somebody forgotten them? It is compared with models that were trained without them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from mia_core.audit import estimate
from mia_core.errors import ConfigError, DataError
from mia_core.evaluate.equivalence import FEWEST_SEEDS, contrast, judge
from mia_core.evaluate.intervals import mean_interval
from mia_core.experiment import (
    Experiment,
    Runtime,
    Section,
    apply_override,
    explain,
    parse_experiment,
    read_toml,
    resolve_paths,
)
from mia_core.keys import content_key
from mia_core.machines.tasks import for_tasks
from mia_core.models.llm.unlearning import (
    UNLEARNING,
    AdapterShards,
    Edit,
    Request,
    Retraining,
    Unlearning,
    configured,
)
from mia_core.report.forgetting import Figure, ForgettingResult, MethodOutcome, Usefulness, read_forgetting
from mia_core.seeds import derive_seed, generator
from mia_core.types import Progress, Role, Silent, StagePlan

if TYPE_CHECKING:
    from mia_core.audit.stages import Model, Run
    from mia_core.models.ranking import RankingTask
    from mia_core.storage.store import Store

VERSION = 1
"""Raised when the code changes what is found of the same models."""
FEWEST_LEFT = 10
"""So many members have to stay."""
MOST_ASKED = 300
"""Members who stay and held-out users, each, whose scores are looked at."""
WITH, WITHOUT, JUDGE = "Train on everybody, and ask", "Train without the forgotten, and ask", "Judge what was forgotten"


class Forgetting(Section):
    """Who is forgotten, how, and what counts as forgotten."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = "Forgetting"
    experiment: Experiment = Experiment()
    """The audit whose target is told to forget."""
    forget: float | tuple[str, ...] = 0.1
    """A share of the members, drawn by the seed, or the ids of some."""
    methods: tuple[str, ...] = ()
    """Ways to forget; empty: all that this target allows."""
    settings: dict[str, dict[str, bool | int | float]] = Field(default={})
    """Settings of single ways that differ from their defaults."""
    seeds: int = FEWEST_SEEDS
    """Trainings of each kind: with everybody, without the forgotten, and of each way to forget."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """What may be left of the memory, as a share of it."""
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """Chance of a wrong verdict."""

    @field_validator("forget", mode="before")
    @classmethod
    def _a_share_or_ids(cls, forget: Any) -> Any:
        if isinstance(forget, Sequence) and not isinstance(forget, str):
            if not forget:
                raise ValueError("forget is an empty list; name at least one member")
            return tuple(dict.fromkeys(str(user) for user in forget))
        if isinstance(forget, bool) or not isinstance(forget, int | float) or not 0 < forget < 1:
            raise ValueError(f"forget is {forget!r}; give a share of the members above 0 and below 1, or a list of ids")
        return float(forget)

    @field_validator("seeds")
    @classmethod
    def _enough_seeds(cls, seeds: int) -> int:
        if not FEWEST_SEEDS <= seeds <= 100:
            raise ValueError(
                f"seeds is {seeds}; choose from {FEWEST_SEEDS} to 100: with fewer trainings, forgetting cannot be told from the "
                "chance between two trainings"
            )
        return seeds

    @model_validator(mode="after")
    def _target_can_forget(self) -> Forgetting:
        target = self.experiment.target
        if target.source != "fine-tune":
            raise ValueError(
                f'experiment.target.source is "{target.source}"; what is forgotten is measured against trainings without the '
                'users, which take a language model or a sequence recommender that is trained here: set it to "fine-tune"'
            )
        if target.serving != "weights":
            raise ValueError(
                'experiment.target.serving is "prompt"; such a model was trained on nobody and has nothing to forget: take the '
                "examples out of its prompt"
            )
        if target.world != "members":
            raise ValueError(
                'experiment.target.world is "null"; its target was trained on no member: set it to "members"'
            )
        for name in self.settings:
            if self.methods and name not in self.methods:
                raise ValueError(f"settings names {name!r}, which methods does not hold; add it there")
        for name, method in self._configured(self.methods or tuple(self.settings)).items():
            refused = self._refusal(method)
            if refused:
                raise ValueError(f"methods holds {name!r}, which {refused}")
        return self

    @property
    def chosen(self) -> dict[str, Unlearning]:
        """The ways to forget with their settings, by name."""
        found = self._configured(self.methods or tuple(UNLEARNING))
        return {name: method for name, method in found.items() if not self._refusal(method)}

    def _configured(self, names: Sequence[str]) -> dict[str, Unlearning]:
        return {name: configured(name, self.settings.get(name, {})) for name in names}

    def _refusal(self, method: Unlearning) -> str:
        target = self.experiment.target
        if method.adapters_only and (target.tuning != "lora" or target.start != "base"):
            return 'needs LoRA adapters over one base: set target.tuning = "lora" and target.start = "base"'
        return ""


def parse_forgetting(document: Mapping[str, Any]) -> Forgetting:
    """A validated document from plain data.

    Raises:
        ConfigError: a key is unknown or a value is out of range, of the document or of its audit.
    """
    experiment = parse_experiment(document.get("experiment", {}))
    try:
        return Forgetting.model_validate({**document, "experiment": experiment})
    except ValidationError as error:
        raise ConfigError("\n".join(explain(item, Forgetting) for item in error.errors())) from None


def load_forgetting(path: Path, overrides: Sequence[str] = (), **changes: Any) -> Forgetting:
    """What to forget of the target of an audit's TOML file.

    Args:
        path: of the audit.
        overrides: ``field=value`` laid over the audit, or, as ``settings.gradient_ascent.epochs=20`` or ``alpha=0.1``, over
            the document.
        changes: fields of `Forgetting`.
    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, a value is out of range.
    """
    experiment = read_toml(path, "config")
    resolve_paths(experiment, path.parent)
    document: dict[str, Any] = {}
    own = set(Forgetting.model_fields) - set(Experiment.model_fields)
    for override in overrides:
        apply_override(document if override.partition("=")[0].strip().split(".")[0] in own else experiment, override)
    name = f"Forgetting: {experiment.get('name', 'Audit')}"[:200]
    return parse_forgetting({"name": name, **document, **changes, "experiment": experiment})


def run_forgetting(
    document: Forgetting, store: Store, progress: Progress | None = None, runtime: Runtime | None = None
) -> ForgettingResult:
    """Trains, forgets, trains without, asks and judges, or finds what is there of it in the store.

    Raises:
        DataError, ConfigError, ModelError: what the user can mend.
    """
    from mia_core.audit import stages
    from mia_core.pipeline import start

    run = start(document.experiment, store, progress or Silent(), runtime or Runtime(), announce=False)
    forgotten = _forgotten(document, run)
    settings = {
        "experiment": run.experiment.model_dump(exclude={"name", "data"}),
        "forgotten": forgotten,
        "methods": document.chosen,
        "models": stages.VERSION,
        **{name: getattr(document, name) for name in ("seeds", "margin", "alpha")},
    }
    key = content_key("forgetting", VERSION, settings, [run.interactions.key])
    bench = _Bench(run, document, forgotten)
    write = lambda folder: _judged(bench, key, folder)  # noqa: E731
    return read_forgetting(store.build(key, "forgetting", write, name=document.name, keep=True))


def _forgotten(document: Forgetting, run: Run) -> list[str]:
    """Who is to be forgotten, sorted."""
    members = run.members_trained_on
    if isinstance(document.forget, float):
        count = max(1, round(document.forget * len(members)))
        drawn = generator(run.experiment.seed, "forgotten").permutation(members)[:count]
        listed = [str(user) for user in drawn]
    else:
        listed = list(document.forget)
        trained_on = set(members)
        strangers = [user for user in listed if user not in trained_on]
        if strangers:
            raise DataError(
                f"forget: {len(strangers):,} of {len(listed):,} ids are no members, the first is {strangers[0][:80]!r}; the "
                "model was not trained on them, so there is nothing to forget. Ids are matched exactly; who is a member stands "
                "in the users of a finished audit with this config"
            )
    if len(members) - len(listed) < FEWEST_LEFT:
        raise DataError(
            f"forget: of {len(members):,} members {len(members) - len(listed):,} would stay; at least {FEWEST_LEFT} have to: "
            "forget fewer, or give more users"
        )
    return sorted(listed)


@dataclass(frozen=True)
class _World:
    """Models that have been through the same, one for each seed, and what they say."""

    models: Sequence[Model]
    seconds: list[float | None]
    """What each took; None where it was found without a note of it."""
    scores: dict[str, np.ndarray]
    """(seeds, n_users) log p of the windows by group of users, nats per token."""
    hits: np.ndarray
    """(seeds, n_ranked) hit at 10 of each held-out user."""
    gains: np.ndarray

    @property
    def mean_seconds(self) -> float | None:
        """Mean of those that are known."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        return sum(known) / len(known) if known else None


class _Bench:
    """Where models are trained, told to forget and asked."""

    def __init__(
        self, run: Run, document: Forgetting, forgotten: Sequence[str], only: tuple[str, int] | None = None
    ) -> None:
        """`only`: title and number of the one model that is wanted; the others are made where it rests on them."""
        self.only = only
        self.run = run
        self.document = document
        self.forgotten = list(forgotten)
        self.members = run.members_trained_on
        gone = set(forgotten)
        self.retained = [user for user in self.members if user not in gone]

    @cached_property
    def base(self) -> Model:
        """The model before fine-tuning."""
        base = self.run.base
        assert base is not None  # noqa: S101 - a target that is trained here has one
        return base

    @cached_property
    def asked(self) -> dict[str, list[str]]:
        """Whose windows the models are asked about, by group."""
        run = self.run
        groups = {"retained": self.retained, "held_out": run.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT)}
        drawn = {
            name: sorted(map(str, generator(run.experiment.seed, "asked", name).permutation(users)[:MOST_ASKED]))
            for name, users in groups.items()
        }
        return {"forgotten": self.forgotten, **drawn}

    @cached_property
    def ranking(self) -> RankingTask:
        """What is recommended to held-out users."""
        from mia_core.models.ranking import ranking_task

        run, config = self.run, self.run.experiment.evaluation
        users = run.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT)
        chosen = generator(run.experiment.seed, "ranked users").permutation(users)[: config.ranked_users]
        catalogue = sorted(run.interactions.items["item"])
        return ranking_task(
            [str(user) for user in chosen], run.events, catalogue, run.writer, config.negatives, run.experiment.seed
        )

    def world(self, title: str, make: Callable[[int], tuple[Model, float | None]], parts: int = 1) -> _World:
        """Makes the model of each seed and asks it, all in one stage.

        Args:
            parts: steps in which one model is made.
        """
        if self.only is not None:
            return self._only(title, make)
        models, seconds, said = [], [], []
        with self.stage(title, self.document.seeds * (parts + 1)):
            arrivals = self._sent(title, make)
            for i in range(self.document.seeds):
                with self.run.expecting(arrivals.get(i)):
                    model, took = make(i)
                    said.append(self.said_by(model))
                models.append(model)
                seconds.append(took)
        found = {name: np.array([one[name] for one in said]) for name in (*self.asked, "hits", "gains")}
        return _World(models, seconds, {name: found[name] for name in self.asked}, found["hits"], found["gains"])

    def _only(self, title: str, make: Callable[[int], tuple[Model, float | None]]) -> _World:
        """The models of a world of which one is wanted, or those that it rests on."""
        assert self.only is not None  # noqa: S101 - asked where one is wanted
        if title == self.only[0]:
            self.said_by(make(self.only[1])[0])
            raise _Made
        nothing = np.zeros((0, 0))
        return _World(_AsAsked(make), [], {}, nothing, nothing)

    def _sent(self, title: str, make: Callable[[int], tuple[Model, float | None]]) -> dict[int, Callable[[], None]]:
        """Has others, where any take part, make and ask the models that are not there yet; what waits for each."""
        run = self.run
        if run.submit is None:
            return {}

        def asks(look: Run, i: int) -> None:
            self.run = look
            try:
                self.said_by(make(i)[0])
            finally:
                self.run = run

        document = {**self.document.model_dump(mode="json"), "experiment": run.experiment.model_dump(mode="json")}
        runtime = for_tasks(run.runtime)
        missing = [i for i in range(self.document.seeds) if run.lacks(partial(asks, i=i))]
        return {i: run.submit(_make_one, _One(document, run.interactions.key, runtime, title, i)) for i in missing}

    def said_by(self, model: Model) -> dict[str, list[float]]:
        """Log p of each asked user's windows, by group, and how each ranked user was served; kept in the store."""
        from mia_core.models.ranking import hits_and_gains, language_model_scores
        from mia_core.observe.observations import observe

        run, config = self.run, self.run.experiment.evaluation
        settings = {
            "asked": self.asked,
            "prompt": run.experiment.prompt,
            "ranked": [config.ranked_users, config.negatives],
            "seed": run.experiment.seed,
        }

        def write(folder: Path) -> None:
            loaded, told = model.load(), run.progress.advance
            found: dict[str, list[float]] = {}
            for name, users in self.asked.items():
                samples = run.windows(users)
                values = observe(loaded, samples.prompts, samples.answers, on_progress=told).sample_mean(
                    "log_probability"
                )
                found[name] = (np.bincount(samples.user_index, values, len(users)) / samples.counts()).tolist()
            hits, gains = hits_and_gains(language_model_scores(loaded, self.ranking, run.writer, told))
            found |= {"hits": hits.tolist(), "gains": gains.tolist()}
            (folder / "said.json").write_text(json.dumps(found), encoding="utf-8")

        with run.stage("asked"):
            folder = run.build(content_key("said", VERSION, settings, [model.key]), "said", write)
        said: dict[str, list[float]] = json.loads((folder / "said.json").read_text(encoding="utf-8"))
        return said

    @cached_property
    def original(self) -> _World:
        """Models like the target; the first is the target itself."""
        return self.world(WITH, lambda i: self.trained(f"target {i}" if i else "target", self.members))

    @cached_property
    def retrained(self) -> _World:
        """Models that never saw the forgotten."""
        return self.world(WITHOUT, lambda i: self.trained(f"retrained {i}", self.retained))

    # Ways to make a model

    def trained(self, purpose: str, users: Sequence[str]) -> tuple[Model, float | None]:
        """A model like the target, trained on some users."""
        return self._clocked(lambda: self.run.tuned(purpose, purpose, users))

    def edited(self, name: str, method: Edit, i: int, original: Model) -> tuple[Model, float | None]:
        """The original after an edit of its weights."""
        from mia_core.audit.stages import save

        run, experiment = self.run, self.run.experiment
        settings = {"method": method, "number": i, "forgotten": self.forgotten, "seed": experiment.seed}
        key = content_key("unlearned", VERSION, settings, [original.key, self.base.key, run.split_key])

        def write(folder: Path) -> None:
            base = self.base.load()
            forget, retain, strangers = (
                base.encode(samples.prompts, samples.answers)
                for samples in map(run.windows, (self.forgotten, self.retained, run.split.users(Role.KNOWN_HELD_OUT)))
            )
            # What somebody who stays has, too, need not be forgotten.
            shared = set(retain)
            request = Request(
                original=self._kept(original.key, original.folder, trainable=True).load,
                base=base,
                forget=[window for window in forget if window not in shared] or forget,
                retain=retain,
                strangers=strangers,
                training=run.target_settings.training,
                seed=derive_seed(experiment.seed, name, i),
                scratch=run.store.scratch(key),
                on_progress=run.progress.advance,
            )
            save(method.apply(request), folder)

        def make() -> Model:
            with run.stage(name):
                folder = run.build(key, "model", write, name=f"{name} {i}")
            return self._kept(key, folder)

        return self._clocked(make)

    def sharded(
        self, method: AdapterShards, number: int, users: Sequence[str], known: frozenset[str] = frozenset()
    ) -> tuple[Model, float | None, frozenset[str]]:
        """One adapter merged of those of all shards; what it took to train those that are not known; and their keys."""
        from mia_core.models.llm.loading import save_merged

        run, base = self.run, self.base
        adapters, seconds = [], [0.0]
        for k, mine in enumerate(method.parts(users, run.experiment.seed)):
            # A shard that everybody has left adds nothing.
            if mine:
                adapter, took = self.trained(f"shard {k} of {method.shards}, training {number}", mine)
                adapters.append(adapter)
                seconds += [] if adapter.key in known else [math.nan if took is None else took]
        key = content_key("merged adapters", VERSION, {"shards": method.shards}, [adapter.key for adapter in adapters])
        folders = [adapter.folder for adapter in adapters if adapter.folder is not None]

        def write(folder: Path) -> None:
            save_merged(base.load(), folders, 1 / method.shards, folder)

        with run.stage("merged"):
            folder = run.build(key, "model", write, name="merged shards")
        total = sum(seconds)
        keys = frozenset(adapter.key for adapter in adapters)
        return self._kept(key, folder), None if math.isnan(total) else total, keys

    def _kept(self, key: str, folder: Path | None, *, trainable: bool = False) -> Model:
        from mia_core.audit.stages import Model, opened
        from mia_core.models.llm.loading import is_adapter, load_adapter

        assert folder is not None  # noqa: S101 - whatever is trained lies in the store
        if is_adapter(folder):
            return Model(key, lambda: load_adapter(self.base.load(), folder, trainable=trainable), folder)
        return Model(key, lambda: opened(folder, self.run.device), folder)

    def _clocked(self, make: Callable[[], Model]) -> tuple[Model, float | None]:
        """A model and how long it took, which is noted when it is made, for whoever finds it in the store later."""
        model = make()
        took = self.run.times[-1]
        key = content_key("seconds", VERSION, None, [model.key])
        if not took.cached:
            note = lambda folder: (folder / "seconds.txt").write_text(str(took.seconds))  # noqa: E731
            self.run.build(key, "seconds", note)
        found = self.run.store.find(key)
        if found is None:
            return model, None
        self.run.used.add(key)
        return model, float((found / "seconds.txt").read_text())

    @contextmanager
    def stage(self, title: str, parts: int) -> Iterator[None]:
        """One stage for those who look on, made of several."""
        run, whole = self.run, self.run.progress
        before = len(run.times)
        whole.start(title)
        run.progress = _Parts(whole, parts)
        try:
            yield
        finally:
            run.progress = whole
        whole.finish(title, cached=all(part.cached for part in run.times[before:]))


@dataclass(frozen=True)
class _One:
    """One model, to be made and asked elsewhere."""

    document: dict[str, Any]
    interactions: str
    runtime: Runtime
    title: str
    number: int


def _make_one(one: _One, store: Store) -> None:
    from mia_core.audit.errands import run_elsewhere

    run = run_elsewhere(one.document["experiment"], one.interactions, one.runtime, store)
    document = parse_forgetting(one.document)
    bench = _Bench(run, document, _forgotten(document, run), (one.title, one.number))
    with suppress(_Made):
        for name, method in document.chosen.items():
            _worlds(bench, name, method)


class _Made(Exception):
    """The one model that was wanted is there."""


class _AsAsked(Sequence["Model"]):
    """Models of which each is made, or found, when it is asked for."""

    def __init__(self, make: Callable[[int], tuple[Model, float | None]]) -> None:
        self._make = make

    def __getitem__(self, i: Any) -> Any:
        return self._make(i)[0]

    def __len__(self) -> int:
        return 0


class _Parts(Silent):
    """A Progress of the parts of one stage."""

    def __init__(self, whole: Progress, parts: int) -> None:
        self.whole, self.parts, self.done = whole, parts, 0

    def advance(self, fraction: float) -> None:
        self.whole.advance(min(1.0, (self.done + fraction) / self.parts))

    def finish(self, stage: str, cached: bool) -> None:
        self.done += 1
        self.advance(0.0)


def _plan(bench: _Bench) -> list[StagePlan]:
    """The stages, with the seconds each is likely to take."""
    run, seeds = bench.run, bench.document.seeds
    expected = {stage.name: stage.seconds for stage in estimate.plan(run.experiment, run.interactions.summary())}
    train = expected.get(estimate.TARGET, 1.0)
    ask = 0.5 + expected.get(estimate.QUALITY, 0.0) / 2
    share = len(bench.forgotten) / len(bench.members)
    # How long each takes beside a whole training.
    works = {"gradient_ascent": 5 * share, "teacher_student": 5 * share}
    stages = [StagePlan(estimate.BASE, expected[estimate.BASE])] if estimate.BASE in expected else []
    chosen = bench.document.chosen
    if set(chosen) - {"adapter_shards"}:
        stages += [StagePlan(title, seeds * (train + ask)) for title in (WITH, WITHOUT)]
    for name, method in chosen.items():
        titles = _shard_stages(method) if name == "adapter_shards" else [method.title] if name != "nothing" else []
        stages += [StagePlan(title, seeds * (train * works.get(name, 1.0) + ask)) for title in titles]
    return [*stages, StagePlan(JUDGE, 1.0)]


def _judged(bench: _Bench, key: str, folder: Path) -> None:
    from mia_core.audit.errands import others
    from mia_core.models.device import device_name

    run, document = bench.run, bench.document
    run.progress.plan(_plan(bench))
    run.build(run.interactions.key, "interactions", run.interactions.write, keep=True)
    _ = bench.base
    with others(run):
        worlds = {name: _worlds(bench, name, method) for name, method in document.chosen.items()}
    with bench.stage(JUDGE, 1):
        base = bench.said_by(bench.base)
        outcomes = [_outcome(bench, name, method, *worlds[name]) for name, method in document.chosen.items()]
        scores = pl.concat(_scores(bench, name, of_method, base) for name, of_method in worlds.items())
    ForgettingResult(
        key=key,
        name=document.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config=document.model_dump(mode="json"),
        data={**run.interactions.summary(), "key": run.interactions.key},
        members=len(bench.members),
        forgotten=len(bench.forgotten),
        seeds=document.seeds,
        margin=document.margin,
        alpha=document.alpha,
        outcomes=outcomes,
        device=device_name(run.device),
        artifacts=sorted(run.used),
        judged=run.interactions.unit,
    ).write(folder, scores)


def _worlds(bench: _Bench, name: str, method: Unlearning) -> tuple[_World, _World, _World]:
    """Models before, after forgetting, and trained without the forgotten. The last are independent of the others."""
    if isinstance(method, AdapterShards):
        return _sharded_worlds(bench, method)
    seeds, original, retrained = bench.document.seeds, bench.original, bench.retrained
    if isinstance(method, Retraining):
        again = bench.world(method.title, lambda i: bench.trained(f"retrained {seeds + i}", bench.retained))
        return original, again, retrained
    if isinstance(method, Edit):
        edited = bench.world(method.title, lambda i: bench.edited(name, method, i, original.models[i]))
        return original, edited, retrained
    return original, dataclasses.replace(original, seconds=[0.0] * seeds), retrained


def _sharded_worlds(bench: _Bench, method: AdapterShards) -> tuple[_World, _World, _World]:
    """Such a target is trained in shards from the first, and so is what it is compared with."""
    seeds, parts = bench.document.seeds, method.shards + 1

    known: dict[int, frozenset[str]] = {}

    def with_everybody(i: int) -> tuple[Model, float | None]:
        model, seconds, known[i] = bench.sharded(method, i, bench.members)
        return model, seconds

    def without_some(i: int) -> tuple[Model, float | None]:
        if i not in known:
            with_everybody(i)
        return bench.sharded(method, i, bench.retained, known[i])[:2]

    before, forget, anew = _shard_stages(method)
    return (
        bench.world(before, with_everybody, parts),
        bench.world(forget, without_some, parts),
        bench.world(anew, lambda i: bench.sharded(method, seeds + i, bench.retained)[:2], parts),
    )


def _shard_stages(method: Unlearning) -> list[str]:
    return [f"{method.title}: {WITH.lower()}", method.title, f"{method.title}: {WITHOUT.lower()}"]


def _outcome(
    bench: _Bench, name: str, method: Unlearning, original: _World, unlearned: _World, retrained: _World
) -> MethodOutcome:
    document, experiment = bench.document, bench.run.experiment
    confidence = experiment.evaluation.confidence
    stayed = unlearned.scores["retained"] - original.scores["retained"]
    drift = contrast(stayed, np.zeros_like(stayed))
    reach = drift.reach(confidence)
    return MethodOutcome(
        name=name,
        title=method.title,
        summary=method.summary,
        source=method.source,
        settings=dataclasses.asdict(method),
        judgement=judge(
            unlearned.scores["forgotten"],
            retrained.scores["forgotten"],
            original.scores["forgotten"],
            margin=document.margin,
            alpha=document.alpha,
            rng=generator(experiment.seed, "judge", name),
        ),
        usefulness=[
            _usefulness(bench, world, models)
            for world, models in (("original", original), ("unlearned", unlearned), ("retrained", retrained))
            if models.hits.shape[1]
        ],
        drift=Figure(drift.value, drift.value - reach, drift.value + reach),
        seconds=unlearned.mean_seconds,
        retraining_seconds=retrained.mean_seconds,
    )


def _usefulness(bench: _Bench, world: str, models: _World) -> Usefulness:
    config = bench.run.experiment.evaluation
    seed = derive_seed(bench.run.experiment.seed, "usefulness")
    # One held-out user is one observation, however many models served them.
    hit, gain = (
        Figure(*mean_interval(values.mean(axis=0), config.confidence, config.resamples, seed))
        for values in (models.hits, models.gains)
    )
    return Usefulness(world, hit, gain, models.hits.shape[1])


def _scores(
    bench: _Bench, name: str, worlds: tuple[_World, _World, _World], base: Mapping[str, Sequence[float]]
) -> pl.DataFrame:
    """Rows of the table of scores for one way to forget."""
    tables = []
    for world, models in zip(("original", "unlearned", "retrained"), worlds, strict=True):
        for group, users in bench.asked.items():
            calibrated = models.scores[group] - np.array(base[group])
            seeds, n = calibrated.shape
            tables.append(
                pl.DataFrame(
                    {
                        "method": [name] * (seeds * n),
                        "world": [world] * (seeds * n),
                        "seed": np.repeat(np.arange(seeds), n),
                        "group": [group] * (seeds * n),
                        "user": users * seeds,
                        "score": calibrated.ravel(),
                    }
                )
            )
    return pl.concat(tables)
