"""Who stands to lose most, foretold from histories."""

from __future__ import annotations

import numpy as np

from mia_core.defenses.risk import foretold_risks, without_the_riskiest


def planted(users: int = 300, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Histories, and a rise that is larger for rarer tastes."""
    rng = np.random.default_rng(seed)
    popularity = {f"u{i:03d}": rng.beta(1 + 4 * (i % 2), 20, size=rng.integers(5, 40)) for i in range(users)}
    rise = np.array([-np.log(shares + 1e-3).mean() for shares in popularity.values()]) + 0.1 * rng.normal(size=users)
    return popularity, rise


def test_those_of_rare_taste_are_foretold_from_known_users_alone() -> None:
    popularity, rise = planted()
    names = [*popularity]
    known = names[:100]
    risks = foretold_risks(known, rise[:100], popularity)
    told = np.array([risks[name] for name in names[100:]])
    assert np.corrcoef(told, rise[100:])[0, 1] > 0.8
    # Turned round, the common tastes would be spared.
    assert np.mean([risks[name] for name in names[100::2]]) > np.mean([risks[name] for name in names[101::2]])


def test_what_is_foretold_of_somebody_does_not_depend_on_who_else_is_asked_about() -> None:
    popularity, rise = planted()
    known = [*popularity][:100]
    some = {name: popularity[name] for name in [*known, "u250"]}
    whole, part = foretold_risks(known, rise[:100], popularity), foretold_risks(known, rise[:100], some)
    assert np.isclose(whole["u250"], part["u250"])


def test_an_empty_history_has_a_risk_too() -> None:
    popularity, rise = planted(40)
    risks = foretold_risks([*popularity], rise, popularity | {"nobody": np.zeros(0)})
    assert np.isfinite(risks["nobody"])


def test_the_share_is_of_those_who_train_and_keeps_the_order_of_the_rest() -> None:
    risks = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 0.0, "z": 9.0}
    assert without_the_riskiest(["d", "c", "b", "a"], risks, 0.25) == ["d", "c", "b"]
    assert without_the_riskiest(["d", "c", "b", "a"], risks, 0.5) == ["d", "b"]
    assert without_the_riskiest(["d"], risks, 0.1) == ["d"]
