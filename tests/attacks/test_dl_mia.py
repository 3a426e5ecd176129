from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import vonmises_fisher
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from mia_core.attacks.dl_mia import DlMia
from mia_core.attacks.evidence import Evidence, Known
from mia_core.models.disentangled import (
    Code,
    DebiasedTraining,
    DisentanglingSettings,
    DivergenceFromUniform,
    debiased_log_odds,
    draw_directions,
)

World = Callable[..., tuple[Evidence, np.ndarray, Known]]

TINY = DisentanglingSettings(
    latent=6,
    encoder=8,
    decoder=8,
    step=2,
    autoencoder_epochs=10,
    classifier_epochs=10,
    joint_epochs=0,
    batch=32,
    classifier_batch=8,
    learning_rate=0.01,
    direction_kl=1e-4,
    gaussian_kl=1e-3,
    invariant=0.3,
    specific=0.3,
)
QUICK = {"autoencoder_epochs": 5, "joint_epochs": 20, "latent": 8, "encoder": 8, "decoder": 8, "batch": 64}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def axis(width: int) -> torch.Tensor:
    return functional.normalize(torch.arange(1.0, width + 1), dim=0)


@pytest.mark.parametrize(("width", "concentration"), [(3, 2.0), (8, 5.0), (50, 1.0), (50, 40.0), (50, 500.0)])
def test_directions_are_drawn_from_the_von_mises_fisher_distribution(width: int, concentration: float) -> None:
    n = 4_000
    drawn = draw_directions(axis(width).expand(n, -1), torch.full((n, 1), concentration))
    exact = vonmises_fisher(axis(width).double().numpy() / axis(width).double().norm().item(), concentration)
    expected = exact.rvs(n, random_state=0) @ axis(width).double().numpy()
    cosine = (drawn @ axis(width)).numpy()
    np.testing.assert_allclose(drawn.norm(dim=1), 1, atol=1e-5)
    assert cosine.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(n / 2))
    assert cosine.std() == pytest.approx(expected.std(), rel=0.06)
    # Around the axis no direction is preferred.
    around = drawn - torch.outer(drawn @ axis(width), axis(width))
    assert around.mean(dim=0).norm() < 4 * around.norm(dim=1).mean() / np.sqrt(n)


def test_a_draw_follows_its_direction_and_tightens_with_its_concentration() -> None:
    direction, concentration = (
        axis(6).repeat(2_000, 1).requires_grad_(),
        torch.full((2_000, 1), 4.0, requires_grad=True),
    )
    (draw_directions(direction, concentration) @ axis(6)).mean().backward()
    step = 0.05
    exact = [
        vonmises_fisher(np.eye(6)[0], 4.0 + sign * step).rvs(400_000, random_state=1)[:, 0].mean() for sign in (-1, 1)
    ]
    slope = (exact[1] - exact[0]) / (2 * step)
    assert concentration.grad is not None
    assert direction.grad is not None
    assert float(concentration.grad.sum()) == pytest.approx(slope, rel=0.25)
    assert float(direction.grad.sum(dim=0) @ axis(6)) > 0


@pytest.mark.parametrize(("width", "concentration"), [(3, 0.5), (8, 5.0), (50, 1.0), (50, 300.0)])
def test_the_divergence_is_what_the_entropies_differ_by(width: int, concentration: float) -> None:
    kappa = torch.tensor([[concentration]], dtype=torch.float64, requires_grad=True)
    found = DivergenceFromUniform.apply(kappa, width)
    uniform = vonmises_fisher(np.eye(width)[0], 1e-8).entropy()
    expected = uniform - vonmises_fisher(np.eye(width)[0], concentration).entropy()
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert torch.autograd.gradcheck(lambda value: DivergenceFromUniform.apply(value, width), (kappa,), atol=1e-4)


def made(
    settings: DisentanglingSettings = TINY, n: int = 160, labelled: int = 80, width: int = 9
) -> tuple[DebiasedTraining, torch.Tensor]:
    """A training on vectors of which one direction is larger for members, and who is one."""
    rng = np.random.default_rng(0)
    member = np.arange(n) % 2 == 0
    vectors = rng.normal(size=(n, 2)) @ rng.normal(size=(2, width)) + 0.1 * rng.normal(size=(n, width))
    vectors = vectors / vectors.std() + 1.5 * member[:, None] * (np.arange(width) < 3)
    vectors = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    truth = torch.as_tensor(member, dtype=torch.int64)
    return DebiasedTraining(torch.as_tensor(vectors, dtype=torch.float32), truth[:labelled], settings), truth


def test_the_autoencoder_learns_to_put_vectors_together_again() -> None:
    training, _ = made(dataclasses.replace(TINY, autoencoder_epochs=40))

    @torch.no_grad()
    def error() -> float:
        rebuilt = training.autoencoder.decode(*training.code().centre(), training.steps.shape[1])
        return float(((rebuilt - training.steps) ** 2).mean())

    before = error()
    training.train_autoencoder()
    # Of standardised vectors the mean alone leaves an error of about 1.
    assert before > 0.8
    assert error() < 0.5


