"""The networks of DL-MIA: an autoencoder that takes vectors apart, and the attack heads on its parts.

A vector of differences is read coordinate by coordinate, or some at a time, by LSTMs. One part of its code is a
direction (von Mises-Fisher), meant for what two recommenders have in common; the other is Gaussian, meant for what is
a recommender's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln, ive
from torch import nn
from torch.nn import functional

BLOCK = 10
"""Epochs of the joint stage before networks and weights take turns."""
WEIGHT_RATE = 0.01
"""Learning rate of the logarithms of the weights."""


@dataclass(frozen=True)
class DisentanglingSettings:
    """Sizes, stages and weights of one training."""

    latent: int
    encoder: int
    decoder: int
    step: int
    """Coordinates that are read at a time."""
    autoencoder_epochs: int
    classifier_epochs: int
    joint_epochs: int
    batch: int
    classifier_batch: int
    """Of the second stage, which is about few people and quick."""
    learning_rate: float
    direction_kl: float
    gaussian_kl: float
    invariant: float
    """Weight of the head on the direction."""
    specific: float
    """Weight of the head on the Gaussian part."""
    seed: int = 0


class DivergenceFromUniform(torch.autograd.Function):
    """KL divergence of von Mises-Fisher distributions from the uniform one on the same sphere."""

    @staticmethod
    def forward(ctx: Any, concentration: torch.Tensor, width: int) -> torch.Tensor:
        """(n, 1) nats.

        Args:
            concentration: (n, 1) above 0.
            width: of the vectors on the sphere.
        """
        kappa = concentration.detach().double().numpy()
        order = width / 2 - 1
        scaled = ive(order, kappa)
        # The mean cosine of a draw with the direction.
        cosine = ive(order + 1, kappa) / scaled
        ctx.slope = kappa * (1 - cosine**2 - (width - 1) / kappa * cosine)
        divergence = kappa * cosine + order * np.log(kappa / 2) - np.log(scaled) - kappa - gammaln(order + 1)
        return torch.as_tensor(divergence, dtype=concentration.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient by the concentration: the concentration times the slope of the mean cosine."""
        (gradient,) = gradients
        return gradient * torch.as_tensor(ctx.slope, dtype=gradient.dtype), None


def draw_directions(direction: torch.Tensor, concentration: torch.Tensor) -> torch.Tensor:
    """(n, width) draws of von Mises-Fisher distributions, through which gradients flow to direction and concentration.

    Args:
        direction: (n, width) of length one.
        concentration: (n, 1) above 0.
    Source: Wood 1994 (rejection); Davidson et al. 2018, arXiv 1804.00891 (gradients through the accepted draw).
    """
    n, width = direction.shape
    rest = width - 1
    b = rest / (2 * concentration + torch.sqrt(4 * concentration**2 + rest**2))
    with torch.no_grad():
        x = (1 - b) / (1 + b)
        level = concentration * x + rest * torch.log(1 - x**2)
        proposal = torch.distributions.Beta(rest / 2, rest / 2)
        accepted = torch.empty_like(concentration)
        pending = torch.arange(n)
        while len(pending):
            drawn = proposal.sample((len(pending), 1)).to(direction.dtype)
            cosine = _cosine(drawn, b[pending])
            fit = concentration[pending] * cosine + rest * torch.log(1 - x[pending] * cosine) - level[pending]
            taken = (fit >= torch.log(torch.rand_like(fit))).squeeze(1)
            accepted[pending[taken]] = drawn[taken]
            pending = pending[~taken]
    cosine = _cosine(accepted, b)
    tangent = functional.normalize(torch.randn(n, rest), dim=1)
    around_first = torch.cat([cosine, torch.sqrt(torch.clamp(1 - cosine**2, min=1e-10)) * tangent], dim=1)
    # The reflection that takes the first axis to the direction.
    axis = functional.normalize(functional.one_hot(torch.tensor(0), width) - direction, dim=1)
    return around_first - 2 * (around_first * axis).sum(dim=1, keepdim=True) * axis


