"""Which attacks run: whole sets at one click, each attack one by one, with settings of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st

from mia_core.attacks.catalogue import ATTACKS, GROUPS, Group
from mia_core.experiment import Experiment
from mia_core.ui import forms

DEFAULT = Experiment().attacks
PRESETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Quick": ("The attacks of the demo: one pass, the base, and the distilled references.", DEFAULT.names),
    "Thorough": (
        "Everything but shadow models, which are trained one by one, and the questions about prompts.",
        tuple(
            name
            for name, attack in ATTACKS.items()
            if "shadows" not in attack.needs and name not in GROUPS["in_context"].attacks
        ),
    ),
    "Black box": (
        "Ranked lists and written text alone, for a target that gives no probabilities.",
        tuple(GROUPS["black_box"].attacks),
    ),
    "Everything": ("Every attack there is, shadow models included.", tuple(ATTACKS)),
}
STATUS_NOTES = {"published": "published protocol, for comparison", "demonstration": "leaks on purpose, to show how"}


def choose_attacks() -> dict[str, Any]:
    """The section ``attacks`` of a config."""
    for name in ATTACKS:
        st.session_state.setdefault(_key(name), name in DEFAULT.names)
    chosen = [name for name in ATTACKS if st.session_state[_key(name)]]
    _presets(chosen)
    settings: dict[str, dict[str, Any]] = {}
    for group_name, group in GROUPS.items():
        settings |= _group(group_name, group)
    if not chosen:
        st.info("Choose at least one attack.")
        st.stop()
    section: dict[str, Any] = {"names": chosen, "settings": settings}
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        section["lead"] = _lead(chosen)
    if any("shadows" in ATTACKS[name].needs for name in chosen):
        section["shadows"] = int(
            right.number_input(
                "Shadow models",
                2,
                64,
                DEFAULT.shadows,
                key="shadows",
                help="Each is trained like the target, on a random half of the users. More of them, sharper attacks: "
                "time grows with their number.",
            )
        )
    return section


def _key(name: str) -> str:
    return f"attack.{name}"


def _presets(chosen: list[str]) -> None:
    fitting = next((preset for preset, (_, names) in PRESETS.items() if set(names) == set(chosen)), None)
    # Set before the widget is drawn: a box ticked below takes the mark off the set that no longer fits.
    st.session_state["attack_preset"] = fitting
    st.segmented_control("Start from a set", list(PRESETS), key="attack_preset", on_change=_take_preset)
    what = PRESETS[fitting][0] if fitting else "A choice of your own."
    st.caption(f"{what} {len(chosen)} of {len(ATTACKS)} attacks are chosen; tick others below.")


def _take_preset() -> None:
    preset = st.session_state["attack_preset"]
    if preset is not None:
        _tick(tuple(ATTACKS), PRESETS[preset][1])


def _tick(names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    for name in names:
        st.session_state[_key(name)] = name in wanted


def _group(group_name: str, group: Group) -> dict[str, dict[str, Any]]:
    """One group's attacks; returns the settings that differ from the defaults."""
    names = tuple(group.attacks)
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
    st.caption(f"{attack.summary}  \n{attack.access.capitalize()} · passes: {attack.passes}{note}")
    if not on or not forms.settings_of(attack):
        return {}
    with st.popover("Settings", icon=":material/tune:", type="tertiary"):
        st.markdown(f"**{attack.title}**")
        return forms.settings_form(attack, f"attack.{name}.settings")


def _lead(chosen: list[str]) -> str:
    honest = [name for name in chosen if ATTACKS[name].status != "demonstration"] or chosen
    return str(
        st.selectbox(
            "The score named before the run",
            honest,
            index=honest.index(DEFAULT.lead) if DEFAULT.lead in honest else 0,
            format_func=lambda name: ATTACKS[name].title,
            key="lead",
            help="The headline and the lookup use this one, whatever the others turn out to be.",
        )
    )
