"""MemberScope's web app: `streamlit run app.py`."""

import streamlit as st

from mia_core.ui.application import MIDDLEWARE, ROUTER, with_supervisor
from mia_core.ui.faults import explain

# Streamlit looks for this very assignment; the router is a script of its own, so that no deep link goes round it.
app = st.App(ROUTER, middleware=MIDDLEWARE, lifespan=with_supervisor, on_script_error=explain)
