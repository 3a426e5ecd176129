"""Classic recommenders in a world of two tastes, against slow loops, and by what all of them promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from mia_core.errors import DataError, ModelError
from mia_core.experiment import Recommender as Settings
from mia_core.models.recommenders import RECOMMENDERS, Recommender, contract, recommend
from mia_core.models.recommenders.item_based import ItemBased
from mia_core.models.recommenders.latent_factor import LatentFactor, batch_size, descend, first_vectors
from mia_core.models.recommenders.neural import Neural
from mia_core.models.recommenders.sampling import Draws
from mia_core.seeds import generator

KINDS = list(RECOMMENDERS)
PERSONAL = ["latent_factor", "item_based", "neural"]
GROUP = 30
"""Items of each of two tastes; the first of them are the more popular ones."""


def rows(histories: list[list[int]] | np.ndarray, n_items: int) -> scipy.sparse.csr_array:
    dense = np.zeros((len(histories), n_items), np.float32)
    for row, items in enumerate(histories):
        dense[row, items] = 1
    return scipy.sparse.csr_array(dense)


def world(users: int, seed: int) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Histories of people with one of two tastes, and one more item of each, which is held back."""
    rng = np.random.default_rng(seed)
    popularity = np.arange(1, GROUP + 1) ** -0.5
    drawn = [GROUP * (u % 2) + rng.choice(GROUP, 11, False, popularity / popularity.sum()) for u in range(users)]
    return rows([items[:-1] for items in drawn], 2 * GROUP), np.array([items[-1] for items in drawn])


def settings(kind: str, **changes: object) -> Settings:
    given = {"kind": kind, "factors": 16, "length": 10, "learning_rate": 0.05 if kind == "latent_factor" else 0.01}
    return Settings.model_validate({**given, **changes})


def fitted(kind: str, seed: int = 0, histories: scipy.sparse.csr_array | None = None, **changes: object) -> Recommender:
    trained = world(80, 1)[0] if histories is None else histories
    return RECOMMENDERS[kind].fit(settings(kind, **changes), trained, seed, lambda share: None)


@pytest.fixture(scope="module")
def models() -> dict[str, Recommender]:
    return {kind: fitted(kind) for kind in KINDS}


def hit_rate(lists: np.ndarray, held_back: np.ndarray) -> float:
    return float((lists == held_back[:, None]).any(axis=1).mean())


# In a world of two tastes