def test_either_part_of_the_code_is_of_its_kind() -> None:
    training, _ = made()
    code = training.code()
    direction, gaussian = code.divergences()
    np.testing.assert_allclose(code.direction.norm(dim=1), 1, atol=1e-5)
    assert (code.concentration >= 1).all()
    assert (direction > 0).all()
    normal = torch.distributions.Normal(code.mean, (code.log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(gaussian, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("invariant", "specific"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.3)])
def test_every_head_can_tell_members_by_itself(invariant: float, specific: float) -> None:
    shares = {"invariant": invariant, "specific": specific}
    settings = dataclasses.replace(TINY, **shares, autoencoder_epochs=20, classifier_epochs=60, joint_epochs=20)
    training, truth = made(settings)
    scores = training.run()
    assert roc_auc_score(truth[80:], scores[80:]) > 0.85


def test_the_heads_answers_are_mixed_by_their_shares() -> None:
    training, _ = made()
    logits = torch.randn(3, 5, 2)
    labels = torch.tensor([0, 1, 1, 0, 1])
    for row in range(5):
        mixed = 0.4 * logits[0, row] + 0.3 * logits[1, row] + 0.3 * logits[2, row]
        torch.testing.assert_close(training.heads.mixed(logits)[row], mixed)
        losses = [-float(functional.log_softmax(head[row], dim=0)[labels[row]]) for head in logits]
        expected = 0.4 * losses[0] + 0.3 * losses[1] + 0.3 * losses[2]
        assert float(training.heads.losses(logits, labels)[row]) == pytest.approx(expected, rel=1e-5)


def test_labels_are_the_auditors_own_and_elsewhere_what_the_heads_say() -> None:
    training, truth = made(labelled=3, n=6)
    logits = torch.zeros(3, 6, 2)
    logits[:, 4, 1] = 1.0
    labels = training.labels(logits, torch.arange(6))
    assert labels.tolist() == [*truth[:3].tolist(), 0, 1, 0]


def test_weights_grow_where_the_loss_has_grown_and_settle_at_the_ratio() -> None:
    training, _ = made()
    training.train_autoencoder()
    training.train_heads()
    other = torch.randn_like(training.code().mean)
    before = dataclasses.replace(training.code(), direction=functional.normalize(other, dim=1), mean=2 * other)

    def losses(code: Code) -> torch.Tensor:
        logits = training.heads(training.vectors, code.centre())
        labels = training.labels(logits, torch.arange(len(training.vectors)))
        return functional.cross_entropy(training.heads.mixed(logits), labels, reduction="none").detach()

    ratio = losses(training.code()) / losses(before)
    assert ratio[:80].min() < 0.85 < 1.15 < ratio[:80].max()
    training.estimate_weights(before)
    apart = (ratio - 1).abs() > 0.05
    assert ((training.log_weights > 0) == (ratio > 1))[apart].float().mean() > 0.99
    for _ in range(30):
        training.estimate_weights(before)
    far = losses(before) > 0.3
    torch.testing.assert_close(training.log_weights.exp()[far], ratio[far], rtol=0.1, atol=0.05)


def test_both_recommenders_count_alike_however_many_people_they_have() -> None:
    training, _ = made(n=100, labelled=20)
    assert float(training.balance[:20].sum()) == pytest.approx(50)
    assert float(training.balance[20:].sum()) == pytest.approx(50)


def test_a_vector_that_the_steps_do_not_divide_is_read_to_its_end() -> None:
    training, _ = made(dataclasses.replace(TINY, step=4), width=9)
    assert training.steps.shape == (160, 3, 4)
    torch.testing.assert_close(training.steps.flatten(1)[:, :9], training.vectors)


def test_what_else_is_drawn_at_random_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    shadow, target = rng.normal(size=(20, 6)), rng.normal(size=(10, 6))
    settings = dataclasses.replace(TINY, autoencoder_epochs=1, classifier_epochs=1)
    expected = torch.randn(3)
    torch.manual_seed(0)
    first = debiased_log_odds(shadow, np.arange(20) % 2 == 0, target, settings)
    torch.testing.assert_close(torch.randn(3), expected)
    np.testing.assert_array_equal(debiased_log_odds(shadow, np.arange(20) % 2 == 0, target, settings), first)
    assert first.shape == (10,)


def test_a_single_person_is_judged_beside_the_known_ones(shop_world: World) -> None:
    audited, member, known = shop_world(2.0)
    at = [int(np.flatnonzero(member)[0]), int(np.flatnonzero(~member)[0])]
    scores = [DlMia(**QUICK).score(audited.take(np.array([user])), known)[0] for user in at]
    assert scores[0] > scores[1]


def test_nobody_with_a_vector_is_nobody_scored(shop_world: World) -> None:
    audited, _, known = shop_world(2.0)
    empty = replace(audited, lists={**audited.lists, "lists": np.full_like(audited.lists["lists"], -1)})
    assert np.isnan(DlMia(**QUICK).score(empty, known)).all()
