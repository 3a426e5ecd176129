"""Defences in training, on planted windows and on tiny models that are really trained."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from mia_core.data.prompts import Event, Samples
from mia_core.defenses.catalogue import configured
from mia_core.errors import ConfigError
from mia_core.experiment import Base, Lora, Target, Training, parse_experiment
from mia_core.models.llm.layers import layer_stacks
from mia_core.models.llm.loading import add_lora, build_offline, train_tokenizer
from mia_core.models.llm.training import fit, hard_loss
from mia_core.models.sequence import build_sequence

CPU = torch.device("cpu")
TITLES = [f"Film {i}" for i in range(20)]


def samples(*users: list[str]) -> Samples:
    """Each user's windows, as letters for items; the prompt of a window is its letters."""
    flat = [(i, window) for i, windows in enumerate(users) for window in windows]
    return Samples(
        users=tuple(f"user {i}" for i in range(len(users))),
        user_index=np.array([i for i, _ in flat], dtype=np.int64),
        prompts=tuple(window for _, window in flat),
        answers=tuple(window[-1] for _, window in flat),
        windows=tuple(tuple(Event(letter, letter, None) for letter in window) for _, window in flat),
    )


def left(name: str, before: Samples, seed: int = 0, **settings: Any) -> list[tuple[str, str]]:
    after = configured(name, settings).windows(before, seed)
    assert after.users == before.users
    assert [window[-1].item for window in after.windows] == list(after.answers)
    return [(after.users[i], prompt) for i, prompt in zip(after.user_index, after.prompts, strict=True)]


# Fewer windows


def test_nobody_keeps_more_windows_than_allowed_and_the_order_stays() -> None:
    before = samples(["ab", "cd", "ef", "gh"], [], ["ij"], ["kl", "mn", "op"])
    kept = left("cap_records", before, records=2)
    assert Counter(user for user, _ in kept) == {"user 0": 2, "user 2": 1, "user 3": 2}
    assert [prompt for _, prompt in kept] == sorted(prompt for _, prompt in kept)


def test_which_windows_are_kept_is_drawn_by_the_seed_for_each_user_alone() -> None:
    windows = ["ab", "cd", "ef", "gh"]
    drawn = Counter(left("cap_records", samples(windows), seed)[0][1] for seed in range(200))
    assert set(drawn) == set(windows)
    assert min(drawn.values()) > 25
    alone = left("cap_records", samples(windows), 3)
    assert alone == left("cap_records", samples(windows, ["xy", "yz"]), 3)[:1]


def test_a_cap_on_nobody_leaves_nobody() -> None:
    assert left("cap_records", samples([], [])) == []


# Duplicates


def test_only_one_of_several_windows_with_the_same_items_stays() -> None:
    before = samples(["abc", "cab", "abd"], ["bca"], ["xyz"])
    kept = left("deduplicate", before)
    assert len(kept) == 3
    assert sum(prompt in ("abc", "cab", "bca") for _, prompt in kept) == 1


def test_within_and_across_are_told_apart() -> None:
    before = samples(["abc", "cab", "abd"], ["bca", "dab"])
    within = [prompt for _, prompt in left("deduplicate", before, across=False)]
    assert len(within) == 4
    assert {"abd", "bca", "dab"} <= set(within)
    across = [prompt for _, prompt in left("deduplicate", before, within=False)]
    # Of the three with a, b and c: either both of one user, or the other's one.
    assert len({"abc", "cab", "bca"} & set(across)) in (1, 2)
    assert len({"abd", "dab"} & set(across)) == 1
    assert not ({"abc", "cab"} & set(across) and "bca" in across)


def test_who_stays_is_drawn_and_somebody_may_lose_every_window() -> None:
    before = samples(["abc"], ["cab"])
    stayed = Counter(left("deduplicate", before, seed)[0][0] for seed in range(100))
    assert set(stayed) == {"user 0", "user 1"}
    assert min(stayed.values()) > 25
    assert configured("deduplicate", {}).windows(before, 0).counts().tolist() in ([1, 0], [0, 1])


