"""The router: every page view starts here."""

from __future__ import annotations

import streamlit as st

from mia_core.ui import frame, sign_in


def main() -> None:
    """Sets up the page and runs the one that the address names."""
    mark = str(frame.ROOT / "assets" / "mark.svg")
    st.set_page_config(
        page_title="MemberScope",
        page_icon=mark,
        layout="wide",
        menu_items={"About": "MemberScope shows whether a recommender was trained on a person's data."},
    )
    st.logo(str(frame.ROOT / "assets" / "logo.svg"), size="large", icon_image=mark)
    frame.style()
    if not frame.run_calmly(sign_in.let_in):
        st.stop()
    page = st.navigation(frame.sections())
    frame.run_calmly(page.run)


if __name__ == "__main__":
    main()
