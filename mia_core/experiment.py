"""The config of a whole audit: frozen, validated, read from TOML, every field part of the content key."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mia_core.errors import ConfigError, shortened
from mia_core.toml import toml_value

if TYPE_CHECKING:
    from mia_core.defenses.contract import Defense


class Section(BaseModel):
    """A frozen group of settings; unknown names are errors, and so are numbers that are none or have no end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Synthetic(Section):
    """The built-in data: invented users with latent tastes over invented titles."""

    users: Annotated[int, Field(ge=30, le=200_000)] = 480
    items: Annotated[int, Field(ge=20, le=100_000)] = 300
    mean_history: Annotated[int, Field(ge=5, le=1_000)] = 26
    tastes: Annotated[int, Field(ge=1, le=50)] = 6
    ratings: bool = True
    timestamps: bool = True
    titles: bool = True


class Columns(Section):
    """Which column of a table holds what. Empty optional names mean "not in these data"."""

    user: str
    item: str
    rating: str = ""
    timestamp: str = ""
    title: str = ""


class Thin(Section):
    """Only a part of the data, so that data sets which differ in one property can be compared. Empty: everything."""

    keep_users: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the users, drawn at random."""
    keep_items: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the items, the most popular ones."""
    shortest_history: Count | None = None
    """Users with fewer interactions are left out."""
    longest_history: Count | None = None
    """Of longer histories only so many latest interactions remain."""


class Sessions(Section):
    """Visits instead of people: the unit of every claim is then a session."""

    by: Literal["auto", "none", "id", "gap"] = "auto"
    """auto: data that consist of sessions stay so, others are people; id: what the data call a user is a session; gap: a
    person's interactions are cut where `gap_minutes` lie between two."""
    gap_minutes: Annotated[float, Field(gt=0, le=100_000)] = 30.0
    shortest: Annotated[int, Field(ge=2, le=1_000)] = 2
    """Shorter sessions are left out; consecutive repeats count once."""
    longest: Annotated[int, Field(ge=2, le=1_000)] = 20
    """Of longer sessions the latest items remain."""


class Data(Section):
    """Where the interactions come from."""

    source: Literal["built-in", "file", "data-set", "kept"] = "built-in"
    """kept: the data of a finished audit, by their content key."""
    path: str = ""
    """A file or folder, for ``source = "file"``."""
    key: str = ""
    """Content key of a data set saved in the store, for ``source = "data-set"``."""
    format: str = "auto"
    """One of the formats in ``mia_core.data.formats.FORMATS``, or ``auto``."""
    columns: Columns | None = None
    """The mapping, where the guess is to be corrected."""
    synthetic: Synthetic = Synthetic()
    sessions: Sessions = Sessions()
    thin: Thin = Thin()

    @model_validator(mode="after")
    def _source_has_its_field(self) -> Data:
        if self.source == "file" and not self.path:
            raise ValueError('path is empty; source = "file" needs the path of a file or folder')
        if self.source == "data-set" and not self.key:
            raise ValueError('key is empty; source = "data-set" needs the key of a saved data set')
        if self.key and not re.fullmatch("[0-9a-f]{64}", self.key):
            raise ValueError(f"key is {self.key[:80]!r}; a key is 64 digits of 0-9 and a-f")
        return self


class Split(Section):
    """How users get their roles: seeded coin flips over users, never over records."""

    public_share: Share = 0.2
    member_share: Share = 0.5
    """Share of the users that are not public who become members."""
    known_share: Share = 1 / 3
    """Share of members and of held-out users whose membership the auditor knows."""


