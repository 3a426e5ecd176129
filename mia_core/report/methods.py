"""What every method of the house asks, on which paper it rests, and where it fails: read from its own docstring.

A docstring is a first line, text, and sections that begin with their name: Formula, Source, Differs, Relations, Sign, Fails, and
those of functions (Args, Returns, Raises). What a class does not say itself it has from the class that it extends.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

SECTIONS = ("Formula", "Args", "Returns", "Raises", "Source", "Differs", "Relations", "Sign", "Fails")
_HEADING = re.compile(rf"({'|'.join(SECTIONS)}):\s*(.*)")

KINDS = {
    "attack": "Attacks",
    "target": "Targets",
    "prompt": "Prompts",
    "defence": "Defences",
    "unlearning": "Forgetting",
    "gate": "Gates",
    "figure": "Figures",
}
"""What a method can be, in the order in which they are shown."""


@dataclass(frozen=True)
class Setting:
    """One thing that can be set."""

    name: str
    default: str
    text: str


@dataclass(frozen=True)
class Method:
    """One method in words. Texts are our own: none comes from anybody's data."""

    kind: str
    """A key of `KINDS`."""
    name: str
    """What configs, tables and addresses call it."""
    title: str
    group: str
    asks: str
    """One plain sentence."""
    formula: str
    source: str
    access: str
    cost: str
    fails: str
    status: str = ""
    text: str = ""
    """How it works, at more length."""
    differs: str = ""
    relations: str = ""
    expected: str = ""
    """Of a defence: what it is known to do, and how well that is known."""
    settings: list[Setting] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What the page's address calls it: names are unique within a kind only."""
        return self.name if self.kind == "attack" else f"{self.kind}.{self.name}"


