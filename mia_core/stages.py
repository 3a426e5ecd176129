"""The cached stages of one audit: data, split, models, observations. `pipeline` puts them in line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mia_core import estimate
from mia_core.data import formats, library, synthetic
from mia_core.data.interactions import Interactions
from mia_core.data.prompts import (
    PROMPT_STYLES,
    Event,
    PromptWriter,
    Samples,
    audit_samples,
    drawn_samples,
    events_by_user,
    prompt_writer,
)
from mia_core.data.split import Split, read_ids, split_own, split_users
from mia_core.errors import ConfigError, DataError, NotFound
from mia_core.experiment import Base, Data, Experiment, Training
from mia_core.keys import content_key, file_key
from mia_core.models.llm.distillation import Phase, check_same_tokens, distillation_loss, phases
from mia_core.models.llm.generation import drawn_answers, ranked_answers
from mia_core.models.llm.gradients import gradient_norms
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import (
    add_lora,
    build_offline,
    fetch_from_hub,
    is_adapter,
    load_adapter,
    load_local,
    save_model,
    train_tokenizer,
)
from mia_core.models.llm.training import BatchLoss, fit, hard_loss
from mia_core.observe.observations import Observations, observe
from mia_core.observe.views import NOISE_DRAWS, VARIANTS, Asking, Catalogue, Shot, inquiries, parse_view
from mia_core.report.results import StageTime
from mia_core.seeds import derive_seed, generator
from mia_core.types import Progress, Role

if TYPE_CHECKING:
    import torch

    from mia_core.store import Store

VERSION = 2
"""Raised when a stage's code changes its result."""


def open_interactions(data: Data, seed: int, store: Store) -> Interactions:
    """The interactions that a config names."""
    if data.source == "built-in":
        return synthetic.generate(data.synthetic, seed)
    if data.source == "data-set":
        return library.load_saved(store, data.key)
    if data.source == "kept":
        kept = store.find(data.key)
        if kept is None:
            raise NotFound("the data of this audit are no longer in the store; run the audit again with its data")
        return Interactions.read(kept)
    return formats.load(Path(data.path), data.format, data.columns)


@dataclass(frozen=True)
class Model:
    """A model that exists in the store or on disk: its key, and how to load it."""

    key: str
    load: Callable[[], LanguageModel]
    folder: Path | None = None


