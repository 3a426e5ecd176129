"""Ways to forget, on tiny models that memorised what they are to forget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mia_core.data.prompts import SEPARATOR
from mia_core.experiment import Base, Lora, Training
from mia_core.models.llm.loading import (
    add_lora,
    build_offline,
    load_adapter,
    save_merged,
    save_model,
    train_tokenizer,
)
from mia_core.models.llm.training import fit, hard_loss
from mia_core.models.llm.unlearning import (
    UNLEARNING,
    AdapterShards,
    Edit,
    GradientAscent,
    Request,
    TeacherStudent,
    configured,
)
from mia_core.models.sequence import build_sequence
from mia_core.observe.observations import observe

CPU = torch.device("cpu")
TITLES = [f"Film {i}" for i in range(30)]
TRAINING = Training(epochs=30, learning_rate=1e-2, batch_size=8)
TO_FORGET, TO_KEEP, STRANGERS = slice(0, 6), slice(6, 24), slice(24, 40)


def questions(family: str) -> tuple[list[str], list[str]]:
    """Histories with random next items: nothing but memory tells them."""
    rng = np.random.default_rng(0)
    items = [[TITLES[i] for i in rng.permutation(30)[:4]] for _ in range(40)]
    if family in ("sasrec", "xlnet"):
        return ["" for _ in items], [SEPARATOR.join(row) for row in items]
    return ["History: " + " ; ".join(row[:3]) + " Next:" for row in items], [row[3] for row in items]


def untrained(family: str) -> Any:
    config = Base(family=family, width=32, layers=2)
    if family in ("sasrec", "xlnet"):
        return build_sequence(config, TITLES, 0, CPU)
    return build_offline(config, train_tokenizer(TITLES, ["History: ", " Next:", " ; "], 320), 0, CPU)


class Memory:
    """A model that memorised, and what it was before."""

    def __init__(self, family: str, lora: bool = False) -> None:
        self.base = untrained(family)
        self.prompts, self.answers = questions(family)
        encoded = self.base.encode(self.prompts, self.answers)
        model = add_lora(deepcopy(self.base), Lora(rank=8), 0) if lora else deepcopy(self.base)
        # Adapters of a base that knows nothing, and items told from gaps, take longer to be learned by heart.
        longer = 4 if lora or family == "xlnet" else 1
        fit(model, encoded[:24], hard_loss(), TRAINING.model_copy(update={"epochs": 30 * longer}), seed=0)
        self.original = model
        self.request = Request(
            original=lambda: deepcopy(model),
            base=self.base,
            forget=encoded[TO_FORGET],
            retain=encoded[TO_KEEP],
            strangers=encoded[STRANGERS],
            training=TRAINING,
            seed=0,
        )

    def said(self, model: Any, part: slice) -> float:
        """Mean log p of some windows."""
        return float(observe(model, self.prompts[part], self.answers[part]).sample_mean("log_probability").mean())


@pytest.fixture(scope="module")
def memories() -> Callable[..., Memory]:
    made: dict[tuple[str, bool], Memory] = {}

    def memory(family: str, lora: bool = False) -> Memory:
        if (family, lora) not in made:
            made[family, lora] = Memory(family, lora)
        return made[family, lora]

    return memory


KINDS = [("t5", False), ("gpt2", False), ("t5", True), ("sasrec", False), ("xlnet", False)]


@pytest.mark.parametrize(("family", "lora"), KINDS)
def test_ascent_stops_where_the_forgotten_look_like_strangers(
    memories: Callable[..., Memory], family: str, lora: bool
) -> None:
    memory = memories(family, lora)
    edited = GradientAscent(epochs=40).apply(memory.request)
    before, after, like = (
        memory.said(memory.original, TO_FORGET),
        memory.said(edited, TO_FORGET),
        memory.said(memory.original, STRANGERS)
        - memory.said(memory.base, STRANGERS)
        + memory.said(memory.base, TO_FORGET),
    )
    assert before - like > 0.5
    assert abs(after - like) < 0.4 * (before - like)
    kept = memory.said(memory.original, TO_KEEP) - memory.said(edited, TO_KEEP)
    assert kept < 0.5 * (before - after)
    # The model that was handed in is as it was.
    assert memory.said(memory.original, TO_FORGET) == before


def test_ascent_without_a_bound_goes_far_beyond(memories: Callable[..., Memory]) -> None:
    memory = memories("t5")
    bounded, unbounded = (
        memory.said(GradientAscent(epochs=25, keep_weight=0.3, bounded=bounded).apply(memory.request), TO_FORGET)
        for bounded in (True, False)
    )
    assert unbounded < bounded - 1.0


@pytest.mark.parametrize(("family", "lora"), KINDS)
def test_a_student_forgets_what_its_teacher_forgot_and_keeps_the_rest(
    memories: Callable[..., Memory], family: str, lora: bool
) -> None:
    memory = memories(family, lora)
    edited = TeacherStudent(epochs=15, lowered=5.0).apply(memory.request)
    lost = memory.said(memory.original, TO_FORGET) - memory.said(edited, TO_FORGET)
    kept = memory.said(memory.original, TO_KEEP) - memory.said(edited, TO_KEEP)
    assert lost > 0.05
    assert kept < 0.5 * lost


@pytest.mark.parametrize("method", [GradientAscent(epochs=3), TeacherStudent(epochs=3)])
def test_an_edit_is_the_same_every_time_and_goes_on_after_a_stop(
    memories: Callable[..., Memory], method: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.models.llm.training.CHECKPOINT_EVERY_SECONDS", 0.0)
    memory = memories("t5")
    whole = method.apply(memory.request)
    steps: list[float] = []

    def stop(fraction: float) -> None:
        steps.append(fraction)
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.apply(dataclasses.replace(memory.request, scratch=tmp_path, on_progress=stop))
    later: list[float] = []
    resumed = method.apply(dataclasses.replace(memory.request, scratch=tmp_path, on_progress=later.append))
    assert min(later) > min(steps)
    said, expected = (observe(model, memory.prompts, memory.answers).log_probability for model in (resumed, whole))
    # What a teacher said is remembered from other batches, which differ in rounding.
    np.testing.assert_allclose(said, expected, atol=0.01)


def test_merged_adapters_change_the_base_by_the_mean_of_their_changes(tmp_path: Path) -> None:
    folders, changes = [], []
    for k in range(3):
        model = add_lora(untrained("t5"), Lora(rank=2 + k, alpha=3.0), k)
        with torch.no_grad():
            for name, weights in model.network.named_parameters():
                if "lora_B" in name:
                    weights.normal_(generator=torch.Generator().manual_seed(k))
        save_model(model, tmp_path / str(k))
        folders.append(tmp_path / str(k))
        changes.append(merged_weights(model))
    (tmp_path / "merged").mkdir()
    save_merged(untrained("t5"), folders, 1 / 3, tmp_path / "merged")
    found = merged_weights(load_adapter(untrained("t5"), tmp_path / "merged"))
    base = untrained("t5").network.state_dict()
    adapted = 0
    for name, start in base.items():
        expected = start + sum(one[name] - start for one in changes) / 3
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
        adapted += int(not torch.equal(expected, start))
    assert adapted >= 10


def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """Weights of the network with its adapter worked in."""
    weights: dict[str, torch.Tensor] = deepcopy(model.network).merge_and_unload().state_dict()
    return weights


def test_nobodys_shard_depends_on_who_else_is_there() -> None:
    method, users = AdapterShards(shards=3), [f"user {i}" for i in range(300)]
    whole, fewer = method.parts(users, 1), method.parts(users[::2], 1)
    assert sorted(user for part in whole for user in part) == sorted(users)
    for part, left in zip(whole, fewer, strict=True):
        assert set(left) == set(part) & set(users[::2])
        assert 60 < len(part) < 140
    assert method.parts(users, 2) != whole


def test_settings_are_checked() -> None:
    assert configured("gradient_ascent", {"epochs": 3}) == GradientAscent(epochs=3)
    for name, settings, message in (
        ("gradient_descent", {}, "did you mean 'gradient_ascent'"),
        ("gradient_ascent", {"epoch": 3}, "has no setting 'epoch'; it has epochs"),
        ("gradient_ascent", {"epochs": 0}, "gradient_ascent.epochs is 0"),
        ("teacher_student", {"keep_weight": 1.5}, "keep_weight is 1.5"),
        ("adapter_shards", {"shards": 1}, "shards is 1"),
        ("nothing", {"epochs": 1}, "it has none"),
    ):
        with pytest.raises(ValueError, match=message):
            configured(name, settings)


@pytest.mark.parametrize("name", UNLEARNING)
def test_every_way_says_what_it_does_and_where_it_is_from(name: str) -> None:
    method = UNLEARNING[name]
    assert method.title
    assert method.summary.endswith(".")
    assert method.source
    assert configured(name, {}) == method()