class Prompt(Section):
    """How a history is put into words for the model, and how it is cut into windows."""

    style: str = "next_item"
    """One of the styles in ``mia_core.data.prompts.PROMPT_STYLES``."""
    history: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Items shown in the prompt; one more is the answer. Style "whole_history": the longest history, less one."""
    windows: Count = 3
    """Windows per user, taken from the most recent items; they never overlap."""
    template: str = ""
    """Bring your own target: the prompt its training used, with ``{history}`` where the titles go (and
    ``{candidate}`` for like/dislike)."""
    separator: str = " ; "
    """Between two titles of the history."""

    @model_validator(mode="after")
    def _style_is_known(self) -> Prompt:
        from mia_core.data.prompts import PROMPT_STYLES

        if self.style not in PROMPT_STYLES:
            raise ValueError(f"style is {self.style!r}; it must be one of {', '.join(PROMPT_STYLES)}")
        for placeholder in PROMPT_STYLES[self.style].placeholders:
            if self.template and placeholder not in self.template:
                raise ValueError(f"template does not hold {placeholder}; the style {self.style!r} needs it")
        return self


class Training(Section):
    """One training run of a language model."""

    epochs: Annotated[int, Field(ge=1, le=1_000)] = 6
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    batch_size: Count = 32
    accumulation: Count = 1
    """Batches whose gradients are added up before one optimizer step."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stop: bool = False
    """Stop when the loss on windows of `public` users (never of audited ones) has not fallen for `patience` epochs."""
    patience: Count = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 where the GPU has it, else float32. Resolved before hashing."""


class Lora(Section):
    """Low-rank adapters, through peft."""

    rank: Count = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Base(Section):
    """The model before fine-tuning."""

    family: Literal["t5", "gpt2", "llama", "xlnet", "sasrec"] = "t5"
    """t5, gpt2, llama: language models; xlnet, sasrec: transformers whose tokens are items."""
    source: Literal["offline", "local", "hub"] = "offline"
    """offline: built and pre-trained here on `public` users; local: a model folder; hub: a hub id."""
    path: str = ""
    """Folder of a local model."""
    hub_id: str = ""
    """For example ``google-t5/t5-small``."""
    revision: str = ""
    """Commit, tag or branch on the hub; the commit it resolved to is recorded."""
    width: Annotated[int, Field(ge=16, le=2_048, multiple_of=16)] = 128
    """Offline models: hidden width."""
    layers: Annotated[int, Field(ge=2, le=48, multiple_of=2)] = 4
    """Offline models: layers in all (T5: half in the encoder, half in the decoder)."""
    vocabulary: Annotated[int, Field(ge=300, le=64_000)] = 4_000
    """Offline models: size of the byte-level BPE vocabulary, trained on `public` users' titles."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Offline models: dropout in every training of this model."""
    pretraining: Training = Training(epochs=6, learning_rate=2e-3)
    """Offline models: training on every window of the `public` users."""


