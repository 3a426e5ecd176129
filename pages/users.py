"""Every user of an audit in a table that can be searched, and one user's page with all that is kept of them."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import polars as pl
import streamlit as st

from mia_core.errors import NotFound
from mia_core.report import people
from mia_core.report.people import Search
from mia_core.report.results import AuditResult
from mia_core.report.wording import ROLE_NAMES, explain_role
from mia_core.types import Role
from mia_core.ui import frame
from mia_core.ui.attack_figures import choose_attack
from mia_core.ui.user_evidence import show_history, show_scores, show_tokens, show_without

ORDERS = {
    "score": "Score",
    "p": "p-value",
    "p_stratum": "p, alike",
    "user": "Id",
    "role": "Role",
    "named": "Named",
    "windows": "Windows",
    "history_length": "History",
    "mean_popularity": "Popularity",
    "stratum": "Stratum",
}
"""What can be sorted by, by its column; also the columns' titles."""


def address(search: Search) -> None:
    """Puts a search into the page's address; what else stands there stays."""
    for name in Search().__dataclass_fields__:
        if name in st.query_params:
            del st.query_params[name]
    for name, value in search.address().items():
        st.query_params[name] = value


def asked() -> Search:
    """The search that the address says."""
    return Search.read(st.query_params.to_dict(), st.query_params.get_all("role"))


def open_user(user: str | None) -> None:
    """Opens one user's page, or goes back to the table."""
    for name in ("user", "job", "windows"):
        if name in st.query_params:
            del st.query_params[name]
    if user is not None:
        st.query_params["user"] = user


def searched(result: AuditResult, attack: str, search: Search) -> pl.DataFrame:
    """The users of the search, by the scores of one attack."""
    names = people.columns_of(attack, frame.columns(result.key, "users"))
    # Columns of users are read once, those of an attack when it is asked for.
    of_attack = [name for name in names if name.endswith(f".{attack}")]
    fixed = frame.table(result.key, "users", *(name for name in names if name not in of_attack))
    scores = frame.table(result.key, "users", *of_attack) if of_attack else pl.DataFrame()
    return people.find_users(fixed.hstack(scores.rename(names, strict=False)) if of_attack else fixed, search)


def filters(result: AuditResult, search: Search, present: list[str]) -> str:
    """The widgets of a search: they show what the address says, and a change goes into the address.

    Returns:
        the attack whose scores are shown.
    """
    say = result.unit.say
    roles = [role for role in ROLE_NAMES if result.roles.get(role)]
    usual = [role for role in roles if not role.known and role is not Role.PUBLIC]
    strata = (
        sorted(frame.table(result.key, "users", "stratum")["stratum"].drop_nulls().unique())
        if "stratum" in present
        else []
    )
    values: dict[str, Any] = {
        "find.role": list(search.role) or usual,
        "find.has": search.has,
        "find.named": search.named,
        "find.p": search.p,
        "find.from_length": search.from_length,
        "find.to_length": search.to_length,
        "find.stratum": search.stratum if search.stratum in strata else None,
        "find.by": search.by,
        "find.up": search.up,
    }
    st.session_state.update(values)

    def changed() -> None:
        said = {name.removeprefix("find."): st.session_state[name] for name in values if name in st.session_state}
        chosen = said.pop("role", [])
        address(replace(search, **said, role=() if set(chosen) == set(usual) else tuple(chosen), page=1))

    first, second, third = st.columns([3, 4, 3], vertical_alignment="bottom")
    first.text_input(say("User id contains"), key="find.has", on_change=changed, icon=":material/search:")
    second.multiselect("Roles", roles, format_func=ROLE_NAMES.__getitem__, key="find.role", on_change=changed)
    with third.popover("More filters", icon=":material/filter_list:", width="stretch"):
        if "named" in present:
            st.toggle(
                "Named only",
                key="find.named",
                on_change=changed,
                help="Stands out by the lead attack at the false discovery rate of this audit",
            )
        st.number_input("p-value at most", 0.0, 1.0, step=0.01, format="%.3f", key="find.p", on_change=changed)
        left, right = st.columns(2)
        left.number_input("History from", 0, step=1, key="find.from_length", on_change=changed)
        right.number_input("to", 0, step=1, key="find.to_length", on_change=changed)
        if strata:
            st.selectbox(
                "Stratum",
                strata,
                index=None,
                placeholder="any",
                key="find.stratum",
                on_change=changed,
                help=say("Users of like history length and popularity, who are compared with one another"),
            )
    orders = [name for name in ORDERS if name in {"score", "p", "p_stratum"} or name in present]
    left, right, rest = st.columns([3, 2, 5], vertical_alignment="bottom")
    left.selectbox("Sorted by", orders, format_func=lambda name: say(ORDERS[name]), key="find.by", on_change=changed)
    right.toggle("Lowest first", key="find.up", on_change=changed)
    set_by_hand = [
        words
        for there, words in (
            (search.named, "named only"),
            (search.p is not None, f"p ≤ {search.p}"),
            (search.from_length is not None, f"history from {search.from_length}"),
            (search.to_length is not None, f"history to {search.to_length}"),
            (search.stratum is not None, f"stratum {search.stratum}"),
        )
        if there
    ]
    if set_by_hand:
        st.caption("Filtered: " + ", ".join(set_by_hand))
    with rest:
        return choose_attack(result, "Scores of", "attack")


