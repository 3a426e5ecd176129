"""Every attack by its name, grouped by evidence. A new attack is one class and one line here."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mia_core.attacks.biased import (
    BiasedMia,
    BiasedMiaClustering,
    BiasedMiaClusteringPublished,
    BiasedMiaNaiveBayes,
    BiasedMiaNaiveBayesPublished,
    BiasedMiaOwnVectors,
    BiasedMiaPublished,
    BiasedMiaTree,
    BiasedMiaTreePublished,
)
from mia_core.attacks.black_box import ListConsistency, ListHit, Petal, ReferenceRecommendation, TextDistillation
from mia_core.attacks.calibrated import (
    ErrorZone,
    HardTokens,
    HistoryAblation,
    LikelihoodRatio,
    MinKPlusPlusMinusBase,
    SelfPrompted,
    SoftDifference,
    TargetMinusBase,
)
from mia_core.attacks.contract import Attack
from mia_core.attacks.dl_mia import DlMia, DlMiaPublished
from mia_core.attacks.ensemble import Ensemble
from mia_core.attacks.entropies import Entropy, MaxRenyi, ModifiedEntropy, ModRenyi
from mia_core.attacks.fused import Distillation, DistillationLeaking, DistillationPublished, FusedTarget, Hidden
from mia_core.attacks.in_context import Hallucination, Inquiry, Memorisation, Poisoning, Similarity
from mia_core.attacks.likelihood import (
    Confidence,
    DcPdd,
    ItemPopularityCalibrated,
    Loss,
    Lowercase,
    MinK,
    MinKPlusPlus,
    Perplexity,
    TokenProfile,
    Zlib,
)
from mia_core.attacks.lira import Bavaria, LiraFixedVariance, LiraOffline, LiraOnline, SequenceLira
from mia_core.attacks.perturbed import (
    ConRecall,
    HistorySwapSensitivity,
    Neighbourhood,
    NeighbourhoodMinusBase,
    NoisyNeighbours,
    Recall,
    TemplateSensitivity,
)
from mia_core.attacks.quantile import AttackP, Qmia
from mia_core.attacks.recommender_lists import (
    ListPopularity,
    ListPopularityOwnVectors,
    ListPopularityPublished,
    ReferenceRecommendationPublished,
    ShadowFree,
    ShadowFreeOwnVectors,
    ShadowFreePublished,
)
from mia_core.attacks.sequence import SequenceMlp
from mia_core.attacks.sets import RangeAttack
from mia_core.attacks.shadow import (
    AttackR,
    BaseShadows,
    Rmia,
    ShadowClassifier,
    ShadowClassifierForest,
    ShadowClassifierMlp,
)
from mia_core.attacks.surrogate import SurrogateFeatures, SurrogateFeaturesPublished
from mia_core.attacks.token_sequence import TokenSequence
from mia_core.attacks.trajectory import LossTrajectory
from mia_core.attacks.white_box import GradientNorm, LayerProbe


@dataclass(frozen=True)
class Group:
    """Attacks that look at one kind of evidence."""

    title: str
    summary: str
    attacks: dict[str, type[Attack]]


GROUPS: dict[str, Group] = {
    "likelihood": Group(
        "Likelihood of the answers",
        "How likely the target finds what the person really chose, read in one pass.",
        {
            "loss": Loss,
            "perplexity": Perplexity,
            "zlib": Zlib,
            "lowercase": Lowercase,
            "min_k": MinK,
            "min_k_plus_plus": MinKPlusPlus,
            "confidence": Confidence,
            "entropy": Entropy,
            "modified_entropy": ModifiedEntropy,
            "max_renyi": MaxRenyi,
            "mod_renyi": ModRenyi,
            "dc_pdd": DcPdd,
            "item_popularity_calibrated": ItemPopularityCalibrated,
            "token_profile": TokenProfile,
        },
    ),
    "calibrated": Group(
        "Against the base or a reference",
        "What fine-tuning added, over what any model of the kind would say.",
        {
            "target_minus_base": TargetMinusBase,
            "likelihood_ratio": LikelihoodRatio,
            "min_k_plus_plus_minus_base": MinKPlusPlusMinusBase,
            "error_zone": ErrorZone,
            "hard_tokens": HardTokens,
            "history_ablation": HistoryAblation,
            "soft_difference": SoftDifference,
            "self_prompted": SelfPrompted,
            "range_attack": RangeAttack,
        },
    ),
    "perturbed": Group(
        "Prompted and perturbed",
        "How the answer's likelihood changes when the question, the answer or the model is altered a little.",
        {
            "recall": Recall,
            "con_recall": ConRecall,
            "neighbourhood": Neighbourhood,
            "neighbourhood_minus_base": NeighbourhoodMinusBase,
            "noisy_neighbours": NoisyNeighbours,
            "template_sensitivity": TemplateSensitivity,
            "history_swap_sensitivity": HistorySwapSensitivity,
        },
    ),
    "shadow": Group(
        "Shadow models",
        "What membership looks like in models that were trained on random halves of the users.",
        {
            "shadow_classifier": ShadowClassifier,
            "shadow_classifier_mlp": ShadowClassifierMlp,
            "shadow_classifier_forest": ShadowClassifierForest,
            "lira_online": LiraOnline,
            "lira_offline": LiraOffline,
            "lira_fixed_variance": LiraFixedVariance,
            "sequence_lira": SequenceLira,
            "attack_p": AttackP,
            "attack_r": AttackR,
            "rmia": Rmia,
            "base_shadows": BaseShadows,
            "bavaria": Bavaria,
            "qmia": Qmia,
        },
    ),
    "trained": Group(
        "Trained and white box",
        "Features, inner states and gradients, read by a classifier that learned from known users.",
        {
            "hidden": Hidden,
            "fused_target": FusedTarget,
            "distillation": Distillation,
            "distillation_published": DistillationPublished,
            "distillation_leaking": DistillationLeaking,
            "loss_trajectory": LossTrajectory,
            "layer_probe": LayerProbe,
            "gradient_norm": GradientNorm,
            "token_sequence": TokenSequence,
            "ensemble": Ensemble,
        },
    ),
    "black_box": Group(
        "Black box",
        "Ranked lists and written text alone: no probability of the target is looked at.",
        {
            "text_distillation": TextDistillation,
            "petal": Petal,
            "list_hit": ListHit,
            "list_consistency": ListConsistency,
            "reference_recommendation": ReferenceRecommendation,
        },
    ),
    "in_context": Group(
        "Served from a prompt",
        "Whether a person's history stands in the prompt that the recommender answers from.",
        {
            "inquiry": Inquiry,
            "hallucination": Hallucination,
            "similarity": Similarity,
            "memorisation": Memorisation,
            "poisoning": Poisoning,
        },
    ),
    "recommenders": Group(
        "Recommender's lists",
        "How a ranked list relates to the history it was served to: with one recommender for everybody, and as published.",
        {
            "biased_mia": BiasedMia,
            "biased_mia_own_vectors": BiasedMiaOwnVectors,
            "biased_mia_published": BiasedMiaPublished,
            "biased_mia_clustering": BiasedMiaClustering,
            "biased_mia_clustering_published": BiasedMiaClusteringPublished,
            "biased_mia_naive_bayes": BiasedMiaNaiveBayes,
            "biased_mia_naive_bayes_published": BiasedMiaNaiveBayesPublished,
            "biased_mia_tree": BiasedMiaTree,
            "biased_mia_tree_published": BiasedMiaTreePublished,
            "dl_mia": DlMia,
            "dl_mia_published": DlMiaPublished,
            "shadow_free": ShadowFree,
            "shadow_free_own_vectors": ShadowFreeOwnVectors,
            "shadow_free_published": ShadowFreePublished,
            "list_popularity": ListPopularity,
            "list_popularity_own_vectors": ListPopularityOwnVectors,
            "list_popularity_published": ListPopularityPublished,
            "reference_recommendation_published": ReferenceRecommendationPublished,
            "surrogate_features": SurrogateFeatures,
            "surrogate_features_published": SurrogateFeaturesPublished,
        },
    ),
    "sequence": Group(
        "Sequence of outputs",
        "What the target says at every position of a history, summed up and judged by a small network.",
        {"sequence_mlp": SequenceMlp},
    ),
}
ATTACKS: dict[str, type[Attack]] = {name: attack for group in GROUPS.values() for name, attack in group.attacks.items()}


def configured(name: str, settings: Mapping[str, Any]) -> Attack:
    """An attack with settings of its own.

    Raises:
        ValueError: there is no such attack, it has no such setting, or the value does not fit.
    """
    if name not in ATTACKS:
        near = difflib.get_close_matches(name, ATTACKS, n=1, cutoff=0.0)[0]
        raise ValueError(f"settings names {name!r}, which is no attack; did you mean {near!r}?")
    fields = [field.name for field in dataclasses.fields(ATTACKS[name])]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in fields:
            raise ValueError(f"{name} has no setting {setting!r}; it has {', '.join(fields) or 'none'}")
    try:
        attack: Attack = TypeAdapter(ATTACKS[name]).validate_python(dict(settings))
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ValueError(
            f"{name}.{'.'.join(str(p) for p in first['loc'])} is {first['input']!r}: {first['msg']}"
        ) from None
    return attack
