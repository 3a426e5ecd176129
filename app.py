"""MemberScope's web app: `streamlit run app.py`."""

from mia_core.ui.application import build

app = build()