class Recommender(Section):
    """A classic recommender: it learns from whole histories, whatever their ratings, and serves ranked lists."""

    kind: Literal["latent_factor", "item_based", "neural", "popularity"] = "latent_factor"
    factors: Annotated[int, Field(ge=1, le=1_000)] = 100
    """Length of a user's and an item's vector."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    l2: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the squared vectors in the loss."""
    negatives: Annotated[int, Field(ge=1, le=100)] = 1
    """Items drawn for every interaction that count as not wanted."""
    neighbours: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Item-based: so many most similar items count."""
    ridge: Annotated[float, Field(gt=0)] = 5.0
    """Latent factor: how firmly the vector of somebody who is served by their history is held near the average user's. About
    1 / (learning_rate · epochs) serves a trained user most like their own vector does."""
    left_out: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of each member's interactions, drawn at random, that the target is not trained on, so that it can be asked of
    single interactions whether they were used. 0: it is not asked."""
    length: Annotated[int, Field(ge=2, le=1_000)] = 100
    """Items of a served list."""
    candidates: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Popularity randomisation, a defence: each list is drawn at random from so many best items; 0: off."""
    shuffled: bool = False
    """List shuffle, a defence: each list is served in random order."""

    @model_validator(mode="after")
    def _lists_fit(self) -> Recommender:
        if 0 < self.candidates < self.length:
            raise ValueError(
                f"candidates is {self.candidates}; a list of {self.length} is drawn from them, so give at least as many, or 0"
            )
        return self


class Target(Section):
    """The audited model."""

    source: Literal["fine-tune", "own", "lists", "recommender"] = "fine-tune"
    """fine-tune: this audit trains it on the members; own: it is brought along; lists: only what it recommended is;
    recommender: this audit trains a classic recommender, see [recommender]."""
    start: Literal["base", "scratch"] = "base"
    """scratch: the target is not fine-tuned from the base but built anew and trained on the members alone."""
    serving: Literal["weights", "prompt"] = "weights"
    """prompt: nothing is trained on the members; the recommender answers from examples in its prompt, and a member's own
    window is one of them."""
    tuning: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    training: Training = Training(epochs=6, learning_rate=2e-3)
    copies: Annotated[int, Field(ge=0, le=100)] = 0
    """Copies of each training history in which one item is swapped for one of its ten nearest (sequence recommenders)."""
    world: Literal["members", "null"] = "members"
    """null: fine-tuned on an independent half of the public users instead, so that nobody audited is a member."""
    path: str = ""
    """Own target: folder with the fine-tuned weights, or with the LoRA adapter."""
    lists: str = ""
    """Only lists: table with user, rank, and item, title or text; question: history or no_history."""
    members: str = ""
    """Own target: text file with the ids of known members, one a line."""
    held_out: str = ""
    """Own target: text file with the ids of known held-out users, one a line."""
    judged: str = ""
    """Own target: text file with the ids to judge, one a line. All other users are unlabelled third parties."""
    no_base: bool = False
    """Own target: the weights before fine-tuning are not to be had; attacks that need them are switched off."""

    @property
    def brought(self) -> bool:
        """Whether the target, or what it served, is brought along instead of made here."""
        return self.source in ("own", "lists")

    @model_validator(mode="after")
    def _own_has_its_fields(self) -> Target:
        if self.brought:
            for name in ("path" if self.source == "own" else "lists", "members", "held_out"):
                if not getattr(self, name):
                    raise ValueError(f'{name} is empty; target source "{self.source}" needs it')
        if self.serving == "prompt" and self.source != "fine-tune":
            raise ValueError(
                'serving is "prompt"; that is for a language model which this audit sets up, source "fine-tune"'
            )
        return self


class Distillation(Section):
    """The reference models that are distilled from the target."""

    folds: Annotated[int, Field(ge=2, le=10)] = 2
    """Cross-fitting folds of the known users."""
    variant: Literal["two_phase", "symmetric"] = "two_phase"
    """two_phase: held-out users first, soft-leaning, then members, hard-leaning (as published);
    symmetric: both together, soft-leaning."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Weight of the lesser part: held-out users α·hard + (1-α)·soft, members (1-α)·hard + α·soft."""
    temperature: Annotated[float, Field(gt=0, le=20)] = 1.0
    phase_one: Training = Training(epochs=5, learning_rate=1e-3)
    phase_two: Training = Training(epochs=5, learning_rate=1e-3)
    warm_start: bool = True
    """Students start from the base's weights, where they have its shape; else from pre-training of their own."""
    student: Base | None = None
    """Another family or size than the base's; empty: the same."""
    soft_references: Annotated[int, Field(ge=0, le=8)] = 1
    """References distilled from soft outputs alone, on unlabelled windows of `public` users."""
    soft_windows: Annotated[int, Field(ge=1, le=1_000)] = 30
    """Windows drawn per public user for soft-only references (they may overlap; nobody public is scored)."""
    soft_training: Training = Training(epochs=3, learning_rate=2e-3)