def _cosine(drawn: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (1 - (1 + b) * drawn) / (1 - (1 - b) * drawn)


@dataclass(frozen=True)
class Code:
    """What the encoders say of n vectors."""

    direction: torch.Tensor
    """(n, latent) of length one."""
    concentration: torch.Tensor
    """(n, 1) at least 1."""
    mean: torch.Tensor
    log_variance: torch.Tensor
    """(n, latent)."""

    def take(self, rows: torch.Tensor) -> Code:
        """The code of some vectors."""
        return Code(self.direction[rows], self.concentration[rows], self.mean[rows], self.log_variance[rows])

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A draw of either part, each (n, latent)."""
        noise = torch.randn_like(self.mean)
        return draw_directions(self.direction, self.concentration), self.mean + noise * (self.log_variance / 2).exp()

    def centre(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The middle of either part, each (n, latent)."""
        return self.direction, self.mean

    def divergences(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n,) nats by which either part differs from knowing nothing."""
        direction: torch.Tensor = DivergenceFromUniform.apply(self.concentration, self.direction.shape[1])
        gaussian = (self.mean**2 + self.log_variance.exp() - self.log_variance - 1).sum(dim=1) / 2
        return direction.squeeze(1), gaussian


class DisentangledAutoencoder(nn.Module):
    """Two bidirectional LSTMs encode a vector into two parts; an LSTM decodes it from both."""

    def __init__(self, settings: DisentanglingSettings) -> None:
        super().__init__()
        self.settings = settings
        latent, width = settings.latent, 2 * settings.encoder
        self.invariant = nn.LSTM(settings.step, settings.encoder, batch_first=True, bidirectional=True)
        self.specific = nn.LSTM(settings.step, settings.encoder, batch_first=True, bidirectional=True)
        self.direction, self.concentration = nn.Linear(width, latent), nn.Linear(width, 1)
        self.mean, self.log_variance = nn.Linear(width, latent), nn.Linear(width, latent)
        self.decoder = nn.LSTM(latent, settings.decoder, batch_first=True)
        self.output = nn.Linear(settings.decoder + latent, settings.step)

    def encode(self, steps: torch.Tensor) -> Code:
        """The code of vectors (n, steps, coordinates read at a time)."""
        invariant, specific = (encoder(steps)[0].mean(dim=1) for encoder in (self.invariant, self.specific))
        return Code(
            functional.normalize(self.direction(invariant), dim=1),
            functional.softplus(self.concentration(invariant)) + 1,
            self.mean(specific),
            self.log_variance(specific),
        )

    def decode(self, invariant: torch.Tensor, specific: torch.Tensor, steps: int) -> torch.Tensor:
        """(n, steps, coordinates) from both parts: the Gaussian one at every step, the direction where it is put out."""
        states, _ = self.decoder(specific[:, None].expand(-1, steps, -1))
        decoded: torch.Tensor = self.output(torch.cat([states, invariant[:, None].expand(-1, steps, -1)], dim=2))
        return decoded

    def losses(self, steps: torch.Tensor, code: Code, parts: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(n,) squared error of the vector that is decoded from draws of the code, and the divergences."""
        error = ((self.decode(*parts, steps.shape[1]) - steps) ** 2).mean(dim=(1, 2)) / 2
        direction, gaussian = code.divergences()
        return error + self.settings.direction_kl * direction + self.settings.gaussian_kl * gaussian


class AttackHeads(nn.Module):
    """A small network on the vector itself and one on each part of its code, whose answers are mixed."""

    def __init__(self, width: int, settings: DisentanglingSettings) -> None:
        super().__init__()
        inputs = (width, settings.latent, settings.latent)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2)) for n in inputs
        )
        self.shares = (1 - settings.invariant - settings.specific, settings.invariant, settings.specific)

    def forward(self, vectors: torch.Tensor, parts: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(3, n, 2) logits of held-out and member from each head."""
        inputs = (vectors, *parts)
        return torch.stack([head(values) for head, values in zip(self.heads, inputs, strict=True)])

    def mixed(self, logits: torch.Tensor) -> torch.Tensor:
        """(n, 2) the heads' logits, mixed by their shares."""
        return torch.einsum("hnc,h->nc", logits, logits.new_tensor(self.shares))

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(n,) the heads' cross-entropies, mixed by their shares."""
        each = [functional.cross_entropy(head, labels, reduction="none") for head in logits]
        return torch.einsum("hn,h->n", torch.stack(each), logits.new_tensor(self.shares))


@dataclass
class DebiasedTraining:
    """Vectors of two recommenders, the auditor's with labels and the target's without, and the networks they train."""

    vectors: torch.Tensor
    """(n, width) standardised; those of the auditor's recommender first."""
    member: torch.Tensor
    """(labelled,) int64."""
    settings: DisentanglingSettings

    def __post_init__(self) -> None:
        self.autoencoder = DisentangledAutoencoder(self.settings)
        self.heads = AttackHeads(self.vectors.shape[1], self.settings)
        # What is read some coordinates at a time is filled up with zeros.
        filled = functional.pad(self.vectors, (0, -self.vectors.shape[1] % self.settings.step))
        self.steps = filled.unflatten(1, (-1, self.settings.step))
        n, labelled = len(self.vectors), len(self.member)
        # Both recommenders count alike, however many people each of them has.
        self.balance = torch.full((n,), n / (2 * max(1, n - labelled)))
        self.balance[:labelled] = n / (2 * labelled)
        self.log_weights = torch.zeros(n)

    def run(self) -> torch.Tensor:
        """(n,) log-odds of membership, after all stages."""
        self.train_autoencoder()
        self.train_heads()
        self.train_jointly()
        outside, within = self.heads.mixed(self.heads(self.vectors, self.code().centre())).detach().unbind(dim=1)
        return within - outside

    @torch.no_grad()
    def code(self) -> Code:
        """The code of all vectors."""
        return self.autoencoder.encode(self.steps)

    def train_autoencoder(self) -> None:
        """First stage: the vectors of both recommenders are taken apart and put together again."""
        optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=self.settings.learning_rate)
        for _ in range(self.settings.autoencoder_epochs):
            for rows in torch.randperm(len(self.steps)).split(self.settings.batch):
                code = self.autoencoder.encode(self.steps[rows])
                loss = self.autoencoder.losses(self.steps[rows], code, code.draw()).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def train_heads(self) -> None:
        """Second stage: the heads learn from the labels, the autoencoder stays as it is."""
        code = self.code()
        optimizer = torch.optim.Adam(self.heads.parameters(), lr=self.settings.learning_rate)
        for _ in range(self.settings.classifier_epochs):
            for rows in torch.randperm(len(self.member)).split(self.settings.classifier_batch):
                logits = self.heads(self.vectors[rows], code.take(rows).draw())
                loss = self.heads.losses(logits, self.member[rows]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def train_jointly(self) -> None:
        """Third stage: all networks on weighted vectors, and the weights, turn by turn."""
        before = self.code()
        networks = [*self.autoencoder.parameters(), *self.heads.parameters()]
        optimizer = torch.optim.Adam(networks, lr=self.settings.learning_rate)
        for epoch in range(self.settings.joint_epochs):
            turn, place = divmod(epoch, BLOCK)
            if turn % 2 == 0:
                self._train_weighted(optimizer)
            elif place == 0:
                self.estimate_weights(before)

    def _train_weighted(self, optimizer: torch.optim.Optimizer) -> None:
        weights = self.log_weights.exp()
        weights = weights / weights.mean()
        for rows in torch.randperm(len(self.steps)).split(self.settings.batch):
            code = self.autoencoder.encode(self.steps[rows])
            parts = code.draw()
            logits = self.heads(self.vectors[rows], parts)
            attacked = self.balance[rows] * self.heads.losses(logits, self.labels(logits, rows))
            loss = (weights[rows] * (self.autoencoder.losses(self.steps[rows], code, parts) + attacked)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def labels(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(n,) the auditor's own labels; where there are none, what the heads say."""
        guessed = self.heads.mixed(logits.detach()).argmax(dim=1)
        labelled = rows < len(self.member)
        return torch.where(labelled, self.member[rows.clamp(max=len(self.member) - 1)], guessed)

    def estimate_weights(self, before: Code) -> None:
        """Moves each vector's weight towards the ratio of its loss now to its loss with the code before this stage."""
        everybody = torch.arange(len(self.vectors))

        @torch.no_grad()
        def losses(code: Code) -> torch.Tensor:
            logits = self.heads(self.vectors, code.centre())
            return functional.cross_entropy(self.heads.mixed(logits), self.labels(logits, everybody), reduction="none")

        biased, debiased = losses(before), losses(self.code())
        log_weights = self.log_weights.requires_grad_()
        optimizer = torch.optim.Adam([log_weights], lr=WEIGHT_RATE)
        for _ in range(BLOCK * -(-len(everybody) // self.settings.batch)):
            loss = ((log_weights.exp() * biased - debiased) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.log_weights = log_weights.detach()


def debiased_log_odds(
    shadow: np.ndarray, member: np.ndarray, target: np.ndarray, settings: DisentanglingSettings
) -> np.ndarray:
    """(n_target,) log-odds of membership of the target's users, from networks that saw them without a label.

    Args:
        shadow: (n_shadow, width) standardised vectors of people whose membership in the auditor's recommender is known.
        member: (n_shadow,) bool.
        target: (n_target, width) standardised vectors of the target's users.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        vectors = torch.as_tensor(np.concatenate([shadow, target]), dtype=torch.float32)
        log_odds = DebiasedTraining(vectors, torch.as_tensor(member, dtype=torch.int64), settings).run()
    return log_odds[len(shadow) :].numpy().astype(np.float64)
