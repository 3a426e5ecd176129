"""Attacks that compare the target with a model that never met the user: what is merely easy to guess cancels out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.logit_attack import (
    LogitAttack,
    fall,
    log_likelihood,
    loss_ratio,
    lowest_mean,
    min_k_plus_plus,
    sample_of_token,
)


class BaseCalibratedAttack(LogitAttack):
    """What attacks with the base model as reference share."""

    passes: ClassVar[str] = "1 on the target, 1 on the base"
    needs: ClassVar[frozenset[str]] = frozenset({"base"})


@dataclass(frozen=True)
class TargetMinusBase(BaseCalibratedAttack):
    """Mean log-likelihood difference between the target and the same model before fine-tuning.

    Formula: s(u) = mean over windows and tokens of log p_target(x_t) - log p_base(x_t)
    Source: Kandpal et al., EMNLP 2024, arXiv 2310.09266 (user inference, base model as reference).
    Fails: Fine-tuning also teaches the domain: items that became popular after the base was made gain for everybody.
        Without the base there is no score.
    """

    title: ClassVar[str] = "Target minus base"
    summary: ClassVar[str] = "How much likelier fine-tuning made the user's true next items."
    source: ClassVar[str] = "Kandpal et al. 2024, arXiv 2310.09266"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean log-probability difference, nats per token."""
        return log_likelihood(evidence, "target") - log_likelihood(evidence, "base")


@dataclass(frozen=True)
class LikelihoodRatio(BaseCalibratedAttack):
    """Minus the target's loss over the base's loss.

    Formula: s(u) = -mean over windows of loss_target / loss_base
    Source: Carlini et al. 2021, arXiv 2012.07805 (ratio of log-perplexities of two models).
    Relations: prefer `target_minus_base`. The ratio is unstable where the base is nearly certain, and a halved loss
    counts the same whether it was large or small.
    Fails: Where the base is nearly certain both losses are tiny and the ratio is noise.
    """

    title: ClassVar[str] = "Loss ratio to the base"
    summary: ClassVar[str] = "By what factor fine-tuning lowered the loss on the user's true next items."
    source: ClassVar[str] = "Carlini et al. 2021, arXiv 2012.07805"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the ratio of the losses."""
        return -loss_ratio(evidence, "target", "base")


@dataclass(frozen=True)
class MinKPlusPlusMinusBase(BaseCalibratedAttack):
    """Min-K%++ of the target minus Min-K%++ of the base.

    Formula: s(u) = Min-K%++ under the target - Min-K%++ under the base, mean over windows
    Source: LoRA-Leak, arXiv 2507.18302 (base-calibrated Min-K%++).
    Fails: It takes its lowest tokens from each model apart, so that a short title compares two different tokens.
    """

    share: float = 0.2
    """Share of an answer's tokens that count; each model has its own lowest tokens."""

    title: ClassVar[str] = "Min-K%++ minus base"
    summary: ClassVar[str] = "How much less surprising fine-tuning made the answer's most surprising tokens."
    source: ClassVar[str] = "LoRA-Leak 2025, arXiv 2507.18302"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) difference of the means of the lowest tokens."""
        target, base = evidence.views["target"], evidence.views["base"]
        return min_k_plus_plus(target, self.share) - min_k_plus_plus(base, self.share)


@dataclass(frozen=True)
class ErrorZone(BaseCalibratedAttack):
    """Log-ratio of what fine-tuning raised to what it lowered, over the tokens that the target still gets wrong.

    Formula: d_t = log p_target(x_t) - log p_base(x_t) over the tokens that the target gets wrong; s(u) = log(e + mean
        over windows of the sum of d_t > 0) - log(e + mean over windows of the sum of -d_t > 0)
    Source: Ilić, Stanojević, Cvejoski 2026, arXiv 2601.12104 (EZ).
    Differs: sums are pooled over a user's windows, since a title has few wrong tokens. `epsilon` is added to both sums:
    with nothing lowered the published code returns zero and so ranks the strongest members last. An answer without
    any wrong token counts with all its tokens: it has no error zone, and leaving it out would pull the users whom the
    model knows by heart to the value of those about whom it has learned nothing.
    Fails: Adapters and short trainings change the wrong tokens little; few wrong tokens make it coarse.
    """

    epsilon: float = 0.01
    """Nats per window added to both sums."""

    title: ClassVar[str] = "Error zone"
    summary: ClassVar[str] = "Whether fine-tuning favours the true answer even where the model still gets it wrong."
    source: ClassVar[str] = "Ilić et al. 2026, arXiv 2601.12104"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) log of raised over lowered log-probability."""
        target, base = audited.views["target"], audited.views["base"]
        sample, n = sample_of_token(target), len(target)
        wrong = target.rank > 0
        flawless = np.bincount(sample, wrong, minlength=n) == 0
        change = target.log_probability.astype(np.float64) - base.log_probability
        change[~(wrong | flawless[sample])] = 0
        raised = audited.user_mean(np.bincount(sample, np.maximum(change, 0), minlength=n))
        lowered = audited.user_mean(np.bincount(sample, np.maximum(-change, 0), minlength=n))
        return np.log(raised + self.epsilon) - np.log(lowered + self.epsilon)