class Protection(Section):
    """What protects the target, one thing or several together. Whoever attacks knows of it and attacks accordingly."""

    names: tuple[str, ...] = ()
    """Defences of the catalogue."""
    settings: dict[str, dict[str, bool | int | float | str | None]] = {}
    """Settings of single defences that differ from their defaults: ``[defense.settings.cap_records]``, ``records = 1``."""

    @field_validator("names", mode="before")
    @classmethod
    def _one_or_several(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @model_validator(mode="after")
    def _defenses_are_known(self) -> Protection:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names is {list(self.names)}; each defence can be there once: remove the repetition")
        for name in self.settings:
            if name not in self.names:
                raise ValueError(
                    f"settings names {name!r}, which names does not hold; add it there, or leave its settings out"
                )
        _ = self.chosen
        return self

    @property
    def chosen(self) -> tuple[Defense, ...]:
        """The defences with their settings."""
        # Without any the catalogue need not be loaded.
        if not self.names:
            return ()
        from mia_core.defenses.catalogue import configured

        return tuple(configured(name, self.settings.get(name, {})) for name in self.names)


class Views(Section):
    """Ways of asking that only some attacks need; what no chosen attack needs is not asked."""

    shots: Annotated[int, Field(ge=1, le=20)] = 3
    """Worked examples of known users put before a prompt (ReCaLL, Con-ReCall)."""
    exercises: Annotated[int, Field(ge=0, le=1_000_000)] = 3_000
    """A target that serves from its prompt, built offline: invented questions on which it learns to read examples."""
    swaps: Annotated[int, Field(ge=1, le=9)] = 3
    """Neighbours of each sample, made by swapping items for ones that the same public users have."""
    noise: tuple[Annotated[float, Field(gt=0, le=5)], ...] = (0.1, 0.3)
    """Noise levels on input embeddings, in their standard deviations."""
    list_length: Annotated[int, Field(ge=2, le=100)] = 10
    """Items of a recommended list."""
    answer_tokens: Annotated[int, Field(ge=4, le=256)] = 24
    """Longest answer that the target may write."""
    temperatures: tuple[Annotated[float, Field(gt=0, le=5)], ...] = (0.3, 0.7, 1.0, 1.3)
    """Temperatures at which the target's first choice is drawn."""
    repeats: Annotated[int, Field(ge=2, le=50)] = 5
    """Draws at each temperature."""
    trajectory_epochs: Annotated[int, Field(ge=2, le=50)] = 4
    """Epochs of the distilled reference whose every epoch is observed (loss trajectory)."""
    trajectory_windows: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Windows drawn per public user for it."""
    self_prompted_windows: Annotated[int, Field(ge=1, le=1_000)] = 8
    """Windows drawn per public user that the target answers in its own words, to train the self-prompted reference."""
    self_prompted_training: Training = Training(epochs=3, learning_rate=2e-3)


class Shadow(Recommender):
    """The auditor's own recommender, whose members are known, that attacks on a classic recommender are trained on."""

    kind: Literal["same", "latent_factor", "item_based", "neural", "popularity"] = "same"  # type: ignore[assignment]
    """same: everything like the target's."""


class Attacks(Section):
    """Which attacks run, and which one leads the report."""

    names: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "loss",
        "confidence",
        "entropy",
        "hidden",
        "target_minus_base",
        "fused_target",
        "distillation",
        "distillation_published",
        "distillation_leaking",
    )
    """Attacks, or groups of them ("likelihood", "shadow", …, "all")."""
    lead: str = "distillation"
    """The score named before the run; the report's headline and the lookup use it."""
    shadows: Annotated[int, Field(ge=2, le=64)] = 4
    """Shadow models, for the attacks that need them."""
    settings: dict[str, dict[str, bool | int | float | str | None]] = {}
    """Settings of single attacks that differ from their defaults: ``[attacks.settings.min_k]``, ``share = 0.1``."""

    @field_validator("settings")
    @classmethod
    def _settings_fit(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from mia_core.attacks.catalogue import configured

        for name, values in settings.items():
            configured(name, values)
        return settings

    @field_validator("names", mode="before")
    @classmethod
    def _one_or_several(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    @field_validator("names")
    @classmethod
    def _names_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # The catalogue needs scikit-learn, which a config that is never used should not load.
        from mia_core.attacks.catalogue import ATTACKS, GROUPS

        groups = {**{name: tuple(group.attacks) for name, group in GROUPS.items()}, "all": tuple(ATTACKS)}
        found: dict[str, None] = {}
        for name in names:
            if name not in ATTACKS and name not in groups:
                near = difflib.get_close_matches(name, [*ATTACKS, *groups], n=1, cutoff=0.0)[0]
                raise ValueError(f"names holds {name!r}, which is no attack; did you mean {near!r}?")
            found |= dict.fromkeys(groups.get(name, (name,)))
        return tuple(found)

    @model_validator(mode="after")
    def _lead_is_run(self) -> Attacks:
        if self.lead not in self.names:
            raise ValueError(f"lead is {self.lead!r}; it must be one of the attacks in names")
        return self


class Evaluation(Section):
    """How results are measured."""

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    """Random draws behind every interval that has no closed form: resamples of users, or ranks and rates at a threshold."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    placebo: bool = True
    """Run the whole line once more on a target that was trained on strangers; nothing may be found there."""
    compared_with: Literal["all", "like"] = "all"
    """Whom p-values compare somebody with: all held-out users, or those of like history length and popularity alone, which holds
    also where scores depend on these."""
    discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the users named as members that may be wrong on average."""
    delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    """Of the privacy definition (ε, δ) whose ε is bounded from below."""
    negatives: Annotated[int, Field(ge=1, le=1_000)] = 50
    """Sampled items each true next item is ranked against (HR@10, NDCG@10)."""
    ranked_users: Annotated[int, Field(ge=0, le=100_000)] = 60
    """Held-out users on whom recommendation quality is measured; 0 switches it off, and the references' agreement too."""
    map_users: Annotated[int, Field(ge=0, le=2_000)] = 300
    """Audited users, drawn at random, whose outputs are laid out on a flat map (t-SNE); 0 switches it off."""


class Experiment(Section):
    """A whole audit."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = "Audit"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    data: Data = Data()
    split: Split = Split()
    prompt: Prompt = Prompt()
    base: Base = Base()
    target: Target = Target()
    recommender: Recommender = Recommender()
    shadow: Shadow = Shadow()
    defense: Protection = Protection()
    distillation: Distillation = Distillation()
    views: Views = Views()
    attacks: Attacks = Attacks()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_target(cls, document: Any) -> Any:
        """What another kind of target needs is its default: a sequence of items, or whole histories and lists."""
        if not isinstance(document, Mapping):
            return document
        kind = _kind_of_target(document)
        filled = dict(document)
        for section, values in KIND_DEFAULTS.get(kind, {}).items():
            given = filled.get(section, {})
            if isinstance(given, Mapping):
                filled[section] = {**values, **given}
        return filled

    @model_validator(mode="after")
    def _parts_fit(self) -> Experiment:
        whole = self.prompt.style == "whole_history"
        if self.defense.names:
            from mia_core.defenses.catalogue import combination_refusal

            if told := combination_refusal(self.defense.chosen, self):
                raise ValueError(f"defense: {told}")
        student = self.distillation.student
        if student is not None and (student.family in SEQUENCE_FAMILIES) != (self.base.family in SEQUENCE_FAMILIES):
            raise ValueError(
                f'distillation.student.family is "{student.family}" and base.family "{self.base.family}"; one reads items, the '
                "other words: choose both of one kind"
            )
        if self.target.copies and self.kind != "sequence":
            raise ValueError(
                f"target.copies is {self.target.copies}; copies are made for sequence recommenders, base.family = 'xlnet' or "
                "'sasrec': set it to 0"
            )
        if self.kind == "language":
            if whole and self.target.source == "fine-tune":
                raise ValueError(
                    f'prompt.style is "whole_history", which base.family "{self.base.family}" does not read; choose '
                    '"next_item", or base.family = "sasrec" or "xlnet"'
                )
            return self
        if not whole:
            raise ValueError(
                f'prompt.style is "{self.prompt.style}"; a {"classic" if self.kind == "recommender" else "sequence"} '
                'recommender reads items, not words: choose "whole_history"'
            )
        if self.kind == "sequence":
            refused = {
                "target.tuning": self.target.tuning == "lora",
                "target.serving": self.target.serving == "prompt",
                "base.source": self.base.source != "offline",
            }
            for setting in [name for name, wrong in refused.items() if wrong]:
                raise ValueError(
                    f'{setting} does not go with base.family "{self.base.family}", which is built here, trained whole and '
                    "serves from its weights; leave it at its default"
                )
        return self

    @property
    def undefended(self) -> Experiment:
        """The same audit of a target that nothing protects."""
        return self.model_copy(update={"defense": Protection()})

    @property
    def kind(self) -> Literal["language", "sequence", "recommender"]:
        """What the target is: a language model, a transformer over items, or a classic recommender."""
        if self.target.source == "recommender":
            return "recommender"
        return "sequence" if self.base.family in SEQUENCE_FAMILIES else "language"

    @property
    def shadow_recommender(self) -> Recommender:
        """The settings of the auditor's own recommender."""
        if self.shadow.kind == "same":
            return self.recommender
        return Recommender.model_validate(self.shadow.model_dump())


SEQUENCE_FAMILIES = ("xlnet", "sasrec")
KIND_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "sequence": {
        "prompt": {"style": "whole_history", "history": 19, "windows": 1},
        "attacks": {
            "names": ("loss", "confidence", "entropy", "target_minus_base", "sequence_mlp", "fused_target"),
            "lead": "sequence_mlp",
        },
        "evaluation": {"map_users": 1_000, "compared_with": "like"},
    },
    "recommender": {
        "prompt": {"style": "whole_history", "history": 99_999, "windows": 1},
        "attacks": {"names": ("recommenders", "reference_recommendation"), "lead": "biased_mia"},
        # How a list looks depends on how long and how popular the history is, trained on or not.
        "evaluation": {"compared_with": "like"},
    },
}
"""What the settings are where nothing else is said, for targets that are no language models."""


def _kind_of_target(document: Mapping[str, Any]) -> str:
    target, base = document.get("target", {}), document.get("base", {})
    if isinstance(target, Mapping) and target.get("source") == "recommender":
        return "recommender"
    return "sequence" if isinstance(base, Mapping) and base.get("family") in SEQUENCE_FAMILIES else ""


class Runtime(Section):
    """Settings that cannot change a number, and so are in no key."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads; 0 leaves it to torch, and is one for each task on a cluster."""
    backend: Literal["local", "ray"] = "local"
    """Where tasks run: in processes of this machine, or on the machines of a Ray cluster."""
    address: str = ""
    """Of the Ray cluster, HOST:PORT; empty: the one that this machine is a node of."""
    gpus_per_task: Annotated[float, Field(ge=0, le=1_024)] | None = None
    """GPUs that one task on a cluster takes, parts of one too; by default one for each of its processes where there are any."""
    processes: Annotated[int, Field(ge=1, le=1_024)] = 1
    """Processes that train one language model together, each on a GPU of its own where there are any."""
    sharded: bool = False
    """Whether these processes share out the model's weights, too (FSDP); else each holds all of them (DDP)."""


FROM_ENVIRONMENT = {
    "backend": "MIA_BACKEND",
    "address": "MIA_RAY_ADDRESS",
    "gpus_per_task": "MIA_GPUS_PER_TASK",
    "processes": "MIA_PROCESSES",
    "sharded": "MIA_SHARDED",
}
"""Environment variables that set the runtime of everything that a server or a command line starts."""


def runtime_of_machine(settings: Sequence[str] = (), **given: Any) -> Runtime:
    """The runtime that the environment asks for, under what is given.

    Args:
        settings: ``field=value`` each, laid over everything else.
    Raises:
        ConfigError: there is no such setting, or a value is out of range.
    """
    document = {field: os.environ[name] for field, name in FROM_ENVIRONMENT.items() if os.environ.get(name)}
    document |= given
    for setting in settings:
        apply_override(document, setting, "--runtime")
    try:
        return Runtime.model_validate(document)
    except ValidationError as error:
        told = "\n".join(explain(item, Runtime) for item in error.errors())
        raise ConfigError(f"runtime (--runtime, or {', '.join(FROM_ENVIRONMENT.values())}): {told}") from None


def parse_experiment(document: Mapping[str, Any]) -> Experiment:
    """A validated experiment from plain data.

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named) or a value is out of range.
    """
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(item) for item in error.errors())) from None