def sections(docstring: str | None) -> dict[str, str]:
    """A docstring's first line ("Summary"), the text below it ("Text"), and its sections by name, each on one line."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    found: dict[str, list[str]] = {"Summary": [], "Text": []}
    at = "Summary"
    for line in lines:
        heading = _HEADING.match(line)
        if heading:
            at = heading[1]
            found.setdefault(at, []).append(heading[2])
        elif not line.strip() and at == "Summary":
            at = "Text"
        else:
            found[at].append(line.strip())
    return {name: " ".join(part for part in parts if part) for name, parts in found.items()}


def inherited(kind: type[Any]) -> dict[str, str]:
    """The sections of a class, those that it lacks from the first of the classes it extends that has them."""
    own = sections(kind.__doc__)
    for base in kind.__mro__[1:]:
        if base.__module__.startswith("mia_core"):
            further = sections(base.__doc__)
            own |= {
                name: text
                for name, text in further.items()
                if name in ("Formula", "Source", "Fails") and name not in own
            }
    return own


@cache
def methods_of(kind: str) -> tuple[Method, ...]:
    """Every method of a kind; only what that kind needs is imported."""
    makers = {
        "attack": _attacks,
        "target": _targets,
        "prompt": _prompts,
        "defence": _defences,
        "unlearning": _unlearning,
        "gate": _gates,
        "figure": _figures,
    }
    return tuple(makers[kind]())


def find_method(address: str) -> Method | None:
    """The method that an address names; an attack also by its name alone."""
    kind, _, name = address.rpartition(".")
    if kind and kind not in KINDS:
        return None
    return next((method for method in methods_of(kind or "attack") if method.name == name), None)


def matching(found: Iterable[Method], words: str) -> list[Method]:
    """Methods in whose texts every one of some words stands."""
    wanted = words.casefold().split()
    return [method for method in found if all(word in _words_of(method) for word in wanted)]


def _words_of(method: Method) -> str:
    parts = (
        *(
            method.name,
            method.title,
            method.group,
            method.asks,
            method.formula,
            method.source,
            method.access,
            method.fails,
        ),
        *(method.text, method.differs, method.relations, method.expected),
    )
    return " ".join(parts).casefold()


def _attacks() -> Iterator[Method]:
    # Imported here, as below: what a registry needs to run is not needed to open a result.
    from mia_core.attacks.catalogue import GROUPS

    for group in GROUPS.values():
        for name, attack in group.attacks.items():
            said = inherited(attack)
            yield Method(
                "attack",
                name,
                attack.title,
                group.title,
                attack.summary,
                said.get("Formula", ""),
                said.get("Source") or attack.source,
                attack.access,
                attack.passes,
                said.get("Fails", ""),
                attack.status,
                _body(said),
                said.get("Differs", ""),
                _relations(said),
                settings=_settings(attack),
            )


def _targets() -> Iterator[Method]:
    from mia_core.models.llm.families import FAMILIES
    from mia_core.models.recommenders import RECOMMENDERS
    from mia_core.models.sequence_families import SEQUENCE_FAMILIES

    trained = "trained here, or brought along"
    groups: list[tuple[str, Mapping[str, Any], Callable[[Any], Any], str, str]] = [
        (
            "Language models",
            FAMILIES,
            lambda f: f.offline,
            "probabilities, texts and weights",
            "one pass for each window",
        ),
        (
            "Sequence recommenders",
            SEQUENCE_FAMILIES,
            lambda f: f.config,
            "probabilities and weights",
            "one pass for each history",
        ),
        ("Classic recommenders", RECOMMENDERS, lambda f: f, "ranked lists", "one list for each user"),
    ]
    for group, registry, where, access, cost in groups:
        for name, family in registry.items():
            said = sections(where(family).__doc__)
            title = getattr(family, "title", name.replace("_", " ").capitalize())
            yield Method(
                "target",
                name,
                title,
                group,
                said["Summary"],
                said.get("Formula", ""),
                said.get("Source", ""),
                access,
                f"{cost}; {trained if group == 'Language models' else 'trained here'}",
                said.get("Fails", ""),
                text=said["Text"],
                differs=said.get("Differs", ""),
                relations=_relations(said),
            )


def _prompts() -> Iterator[Method]:
    from mia_core.data.prompts import PROMPT_STYLES

    for name, style in PROMPT_STYLES.items():
        said = sections(style.words.__doc__)
        yield Method(
            "prompt",
            name,
            style.title,
            "Prompt styles",
            style.summary,
            said.get("Formula", ""),
            said.get("Source", ""),
            "needs ratings" if style.needs_ratings else "needs no ratings",
            "one question for each window",
            said.get("Fails", ""),
            text=said["Summary"],
            settings=[Setting("template", style.template, "The question, unless another is given.")]
            if style.template
            else [],
        )


def _defences() -> Iterator[Method]:
    from mia_core.defenses.catalogue import DEFENSES
    from mia_core.defenses.contract import KINDS as TARGETS

    costs = {"training": "the target is trained anew", "serving": "next to nothing: only what is shown changes"}
    for name, defense in DEFENSES.items():
        said = inherited(defense)
        yield Method(
            "defence",
            name,
            defense.title,
            f"In {defense.where}",
            defense.summary,
            said.get("Formula", ""),
            said.get("Source") or defense.source,
            f"for a {' or a '.join(TARGETS[kind] for kind in defense.kinds)}",
            costs[defense.where],
            said.get("Fails", ""),
            text=_body(said),
            differs=said.get("Differs", ""),
            relations=_relations(said),
            expected=defense.expected,
            settings=_settings(defense),
        )


def _unlearning() -> Iterator[Method]:
    from mia_core.models.llm.unlearning import UNLEARNING

    for name, way in UNLEARNING.items():
        said = inherited(way)
        yield Method(
            "unlearning",
            name,
            way.title,
            "Ways to forget",
            way.summary,
            said.get("Formula", ""),
            said.get("Source") or way.source,
            "LoRA targets alone" if way.adapters_only else "the weights",
            "one training at most" if name != "nothing" else "nothing",
            said.get("Fails", ""),
            text=_body(said),
            differs=said.get("Differs", ""),
            relations=_relations(said),
            settings=_settings(way),
        )


def _gates() -> Iterator[Method]:
    from mia_core.evaluate import gates

    titles = {"blind_gate": "Blind gate", "placebo_gate": "Placebo gate", "null_gate": "Null gate"}
    costs = {"placebo_gate": "a second training, beside the first"}
    for name, title in titles.items():
        yield _function(
            "gate", getattr(gates, name), title, "Before any result is believed", costs.get(name, "seconds")
        )


def _figures() -> Iterator[Method]:
    from mia_core.evaluate import (
        calibration,
        comparison,
        dependence,
        discoveries,
        intervals,
        metrics,
        modality,
        privacy,
    )

    groups: dict[str, list[tuple[Callable[..., Any], str]]] = {
        "How well an attack does": [
            (intervals.auc_interval, "AUC"),
            (intervals.tpr_interval, "Members found at few false alarms (TPR at a low FPR)"),
            (intervals.fpr_limit, "Upper limit of the false alarms"),
            (metrics.best_threshold, "Threshold fixed on known users"),
            (discoveries.precision_at_recall, "Precision at a recall"),
            (intervals.binomial_interval, "Interval of a rate"),
            (intervals.mean_interval, "Interval of a mean"),
            (comparison.max_statistic, "Best of many attacks (adjusted p-value)"),
            (comparison.delong_difference, "Difference of two AUCs"),
        ],
        "What may be said of one person": [
            (calibration.p_values, "p-value of a person"),
            (calibration.mondrian_p_values, "p-value among people alike"),
            (discoveries.likelihood_ratio, "Likelihood ratio of a flag"),
            (discoveries.posterior, "From prior to posterior"),
        ],
        "What may be said of many": [
            (discoveries.benjamini_hochberg, "Whom to name (false discovery rate)"),
            (discoveries.wrong_at_most, "Wrong at most, for every length of a list"),
            (dependence.intraclass_correlation, "How alike a user's windows are"),
            (dependence.effective_windows, "Independent windows"),
            (modality.dip_test, "More than one mode (dip test)"),
        ],
        "How private the training was at best": [
            (privacy.epsilon_one_run, "Lower bound on ε, one run"),
            (privacy.epsilon_f_dp, "Lower bound on ε, one run, if Gaussian"),
            (privacy.epsilon_clopper_pearson, "Lower bound on ε, from TPR and FPR"),
        ],
    }
    for group, figures in groups.items():
        for function, title in figures:
            yield _function("figure", function, title, group, "none: it is worked out from scores")


def _function(kind: str, function: Callable[..., Any], title: str, group: str, cost: str) -> Method:
    said = sections(function.__doc__)
    return Method(
        kind,
        function.__name__,
        title,
        group,
        said["Summary"],
        said.get("Formula", ""),
        said.get("Source", ""),
        "scores and roles",
        cost,
        said.get("Fails", ""),
        text=said["Text"],
        differs=said.get("Differs", ""),
        relations=_relations(said),
    )


def _body(said: Mapping[str, str]) -> str:
    return " ".join(part for part in (said["Summary"], said["Text"]) if part)


def _relations(said: Mapping[str, str]) -> str:
    return " ".join(said[name] for name in ("Relations", "Sign") if said.get(name))


def _settings(kind: type[Any]) -> list[Setting]:
    """The fields of a dataclass, each with the sentence under it."""
    texts = field_texts(cast(Hashable, kind))
    return [Setting(f.name, str(f.default), texts.get(f.name, "")) for f in dataclasses.fields(kind)]


@cache
def field_texts(kind: Hashable) -> dict[str, str]:
    """The sentence under each field of a class, as it stands in its source or in that of a class it extends."""
    texts: dict[str, str] = {}
    for each in reversed(inspect.getmro(kind)):  # type: ignore[arg-type]
        if not each.__module__.startswith("mia_core"):
            continue
        previous = ""
        for node in getattr(ast.parse(textwrap.dedent(inspect.getsource(each))).body[0], "body", []):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                previous = node.target.id
            elif previous and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                texts[previous] = inspect.cleandoc(str(node.value.value)).replace("``", "`")
                previous = ""
            else:
                previous = ""
    return texts