@pytest.mark.parametrize("kind", PERSONAL)
def test_strangers_and_trained_users_are_served_their_own_taste(kind: str, models: dict[str, Recommender]) -> None:
    for histories in (world(80, 1)[0], world(40, 2)[0]):
        lists = recommend(models[kind].scores(histories), histories, 10)
        taste = np.arange(histories.shape[0])[:, None] % 2
        assert (lists // GROUP == taste).mean() > 0.9
    own = recommend(models[kind].own_scores(np.arange(80)), world(80, 1)[0], 10)
    assert (own // GROUP == np.arange(80)[:, None] % 2).mean() > 0.9


@pytest.mark.parametrize("kind", PERSONAL)
def test_what_was_held_back_is_found_more_often_than_by_popularity(kind: str, models: dict[str, Recommender]) -> None:
    histories, held_back = world(200, 2)
    popular = hit_rate(recommend(models["popularity"].scores(histories), histories, 10), held_back)
    assert hit_rate(recommend(models[kind].scores(histories), histories, 10), held_back) > popular + 0.15


def test_popularity_serves_what_most_people_have(models: dict[str, Recommender]) -> None:
    trained = world(80, 1)[0].toarray()
    nobody = rows([[]], 2 * GROUP)
    (served,) = recommend(models["popularity"].scores(nobody), nobody, 10)
    counts = trained.sum(axis=0)
    assert counts[served].min() >= np.sort(counts)[-10]


# What all of them promise


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_scored_as_if_it_were_alone(kind: str, models: dict[str, Recommender]) -> None:
    histories = world(30, 3)[0]
    together = models[kind].scores(histories)
    assert together.shape == (30, 2 * GROUP)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    order = np.random.default_rng(0).permutation(30)
    served = recommend(together, histories, 20)
    np.testing.assert_array_equal(recommend(models[kind].scores(histories[order]), histories[order], 20), served[order])
    alone = np.concatenate([recommend(models[kind].scores(histories[[i]]), histories[[i]], 20) for i in range(4)])
    np.testing.assert_array_equal(alone, served[:4])
    own = models[kind].own_scores(order)
    np.testing.assert_array_equal(own[np.argsort(order)], models[kind].own_scores(np.arange(30)))


@pytest.mark.parametrize("kind", KINDS)
def test_trained_users_are_served_alike_by_their_vector_and_by_their_history(
    kind: str, models: dict[str, Recommender]
) -> None:
    histories = world(80, 1)[0]
    own = recommend(models[kind].own_scores(np.arange(80)), histories, 10)
    folded = recommend(models[kind].scores(histories), histories, 10)
    shared = np.mean([len(set(a) & set(b)) for a, b in zip(own, folded, strict=True)]) / 10
    # Ten of the twenty items of the taste that are left are shared by chance alone half of the time.
    assert shared > (0.7 if kind in ("latent_factor", "neural") else 0.999)
    mixed = recommend(models[kind].own_scores(np.arange(80)[::-1]), histories, 10)
    assert kind == "popularity" or (own != mixed).any()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_back_as_it_was_written_and_as_plain_arrays(
    kind: str, models: dict[str, Recommender], tmp_path: Path
) -> None:
    histories = world(30, 3)[0]
    before = models[kind].scores(histories)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    models[kind].write(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".npy", ".safetensors"}
    for path in tmp_path.glob("*.npy"):
        np.load(path, allow_pickle=False)
    read = RECOMMENDERS[kind].read(tmp_path, settings(kind))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(read.scores(histories), before)
    np.testing.assert_array_equal(read.own_scores(np.arange(80)), models[kind].own_scores(np.arange(80)))


@pytest.mark.parametrize("kind", RECOMMENDERS)
def test_items_that_nobody_has_are_there_after_reading_too(kind: str, tmp_path: Path) -> None:
    histories = rows([[0, 1], [1, 2], [0, 2]], 6)
    fitted(kind, histories=histories, epochs=1).write(tmp_path)
    read = RECOMMENDERS[kind].read(tmp_path, settings(kind))
    asked = rows([[0], [5], []], 6)
    assert read.scores(asked).shape == (3, 6)
    assert read.own_scores(np.arange(3)).shape == (3, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_nothing_else(kind: str, models: dict[str, Recommender]) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = fitted(kind)
    assert torch.equal(torch.get_rng_state(), state)
    everybody = np.arange(80)
    np.testing.assert_array_equal(again.own_scores(everybody), models[kind].own_scores(everybody))
    other = fitted(kind, seed=1)
    drawn = kind in ("latent_factor", "neural")
    assert drawn == (other.own_scores(everybody) != models[kind].own_scores(everybody)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_ratings_are_not_looked_at_and_stored_zeros_are_no_interactions(
    kind: str, models: dict[str, Recommender]
) -> None:
    histories = world(80, 1)[0]
    stars = histories.copy()
    stars.data = np.random.default_rng(0).integers(1, 6, histories.nnz).astype(np.float32)
    np.testing.assert_array_equal(models[kind].scores(stars), models[kind].scores(histories))
    np.testing.assert_array_equal(fitted(kind, histories=stars).scores(histories), models[kind].scores(histories))
    blank = rows([[0, 3]], 2 * GROUP)
    blank.data[:] = 0
    np.testing.assert_array_equal(models[kind].scores(blank), models[kind].scores(rows([[]], 2 * GROUP)))
    assert {0, 3} <= set(recommend(models[kind].scores(blank), blank, 2 * GROUP)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_has_no_history_is_served_what_suits_many(kind: str, models: dict[str, Recommender]) -> None:
    nobody = rows([[], []], 2 * GROUP)
    first, second = recommend(models[kind].scores(nobody), nobody, 10)
    assert list(first) == list(second)
    assert len(set(first)) == 10
    assert first.min() >= 0
    counts = world(80, 1)[0].sum(axis=0)
    assert counts[first].mean() > 1.3 * counts.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_odd_users_do_no_harm(kind: str) -> None:
    histories = rows([list(range(8)), [], [1], [1, 2], [2, 5, 7]], 8)
    model = fitted(kind, histories=histories, factors=1)
    for scores in (model.scores(histories), model.own_scores(np.arange(5))):
        assert np.isfinite(scores).all()
        lists = recommend(scores, histories, 8)
        np.testing.assert_array_equal((lists >= 0).sum(axis=1), [0, 8, 7, 6, 5])
    assert model.scores(histories[:0]).shape == (0, 8)
    assert model.own_scores(np.arange(0)).shape == (0, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from_is_said(kind: str) -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        fitted(kind, histories=rows([[], []], 5))


@pytest.mark.parametrize("kind", KINDS)
def test_progress_ends_at_one(kind: str) -> None:
    told: list[float] = []
    RECOMMENDERS[kind].fit(settings(kind, epochs=3), world(20, 1)[0], 0, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


# Against slow and obvious ways


def test_one_step_at_a_time_equals_the_loop_over_ratings() -> None:
    histories = world(12, 4)[0]
    rng = np.random.default_rng(0)
    users, items = first_vectors(12, 2 * GROUP, 5, rng)
    met = Draws(histories, 2).round(rng)
    ours = torch.tensor(users), torch.tensor(items)
    descend(*ours, *met, 0.05, 0.02, batch=1)
    loop_over_ratings(users, items, *met, learning_rate=0.05, l2=0.02)
    np.testing.assert_allclose(ours[0], users, atol=1e-5)
    np.testing.assert_allclose(ours[1], items, atol=1e-5)


def loop_over_ratings(
    users: np.ndarray, items: np.ndarray, u: np.ndarray, i: np.ndarray, met: np.ndarray, learning_rate: float, l2: float
) -> None:
    """The textbook: one interaction after the other, one number of a vector after the other."""
    for user, item, wanted in zip(u, i, met, strict=True):
        error = wanted - sum(a * b for a, b in zip(users[user], items[item], strict=True))
        for f in range(users.shape[1]):
            a, b = users[user, f], items[item, f]
            users[user, f] += learning_rate * (error * b - l2 * a)
            items[item, f] += learning_rate * (error * a - l2 * b)


@pytest.mark.parametrize("learning_rate", [0.01, 0.05])
def test_steps_taken_together_end_where_steps_one_by_one_do(learning_rate: float) -> None:
    histories = world(40, 5)[0]
    asked = settings("latent_factor", factors=4, learning_rate=learning_rate, epochs=15)
    found = LatentFactor.fit(asked, histories, 3, lambda share: None)
    rng, draws = generator(3, "latent factor"), Draws(histories, 1)
    users, items = first_vectors(40, 2 * GROUP, 4, rng)
    for _ in range(15):
        loop_over_ratings(users, items, *draws.round(rng), learning_rate=learning_rate, l2=asked.l2)
    assert batch_size(histories, asked) > 20
    ours, theirs = found.own_scores(np.arange(40)), users @ items.T
    assert np.abs(ours - theirs).mean() < 0.03 * np.abs(theirs).mean()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999


def test_the_published_settings_learn() -> None:
    histories, taste = world(200, 6)[0], np.arange(200)[:, None] % 2
    model = RECOMMENDERS["latent_factor"].fit(Settings(), histories, 0, lambda share: None)
    for scores in (model.own_scores(np.arange(200)), model.scores(histories)):
        assert (recommend(scores, histories, 10) // GROUP == taste).mean() > 0.95


def test_too_high_a_learning_rate_is_said() -> None:
    with pytest.raises(ModelError, match="learning_rate is 1"):
        fitted("latent_factor", learning_rate=1.0, factors=1_000, l2=50.0)


def test_drawn_items_are_untouched_ones_each_as_likely_as_any_other() -> None:
    histories = rows([[0, 1, 2, 5], [7], [], list(range(8))], 8)
    draws = Draws(histories, 3)
    touched = histories.toarray() > 0
    rng = np.random.default_rng(0)
    counts = np.zeros((4, 8))
    for _ in range(700):
        u, i, met = draws.round(rng)
        assert len(u) == len(draws) == 13 + 3 * 5
        np.testing.assert_array_equal(touched[u, i], met == 1)
        seen = rows([[], [], [], []], 8).toarray()
        np.add.at(seen, (u[met == 1], i[met == 1]), 1)
        np.testing.assert_array_equal(seen, touched)
        np.add.at(counts, (u[met == 0], i[met == 0]), 1)
    expected = np.where(touched[:2], 0, [[700 * 12 / 4], [700 * 3 / 7]])
    assert np.abs(counts[:2] - expected).max() < 5 * np.sqrt(expected.max())
    assert not counts[2:].any()


def test_folding_in_is_the_ridge_regression_it_says() -> None:
    histories = world(80, 1)[0]
    model = fitted("latent_factor", ridge=0.7, negatives=2)
    assert isinstance(model, LatentFactor)
    vectors, mean = model.item_vectors.astype(float), model.user_vectors.mean(axis=0, dtype=float)
    n_items, factors = vectors.shape
    for row in (0, 17):
        own = histories[[row]].toarray()[0] > 0
        h = own.sum()
        # Rows of a least-squares problem, each as often as it is met in a round: 1 wanted, 0 wanted, 0 and the mean.
        weight = np.sqrt(2 * h / (n_items - h))
        shrink, near = np.sqrt(0.01 * h * 3), np.sqrt(0.7)
        left = np.concatenate([vectors[own], weight * vectors[~own], shrink * np.eye(factors), near * np.eye(factors)])
        right = np.concatenate([np.ones(h), np.zeros(n_items - h), np.zeros(factors), near * mean])
        expected, *_ = np.linalg.lstsq(left, right, rcond=None)
        np.testing.assert_allclose(model.folded_in(histories[[row]])[0], expected, rtol=1e-6)


def test_a_history_costs_a_folded_in_vector_hardly_more_than_the_best_vector_there_is() -> None:
    histories = world(6, 7)[0]
    model = fitted("neural")
    assert isinstance(model, Neural)

    def loss(vectors: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per history over everything, untouched items weighted as they would be drawn."""
        network = model.network
        sides = tuple(side[:, None] for side in network.user_side(vectors))
        logits = network(sides, network.item_side(network.items))
        met = torch.as_tensor(histories.toarray() > 0)
        signed = torch.where(met, -logits, logits)
        near, far = (torch.nn.functional.softplus(signed) * mask for mask in (met, ~met))
        squares = vectors.square().sum(1)
        return near.sum(1) / met.sum(1) + far.sum(1) / (~met).sum(1) + 0.01 * squares

    found = model.folded_in(histories)
    best = found.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([best], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss(best).sum()
        total.backward()
        return total

    optimizer.step(closure)
    mean = model.network.users.mean(dim=0).expand(6, -1)
    least, most = loss(best).detach(), loss(mean)
    assert ((loss(found) - least) < 0.1 * (most - least)).all()


def test_item_similarities_are_the_cosines_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    histories = scipy.sparse.csr_array((rng.random((25, 14)) < 0.3).astype(np.float32))
    dense = histories.toarray().astype(float)
    model = fitted("item_based", histories=histories, neighbours=4)
    assert isinstance(model, ItemBased)
    found = model.similarity.toarray()
    for i in range(14):
        cosines = [
            0.0 if i == j else dense[:, i] @ dense[:, j] / np.linalg.norm(dense[:, i]) / np.linalg.norm(dense[:, j])
            for j in range(14)
        ]
        nearest = sorted(cosines)[-4:]
        np.testing.assert_allclose(np.sort(found[i])[-4:], nearest, rtol=1e-5)
        assert (found[i] > 0).sum() == np.count_nonzero(nearest)
        np.testing.assert_allclose(found[i][found[i] > 0], np.array(cosines)[found[i] > 0], rtol=1e-5)
    asked = rows([[2, 9, 11]], 14)
    expected = [sum(found[i, j] for i in (2, 9, 11)) for j in range(14)]
    np.testing.assert_allclose(model.scores(asked)[0], expected, rtol=1e-5)


def test_a_catalogue_worked_on_in_parts_gives_the_same(
    models: dict[str, Recommender], monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = world(30, 3)[0]
    whole = {kind: recommend(models[kind].scores(histories), histories, 10) for kind in KINDS}
    monkeypatch.setattr(contract, "BLOCK_CELLS", 4_000)
    for kind in KINDS:
        model = fitted(kind) if kind == "item_based" else models[kind]
        np.testing.assert_array_equal(recommend(model.scores(histories), histories, 10), whole[kind])


# Ranked lists


def ranked_slowly(scores: np.ndarray, seen: np.ndarray, length: int) -> list[float]:
    left = sorted((float(s) for s, touched in zip(scores, seen, strict=True) if not touched), reverse=True)
    return left[:length]


@pytest.mark.parametrize("length", [1, 7, 40, 60])
def test_lists_hold_the_best_of_what_is_left_best_first(length: int) -> None:
    rng = np.random.default_rng(0)
    # Few different values, so that many are equal; of both signs and sizes.
    scores = (rng.integers(-5, 6, (50, 40)) * 10.0 ** rng.integers(-3, 4, (50, 1))).astype(np.float32)
    seen = rng.random((50, 40)) < 0.2
    lists = recommend(scores, scipy.sparse.csr_array(seen.astype(np.float32)), length)
    assert lists.shape == (50, length)
    assert lists.dtype == np.int32
    for row in range(50):
        served = lists[row][lists[row] >= 0]
        assert len(set(served)) == len(served)
        assert not seen[row, served].any()
        assert [float(s) for s in scores[row, served]] == ranked_slowly(scores[row], seen[row], length)
        assert (lists[row, len(served) :] == -1).all()


def test_equal_scores_are_in_one_order_for_everybody_that_is_not_the_catalogues() -> None:
    scores = np.zeros((3, 50), np.float32)
    scores[1] = -0.0
    scores[2, :25] = 1.0
    nothing = scipy.sparse.csr_array(scores.shape, dtype=np.float32)
    lists = recommend(scores, nothing, 50)
    assert list(lists[0]) == list(lists[1]) != sorted(lists[0])
    assert list(lists[2]) == sorted(lists[0], key=lambda item: item >= 25)
    np.testing.assert_array_equal(recommend(scores, nothing, 10), lists[:, :10])


def test_scores_may_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    histories = scipy.sparse.csr_array((scores > 1).astype(np.float32))
    whole = recommend(scores, histories, 6)
    monkeypatch.setattr(contract, "BLOCK_CELLS", 100)
    sizes: list[int] = []

    def part(of: slice) -> np.ndarray:
        sizes.append(len(scores[of]))
        return scores[of]

    before = scores.copy()
    np.testing.assert_array_equal(recommend(part, histories, 6), whole)
    np.testing.assert_array_equal(scores, before)
    assert max(sizes) == 5
    assert sum(sizes) == 30


def test_randomised_lists_are_drawn_from_the_best_and_by_the_seed() -> None:
    scores = np.tile(np.arange(40, dtype=np.float32), (200, 1))
    nothing = scipy.sparse.csr_array(scores.shape, dtype=np.float32)

    def drawn(seeds: list[int]) -> np.ndarray:
        return recommend(scores[: len(seeds)], nothing[: len(seeds)], 5, 20, seeds)

    lists = drawn(list(range(200)))
    assert (np.diff(lists, axis=1) < 0).all()
    assert set(lists.ravel()) == set(range(20, 40))
    counts = np.bincount(lists.ravel(), minlength=40)[20:]
    assert abs(counts - 50).max() < 5 * np.sqrt(50)
    np.testing.assert_array_equal(drawn([7, 3]), lists[[7, 3]])


def test_randomised_lists_of_people_with_little_left() -> None:
    scores = np.arange(6, dtype=np.float32)[None]
    found = recommend(scores, rows([[5, 4, 1]], 6), 4, 5, [0])
    assert list(found[0]) == [3, 2, 0, -1]
