"""The words of a report, each in a plain sentence."""

from __future__ import annotations

from mia_core.types import USER, Unit

GLOSSARY = {
    "Member": "A user whose data the recommender used, in the way that the question of the audit names.",
    "Held-out user": "A comparable user whose data the recommender did not use.",
    "Audited": "A user whose membership the attacks were not told; every figure counts audited users.",
    "Known": "A user whose membership the auditor used to build the attacks and to fix their thresholds.",
    "Calibration users": "Audited held-out users, with whom a person is compared.",
    "Public": "A third-party user whose data helped to build the audit and who is not judged.",
    "Target": "The recommender that is audited.",
    "Base": "The same model before it was fine-tuned.",
    "Reference": "A model that the auditor trained in order to compare the target with it.",
    "Attack": "A way to tell members from held-out users by what the target, or what stands beside it, answers.",
    "Lead": "The one attack that was named before the run and that the result is read by.",
    "Score": "What an attack gives a user; higher always means likelier a member. It has no scale of its own.",
    "Gate": "A check of the audit itself. If one fails, no figure of the audit counts.",
    "AUC": (
        "How often, of one member and one held-out user, the attack gives the member the higher score; 0.5 is guessing, 1 is "
        "perfect."
    ),
    "TPR": "True-positive rate: the share of the members that an attack recognises.",
    "FPR": "False-positive rate: the share of the held-out users that an attack takes for members.",
    "Interval": "The range that holds the true value in so many of 100 such audits, were other users drawn.",
    "p-value": (
        "How often a user whose data were not used would look at least this member-like. It is not the chance that a person is a "
        "member."
    ),
    "Adjusted p": "How often the best of all the attacks would do as well by chance.",
    "False discovery rate": "The share of the named users that is wrong on average.",
    "Epsilon (ε)": (
        "How much one user may change what a training gives; 0 is not at all. A proven lower bound says at least how much."
    ),
    "HR@10, NDCG@10": (
        "Quality of recommendations: how often the true next item is among the first ten, and how high up it stands there."
    ),
}


def glossary(unit: Unit = USER) -> dict[str, str]:
    """Word: meaning, in the words of what an audit judges."""
    return {unit.say(word): unit.say(meaning) for word, meaning in GLOSSARY.items()}
