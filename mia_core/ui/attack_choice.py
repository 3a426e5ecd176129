"""Which attacks run: whole sets at one click, each attack one by one, with settings of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from mia_core.attacks.catalogue import ATTACKS, GROUPS, Group
from mia_core.attacks.contract import NO_EVIDENCE
from mia_core.audit import estimate
from mia_core.experiment import Experiment
from mia_core.ui import forms

_WITHOUT_SHADOWS = tuple(
    name
    for name, attack in ATTACKS.items()
    if "shadows" not in attack.needs and name not in GROUPS["in_context"].attacks
)
_EVERYTHING = ("Every attack that can run on such a model, shadow models included.", tuple(ATTACKS))
_ON_LISTS = (*GROUPS["recommenders"].attacks, "reference_recommendation")
PRESETS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "language": {
        "Quick": (
            "The attacks of the demo: one pass, the base, and the distilled references.",
            Experiment().attacks.names,
        ),
        "Thorough": (
            "Everything but shadow models, which are trained one by one, and the questions about prompts.",
            _WITHOUT_SHADOWS,
        ),
        "Black box": (
            "Ranked lists and written text alone, for a target that gives no probabilities.",
            tuple(GROUPS["black_box"].attacks),
        ),
        "Everything": _EVERYTHING,
    },
    "sequence": {
        "Quick": (
            "What the model says of each item of a session, judged in one pass.",
            Experiment.model_validate({"base": {"family": "sasrec"}}).attacks.names,
        ),
        "Thorough": ("Everything but shadow models, which are trained one by one.", _WITHOUT_SHADOWS),
        "Black box": (
            "Recommended lists alone, for a model that gives no probabilities.",
            _ON_LISTS,
        ),
        "Everything": _EVERYTHING,
    },
    "recommender": {
        "Quick": (
            "Rules that compare a list with the history and with what is popular; no attack is trained.",
            tuple(name for name in _ON_LISTS if "shadow_world" not in ATTACKS[name].needs),
        ),
        "Thorough": (
            "The attacks of the field, each twice: with one recommender for everybody, and as published.",
            Experiment.model_validate({"target": {"source": "recommender"}}).attacks.names,
        ),
        "Everything": ("Every attack that can run on lists alone.", tuple(ATTACKS)),
    },
}
"""For each kind of target: sets of attacks by name, each with what it is; what cannot run is left out of a set."""
WANTED = "wanted_set"
"""Where a page leaves the name of a set that it wants ticked."""
STATUS_NOTES = {
    "published": "published protocol, for comparison",
    "confounded": "published protocol, in which members and others are served differently",
    "demonstration": "leaks on purpose, to show how",
}


def choose_attacks(experiment: Experiment) -> dict[str, Any]:
    """The section ``attacks`` of a config.

    Args:
        experiment: what is asked of which target; its own attacks are those that the choice begins with.
    """
    refused = {name: reason for name in ATTACKS if (reason := estimate.refusal(experiment, name))}
    offered = tuple(name for name in ATTACKS if name not in refused)
    sets = sets_for(experiment, offered)
    # Where none of the usual attacks can run, the first set that holds any is what a choice begins with.
    usual = [name for name in experiment.attacks.names if name in offered] or next(iter(sets.values()))[1]
    asked = (experiment.kind, experiment.target.source)
    if st.session_state.get("attacks_for") != asked:
        st.session_state["attacks_for"] = asked
        _tick(offered, tuple(usual))
    for name in offered:
        st.session_state.setdefault(_key(name), name in usual)
    wanted = st.session_state.pop(WANTED, None)
    if wanted in sets:
        _tick(offered, sets[wanted][1])
    chosen = [name for name in offered if st.session_state[_key(name)]]
    _choose_set(sets, chosen, offered)
    settings: dict[str, dict[str, Any]] = {}
    with st.container(gap="xsmall"):
        for group_name, group in GROUPS.items():
            if names := tuple(name for name in group.attacks if name in offered):
                settings |= _group(group_name, group, names)
        _refused(refused)
    if not chosen:
        st.info("Choose at least one attack.")
        st.stop()
    section: dict[str, Any] = {"names": chosen, "settings": settings}
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        section["lead"] = _lead(chosen, experiment)
    if any("shadows" in ATTACKS[name].needs for name in chosen):
        section["shadows"] = int(
            right.number_input(
                "Shadow models",
                2,
                64,
                experiment.attacks.shadows,
                key="shadows",
                help="Each is trained like the target, on a random half of the users. More of them, sharper attacks: "
                "time grows with their number.",
            )
        )
    return section


def _key(name: str) -> str:
    return f"attack.{name}"


def sets_for(experiment: Experiment, offered: tuple[str, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The sets of attacks that fit a target, without what cannot run; a set of which nothing else is left is no choice."""
    sets: dict[str, tuple[str, tuple[str, ...]]] = {}
    for title, (what, names) in PRESETS[experiment.kind].items():
        left = tuple(name for name in offered if name in names)
        if left and left not in [names for _, names in sets.values()]:
            sets[title] = (what, left)
    return sets


