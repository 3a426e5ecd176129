"""Every attack by its name. A new attack is one class and one line here."""

from __future__ import annotations

from mia_core.attacks.contract import Attack
from mia_core.attacks.fused import Distillation, DistillationLeaking, DistillationPublished, FusedTarget, Hidden
from mia_core.attacks.likelihood import Confidence, Entropy, Loss, TargetMinusBase
from mia_core.attacks.shadow import ShadowClassifier

ATTACKS: dict[str, type[Attack]] = {
    "loss": Loss,
    "confidence": Confidence,
    "entropy": Entropy,
    "hidden": Hidden,
    "target_minus_base": TargetMinusBase,
    "fused_target": FusedTarget,
    "distillation": Distillation,
    "distillation_published": DistillationPublished,
    "distillation_leaking": DistillationLeaking,
    "shadow_classifier": ShadowClassifier,
}
