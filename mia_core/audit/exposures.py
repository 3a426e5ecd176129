"""What a recommender of items shows: its ranked lists under every protocol, and a world of the auditor's own to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse

from mia_core.audit import estimate
from mia_core.audit.stages import VERSION, Run
from mia_core.data.prompts import Samples
from mia_core.experiment import Recommender as Settings
from mia_core.keys import content_key
from mia_core.models.recommenders import RECOMMENDERS, Recommender, recommend
from mia_core.models.recommenders.latent_factor import LatentFactor
from mia_core.models.sequence import SequenceModel
from mia_core.seeds import derive_seed, generator
from mia_core.types import Role

ROWS = 512
"""Users whose scores of all items are laid out at once."""


class Server(Protocol):
    """A recommender that rates all items."""

    def scores(self, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) float32 for users who are known by their history alone."""

    def own_scores(self, rows: np.ndarray, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, n_items) float32 for users it was trained on, by their place among these."""


@dataclass(frozen=True)
class OfHistories:
    """A classic recommender."""

    recommender: Recommender

    def scores(self, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """By a vector that the history is folded into, or by the history itself."""
        return self.recommender.scores(histories)

    def own_scores(self, rows: np.ndarray, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """By the users' own trained vectors, where the recommender has some."""
        return self.recommender.own_scores(rows)


