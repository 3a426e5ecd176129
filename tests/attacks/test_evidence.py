from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mia_core.attacks.evidence import Evidence, Known

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def test_each_known_user_is_seen_by_the_student_that_never_met_them(world: World) -> None:
    audited, _, _ = world(1.0)
    fold = np.arange(len(audited.users)) % 2
    resolved = audited.unmet(fold)
    for i, user in enumerate(audited.user_index):
        expected = audited.cross_fitted["student"][fold[user]].sample_mean("log_probability")[i]
        assert resolved.views["student"].sample_mean("log_probability")[i] == pytest.approx(expected)