def show_table(result: AuditResult) -> None:
    """One page of the users who fit, and the way to each of them."""
    say, search = result.unit.say, asked()
    present = frame.columns(result.key, "users")
    attack = filters(result, search, present)
    found = searched(result, attack, search)
    rows, number, pages = people.page_of(found, search.page)
    ids = rows["user"].to_list()
    titles = {name: say(title) for name, title in ORDERS.items() if name in rows.columns}
    titles["user"] = result.unit.one.capitalize()
    order = ["user", "role", *(name for name in titles if name not in ("user", "role"))]
    shown = rows.select(
        pl.col(name).replace_strict(ROLE_NAMES, default=None, return_dtype=pl.String).alias(titles[name])
        if name == "role"
        else people.shortened(pl.col(name)).alias(titles[name])
        if name == "user"
        else people.printed(pl.col(name)).alias(titles[name])
        if name in ("p", "p_stratum")
        else pl.col(name).alias(titles[name])
        for name in order
    )
    key = f"people.{sorted(search.address().items())}.{attack}.{number}"

    def chosen() -> None:
        picked = st.session_state[key]["selection"]
        if picked["rows"]:
            open_user(ids[picked["rows"][0]])
        elif picked["columns"]:
            by = next(name for name, title in titles.items() if title == picked["columns"][0])
            address(replace(search, by=by, up=not search.up if by == search.by else False, page=1))

    begin = (number - 1) * people.PAGE
    span = f"{begin + 1:,}–{begin + rows.height:,} of " if pages > 1 else ""
    st.caption(
        say(f"{span}{found.height:,} users. Tick a row to open that user; a column's title sorts by it.")
        if found.height
        else say("No user fits. Take a filter away to see more.")
    )
    if not found.height:
        return
    st.dataframe(
        shown,
        hide_index=True,
        height=38 + 35 * min(rows.height, 16),
        on_select=chosen,
        selection_mode=["single-row", "single-column"],
        key=key,
        placeholder="–",
        column_config={
            titles["user"]: st.column_config.TextColumn(pinned=True),
            "Score": st.column_config.NumberColumn(format="%.3f", help="Higher = likelier member"),
            "Popularity": st.column_config.NumberColumn(
                format="%.3f", help=say("Mean share of public users who have the items")
            ),
        },
        alt=say("One page of the users who fit"),
    )
    if pages > 1:
        pager = f"page.{sorted(replace(search, page=1).address().items())}"
        st.pagination(
            pages,
            default=number,
            key=pager,
            on_change=lambda: address(replace(search, page=st.session_state[pager])),
        )
    st.caption(say("Scores of known users are out of fold; they have no p-value. A missing score is shown as “–”."))


def show_user(result: AuditResult, user: str) -> None:
    """All that is kept of one user."""
    say, search = result.unit.say, asked()
    folder = frame.folder(result.key)
    frame.note_lookup(result.key, user)
    row = people.one_user(folder, user)
    role = Role(row["role"])
    attack = st.query_params.get("attack", result.lead)
    ran = {one.name for one in result.attacks if not one.skipped}
    place, before, after = people.beside(searched(result, attack if attack in ran else result.lead, search), user)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(say("All users"), icon=":material/arrow_back:", on_click=open_user, args=(None,), key="back")
        st.button(
            "Previous",
            icon=":material/chevron_left:",
            on_click=open_user,
            args=(before,),
            key="before",
            disabled=before is None,
        )
        st.button(
            "Next",
            icon=":material/chevron_right:",
            on_click=open_user,
            args=(after,),
            key="after",
            disabled=after is None,
        )
        if place is not None:
            st.caption(f"{place:,} in the order of the table")
    # The id comes from a file: escaped, and the only thing here that is not ours.
    short = user if len(user) <= people.LONGEST_TEXT else user[: people.LONGEST_TEXT] + "…"
    st.html(f'<h2 class="ms-subject" dir="auto">{html.escape(short)}</h2>')
    told = explain_role(role, result)
    st.markdown(f"{told[0].upper()}{told[1:]}.")
    if role is not Role.PUBLIC:
        show_scores(result, row, role)
        show_tokens(result, user)
    left, right = st.columns(2, gap="medium") if role is not Role.PUBLIC else (st.container(), st.container())
    with left:
        show_history(result, user)
    if role is not Role.PUBLIC:
        with right:
            show_without(result, user)
    frame.link(
        "lookup",
        say("What may be said of this user, in words"),
        ":material/person_search:",
        audit=result.key,
        user=user,
    )
    if st.button(say("Erase this user's data"), icon=":material/person_remove:", type="tertiary", key="to_erase"):
        # Not in the address, which a browser remembers.
        st.session_state["erase_user"] = user
        frame.go("erase")


heading = st.empty()
heading.title("Users")
key = frame.chosen_audit()
if key is None:
    frame.empty_state("Users are those of a finished audit. The demo takes about a minute.", "Run the demo", "start")
else:
    audit = frame.result(key)
    heading.title(audit.unit.many.capitalize())
    wanted = st.query_params.get("user", "")
    try:
        if wanted:
            show_user(audit, wanted)
        else:
            show_table(audit)
    except NotFound as error:
        st.warning("Nothing was found.", icon=":material/search_off:")
        st.text(str(error))
        st.button(audit.unit.say("All users"), icon=":material/arrow_back:", on_click=open_user, args=(None,))
