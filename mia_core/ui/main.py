"""The router: every page view starts here."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mia_core.ui import frame

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Sets up the page and runs the one that the address names."""
    st.set_page_config(
        page_title="MemberScope",
        page_icon=str(ROOT / "assets" / "mark.svg"),
        layout="wide",
        menu_items={"About": "MemberScope shows whether a recommender was trained on a person's data."},
    )
    st.logo(str(ROOT / "assets" / "logo.svg"), size="large", icon_image=str(ROOT / "assets" / "mark.svg"))
    frame.style()
    pages = ROOT / "pages"
    page = st.navigation(
        [
            st.Page(pages / "start.py", title="Start", icon=":material/home:", url_path="start", default=True),
            st.Page(pages / "data.py", title="Data", icon=":material/table:", url_path="data"),
            st.Page(pages / "audit.py", title="Audit", icon=":material/science:", url_path="audit"),
            st.Page(pages / "results.py", title="Results", icon=":material/monitoring:", url_path="results"),
            st.Page(pages / "lookup.py", title="Lookup", icon=":material/person_search:", url_path="lookup"),
        ]
    )
    frame.run_calmly(page.run)


main()