def test_near_copies_are_found_by_the_share_of_common_items() -> None:
    # Of 4 items 3 are common: a cosine of 3 / 4.
    before = samples(["abcd"], ["abce"], ["wxyz"])
    assert len(left("deduplicate", before, similarity=0.75)) == 2
    assert len(left("deduplicate", before, similarity=0.76)) == 3
    # An item that comes twice counts once: {a, b} and {a, b, c, d} have 2 / sqrt(8).
    assert len(left("deduplicate", samples(["aabb"], ["abcd"]), similarity=0.7)) == 1
    assert len(left("deduplicate", samples(["aabb"], ["abcd"]), similarity=0.71)) == 2


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("compared", [{}, {"within": False}, {"across": False}])
def test_no_two_that_stay_are_copies_and_each_that_goes_has_one_that_stays(
    similarity: float, compared: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.defenses.training.SIMILARITIES_AT_ONCE", 500)
    rng = np.random.default_rng(0)
    users = [["".join(rng.choice(list("abcdefg"), 4)) for _ in range(rng.integers(0, 4))] for _ in range(40)]
    before = samples(*users)
    everything = list(zip(before.user_index, before.prompts, strict=True))
    kept = left("deduplicate", before, 5, similarity=similarity, **compared)
    stays = [(before.users.index(user), prompt) for user, prompt in kept]

    def copies(one: tuple[int, str], other: tuple[int, str]) -> bool:
        looked_at = compared.get("within", True) if one[0] == other[0] else compared.get("across", True)
        mine, yours = set(one[1]), set(other[1])
        return looked_at and len(mine & yours) / (len(mine) * len(yours)) ** 0.5 >= similarity - 1e-9

    for i, one in enumerate(stays):
        assert not any(copies(one, other) for other in stays[:i])
    gone = Counter(everything) - Counter(stays)
    assert gone
    assert all(any(copies(one, other) for other in stays) for one in gone)


def test_thousands_of_windows_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    letters = [chr(200 + i) for i in range(2_000)]
    users = [["".join(rng.choice(letters, 9, replace=False))] for _ in range(4_000)]
    users += users[:1_000]
    assert len(left("deduplicate", samples(*users), similarity=0.9)) == 4_000


# Other settings


def changed(name: str, target: Target, **settings: Any) -> Target:
    return configured(name, settings).settings(target)


def test_settings_change_what_they_name_and_nothing_else() -> None:
    before = parse_experiment({"target": {"tuning": "lora", "training": {"epochs": 10, "batch_size": 7}}}).target

    def expect(after: Target, *, training: dict[str, Any] | None = None, lora: dict[str, Any] | None = None) -> None:
        wanted = before.model_dump()
        wanted["training"] |= training or {}
        wanted["lora"] |= lora or {}
        assert after.model_dump() == wanted

    expect(changed("fewer_epochs", before, share=0.26), training={"epochs": 3})
    expect(changed("fewer_epochs", before, share=0.01), training={"epochs": 1})
    expect(changed("early_stopping", before, patience=3), training={"early_stop": True, "patience": 3})
    expect(changed("weight_decay", before, weight_decay=0.5), training={"weight_decay": 0.5})
    expect(changed("label_smoothing", before, smoothing=0.2), training={"label_smoothing": 0.2})
    expect(changed("lora_dropout", before, dropout=0.5), lora={"dropout": 0.5})
    expect(changed("lora_rank", before, rank=4), lora={"rank": 4, "alpha": before.lora.alpha / 4})


def test_an_adapter_of_lower_rank_weighs_what_it_learns_as_before() -> None:
    target = parse_experiment({"target": {"tuning": "lora"}}).target
    small = changed("lora_rank", target, rank=2).lora
    assert small.alpha / small.rank == target.lora.alpha / target.lora.rank


# Layers


def language_model(family: str, layers: int = 4) -> Any:
    tokenizer = train_tokenizer(TITLES, ["History: ", " Next:"], 320)
    return build_offline(Base(family=family, width=32, layers=layers), tokenizer, 0, CPU)


def sequence_model(family: str) -> Any:
    return build_sequence(Base(family=family, width=32, layers=4), TITLES, 0, CPU)


def moved(model: Any, prompts: list[str], answers: list[str]) -> tuple[set[str], set[str]]:
    """Names of the weights that training changes, and of those that it leaves."""
    before = {name: p.detach().clone() for name, p in model.plain_network.named_parameters()}
    encoded = model.encode(prompts, answers)
    fit(model, encoded, hard_loss(), Training(epochs=2, learning_rate=1e-2, batch_size=4), seed=0)
    after = dict(model.plain_network.named_parameters())
    different = {name for name, p in after.items() if not torch.equal(p, before[name])}
    return different, set(after) - different


def in_blocks(model: Any, topmost: int) -> tuple[set[str], set[str]]:
    """Names of the weights in the topmost blocks, and in those below."""
    top, below = set(), set()
    for stack in layer_stacks(model.plain_network):
        for i, block in enumerate(stack):
            place = top if i >= len(stack) - topmost else below
            own = {id(p) for p in block.parameters()}
            place |= {name for name, p in model.plain_network.named_parameters() if id(p) in own}
    return top, below


PROMPTS, ANSWERS = [f"History: {title} Next:" for title in TITLES[:8]], TITLES[8:16]


@pytest.mark.parametrize(("family", "layers"), [("t5", 1), ("gpt2", 3), ("llama", 2)])
@pytest.mark.parametrize("lora", [False, True])
def test_skipped_layers_stay_as_they_were_and_the_others_learn(family: str, layers: int, lora: bool) -> None:
    model = language_model(family)
    if lora:
        model = add_lora(model, Lora(rank=2), 0)
    model = configured("skip_layers", {"layers": layers}).prepared(model)
    top, below = in_blocks(model, layers)
    different, same = moved(model, PROMPTS, ANSWERS)
    assert top <= same
    # A bias of keys has no gradient. With adapters only these are trained.
    assert {name for name in below if ("lora_B" in name if lora else "bias" not in name)} <= different
    assert lora or any("shared" in n or "wte" in n or "embed_tokens" in n for n in different)


@pytest.mark.parametrize("family", ["xlnet", "sasrec"])
def test_layers_of_a_sequence_recommender_are_skipped(family: str) -> None:
    from mia_core.data.prompts import SEPARATOR

    model = configured("skip_layers", {"layers": 2}).prepared(sequence_model(family))
    top, below = in_blocks(model, 2)
    histories = [SEPARATOR.join(TITLES[i : i + 5]) for i in range(8)]
    different, same = moved(model, [""] * 8, histories)
    assert top <= same
    assert different & below


def test_some_layer_of_each_stack_must_be_left() -> None:
    with pytest.raises(ConfigError, match=r"skip_layers.layers is 2; a stack of the model has 2 layers"):
        configured("skip_layers", {"layers": 2}).prepared(language_model("t5"))


# Private training


def test_private_training_gets_what_was_asked_for() -> None:
    user = configured("dp_sgd_user", {"epsilon": 3, "clip": 0.5, "delta": 1e-4, "units_at_once": 10}).privacy
    assert user is not None
    assert (user.unit, user.epsilon, user.clip, user.delta, user.units_at_once) == ("user", 3, 0.5, 1e-4, 10)
    assert user.noise_multiplier is None
    record = configured("dp_sgd_record", {}).privacy
    assert record is not None
    assert (record.unit, record.epsilon, record.clip) == ("record", 8.0, 1.0)
    clipped = configured("clip_only", {"clip": 2}).privacy
    assert clipped is not None
    assert (clipped.clip, clipped.epsilon, clipped.noise_multiplier) == (2, None, 0)
    noised = configured("noise_only", {"noise_multiplier": 0.7}).privacy
    assert noised is not None
    assert (noised.clip, noised.epsilon, noised.noise_multiplier) == (None, None, 0.7)
