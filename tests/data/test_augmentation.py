from __future__ import annotations

import numpy as np
import pytest

from mia_core.data.augmentation import ItemSimilarity, augmented

SEED = 3


@pytest.fixture(scope="module")
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(60)[: rng.integers(2, 9)] for _ in range(300)]


@pytest.fixture(scope="module")
def nearest(sequences: list[np.ndarray]) -> np.ndarray:
    return ItemSimilarity.of(sequences, 60).nearest()


def test_the_nearest_items_by_comparing_every_pair(sequences: list[np.ndarray], nearest: np.ndarray) -> None:
    having = [{s for s, sequence in enumerate(sequences) if item in sequence} for item in range(60)]
    for item in range(60):
        cosine = [
            len(having[item] & having[other]) / np.sqrt(max(1, len(having[item])) * max(1, len(having[other])))
            for other in range(60)
        ]
        best = sorted((cosine[other] for other in range(60) if other != item), reverse=True)[:10]
        assert item not in nearest[item]
        assert len(set(nearest[item])) == 10
        assert [cosine[other] for other in nearest[item]] == pytest.approx(best)


def test_popular_items_stand_in_where_too_few_are_alike_and_nothing_where_there_are_none() -> None:
    # Item 3 is never had; items 0 and 1 go together, 2 is the most popular.
    similarity = ItemSimilarity.of([[0, 1], [0, 1], [2], [2], [2], [2, 2]], 4)
    assert similarity.nearest([0, 3], 2).tolist() == [[1, 2], [2, 0]]
    assert similarity.nearest([0], 5).tolist() == [[1, 2, 3, -1, -1]]


def test_neighbours_found_in_pieces_are_the_same(
    sequences: list[np.ndarray], nearest: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.data.augmentation.CELLS", 60 * 7)
    assert np.array_equal(ItemSimilarity.of(sequences, 60).nearest(), nearest)


def test_a_copy_differs_from_its_parent_in_one_item_which_is_one_of_its_ten_nearest(
    sequences: list[np.ndarray], nearest: np.ndarray
) -> None:
    copies = augmented(sequences, nearest, 3, SEED)
    assert np.array_equal(copies.parent, np.repeat(np.arange(300), 3))
    swapped = []
    for copy, parent in zip(copies.sequences, copies.parent, strict=True):
        original = sequences[parent]
        (place,) = np.flatnonzero(copy != original)
        assert copy[place] in nearest[original[place]]
        assert copy[place] not in original
        swapped.append((place / (len(original) - 1), int(np.flatnonzero(nearest[original[place]] == copy[place])[0])))
    places, choices = np.array(swapped).T
    # Any place and any neighbour is as likely as another.
    assert places.mean() == pytest.approx(0.5, abs=0.05)
    assert np.bincount(choices.astype(int), minlength=10).min() > 50


def test_a_copy_depends_on_its_sequence_and_the_seed_alone(sequences: list[np.ndarray], nearest: np.ndarray) -> None:
    whole = augmented(sequences, nearest, 2, SEED)
    for i in (0, 17, 299):
        alone = augmented([sequences[i]], nearest, 2, SEED)
        assert [copy.tolist() for copy in alone.sequences] == [
            copy.tolist() for copy in whole.sequences[2 * i : 2 * i + 2]
        ]
    other = augmented(sequences, nearest, 2, SEED + 1)
    assert any(not np.array_equal(a, b) for a, b in zip(other.sequences, whole.sequences, strict=True))


def test_an_item_without_a_neighbour_to_swap_for_stays() -> None:
    nearest = ItemSimilarity.of([[0, 1]], 2).nearest()
    copies = augmented([[0, 1]], nearest, 2, SEED)
    assert [copy.tolist() for copy in copies.sequences] == [[0, 1], [0, 1]]
    assert augmented([[0, 1]], nearest, 0, SEED).sequences == []