def _choose_set(sets: dict[str, tuple[str, tuple[str, ...]]], chosen: list[str], offered: tuple[str, ...]) -> None:
    fitting = next((title for title, (_, names) in sets.items() if set(names) == set(chosen)), None)
    # Set before the widget is drawn: a box ticked below takes the mark off the set that no longer fits.
    st.session_state["attack_preset"] = fitting
    st.segmented_control("Start from a set", list(sets), key="attack_preset", on_change=_take_set, args=(sets, offered))
    what = sets[fitting][0] if fitting else "A choice of your own."
    st.caption(f"{what} {len(chosen)} of {len(offered)} attacks are chosen; tick others below.")


def _take_set(sets: dict[str, tuple[str, tuple[str, ...]]], offered: tuple[str, ...]) -> None:
    title = st.session_state["attack_preset"]
    if title is not None:
        _tick(offered, sets[title][1])


def _tick(names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    for name in names:
        st.session_state[_key(name)] = name in wanted


def _group(group_name: str, group: Group, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Those of a group's attacks that can run; returns the settings that differ from the defaults."""
    count = sum(st.session_state[_key(name)] for name in names)
    settings: dict[str, dict[str, Any]] = {}
    # With a key of its own it stays open while the number in its label changes.
    with st.expander(f"**{group.title}** · {count} of {len(names)}", key=f"attack_group.{group_name}"):
        st.markdown(group.summary)
        with st.container(horizontal=True):
            for label, wanted in (("Tick all", names), ("Tick none", ())):
                st.button(
                    label,
                    key=f"attack_group.{group_name}.{label}",
                    on_click=_tick,
                    args=(names, wanted),
                    type="tertiary",
                )
        columns = st.columns(2, gap="medium")
        for i, name in enumerate(names):
            with columns[i >= (len(names) + 1) // 2], st.container(gap=None):
                changed = _attack(name)
            if changed:
                settings[name] = changed
    return settings


def _attack(name: str) -> dict[str, Any]:
    attack = ATTACKS[name]
    on = st.checkbox(attack.title, key=_key(name))
    note = f" · {STATUS_NOTES[attack.status]}" if attack.status in STATUS_NOTES else ""
    # The link opens beside the form, which so keeps what was entered.
    st.caption(
        f"{attack.summary}  \n{attack.access.capitalize()} · passes: {attack.passes}{note} · [formula](methods?method={name})"
    )
    if not on or not forms.settings_of(attack):
        return {}
    with st.popover("Settings", icon=":material/tune:", type="tertiary"):
        st.markdown(f"**{attack.title}**")
        return forms.settings_form(attack, f"attack.{name}.settings")


def _refused(refused: dict[str, str]) -> None:
    """What cannot run on this target, and why."""
    if not refused:
        return
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused.items():
        by_reason.setdefault(reason, []).append(ATTACKS[name].title)
    attacks = "1 attack" if len(refused) == 1 else f"{len(refused)} attacks"
    with st.expander(f"{attacks} cannot run on this model", icon=":material/block:", key="attacks_refused"):
        for reason, titles in by_reason.items():
            st.markdown(f"{reason[:1].upper()}{reason[1:]}:")
            st.caption("; ".join(titles))


def _lead(chosen: list[str], experiment: Experiment) -> str:
    usual = experiment.attacks.lead
    honest = [name for name in chosen if ATTACKS[name].status not in NO_EVIDENCE] or chosen
    return str(
        st.selectbox(
            "The score named before the run",
            honest,
            index=honest.index(usual) if usual in honest else 0,
            format_func=lambda name: ATTACKS[name].title,
            key=f"lead_{experiment.kind}",
            help="The headline and the lookup use this one, whatever the others turn out to be.",
        )
    )