def named_paths(experiment: Experiment) -> dict[str, Path]:
    """Files and folders beside the interactions that a config names, by the setting's name."""
    names = [(section, field) for section, field in PATHS if section != "data"]
    found = {f"{section}.{field}": getattr(getattr(experiment, section), field) for section, field in names}
    return {name: Path(path) for name, path in found.items() if path}


LARGEST_CONFIG = 1_000_000
DEEPEST = 20
"""Sections and lists within each other."""
PATHS = (
    ("data", "path"),
    ("base", "path"),
    ("target", "path"),
    ("target", "lists"),
    ("target", "members"),
    ("target", "held_out"),
    ("target", "judged"),
)
"""Settings that are paths."""


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """An experiment from a TOML file, with ``section.field=value`` settings laid over it.

    Paths in the file are taken from the file's own folder, those in settings from the working folder.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown, a value is out of range.
    """
    document = read_toml(path, "config")
    resolve_paths(document, path.parent)
    for override in overrides:
        apply_override(document, override)
    return parse_experiment(document)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The plain data of a TOML file; `what` it is begins every error.

    Raises:
        ConfigError: there is no such file, it is a folder, too large, or not TOML.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_CONFIG + 1)
        if len(content) > LARGEST_CONFIG:
            raise ConfigError(f"{what}: {str(path)!r} is larger than {LARGEST_CONFIG:,} bytes; name a .toml file")
        return parsed_toml(content.decode("utf-8-sig"))
    except IsADirectoryError:
        raise ConfigError(f"{what}: {str(path)!r} is a folder; name a .toml file in it") from None
    except FileNotFoundError:
        raise ConfigError(f"{what}: there is no file {str(path)!r}; name an existing .toml file") from None
    except OSError as error:
        raise ConfigError(
            f"{what}: {shortened(str(path))!r} cannot be read ({error.strerror}); name a .toml file that you may read"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{what}: {str(path)!r} is not a TOML file: {shortened(str(error))}") from None


def parsed_toml(text: str) -> dict[str, Any]:
    """The plain data of a TOML document.

    Raises:
        ValueError: it is not TOML, holds a number of thousands of digits, or is nested more deeply than any config.
    """
    try:
        document = tomllib.loads(text)
        level: list[Any] = [document]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one if isinstance(one, list) else () for one in level)
        level = list(itertools.chain.from_iterable(inner))
    if level:
        raise ValueError("it is nested too deeply")
    return document


