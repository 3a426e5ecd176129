"""Every attack by its name. A new attack is one class and one line here."""

from __future__ import annotations

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
from mia_core.attacks.ensemble import Ensemble
from mia_core.attacks.fused import Distillation, DistillationLeaking, DistillationPublished, FusedTarget, Hidden
from mia_core.attacks.in_context import Hallucination, Inquiry, Memorisation, Poisoning, Similarity
from mia_core.attacks.likelihood import (
    Confidence,
    DcPdd,
    Entropy,
    ItemPopularityCalibrated,
    Loss,
    Lowercase,
    MaxRenyi,
    MinK,
    MinKPlusPlus,
    ModifiedEntropy,
    ModRenyi,
    Perplexity,
    TokenProfile,
    Zlib,
)
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
from mia_core.attacks.sets import RangeAttack
from mia_core.attacks.shadow import (
    AttackR,
    BaseShadows,
    Bavaria,
    LiraFixedVariance,
    LiraOffline,
    LiraOnline,
    Rmia,
    SequenceLira,
    ShadowClassifier,
    ShadowClassifierForest,
    ShadowClassifierMlp,
)
from mia_core.attacks.token_sequence import TokenSequence
from mia_core.attacks.trajectory import LossTrajectory
from mia_core.attacks.white_box import GradientNorm, LayerProbe

ATTACKS: dict[str, type[Attack]] = {
    "loss": Loss,
    "confidence": Confidence,
    "entropy": Entropy,
    "perplexity": Perplexity,
    "zlib": Zlib,
    "lowercase": Lowercase,
    "min_k": MinK,
    "min_k_plus_plus": MinKPlusPlus,
    "modified_entropy": ModifiedEntropy,
    "max_renyi": MaxRenyi,
    "mod_renyi": ModRenyi,
    "dc_pdd": DcPdd,
    "item_popularity_calibrated": ItemPopularityCalibrated,
    "token_profile": TokenProfile,
    "hidden": Hidden,
    "target_minus_base": TargetMinusBase,
    "likelihood_ratio": LikelihoodRatio,
    "min_k_plus_plus_minus_base": MinKPlusPlusMinusBase,
    "error_zone": ErrorZone,
    "hard_tokens": HardTokens,
    "history_ablation": HistoryAblation,
    "self_prompted": SelfPrompted,
    "soft_difference": SoftDifference,
    "recall": Recall,
    "con_recall": ConRecall,
    "neighbourhood": Neighbourhood,
    "neighbourhood_minus_base": NeighbourhoodMinusBase,
    "noisy_neighbours": NoisyNeighbours,
    "template_sensitivity": TemplateSensitivity,
    "history_swap_sensitivity": HistorySwapSensitivity,
    "fused_target": FusedTarget,
    "distillation": Distillation,
    "distillation_published": DistillationPublished,
    "distillation_leaking": DistillationLeaking,
    "shadow_classifier": ShadowClassifier,
    "shadow_classifier_mlp": ShadowClassifierMlp,
    "shadow_classifier_forest": ShadowClassifierForest,
    "lira_online": LiraOnline,
    "lira_offline": LiraOffline,
    "lira_fixed_variance": LiraFixedVariance,
    "sequence_lira": SequenceLira,
    "attack_r": AttackR,
    "rmia": Rmia,
    "base_shadows": BaseShadows,
    "bavaria": Bavaria,
    "attack_p": AttackP,
    "qmia": Qmia,
    "layer_probe": LayerProbe,
    "gradient_norm": GradientNorm,
    "loss_trajectory": LossTrajectory,
    "token_sequence": TokenSequence,
    "ensemble": Ensemble,
    "range_attack": RangeAttack,
    "petal": Petal,
    "list_hit": ListHit,
    "list_consistency": ListConsistency,
    "reference_recommendation": ReferenceRecommendation,
    "text_distillation": TextDistillation,
    "inquiry": Inquiry,
    "hallucination": Hallucination,
    "similarity": Similarity,
    "memorisation": Memorisation,
    "poisoning": Poisoning,
}
