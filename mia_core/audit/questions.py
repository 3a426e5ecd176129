"""What is asked of the models, and kept: observations of views, lists that the target writes, signals it is measured for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from mia_core.audit.exposures import exposures_of
from mia_core.audit.stages import VERSION, Model, Run
from mia_core.data.prompts import Samples
from mia_core.keys import content_key
from mia_core.models.llm.generation import drawn_answers, ranked_answers
from mia_core.models.llm.gradients import gradient_norms
from mia_core.observe.observations import Observations, observe, observe_in_shards, write_shards
from mia_core.observe.views import NOISE_DRAWS, VARIANTS, inquiries, parse_view
from mia_core.seeds import derive_seed

Answer = TypeVar("Answer")
MEASURED = ("gradient", "inquiry")
"""Signals that the target has to be asked for."""


@dataclass
class Questions:
    """Asks about samples; the same question is asked once."""

    run: Run
    keep: bool = True
    """False: what is asked leaves nothing in the store, for a pasted history is personal data."""

    def observe(self, view: str, samples: Samples) -> Observations:
        """What one view says about the samples."""
        run = self.run
        name, variant, replicate = parse_view(view)
        model = run.view_model(name)

        def write(folder: Path) -> None:
            asked = model.told(self._varied(variant, samples, replicate), samples)
            loaded = model.load()
            if variant == "noisy":
                level = run.experiment.views.noise[replicate // NOISE_DRAWS]
                loaded.add_embedding_noise(level, derive_seed(run.experiment.seed, "noise", replicate))
            shards = observe_in_shards(loaded, asked.prompts, asked.answers, on_progress=run.progress.advance)
            write_shards(shards, folder)

        settings = {"variant": variant, "replicate": replicate, "views": run.experiment.views if variant else None}
        return self._asked(model, "observations", settings, samples, write, Observations.read)

    def recommended(self, need: str, samples: Samples) -> np.ndarray:
        """(n, …) catalogue positions of what the target recommends: see `LISTS`; -1 for titles that are no item."""
        run, config = self.run, self.run.experiment.views
        if run.served is not None:
            return self._brought(need, samples)
        if run.experiment.kind != "language":
            exposures = exposures_of(run)
            return exposures.lists(need, samples, exposures.target)

        def write(folder: Path) -> None:
            asked = run.target.told(self._varied(need.partition("/")[2], samples, 0), samples)
            model, longest, told = run.target.load(), config.answer_tokens, run.progress.advance
            if need == "temperatures":
                drawn = [
                    drawn_answers(model, asked.prompts, config.repeats, heat, longest, run.experiment.seed, told)
                    for heat in config.temperatures
                ]
                found = np.stack([self._positions(texts, config.repeats) for texts in drawn], axis=1)
            else:
                texts = ranked_answers(model, asked.prompts, config.list_length, longest, told)
                found = self._positions(texts, config.list_length)
            np.save(folder / "values.npy", found)

        return self._asked(run.target, "lists", {"need": need, "views": config}, samples, write, _values)

    def measured(self, need: str, samples: Samples) -> np.ndarray:
        """(n, …) one of the target's signals that has to be asked for: see `SIGNALS`."""
        measure = {"gradient": self._gradient, "inquiry": self._inquiry}[need]

        def write(folder: Path) -> None:
            np.save(folder / "values.npy", measure(samples))

        return self._asked(self.run.target, "signal", {"need": need}, samples, write, _values)

    def _varied(self, variant: str, samples: Samples, replicate: int) -> Samples:
        return VARIANTS[variant](samples, self.run.asking, replicate) if variant else samples

    def _brought(self, need: str, samples: Samples) -> np.ndarray:
        """Lists from a file: the same for all windows of a user, cut to one length; who has none has no item in it."""
        served = self.run.served
        assert served is not None  # noqa: S101 - asked only where lists were brought along
        lists = served.lists["no_history" if need == "lists/no_history" else "history"]
        length = min(self.run.experiment.views.list_length, min(len(row) for row in lists.values()))
        empty = np.full(length, -1, dtype=np.int32)
        rows = [lists.get(samples.users[i], empty)[:length] for i in samples.user_index]
        return np.array(rows, dtype=np.int32).reshape(len(samples), length)

    def _positions(self, texts: Sequence[Sequence[str]], length: int) -> np.ndarray:
        found = [[self._place.get(text.casefold(), -1) for text in row] for row in texts]
        return np.array(found, dtype=np.int32).reshape(len(texts), length)

    @cached_property
    def _place(self) -> dict[str, int]:
        """The catalogue position of each title; of several items with one title the best known one is meant."""
        catalogue, titles = self.run.catalogue, self.run.writer.titles
        ordered = np.argsort(catalogue.counts, kind="stable")
        return {titles[catalogue.items[i]].casefold(): int(i) for i in ordered}

    def _gradient(self, samples: Samples) -> np.ndarray:
        model, asked = self.run.target.load(), self.run.target.told(samples, samples)
        return gradient_norms(model, model.encode(asked.prompts, asked.answers), self.run.progress.advance)

    def _inquiry(self, samples: Samples) -> np.ndarray:
        target = self.run.target
        model = target.load()
        odds = np.zeros(len(samples))
        for answer, sign in (("Yes", 1), ("No", -1)):
            for invented in (False, True):
                asked = target.told(inquiries(samples, self.run.asking, answer, invented=invented), samples)
                said = observe(model, asked.prompts, asked.answers).sample_sum("log_probability")
                odds += (-sign if invented else sign) * said
        return odds

    def _asked(
        self,
        model: Model,
        kind: str,
        settings: object,
        samples: Samples,
        write: Callable[[Path], None],
        read: Callable[[Path], Answer],
    ) -> Answer:
        run = self.run
        asked = {
            "settings": settings,
            "prompt": run.experiment.prompt,
            "users": list(samples.users),
            "items": content_key("windows", 1, [[event.item for event in window] for window in samples.windows]),
            "seed": run.experiment.seed,
        }
        key = content_key(kind, VERSION, asked, [model.key, run.split_key])
        if self.keep:
            return read(run.build(key, kind, write))
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            return read(Path(folder))


def _values(folder: Path) -> np.ndarray:
    values: np.ndarray = np.load(folder / "values.npy", allow_pickle=False)
    return values
