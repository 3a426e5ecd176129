"""A Streamlit page with nothing of ours on it: what it does wrong is not our doing."""

import streamlit as st

st.set_page_config(page_title="Bare")


def nothing() -> None:
    """Stands for a page."""


pages = [st.Page(nothing, title=title, url_path=title) for title in ("One", "Two", "Three")]
st.navigation({"": pages[:1], "More": pages[1:]}).run()
st.title("Bare")
st.selectbox("One of them", ["a", "b"])
st.multiselect("Some of them", ["a", "b"], default=["a"])
st.segmented_control("One more", ["a", "b"], default="a")
st.text_input("Text")
st.text_area("Long text")
st.number_input("Number")
st.slider("Slider")
st.select_slider("Steps", ["a", "b"])
st.file_uploader("File")
st.button("Button")
st.checkbox("Check")
st.dataframe([{"a": 1}])
st.altair_chart(__import__("altair").Chart().mark_point())
st.progress(0.5, text="So far")
with st.expander("More"):
    st.text("More")
with st.popover("Open"):
    st.text("Open")
st.metric("Metric", "1", help="Help")
st.code("code")
st.latex("x")
