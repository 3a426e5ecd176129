"""The cached stages of one audit: data, split, models, observations. `pipeline` puts them in line."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mia_core.attacks.evidence import Background
from mia_core.audit import estimate
from mia_core.data.augmentation import augmented
from mia_core.data.interactions import Interactions
from mia_core.data.lists import ServedLists, read_lists
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
from mia_core.data.split import Split, read_lines, split_own, split_users
from mia_core.defenses.risk import foretold_risks, without_the_riskiest
from mia_core.errors import ConfigError, DataError
from mia_core.evaluate.training import leak_at
from mia_core.experiment import SEQUENCE_FAMILIES, Base, Experiment, Recommender, Runtime, Target, Training
from mia_core.keys import content_key, file_key
from mia_core.models.llm.distillation import Phase, check_same_tokens, distillation_loss, phases
from mia_core.models.llm.generation import drawn_answers
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
from mia_core.models.llm.private_training import fit_private, guarantee_of
from mia_core.models.llm.stacked_adapters import StackedAdapters, fit_stacked
from mia_core.models.llm.training import BatchLoss, fit, hard_loss
from mia_core.models.sequence import SequenceModel, build_sequence, is_sequence, load_sequence, save_sequence
from mia_core.observe.observations import observe
from mia_core.observe.record import Watch
from mia_core.observe.views import Asking, Catalogue, Examples, Shot
from mia_core.report.results import StageTime
from mia_core.seeds import derive_seed, generator
from mia_core.types import Progress, Role, Silent

if TYPE_CHECKING:
    import torch

    from mia_core.defenses.contract import Defense
    from mia_core.machines.tasks import Submit
    from mia_core.models.llm.private_training import Guarantee, Privacy
    from mia_core.storage.store import Store

VERSION = 5
"""Raised when a stage's code changes its result."""
WATCHED = 100
"""Audited users about whom the target is asked while it is trained."""


def save(model: LanguageModel | SequenceModel, folder: Path) -> None:
    """Keeps a model of either kind."""
    if isinstance(model, SequenceModel):
        save_sequence(model, folder)
    else:
        save_model(model, folder)


def opened(folder: Path, device: torch.device) -> Any:
    """A model that `save` kept."""
    return load_sequence(folder, device) if is_sequence(folder) else load_local(folder, device)


@dataclass(frozen=True)
class Model:
    """A model that exists in the store or on disk: its key, and how to load it."""

    key: str
    load: Callable[[], Any]
    """Opens a LanguageModel, or a SequenceModel where items are the tokens."""
    folder: Path | None = None
    told: Callable[[Samples, Samples], Samples] = lambda asked, original: asked
    """(what is asked, the samples it is about) -> what the model is given: a target that serves from a prompt puts its
    examples before."""


class _NotThere(Exception):
    """What a run that only looks would have had to make."""