def resolve_paths(document: dict[str, Any], folder: Path) -> None:
    """Makes paths in plain config data whole; those that are not start at a folder."""
    for name, field in PATHS:
        section = document.get(name)
        if isinstance(section, dict) and isinstance(section.get(field), str) and section[field]:
            section[field] = str((folder / section[field]).resolve())


def read_experiment(text: str) -> Experiment:
    """An experiment from the text of a TOML document.

    Raises:
        ConfigError: it is not TOML, a key is unknown, a value is out of range.
    """
    try:
        document = parsed_toml(text)
    except ValueError as error:
        raise ConfigError(
            f"this is not TOML: {shortened(str(error))}; texts stand in quotes, sections in [brackets]"
        ) from None
    return parse_experiment(document)


def to_toml(experiment: Experiment) -> str:
    """The experiment as TOML, settings that differ from the defaults alone."""
    changed = experiment.model_dump(mode="json", exclude_defaults=True)
    for section, values in KIND_DEFAULTS.get(experiment.kind, {}).items():
        # Left out, these would become what such a target starts from, whatever a field's own default is.
        entered = getattr(experiment, section).model_dump(mode="json", include=set(values))
        changed[section] = {**changed.get(section, {}), **entered}
    lines = [f"{name} = {toml_value(value)}" for name, value in changed.items() if not isinstance(value, dict)]
    _add_sections(lines, changed, "")
    return "\n".join(lines) + "\n"


