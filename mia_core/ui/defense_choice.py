"""Which defences protect the target of a new audit."""

from __future__ import annotations

from typing import Any

import streamlit as st

from mia_core.defenses.catalogue import DEFENSES, configured
from mia_core.errors import MemberScopeError
from mia_core.experiment import Experiment
from mia_core.ui import forms


def choose_defenses(asked: Experiment) -> dict[str, Any]:
    """The defense section of a config; only what fits such a target is offered."""
    fitting = [name for name, kind in DEFENSES.items() if asked.kind in kind.kinds]
    with st.expander("Defences of the target (usually none)", icon=":material/shield:"):
        st.caption(
            "The target is trained or served with them, and every attack knows of it. To compare many, finish an audit without "
            "any and open Defences."
        )
        names = st.multiselect(
            "Defences",
            fitting,
            format_func=lambda name: DEFENSES[name].title,
            key=f"defenses_{asked.kind}",
            placeholder="None",
        )
        settings: dict[str, dict[str, Any]] = {}
        for name in names:
            kind = DEFENSES[name]
            st.markdown(f"**{kind.title}.** {kind.summary} {kind.expected}")
            if forms.settings_of(kind):
                changed = forms.settings_form(kind, f"defense.{name}")
                if changed:
                    settings[name] = changed
            try:
                configured(name, settings.get(name, {}))
            except (MemberScopeError, ValueError) as error:
                st.text(str(error))
    return {"names": names, "settings": settings}
