"""A page on which everything goes wrong, with somebody's id in hand."""

import streamlit as st

from mia_core.ui import frame

PERSON = "Ana-who-watched-Solaris"


def fail() -> None:
    raise ValueError(f"{PERSON} is not a number")


@st.fragment
def part() -> None:
    if st.button("A part fails"):
        fail()


st.title("Failing")
st.button("A click fails", on_click=fail)
part()
if st.button("The page fails"):
    frame.run_calmly(fail)
st.download_button("A file fails", fail, "file.txt", on_click="ignore")