@dataclass
class Run:
    """One audit under way. Every stage is computed once and found in the store the next time."""

    experiment: Experiment
    interactions: Interactions
    store: Store
    progress: Progress
    device: torch.device
    times: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage; it counts as cached when all that it asked for was in the store."""
        self.progress.start(name)
        self._built, self._asked = False, False
        started = time.monotonic()
        yield
        cached = self._asked and not self._built
        self.times.append(StageTime(name, time.monotonic() - started, cached))
        self.progress.finish(name, cached)

    def build(self, key: str, kind: str, write: Callable[[Path], None], *, name: str = "", keep: bool = False) -> Path:
        """The artifact of a key, built where it is missing."""

        def build_and_note(folder: Path) -> None:
            self._built = True
            write(folder)

        self._asked = True
        return self.store.build(key, kind, build_and_note, name=name, keep=keep)

    # Users and their windows

    @cached_property
    def split(self) -> Split:
        """Who is what. Users without a single whole window are left out before the coins fall."""
        config = self.experiment
        target = config.target
        members, held_out, judged = (
            read_ids(Path(path)) if path else [] for path in (target.members, target.held_out, target.judged)
        )
        if target.source == "own":
            settings: object = {"lists": [members, held_out, judged], "seed": config.seed}
        else:
            settings = {"shares": config.split, "seed": config.seed, "prompt": config.prompt}
        self.split_key = content_key("split", VERSION, settings, [self.interactions.key])

        def write(folder: Path) -> None:
            if target.source == "own":
                split = split_own(self.interactions, members, held_out, judged, config.seed)
            else:
                shares = config.split
                split = split_users(
                    self.long_enough, shares.public_share, shares.member_share, shares.known_share, config.seed
                )
            split.write(folder)

        return Split.read(self.build(self.split_key, "split", write, keep=True))

    @cached_property
    def long_enough(self) -> Interactions:
        """The interactions of users who fill at least one window."""
        window = self.experiment.prompt.history + 1
        frame = self.interactions.frame
        if self.writer_needs_ratings:
            frame = frame.filter(pl.col("rating").is_not_null())
        long = frame.group_by("user").len().filter(pl.col("len") >= window)["user"]
        kept = replace(self.interactions, frame=self.interactions.frame.filter(pl.col("user").is_in(long.implode())))
        if kept.frame.is_empty():
            raise DataError(
                f"prompt.history is {window - 1}, and no user has the {window} interactions that one window takes; "
                "choose a shorter history"
            )
        return kept

    @property
    def writer_needs_ratings(self) -> bool:
        """Whether only rated interactions can be put into words."""
        style = PROMPT_STYLES.get(self.experiment.prompt.style)
        return style is not None and style.needs_ratings and self.interactions.has_ratings

    @cached_property
    def public(self) -> list[str]:
        """Third-party users, whose data anybody may count."""
        return self.split.users(Role.PUBLIC)

    @cached_property
    def scored(self) -> list[str]:
        """Everybody who gets a score."""
        return self.split.users(
            Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT, Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT, Role.JUDGED
        )

    @cached_property
    def writer(self) -> PromptWriter:
        """How histories are put into words."""
        return prompt_writer(self.interactions, self.experiment.prompt, self.public)

    @cached_property
    def events(self) -> dict[str, list[Event]]:
        """Everybody's history."""
        return events_by_user(self.interactions, self.writer)

    @cached_property
    def popularity(self) -> dict[str, float]:
        """Share of public users who have each item."""
        counts: dict[str, int] = {}
        for user in self.public:
            for item in {event.item for event in self.events.get(user, [])}:
                counts[item] = counts.get(item, 0) + 1
        return {item: count / max(1, len(self.public)) for item, count in counts.items()}

    @cached_property
    def catalogue(self) -> Catalogue:
        """All items, and what public users say about them."""
        return Catalogue.of(
            self.interactions.items["item"].to_list(), [self.events.get(user, []) for user in self.public]
        )

    @cached_property
    def asking(self) -> Asking:
        """What the variants of a question are made from."""
        shots = {}
        for name, role in (("held_out", Role.KNOWN_HELD_OUT), ("member", Role.KNOWN_MEMBER)):
            users = generator(self.experiment.seed, "shots", role).permutation(self.split.users(role))
            last = audit_samples([str(user) for user in users], self.events, self.writer, 1)
            # One more than are shown: nobody is asked about after their own example.
            shots[name] = [
                Shot(last.users[last.user_index[i]], f"{last.prompts[i]} {last.answers[i]}")
                for i in range(min(len(last), self.experiment.views.shots + 1))
            ]
        templates = self.writer.style.other_templates
        return Asking(self.writer, self.catalogue, self.experiment.seed, shots, templates)

    @cached_property
    def samples(self) -> Samples:
        """The windows of everybody who gets a score."""
        return self.windows(self.scored)

    def windows(self, users: Sequence[str]) -> Samples:
        """The windows of some users that train the target and are scored."""
        return audit_samples(users, self.events, self.writer, self.experiment.prompt.windows)

    def drawn(self, users: Sequence[str], count: int) -> Samples:
        """Unlabelled training windows, at most `count` per user; they may overlap."""
        return drawn_samples(users, self.events, self.writer, count, self.experiment.seed)

    @cached_property
    def members_trained_on(self) -> list[str]:
        """The users whose windows train the target: the members, or, in the null world, strangers."""
        if self.experiment.target.world == "null":
            return self.split.null_trainees(self.experiment.seed)
        return self.split.users(Role.KNOWN_MEMBER, Role.AUDITED_MEMBER)

    @cached_property
    def fold(self) -> dict[str, int]:
        """The cross-fitting fold of each known user, balanced within members and within held-out users."""
        folds: dict[str, int] = {}
        for role in (Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT):
            users = generator(self.experiment.seed, "folds", role).permutation(self.split.users(role))
            folds |= {str(user): i % self.experiment.distillation.folds for i, user in enumerate(users)}
        return folds

    # Models

    @cached_property
    def base(self) -> Model | None:
        """The model before fine-tuning; None where the audit was told that there is none."""
        config, target = self.experiment.base, self.experiment.target
        if target.source == "own":
            if target.no_base:
                return None
            if config.source == "offline":
                raise ConfigError(
                    "base.source is 'offline', but your own target has a base of its own; give it with base.source = "
                    "'local' and base.path, or set target.no_base = true"
                )
        if config.source == "offline":
            return self._offline("base", config, None, estimate.BASE)
        return self._from_folder(config)

    def _from_folder(self, config: Base) -> Model:
        folder = Path(config.path)
        if config.source == "hub":
            folder, _ = fetch_from_hub(config.hub_id, config.revision)
        elif not config.path:
            raise ConfigError("base.path is empty; base.source = 'local' needs the model's folder")
        load_local(folder, self.device)
        return Model(_folder_key(folder), lambda: load_local(folder, self.device), folder)

    def _offline(self, purpose: str, config: Base, teacher: Model | None, stage: str) -> Model:
        """A small model built here and pre-trained on `public` users; a student takes its teacher's tokenizer."""
        inputs = [self.split_key, *([teacher.key] if teacher else [])]
        settings = {"purpose": purpose, "base": config, "prompt": self.experiment.prompt, "seed": self.experiment.seed}
        key = content_key("offline", VERSION, settings, inputs)

        def write(folder: Path) -> None:
            if teacher is not None:
                tokenizer = teacher.load().tokenizer
            else:
                titles = [event.title for user in self.public for event in self.events.get(user, [])]
                tokenizer = train_tokenizer(titles, self.writer.literals, config.vocabulary)
            model = build_offline(config, tokenizer, derive_seed(self.experiment.seed, purpose), self.device)
            if self.public:
                samples = audit_samples(self.public, self.events, self.writer, count=None)
                self._fit(model, samples, hard_loss(), config.pretraining, key, purpose)
            save_model(model, folder)

        with self.stage(stage):
            folder = self.build(key, "model", write)
        return Model(key, lambda: load_local(folder, self.device), folder)

    @cached_property
    def target(self) -> Model:
        """The audited model."""
        config = self.experiment.target
        if config.source == "own":
            return self._own_target(Path(config.path))
        return self._tuned(
            "target", estimate.TARGET, self.members_trained_on, hard_loss(config.training.label_smoothing)
        )

    def _own_target(self, folder: Path) -> Model:
        if is_adapter(folder):
            if self.base is None:
                raise ConfigError("target.no_base is true, but target.path holds a LoRA adapter, which needs its base")
            base = self.base
            load = lambda: load_adapter(base.load(), folder)  # noqa: E731
        else:
            load = lambda: load_local(folder, self.device, field="target.path")  # noqa: E731
        load()
        return Model(_folder_key(folder), load, folder)

    def _tuned(self, purpose: str, stage: str, users: Sequence[str], loss: BatchLoss) -> Model:
        """The base fine-tuned on some users' windows, whole or through an adapter."""
        base, config = self.base, self.experiment.target
        assert base is not None  # noqa: S101 - only an own target lacks a base
        settings = {
            "purpose": purpose,
            "tuning": config.tuning,
            "lora": config.lora if config.tuning == "lora" else None,
            "training": config.training,
            "prompt": self.experiment.prompt,
            "seed": self.experiment.seed,
            "users": sorted(users),
        }
        key = content_key("tuned", VERSION, settings, [base.key, self.split_key])

        def write(folder: Path) -> None:
            model = self._trainable(base.load(), purpose)
            samples = self.windows(users)
            if not len(samples):
                raise DataError("no user who trains the target fills a window; choose a shorter prompt.history")
            self._fit(model, samples, loss, config.training, key, purpose)
            save_model(model, folder)

        with self.stage(stage):
            folder = self.build(key, "model", write, keep=purpose == "target")
        return self._saved(key, folder, base)

    def _trainable(self, model: LanguageModel, purpose: str) -> LanguageModel:
        if self.experiment.target.tuning == "lora":
            return add_lora(model, self.experiment.target.lora, derive_seed(self.experiment.seed, purpose))
        return model

    def _saved(self, key: str, folder: Path, start: Model, *, trainable: bool = False) -> Model:
        if is_adapter(folder):
            return Model(key, lambda: load_adapter(start.load(), folder, trainable=trainable), folder)
        return Model(key, lambda: load_local(folder, self.device), folder)

    def _fit(
        self, model: LanguageModel, samples: Samples, loss: BatchLoss, training: Training, key: str, purpose: str
    ) -> None:
        validation = self.windows(self.public) if training.early_stop and purpose != "base" else None
        fit(
            model,
            model.encode(samples.prompts, samples.answers),
            loss,
            training,
            seed=derive_seed(self.experiment.seed, purpose),
            validation=model.encode(validation.prompts, validation.answers) if validation else (),
            scratch=self.store.scratch(key),
            on_progress=self.progress.advance,
        )

    # References

    @cached_property
    def student_start(self) -> Model:
        """What every distilled reference starts from."""
        config = self.experiment.distillation
        if config.student is None and config.warm_start and self.base is not None:
            return self.base
        student = config.student or self.experiment.base
        if student.source == "offline":
            return self._offline("student", student, self.target, estimate.STUDENT_BASE)
        start = self._from_folder(student)
        check_same_tokens(self.target.load(), start.load())
        return start

    def soft_reference(self, j: int) -> Model:
        """Soft-only reference j: distilled on unlabelled windows of `public` users."""
        config = self.experiment.distillation
        phase = Phase(frozenset({"public"}), 0.0, config.soft_training)
        with self.stage(estimate.soft_stage(j)):
            return self._distilled(f"soft {j}", [phase], {"public": self.public}, drawn=config.soft_windows)[-1]

    @cached_property
    def trajectory(self) -> list[Model]:
        """One more soft-only reference, as it was after each of its epochs."""
        config = self.experiment.views
        epoch = self.experiment.distillation.soft_training.model_copy(update={"epochs": 1})
        steps = [Phase(frozenset({"public"}), 0.0, epoch)] * config.trajectory_epochs
        with self.stage(estimate.TRAJECTORY):
            return self._distilled("trajectory", steps, {"public": self.public}, drawn=config.trajectory_windows)

    @cached_property
    def self_prompted(self) -> Model:
        """A reference trained only on what the target itself writes when asked about `public` users."""
        config, start = self.experiment.views, self.student_start
        settings = {
            "training": config.self_prompted_training,
            "windows": config.self_prompted_windows,
            "longest": config.answer_tokens,
            "tuning": self.experiment.target.tuning,
            "lora": self.experiment.target.lora,
            "prompt": self.experiment.prompt,
            "seed": self.experiment.seed,
        }
        key = content_key("self-prompted", VERSION, settings, [self.target.key, start.key, self.split_key])

        def write(folder: Path) -> None:
            asked = self.drawn(self.public, config.self_prompted_windows)
            written = drawn_answers(
                self.target.load(), asked.prompts, 1, 1.0, config.answer_tokens, self.experiment.seed
            )
            told = replace(asked, answers=tuple(answers[0] or "?" for answers in written))
            model = self._trainable(start.load(), "self-prompted")
            self._fit(model, told, hard_loss(), config.self_prompted_training, key, "self-prompted")
            save_model(model, folder)

        with self.stage(estimate.SELF_PROMPTED):
            folder = self.build(key, "model", write)
        return self._saved(key, folder, start)

    def student(self, k: int) -> Model:
        """The cross-fitted student of fold k: distilled on the known users of all other folds."""
        groups = {
            "members": [u for u in self.split.users(Role.KNOWN_MEMBER) if self.fold[u] != k],
            "held_out": [u for u in self.split.users(Role.KNOWN_HELD_OUT) if self.fold[u] != k],
        }
        with self.stage(estimate.student_stage(k)):
            return self._distilled(f"student {k}", phases(self.experiment.distillation), groups)[-1]

    def leaking_student(self) -> Model:
        """The demonstration: a student that was distilled on everybody it is asked about, labels and all."""
        groups = {
            "members": self.split.users(Role.KNOWN_MEMBER, Role.AUDITED_MEMBER),
            "held_out": self.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT),
        }
        with self.stage(estimate.LEAKING):
            return self._distilled("leaking", phases(self.experiment.distillation), groups)[-1]

    def _distilled(
        self, purpose: str, steps: Sequence[Phase], groups: dict[str, list[str]], *, drawn: int = 0
    ) -> list[Model]:
        """The model after each phase; each is an artifact, so that an interrupted run goes on in the phase it was in.

        Args:
            drawn: unlabelled windows per user; 0: the windows that are trained on and scored.
        """
        config = self.experiment.distillation
        current = self.student_start
        finished = []
        for number, phase in enumerate(steps):
            users = sorted(user for name in phase.on for user in groups[name])
            settings = {
                "purpose": purpose,
                "number": number,
                "hard_weight": phase.hard_weight,
                "training": phase.training,
                "temperature": config.temperature,
                "tuning": self.experiment.target.tuning,
                "lora": self.experiment.target.lora,
                "prompt": self.experiment.prompt,
                "windows": drawn,
                "seed": self.experiment.seed,
                "users": users,
            }
            key = content_key("distilled", VERSION, settings, [self.target.key, current.key])
            before = current

            def write(
                folder: Path, before: Model = before, phase: Phase = phase, users: Sequence[str] = users, key: str = key
            ) -> None:
                model = before.load()
                if before is self.student_start:
                    model = self._trainable(model, purpose)
                samples = self.drawn(users, drawn) if drawn else self.windows(users)
                loss = distillation_loss(self.target.load(), phase.hard_weight, config.temperature)
                self._fit(model, samples, loss, phase.training, key, f"{purpose} phase {phase.hard_weight}")
                save_model(model, folder)

            folder = self.build(key, "model", write)
            current = self._saved(key, folder, self.student_start, trainable=number + 1 < len(steps))
            finished.append(current)
        return finished

    def shadow_coins(self) -> np.ndarray:
        """(n_scored, n_shadows) bool: paired complements, so that everybody is in half of the shadows."""
        count = self.experiment.attacks.shadows
        coins = np.zeros((len(self.scored), count), dtype=bool)
        for k in range(0, count, 2):
            order = generator(self.experiment.seed, "shadow coins", k).permutation(len(self.scored))
            coins[order[: len(order) // 2], k] = True
            if k + 1 < count:
                coins[:, k + 1] = ~coins[:, k]
        return coins

    def shadow(self, k: int) -> Model:
        """Shadow model k, trained like the target on a random half of the users."""
        users = [user for user, inside in zip(self.scored, self.shadow_coins()[:, k], strict=True) if inside]
        loss = hard_loss(self.experiment.target.training.label_smoothing)
        return self._tuned(f"shadow {k}", estimate.shadow_stage(k), users, loss)

    # Observations

    def observe(self, view: str, samples: Samples) -> Observations:
        """What one view says about the samples, from the store where it was asked before."""
        name, variant, replicate = parse_view(view)
        model = self.view_model(name)

        def write(folder: Path) -> None:
            asked = VARIANTS[variant](samples, self.asking, replicate) if variant else samples
            loaded = model.load()
            if variant == "noisy":
                level = self.experiment.views.noise[replicate // NOISE_DRAWS]
                loaded.add_embedding_noise(level, derive_seed(self.experiment.seed, "noise", replicate))
            observe(loaded, asked.prompts, asked.answers, on_progress=self.progress.advance).write(folder)

        settings = {"variant": variant, "replicate": replicate, "views": self.experiment.views if variant else None}
        return Observations.read(self._asked_of(model, "observations", settings, samples, write))

    def recommended(self, need: str, samples: Samples) -> np.ndarray:
        """(n, …) catalogue positions of what the target writes: see `LISTS`; -1 for titles that are no item."""
        config = self.experiment.views

        def write(folder: Path) -> None:
            variant = need.partition("/")[2]
            asked = VARIANTS[variant](samples, self.asking, 0) if variant else samples
            model, longest, told = self.target.load(), config.answer_tokens, self.progress.advance
            if need == "temperatures":
                drawn = [
                    drawn_answers(model, asked.prompts, config.repeats, heat, longest, self.experiment.seed, told)
                    for heat in config.temperatures
                ]
                found = np.stack([self._positions(texts, config.repeats) for texts in drawn], axis=1)
            else:
                texts = ranked_answers(model, asked.prompts, config.list_length, longest, told)
                found = self._positions(texts, config.list_length)
            np.save(folder / "items.npy", found)

        folder = self._asked_of(self.target, "lists", {"need": need, "views": config}, samples, write)
        return np.load(folder / "items.npy", allow_pickle=False)

    def _positions(self, texts: Sequence[Sequence[str]], length: int) -> np.ndarray:
        position = {}
        # Of several items with one title the best known one is meant.
        for i in np.argsort(self.catalogue.counts, kind="stable"):
            position[self.writer.titles[self.catalogue.items[i]].casefold()] = int(i)
        found = [[position.get(text.casefold(), -1) for text in row] for row in texts]
        return np.array(found, dtype=np.int32).reshape(len(texts), length)

    def measured(self, need: str, samples: Samples) -> np.ndarray:
        """(n, …) one of the target's signals that has to be asked for: see `SIGNALS`."""
        measure = {"gradient": self._gradient, "inquiry": self._inquiry}[need]

        def write(folder: Path) -> None:
            np.save(folder / "signal.npy", measure(samples))

        folder = self._asked_of(self.target, "signal", {"need": need}, samples, write)
        return np.load(folder / "signal.npy", allow_pickle=False)

    def _gradient(self, samples: Samples) -> np.ndarray:
        model = self.target.load()
        return gradient_norms(model, model.encode(samples.prompts, samples.answers), self.progress.advance)

    def _inquiry(self, samples: Samples) -> np.ndarray:
        model = self.target.load()
        odds = np.zeros(len(samples))
        for answer, sign in (("Yes", 1), ("No", -1)):
            for invented in (False, True):
                asked = inquiries(samples, self.asking, answer, invented=invented)
                said = observe(model, asked.prompts, asked.answers).sample_sum("log_probability")
                odds += (-sign if invented else sign) * said
        return odds

    def _asked_of(
        self, model: Model, kind: str, settings: object, samples: Samples, write: Callable[[Path], None]
    ) -> Path:
        asked = {
            "settings": settings,
            "prompt": self.experiment.prompt,
            "users": list(samples.users),
            "items": content_key("windows", 1, [[event.item for event in window] for window in samples.windows]),
            "seed": self.experiment.seed,
        }
        key = content_key(kind, VERSION, asked, [model.key, self.split_key])
        if self._passing is None:
            return self.build(key, kind, write)
        folder = Path(self._passing) / key
        folder.mkdir(exist_ok=True)
        write(folder)
        return folder

    @contextmanager
    def off_the_record(self) -> Iterator[None]:
        """What is asked here leaves nothing in the store: a pasted history is personal data."""
        with tempfile.TemporaryDirectory() as folder:
            self._passing = folder
            try:
                yield
            finally:
                self._passing = None

    def view_model(self, view: str) -> Model:
        """The model behind a view's name."""
        if view not in self._view_models:
            kind, _, number = view.partition(" ")
            makers: dict[str, Callable[[], Model]] = {
                "target": lambda: self.target,
                "base": lambda: self._base_view(),
                "soft": lambda: self.soft_reference(int(number)),
                "student": lambda: self.student(int(number)),
                "leaking": self.leaking_student,
                "shadow": lambda: self.shadow(int(number)),
                "trajectory": lambda: self.trajectory[int(number)],
                "self_prompted": lambda: self.self_prompted,
            }
            self._view_models[view] = makers[kind]()
        return self._view_models[view]

    def _base_view(self) -> Model:
        assert self.base is not None  # noqa: S101 - the view is asked for only where there is a base
        return self.base

    _view_models: dict[str, Model] = field(default_factory=dict)
    _passing: str | None = None
    _built: bool = False
    _asked: bool = False
    split_key: str = ""


def _folder_key(folder: Path) -> str:
    """Content key of a model folder: its weights, configuration and tokenizer."""
    wanted = [p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".json", ".model", ".txt"}]
    return content_key("model folder", VERSION, {path.name: file_key(path) for path in wanted})
