"""The app around a page on which everything goes wrong."""

from pathlib import Path

import streamlit as st

from mia_core.ui.application import MIDDLEWARE, with_supervisor
from mia_core.ui.faults import explain

app = st.App(
    Path(__file__).with_name("failing_page.py"),
    middleware=MIDDLEWARE,
    lifespan=with_supervisor,
    on_script_error=explain,
)
