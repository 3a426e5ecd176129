from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.likelihood import min_k_plus_plus

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def by_hand(evidence: Evidence, view: str, name: str) -> list[float]:
    """Mean over a user's windows of the mean over each window's tokens, in plain loops."""
    observed = evidence.views[view]
    means = []
    for user in range(len(evidence.users)):
        windows = []
        for i in np.flatnonzero(evidence.user_index == user):
            tokens = getattr(observed, name)[observed.offsets[i] : observed.offsets[i + 1]]
            windows.append(sum(float(t) for t in tokens) / len(tokens))
        means.append(sum(windows) / len(windows) if windows else float("nan"))
    return means


@pytest.mark.parametrize(
    ("attack", "field", "sign"),
    [("loss", "log_probability", 1), ("confidence", "top_probability", 1), ("entropy", "entropy", -1)],
)
def test_scores_are_plain_means_with_the_right_sign(attack: str, field: str, sign: int, world: World) -> None:
    audited, _, known = world(1.0)
    expected = sign * np.array(by_hand(audited, "target", field))
    np.testing.assert_allclose(ATTACKS[attack]().score(audited, known), expected, rtol=1e-6)


def test_target_minus_base_is_zero_for_an_untrained_target(world: World) -> None:
    audited, _, known = world(1.0)
    same = Evidence(audited.users, audited.user_index, {"target": audited.views["base"], "base": audited.views["base"]})
    scores = ATTACKS["target_minus_base"]().score(same, known)
    np.testing.assert_array_equal(scores[:-1], 0)


def test_min_k_plus_plus_takes_at_least_one_token_and_the_lowest(world: World) -> None:
    audited, _, _ = world(1.0)
    observed = audited.views["target"]
    for share in (0.2, 0.5, 1.0):
        found = min_k_plus_plus(observed, share)
        for i in range(len(observed)):
            mine = slice(observed.offsets[i], observed.offsets[i + 1])
            z = sorted((observed.log_probability[mine] + observed.entropy[mine]) / observed.deviation[mine])
            lowest = z[: max(1, int(share * len(z)))]
            assert found[i] == pytest.approx(sum(lowest) / len(lowest), rel=1e-5)


def test_each_known_user_is_seen_by_the_student_that_never_met_them(world: World) -> None:
    audited, _, _ = world(1.0)
    fold = np.arange(len(audited.users)) % 2
    resolved = audited.unmet(fold)
    for i, user in enumerate(audited.user_index):
        expected = audited.cross_fitted["student"][fold[user]].sample_mean("log_probability")[i]
        assert resolved.views["student"].sample_mean("log_probability")[i] == pytest.approx(expected)