@dataclass
class Run:
    """One audit under way. Every stage is computed once and found in the store the next time."""

    experiment: Experiment
    interactions: Interactions
    store: Store
    progress: Progress
    device: torch.device
    times: list[StageTime] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Every artifact that this audit built or found: what goes when the audit is deleted."""
    runtime: Runtime = field(default_factory=Runtime)
    submit: Submit | None = None
    """Has a part done elsewhere, where others take part."""

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
        self.used.add(key)
        if self._looking and self.store.find(key) is None:
            raise _NotThere(key)
        if self._arrival is not None:
            self._built = True
            if self.store.find(key) is None:
                self._arrival()
        return self.store.build(key, kind, build_and_note, name=name, keep=keep)

    def lacks(self, make: Callable[[Run], object]) -> bool:
        """Whether something would have to be made that is not in the store; this run stays as it is."""
        look = copy.copy(self)
        look.progress, look.times, look.used, look.submit = Silent(), [], set(), None
        look._view_models, look._kept, look._looking = dict(self._view_models), {}, True
        try:
            make(look)
        except _NotThere:
            return True
        return False

    @contextmanager
    def expecting(self, arrival: Callable[[], None] | None) -> Iterator[None]:
        """Within the block what is not in the store is waited for, where somebody else makes it."""
        self._arrival = arrival
        yield
        self._arrival = None

    # Users and their windows

    @cached_property
    def split(self) -> Split:
        """Who is what. Users without a single whole window are left out before the coins fall."""
        config = self.experiment
        target = config.target
        members, held_out, judged = (
            read_lines(Path(path), f"target.{name}", "user id") if path else []
            for name, path in (("members", target.members), ("held_out", target.held_out), ("judged", target.judged))
        )
        if target.brought:
            settings: object = {"lists": [members, held_out, judged], "seed": config.seed}
        else:
            settings = {"shares": config.split, "seed": config.seed, "prompt": config.prompt}
        self.split_key = content_key("split", VERSION, settings, [self.interactions.key])

        def write(folder: Path) -> None:
            if target.brought:
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
        whole = PROMPT_STYLES[self.experiment.prompt.style].whole
        window = 2 if whole else self.experiment.prompt.history + 1
        rows = self.interactions.rows
        if self.writer_needs_ratings:
            rows = rows.filter(pl.col("rating").is_not_null())
        long = rows.group_by("user").len().filter(pl.col("len") >= window).collect(engine="streaming")["user"]
        kept = self.interactions.changed(lambda part: part.filter(pl.col("user").is_in(long.implode())))
        if not len(long):
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
        return dict(zip(self.catalogue.items, self.catalogue.share.tolist(), strict=True))

    @cached_property
    def catalogue(self) -> Catalogue:
        """All items, and what public users say about them."""
        return Catalogue.of(
            self.interactions.items["item"].to_list(), [self.events.get(user, []) for user in self.public]
        )

    @cached_property
    def background(self) -> Background:
        """What public users alone say about tokens and items."""
        share, vectors = self.catalogue.share, self.catalogue.vectors()
        if self.served is not None or self.experiment.kind == "recommender":
            # Without a model of tokens there are none to count.
            return Background(np.ones(1), share, vectors, np.zeros((1, 1), np.float32))
        model = (self.base or self.target).load()
        tokens = model.plain_network.get_input_embeddings().weight.detach().float().cpu().numpy()
        counts = np.ones(len(tokens))
        samples = self.windows(self.public)
        for encoded in model.encode(samples.prompts, samples.answers):
            np.add.at(counts, list(encoded.answer), 1)
        return Background(counts / counts.sum(), share, vectors, tokens)

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

    def windows(self, users: Sequence[str], count: int = 0) -> Samples:
        """The windows of some users that train the target and are scored, or the latest few of them."""
        return audit_samples(users, self.events, self.writer, count or self.experiment.prompt.windows)

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
        if target.source in ("lists", "recommender"):
            return None
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
        served = self.experiment.target.serving == "prompt"
        settings = {
            "purpose": purpose,
            "base": config,
            "prompt": self.experiment.prompt,
            "seed": self.experiment.seed,
            "examples": [self.experiment.views.shots, self.experiment.views.exercises] if served else None,
        }
        key = content_key("offline", VERSION, settings, inputs)

        def write(folder: Path) -> None:
            model = self.untrained(config, teacher, purpose)
            if self.public:
                samples = audit_samples(self.public, self.events, self.writer, count=None)
                if served:
                    samples = self._reading_exercises(samples)
                self._fit(model, samples, hard_loss(), config.pretraining, key, purpose)
            save(model, folder)

        with self.stage(stage):
            folder = self.build(key, "model", write, name=purpose)
        return Model(key, lambda: opened(folder, self.device), folder)

    def untrained(self, config: Base, teacher: Model | None, purpose: str) -> LanguageModel | SequenceModel:
        """An offline model with random weights."""
        seed = derive_seed(self.experiment.seed, purpose)
        if config.family in SEQUENCE_FAMILIES:
            return build_sequence(config, self.catalogue.items, seed, self.device)
        if teacher is not None:
            return build_offline(config, teacher.load().tokenizer, seed, self.device)
        titles = [event.title for user in self.public for event in self.events.get(user, [])]
        return build_offline(
            config, train_tokenizer(titles, self.writer.literals, config.vocabulary), seed, self.device
        )

    @cached_property
    def target(self) -> Model:
        """The audited model."""
        config = self.experiment.target
        if config.source == "own":
            return self.shown(self._own_target(Path(config.path)))
        if config.serving == "prompt":
            return self.shown(self._serving_target())
        return self.shown(self.tuned("target", estimate.TARGET, self.members_trained_on))

    def _serving_target(self) -> Model:
        """The base, which answers from examples in its prompt: for a member their own window is one of them."""
        base = self.base
        assert base is not None  # noqa: S101 - only an own target lacks a base
        members = self.split.users(Role.KNOWN_MEMBER, Role.AUDITED_MEMBER)
        shown = frozenset(members if self.experiment.target.world == "members" else [])
        settings = {"examples": self.experiment.views.shots, "shown": sorted(shown), "seed": self.experiment.seed}
        key = content_key("served", VERSION, settings, [base.key, self.split_key])
        return Model(key, base.load, base.folder, lambda asked, original: self.examples.before(asked, original, shown))

    def _reading_exercises(self, samples: Samples) -> Samples:
        """Public users' windows with examples before them, and invented windows whose answer stands among the examples.

        A small model that never had to read its examples does not; where nothing else tells the answer, it learns to.
        """
        config, rng = self.experiment.views, generator(self.experiment.seed, "reading exercises")
        items = [item for item, share in self.popularity.items() if share]
        names = [f"exercise {i}" for i in range(config.exercises)]
        windows = [
            [[self.writer.event(str(item), rating=5.0) for item in rng.choice(items, self.writer.window)]]
            for _ in names
        ]
        invented = self.writer.write(names, windows)
        plain = self.examples.before(samples, samples, frozenset())
        shown = self.examples.before(invented, invented, frozenset(names))
        return plain.joined(shown)

    @cached_property
    def examples(self) -> Examples:
        """Windows of public users, of which some stand in the prompt of a target that serves from one."""
        samples = audit_samples(self.public, self.events, self.writer, 1)
        texts = [f"{prompt} {answer}" for prompt, answer in zip(samples.prompts, samples.answers, strict=True)]
        owners = [samples.users[i] for i in samples.user_index]
        return Examples(tuple(zip(owners, texts, strict=True)), self.experiment.views.shots, self.experiment.seed)

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

    @cached_property
    def defenses(self) -> tuple[Defense, ...]:
        """What protects the target."""
        return self.experiment.defense.chosen

    @cached_property
    def target_settings(self) -> Target:
        """How the target is trained, its defences counted in."""
        return reduce(lambda settings, defense: defense.settings(settings), self.defenses, self.experiment.target)

    @property
    def guarantee(self) -> Guarantee | None:
        """What the training promises by its clipping and noise; None where it takes none."""
        privacy = self._privacy
        if privacy is None:
            return None
        samples = self._training_windows(self.members_trained_on, "target")
        units = len(set(samples.user_index.tolist())) if privacy.unit == "user" else len(samples)
        return guarantee_of(privacy, self.target_settings.training, units)

    def protected_lists(self, settings: Recommender) -> Recommender:
        """How a classic recommender's lists are drawn up, the target's defences counted in."""
        return reduce(lambda changed, one: one.lists(changed), self.defenses, settings)

    @property
    def _privacy(self) -> Privacy | None:
        return next((one.privacy for one in self.defenses if one.privacy is not None), None)

    @cached_property
    def undefended(self) -> Run:
        """The same audit of a target that nothing protects."""
        plain = self.experiment.undefended
        return Run(plain, self.interactions, self.store, Silent(), self.device, used=self.used)

    @cached_property
    def risks(self) -> dict[str, float]:
        """How much each user stands to lose by being trained on, see `foretold_risks`."""
        plain, known = self.undefended, self.split.users(Role.KNOWN_MEMBER)
        base, samples = plain.base, plain.windows(known)
        assert base is not None  # noqa: S101 - only an own target lacks a base, and nobody is spared of one

        def told(model: Model) -> np.ndarray:
            return observe(model.load(), samples.prompts, samples.answers).sample_mean("log_probability")

        totals = np.bincount(samples.user_index, weights=told(plain.target) - told(base), minlength=len(known))
        rise = totals / np.bincount(samples.user_index, minlength=len(known))
        popularity = {
            user: np.array([self.popularity.get(event.item, 0.0) for event in self.events.get(user, [])])
            for user in sorted(self.split.roles)
        }
        return foretold_risks(known, rise, popularity)

    def _training_windows(self, users: Sequence[str], purpose: str) -> Samples:
        """What is left of some users' windows where the target's defences leave some out of training.

        Whoever trains a twin of the target knows the defences, not what they drew.
        """
        for one in self.defenses:
            if one.spared_share:
                users = without_the_riskiest(users, self.risks, one.spared_share)
        samples = self.windows(users)
        if not len(samples):
            raise DataError("no user who trains the target fills a window; choose a shorter prompt.history")
        seed = derive_seed(self.experiment.seed, "training windows", purpose)
        return reduce(lambda left, one: one.windows(left, seed), self.defenses, samples)

    def shown(self, model: Model) -> Model:
        """What the world sees of a model where defences stand before it."""
        serving = [one for one in self.defenses if one.where == "serving"]
        if not serving:
            return model
        seed = derive_seed(self.experiment.seed, "shown")
        key = content_key("shown", VERSION, [[one.name, dataclasses.asdict(one)] for one in serving], [model.key])
        return replace(model, key=key, load=lambda: reduce(lambda m, one: one.served(m, seed), serving, model.load()))

    def tuned(self, purpose: str, stage: str, users: Sequence[str]) -> Model:
        """The base fine-tuned on some users' windows, whole or through an adapter, as the target is: with its defences."""
        base, config = self.base, self.target_settings
        assert base is not None  # noqa: S101 - only an own target lacks a base
        training_defenses = [one for one in self.defenses if one.where == "training"]
        settings = {
            "purpose": purpose,
            "start": config.start,
            "copies": config.copies,
            "tuning": config.tuning,
            "lora": config.lora if config.tuning == "lora" else None,
            "training": config.training,
            "prompt": self.experiment.prompt,
            "seed": self.experiment.seed,
            "users": sorted(users),
            "defenses": [[one.name, dataclasses.asdict(one)] for one in training_defenses],
        }
        key = content_key("tuned", VERSION, settings, [base.key, self.split_key])

        def write(folder: Path) -> None:
            anew = config.start == "scratch"
            start = self.untrained(self.experiment.base, base, purpose) if anew else base.load()
            model = self.trainable(start, purpose, config)
            for defense in training_defenses:
                model = defense.prepared(model)
            samples = self._training_windows(users, purpose)
            if config.copies:
                samples = samples.joined(self._with_one_item_swapped(samples, config.copies))
            loss = hard_loss(config.training.label_smoothing)
            watch = self._watch(config.training.epochs, key) if purpose == "target" and len(self.watched) else None
            self._fit(model, samples, loss, config.training, key, purpose, self._privacy, watch)
            save(model, folder)
            if watch is not None:
                watch.write(folder)

        with self.stage(stage):
            folder = self.build(key, "model", write, name=purpose, keep=purpose == "target")
        return self._saved(key, folder, base)

    @cached_property
    def watched(self) -> Samples:
        """The latest windows of some audited users, about whom the target is asked again and again while it is trained."""
        if self.experiment.target.world == "null" or self.experiment.target.brought:
            return self.windows([])
        return self.windows(self.on_the_map[:WATCHED], 1)

    @property
    def on_the_map(self) -> list[str]:
        """The audited users, in the order in which they are drawn for a map."""
        audited = self.split.users(Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT)
        return [str(user) for user in generator(self.experiment.seed, "map").permutation(audited)]

    def _watch(self, epochs: int, key: str) -> Watch:
        """Says, while a target is trained, how far its loss tells members from held-out users."""
        member = self.is_watched_member(self.watched.users[i] for i in self.watched.user_index)

        def tell(epoch: int, log_probability: np.ndarray) -> None:
            self.progress.tell("training", leak_at(epoch, log_probability, member, 0.95))

        return Watch(self.watched, epochs, self.store.scratch(key), tell)

    def is_watched_member(self, users: Iterable[str]) -> np.ndarray:
        """(n,) bool: whether watched users are members. For pictures alone: they are audited users."""
        return np.array([bool(self.split.roles[user].member) for user in users], dtype=bool)

    def _with_one_item_swapped(self, samples: Samples, copies: int) -> Samples:
        """Copies of the samples that train with them; they are never scored, so they have no role but their parent's."""
        place, items = self.catalogue.position, self.catalogue.items
        sequences = [[place[event.item] for event in window] for window in samples.windows]
        made = augmented(sequences, self.catalogue.similarity.nearest(), copies, self.experiment.seed)
        names = [f"\ncopy {i}" for i in range(len(made.sequences))]
        return self.writer.write(
            names, [[[self.writer.event(items[i]) for i in sequence]] for sequence in made.sequences]
        )

    def trainable(self, model: Any, purpose: str, config: Target | None = None) -> Any:
        """The model itself, or with the adapter that is trained in its place."""
        config = config or self.experiment.target
        if config.tuning == "lora":
            return add_lora(model, config.lora, derive_seed(self.experiment.seed, purpose))
        return model

    def _saved(self, key: str, folder: Path, start: Model, *, trainable: bool = False) -> Model:
        if is_adapter(folder):
            return Model(key, lambda: load_adapter(start.load(), folder, trainable=trainable), folder)
        return Model(key, lambda: opened(folder, self.device), folder)

    def _fit(
        self,
        model: Any,
        samples: Samples,
        loss: BatchLoss,
        training: Training,
        key: str,
        purpose: str,
        privacy: Privacy | None = None,
        watch: Watch | None = None,
    ) -> None:
        after_epoch = watch or (lambda model, epoch: None)
        if privacy is not None:
            fit_private(
                model,
                model.encode(samples.prompts, samples.answers),
                samples.user_index.tolist(),
                loss,
                training,
                privacy,
                seed=derive_seed(self.experiment.seed, purpose),
                scratch=self.store.scratch(key),
                on_progress=self.progress.advance,
                after_epoch=after_epoch,
            )
            return
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
            after_epoch=after_epoch,
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
            teacher = None if self.served else self.target
            return self._offline("student", student, teacher, estimate.STUDENT_BASE)
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
        source = (
            content_key("lists", 1, file_key(Path(self.experiment.target.lists))) if self.served else self.target.key
        )
        key = content_key("self-prompted", VERSION, settings, [source, start.key, self.split_key])

        def write(folder: Path) -> None:
            told = self._answered_by_target(config.self_prompted_windows, config.answer_tokens)
            model = self.trainable(start.load(), "self-prompted")
            self._fit(model, told, hard_loss(), config.self_prompted_training, key, "self-prompted")
            save(model, folder)

        with self.stage(estimate.SELF_PROMPTED):
            folder = self.build(key, "model", write, name="self-prompted")
        return self._saved(key, folder, start)

    def _answered_by_target(self, windows: int, longest: int) -> Samples:
        """Questions about public users with what the target itself answered."""
        if self.served is None:
            asked = self.drawn(self.public, windows)
            written = drawn_answers(self.target.load(), asked.prompts, 1, 1.0, longest, self.experiment.seed)
            return replace(asked, answers=tuple(answers[0] or "?" for answers in written))
        # Of a deployed system there are only its lists: each of the first items is one answer to the user's last window.
        lists = self.served.lists["history"]
        last = audit_samples([user for user in self.public if user in lists], self.events, self.writer, 1)
        rows, answers = [], []
        for i, index in enumerate(last.user_index):
            for position in [p for p in lists[last.users[index]] if p >= 0][:windows]:
                rows.append(i)
                answers.append(self.writer.titles[self.catalogue.items[position]])
        if not rows:
            raise DataError("target.lists holds no list of a third-party user, from which a copy could be trained")
        return replace(last.take(rows), answers=tuple(answers))

    @cached_property
    def served(self) -> ServedLists | None:
        """The lists that were brought along instead of a model."""
        target = self.experiment.target
        return read_lists(Path(target.lists), self.interactions) if target.source == "lists" else None

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
                    model = self.trainable(model, purpose)
                samples = self.drawn(users, drawn) if drawn else self.windows(users)
                loss = distillation_loss(self.target.load(), phase.hard_weight, config.temperature)
                self._fit(model, samples, loss, phase.training, key, f"{purpose} phase {phase.hard_weight}")
                save(model, folder)

            folder = self.build(key, "model", write, name=purpose)
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
        if estimate.shadows_together(self.experiment):
            return self.shadow_adapters[k]
        users = [user for user, inside in zip(self.scored, self.shadow_coins()[:, k], strict=True) if inside]
        return self.tuned(f"shadow {k}", estimate.shadow_stage(k), users)

    @cached_property
    def shadow_adapters(self) -> list[Model]:
        """All shadow models of a LoRA target, trained together over the one base."""
        base, config, count = self.base, self.experiment.target, self.experiment.attacks.shadows
        assert base is not None  # noqa: S101 - only an own target lacks a base
        settings = {
            "count": count,
            "lora": config.lora,
            "training": config.training,
            "prompt": self.experiment.prompt,
            "seed": self.experiment.seed,
            "users": self.scored,
        }
        key = content_key("shadow adapters", VERSION, settings, [base.key, self.split_key])

        def write(folder: Path) -> None:
            seeds = [derive_seed(self.experiment.seed, f"shadow {k}") for k in range(count)]
            stack = StackedAdapters(base.load(), config.lora, seeds)
            samples = self.windows(self.scored)
            inside = self.shadow_coins()[samples.user_index]
            if not inside.any(axis=0).all():
                raise DataError("no user who trains a shadow model fills a window; choose a shorter prompt.history")
            encoded = stack.base.encode(samples.prompts, samples.answers)
            fit_stacked(
                stack,
                [[encoded[i] for i in np.flatnonzero(column)] for column in inside.T],
                hard_loss(config.training.label_smoothing),
                config.training,
                seed=derive_seed(self.experiment.seed, "shadow adapters"),
                scratch=self.store.scratch(key),
                on_progress=self.progress.advance,
            )
            for k in range(count):
                stack.save(k, folder / str(k))

        with self.stage(estimate.SHADOW_ADAPTERS):
            folder = self.build(key, "model", write, name="shadow adapters")
        return [self._saved(content_key("shadow adapter", 1, k, [key]), folder / str(k), base) for k in range(count)]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What another module keeps for this audit, made the first time it is asked for."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

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
            model = makers[kind]()
            # Who knows what stands before the target puts the same before the models it is compared with.
            self._view_models[view] = model if kind == "target" else self.shown(model)
        return self._view_models[view]

    def _base_view(self) -> Model:
        assert self.base is not None  # noqa: S101 - the view is asked for only where there is a base
        return self.base

    _view_models: dict[str, Model] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict)
    _built: bool = False
    _asked: bool = False
    _looking: bool = False
    _arrival: Callable[[], None] | None = None
    split_key: str = ""


def _folder_key(folder: Path) -> str:
    """Content key of a model folder: its weights, configuration and tokenizer."""
    wanted = [p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".json", ".model", ".txt"}]
    return content_key("model folder", VERSION, {path.name: file_key(path) for path in wanted})