def _add_sections(lines: list[str], section: Mapping[str, Any], path: str) -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            plain = {key: item for key, item in value.items() if not isinstance(item, dict) and item is not None}
            # A section may be empty and yet not the default: what a field starts from can differ from what its kind starts from.
            if plain or not any(isinstance(item, dict) for item in value.values()):
                lines += ["", f"[{path}{name}]", *(f"{key} = {toml_value(item)}" for key, item in plain.items())]
            _add_sections(lines, value, f"{path}{name}.")


def apply_override(document: dict[str, Any], override: str, option: str = "--set") -> None:
    """Sets one ``section.field=value`` in plain config data; the value is read as TOML, else as text."""
    field, equals, text = override.partition("=")
    if not equals or not field.strip():
        example = "seed=3 or target.tuning=lora" if option == "--set" else "backend=ray"
        raise ConfigError(f"{option} {shortened(override)!r}: write it as field=value, such as {example}")
    try:
        value = parsed_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    *parents, name = field.strip().split(".", DEEPEST)
    for parent in parents:
        document = document.setdefault(parent, {})
        if not isinstance(document, dict):
            raise ConfigError(f"{option} {shortened(override)!r}: {parent[:80]!r} is not a section")
    document[name] = value


def explain(item: Any, section: type[Section] = Experiment) -> str:
    """One of pydantic's errors about a section, in words that say what to do."""
    return shortened(_explained(item, section))


def _explained(item: Any, section: type[Section]) -> str:
    location = [str(part) for part in item["loc"]]
    field = ".".join(location)
    if item["type"] == "extra_forbidden":
        valid = _fields_of(section, location[:-1])
        near = difflib.get_close_matches(location[-1][:80], valid, n=1, cutoff=0.0)
        return (
            f"{field[:80]}: there is no such setting; did you mean {'.'.join([*location[:-1], *near])!r}? "
            f"There are {', '.join(valid)}"
        )
    if item["type"] == "missing":
        return f"{field} is missing; give it"
    given = shortened(repr(item["input"]), 160)
    if item["type"] in ("model_type", "dict_type"):
        valid = _fields_of(section, location)
        example = (
            f"; set one of its fields, such as {'.'.join([*location, valid[0]])}"
            if valid
            else f"; write it as [{field}]"
        )
        return f"{field or 'the whole config'} is {given}, but it is a section{example}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}"
    return f"{field} is {given}: {message[0].lower() + message[1:]}"


def _fields_of(section: Any, location: Sequence[str]) -> list[str]:
    """The fields of what stands at a place of a section; none where that may hold any names."""
    for part in location:
        field = section.model_fields.get(part)
        kinds = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if section is None:
            return []
    return sorted(section.model_fields)