@dataclass(frozen=True)
class HardTokens(BaseCalibratedAttack):
    """Mean gain in probability from base to target at the tokens that the base finds hardest.

    Formula: s(u) = mean over windows of the mean of p_target(x_t) - p_base(x_t) over the half of the tokens with the
        lowest p_base
    Source: Jawad, Xiao, Wu 2026, arXiv 2601.20885 (HT-MIA).
    Differs: the share is fixed instead of tuned, and large, because titles have few tokens; hardness is judged by the
    base alone, so that membership cannot change which tokens are compared.
    Fails: Probabilities near 0 hide large changes of their logarithm: what stays improbable counts nothing.
    """

    share: float = 0.5
    """Share of an answer's tokens that count, at least one."""

    title: ClassVar[str] = "Hard tokens"
    summary: ClassVar[str] = "How much probability fine-tuning gave to the answer's hardest tokens."
    source: ClassVar[str] = "Jawad et al. 2026, arXiv 2601.20885"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean difference in probability."""
        target, base = evidence.views["target"], evidence.views["base"]
        gain = np.exp(target.log_probability.astype(np.float64)) - np.exp(base.log_probability.astype(np.float64))
        return lowest_mean(target, gain, self.share, by=base.log_probability)


@dataclass(frozen=True)
class HistoryAblation(BaseCalibratedAttack):
    """What the user's history adds to the log-likelihood of the answer, in the target more than in the base.

    Formula: s(u) = mean of [LL(answer | history) - LL(answer | none)]_target - the same_base
    Source: after Chi et al. 2026, arXiv 2512.09442 (recommendations with against without the user's own history).
    Differs: log-likelihoods of the true answer instead of recommended lists, with the base subtracted.
    Fails: It finds what training added to the use of the history: a model that learned items alone, or ignores
        histories, shows nothing.
    """

    title: ClassVar[str] = "History ablation"
    summary: ClassVar[str] = (
        "How much the user's own history helps the model to the true answer, beyond what it should."
    )
    passes: ClassVar[str] = "2 on the target, 2 on the base"
    source: ClassVar[str] = "after Chi et al. 2026, arXiv 2512.09442"
    needs: ClassVar[frozenset[str]] = frozenset({"base", "target/no_history", "base/no_history"})

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) difference of two differences, nats per token."""
        return fall(evidence, "target", "no_history") - fall(evidence, "base", "no_history")


@dataclass(frozen=True)
class SelfPrompted(LogitAttack):
    """How far the answer's probability falls when the history is altered, in the target more than in its imitation.

    The reference is trained on text that the target itself wrote; probabilities are geometric means over tokens.
    Formula: s(u) = [p(x) - mean p(x after altered history)]_target - the same_reference, p = exp(mean_t log p(x_t))
    Source: Fu et al. 2024, arXiv 2311.06062 (SPV-MIA).
    Differs: items of the history are swapped for similar ones, where the published attack lets another model rewrite
    masked words of the text: a title with a word replaced would be no item.
    Fails: The reference is as good as the texts that the target wrote; a target that repeats a few popular titles
        teaches it nothing.
    """

    title: ClassVar[str] = "Self-prompted calibration"
    summary: ClassVar[str] = "How far an altered history lowers the answer's probability, against a self-taught copy."
    passes: ClassVar[str] = "1 on the target and on the self-prompted reference, each again per altered history"
    source: ClassVar[str] = "Fu et al. 2024, arXiv 2311.06062"
    needs: ClassVar[frozenset[str]] = frozenset(
        {"self_prompted", "target/history_swapped", "self_prompted/history_swapped"}
    )

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) difference of two falls in probability."""

        def drop(model: str) -> np.ndarray:
            altered = [
                np.exp(observed.sample_mean("log_probability"))
                for observed in evidence.replicates(f"{model}/history_swapped")
            ]
            return np.exp(log_likelihood(evidence, model)) - np.mean(altered, axis=0)

        return drop("target") - drop("self_prompted")


@dataclass(frozen=True)
class SoftDifference(LogitAttack):
    """Mean log-likelihood difference between the target and the soft references distilled from it.

    Formula: s(u) = mean over windows and tokens of log p_target(x_t) - mean over references of log p_reference(x_t)
    Source: Watson et al. 2022, arXiv 2111.08440 (difficulty calibration), with the references of Li et al. 2025,
    arXiv 2511.14763.
    Differs: references learn from the target's outputs on public users alone, never from labels; several are averaged.
    Relations: `target_minus_base` with references that know the catalogue as well as the target does.
    Fails: A reference that imitates its teacher too well also imitates what was learned by heart; one that does so
        badly leaves the difficulty of the titles in.
    """

    title: ClassVar[str] = "Target minus soft references"
    summary: ClassVar[str] = "How much likelier the target finds the answers than copies of it that never met the user."
    passes: ClassVar[str] = "1 on the target, 1 on each soft reference"
    source: ClassVar[str] = "Watson et al. 2022, arXiv 2111.08440; references after arXiv 2511.14763"
    needs: ClassVar[frozenset[str]] = frozenset({"soft"})

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean log-probability difference, nats per token."""
        return log_likelihood(evidence, "target") - log_likelihood(evidence, "soft")