@dataclass(frozen=True)
class OfSequences:
    """A sequence model; it keeps nothing of a user but what it learned."""

    model: SequenceModel

    def scores(self, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """Log-probability of each item as the one after the history."""
        return self.model.next_items(samples.answers if histories.nnz else [""] * len(samples))

    def own_scores(self, rows: np.ndarray, samples: Samples, histories: scipy.sparse.csr_array) -> np.ndarray:
        """As everybody's."""
        return self.scores(samples, histories)


@dataclass(frozen=True)
class World:
    """A recommender and the people it may have been trained on."""

    server: Server
    settings: Settings
    """How long its lists are, and how they are drawn."""
    members: tuple[str, ...]
    """In the order of the recommender's own vectors."""
    held_out: tuple[str, ...]


def exposures_of(run: Run) -> Exposures:
    """What the recommenders of one audit show: the same object whoever asks, so that nothing is opened twice."""
    found: Exposures = run.once("exposures", lambda: Exposures(run))
    return found


@dataclass
class Exposures:
    """The target and the auditor's recommender of one audit, trained once and kept."""

    run: Run

    @cached_property
    def recommender(self) -> Recommender:
        """The audited classic recommender, trained on the members."""
        run = self.run
        settings, members = run.experiment.recommender, run.members_trained_on
        return self._classic("target", estimate.TARGET, settings, members, settings.left_out)

    def trained_on(self, members: Sequence[str], left_out: float) -> scipy.sparse.csr_array:
        """(n, n_items) 1 where a member's interaction trains: all but a share of each member's, drawn at random."""
        histories = self.histories(self.run.windows(members))
        if left_out:
            for row, user in enumerate(members):
                mine = slice(histories.indptr[row], histories.indptr[row + 1])
                order = generator(self.run.experiment.seed, "left out", user).permutation(mine.stop - mine.start)
                histories.data[mine][order[: round(left_out * len(order))]] = 0
            histories.eliminate_zeros()
        return histories

    @cached_property
    def target(self) -> World:
        """The audited recommender, with whom it was trained on."""
        run = self.run
        sequence = run.experiment.kind == "sequence"
        server: Server = OfSequences(run.target.load()) if sequence else OfHistories(self.recommender)
        held_out = run.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT)
        settings = run.protected_lists(run.experiment.recommender)
        return World(server, settings, tuple(run.members_trained_on), tuple(held_out))

    @cached_property
    def shadow(self) -> World:
        """A recommender like it, trained on half of the shadow users: public people, whose membership is our own doing."""
        run, users = self.run, self._public_half(0)
        members, held_out = users[: len(users) // 2], users[len(users) // 2 :]
        settings = run.experiment.shadow_recommender
        if run.experiment.kind == "sequence" and run.experiment.shadow.kind == "same":
            trained = run.shown(run.tuned("shadow recommender", estimate.SHADOW_WORLD, members))
            server: Server = OfSequences(trained.load())
        else:
            server = OfHistories(self._classic("shadow", estimate.SHADOW_WORLD, settings, members))
        return World(server, run.protected_lists(settings), tuple(members), tuple(held_out))

    @cached_property
    def item_vectors(self) -> np.ndarray:
        """(n_items, factors) float32 latent factors of the other public people: how the auditor compares items; 0 where
        none of them has the item."""
        users = self._public_half(1)
        found = self._classic("item vectors", estimate.ITEM_VECTORS, Settings(kind="latent_factor"), users)
        assert isinstance(found, LatentFactor)  # noqa: S101 - that is what was asked for
        known = self.histories(self.run.windows(users)).sum(axis=0) > 0
        return np.where(np.asarray(known).reshape(-1, 1), found.item_vectors, np.float32(0))

    def lists(self, need: str, samples: Samples, world: World) -> np.ndarray:
        """(n, length) catalogue positions of what is served to each sample's user, best first.

        Args:
            need: "lists": one recommender for everybody, who is known to it by their history alone; "lists/own_factors":
                members are served by their own trained vector; "lists/popular": as published, others are served what is
                popular among themselves; "lists/no_history": everybody is served as if they had no history.
        """
        row_of = {user: row for row, user in enumerate(world.members)} if need != "lists" else {}
        rows = np.array([row_of.get(samples.users[i], -1) for i in samples.user_index], dtype=np.int64)
        histories = self.histories(samples)
        nobody = scipy.sparse.csr_array(histories.shape, dtype=np.float32)
        popular = self._popular(world) if need == "lists/popular" else np.zeros(0)
        served = np.zeros((len(samples), world.settings.length), dtype=np.int32)
        for start in range(0, len(samples), ROWS):
            part = np.arange(start, min(start + ROWS, len(samples)))
            trained = rows[part] >= 0
            for chosen, own in ((part[trained], True), (part[~trained], False)):
                if not len(chosen):
                    continue
                asked, seen = samples.take(chosen), histories[chosen]
                if need == "lists/no_history":
                    seen = nobody[chosen]
                    scores = world.server.scores(asked, seen)
                elif own:
                    scores = world.server.own_scores(rows[chosen], asked, seen)
                elif need == "lists/popular":
                    # As published, what a person has already is not left out of it.
                    seen = nobody[chosen]
                    scores = np.repeat(popular[None], len(chosen), axis=0)
                else:
                    scores = world.server.scores(asked, seen)
                served[chosen] = self._ranked(scores, seen, world.settings, asked)
        return served

    def as_served(self, scores: np.ndarray, histories: scipy.sparse.csr_array) -> np.ndarray:
        """(n, length) the target's lists for people who are known to it by these histories alone."""
        settings, seed = self.target.settings, self.run.experiment.seed
        seeds = [derive_seed(seed, "served", *map(int, histories[[i]].indices)) for i in range(histories.shape[0])]
        return recommend(scores, histories, settings.length, settings.candidates, seeds, shuffled=settings.shuffled)

    def histories(self, samples: Samples) -> scipy.sparse.csr_array:
        """(n, n_items) 1 where a sample's window holds an item."""
        place = self.run.catalogue.position
        columns = np.array([place[event.item] for window in samples.windows for event in window], dtype=np.int64)
        rows = np.repeat(np.arange(len(samples)), [len(window) for window in samples.windows])
        shape = (len(samples), len(self.run.catalogue.items))
        counted = scipy.sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
        counted.sum_duplicates()
        counted.data[:] = 1.0
        return counted

    def _popular(self, world: World) -> np.ndarray:
        """(n_items,) how many of those whom a world's recommender was not trained on have each item."""
        counts = self.histories(self.run.windows(world.held_out)).sum(axis=0)
        return np.asarray(counts, dtype=np.float32).ravel()

    def _ranked(
        self, scores: np.ndarray, seen: scipy.sparse.csr_array, settings: Settings, samples: Samples
    ) -> np.ndarray:
        # Seeded by what is asked about, so that a randomised list does not depend on who else is served.
        seeds = [
            derive_seed(self.run.experiment.seed, "served", *(event.item for event in window))
            if settings.candidates or settings.shuffled
            else 0
            for window in samples.windows
        ]
        return recommend(scores, seen, settings.length, settings.candidates, seeds, shuffled=settings.shuffled)

    def _public_half(self, part: int) -> list[str]:
        order = generator(self.run.experiment.seed, "shadow users").permutation(self.run.public)
        public = [str(user) for user in order]
        half = len(public) // 2
        return public[:half] if part == 0 else public[half:]

    def _classic(
        self, purpose: str, stage: str, settings: Settings, members: Sequence[str], left_out: float = 0.0
    ) -> Recommender:
        run = self.run
        # How somebody is served changes no weight.
        trained = settings.model_dump(exclude={"length", "candidates", "shuffled", "ridge", "left_out"})
        asked = {
            "purpose": purpose,
            "settings": trained,
            "left_out": left_out,
            "seed": run.experiment.seed,
            "users": list(members),
        }
        key = content_key("recommender", VERSION, {**asked, "prompt": run.experiment.prompt}, [run.split_key])

        def write(folder: Path) -> None:
            histories = self.trained_on(members, left_out)
            seed = derive_seed(run.experiment.seed, "recommender", purpose)
            RECOMMENDERS[settings.kind].fit(settings, histories, seed, run.progress.advance).write(folder)

        with run.stage(stage):
            folder = run.build(key, "model", write, name=purpose, keep=purpose == "target")
        return RECOMMENDERS[settings.kind].read(folder, settings)
