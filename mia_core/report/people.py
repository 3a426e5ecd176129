"""The users of an audit: found, sorted and paged; and everything that is kept of one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mia_core import parquet
from mia_core.errors import NotFound
from mia_core.report.inert import visible_column
from mia_core.report.results import AuditResult
from mia_core.report.wording import format_p
from mia_core.types import Role

PAGE = 50
LONGEST_TEXT = 300
"""Characters of a title that are shown."""
COLUMNS = ("user", "role", "windows", "history_length", "mean_popularity", "stratum", "named")
"""Of the users table, beside the scores of one attack. Older audits lack some."""
SORTABLE = (
    "score",
    "p",
    "p_stratum",
    "user",
    "role",
    "named",
    "windows",
    "history_length",
    "mean_popularity",
    "stratum",
)


@dataclass(frozen=True)
class Search:
    """Which users, in which order, and which page of them. Every field has its place in a page's address."""

    role: tuple[str, ...] = ()
    """Roles; none: everybody who is judged, members and held-out users alike."""
    has: str = ""
    """Part of an id."""
    named: bool = False
    """Only users who stand out at the audit's discovery rate."""
    p: float | None = None
    """Only users with a p-value of at most this."""
    from_length: int | None = None
    to_length: int | None = None
    """Limits of the history's length."""
    stratum: int | None = None
    by: str = "score"
    """One of `SORTABLE`."""
    up: bool = False
    """The lowest first."""
    page: int = 1

    def address(self) -> dict[str, str | list[str]]:
        """What differs from the default, as a page's address says it."""
        said: dict[str, str | list[str]] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                said[field.name] = (
                    list(value) if field.name == "role" else f"{value:g}" if field.name == "p" else str(value)
                )
        return said

    @staticmethod
    def read(address: Mapping[str, Any], roles: list[str]) -> Search:
        """The search that an address says; what it says wrongly is left out.

        Args:
            address: name: text.
            roles: roles of this address.
        """
        found: dict[str, Any] = {"role": tuple(role for role in roles if role in set(Role))}
        kinds = {"has": str, "p": float, "from_length": int, "to_length": int, "stratum": int, "page": int, "by": str}
        for name, kind in kinds.items():
            try:
                value = kind(address[name]) if address.get(name) else None
            except ValueError:
                continue
            # No number below 0, and no p-value above 1, limits anything: nor does what is no number.
            if value is not None and (kind is str or 0 <= value <= (1 if kind is float else value)):
                found[name] = value
        found |= {name: address.get(name) == "True" for name in ("named", "up")}
        if found.get("by") not in SORTABLE:
            found.pop("by", None)
        return Search(**found | {"page": max(1, found.get("page", 1))})


def columns_of(attack: str, present: list[str]) -> dict[str, str]:
    """Columns of the users table that a search by one attack reads, and what they are called in it."""
    scores = {f"{kind}.{attack}": kind for kind in ("score", "p", "p_stratum")}
    wanted = {**{name: name for name in COLUMNS}, **scores}
    return {name: short for name, short in wanted.items() if name in present}


def find_users(users: pl.DataFrame, search: Search) -> pl.DataFrame:
    """The users who fit, in the order asked for; those without a value come last.

    Args:
        users: the columns of `columns_of`, by their short names.
    """
    roles = search.role or tuple(str(role) for role in Role if not role.known and role is not Role.PUBLIC)
    conditions = [pl.col("role").is_in(roles)]
    if search.has:
        conditions.append(pl.col("user").str.contains(search.has, literal=True))
    if search.named and "named" in users.columns:
        conditions.append(pl.col("named").fill_null(False))
    if search.p is not None and "p" in users.columns:
        conditions.append(pl.col("p") <= search.p)
    if search.from_length is not None:
        conditions.append(pl.col("history_length") >= search.from_length)
    if search.to_length is not None:
        conditions.append(pl.col("history_length") <= search.to_length)
    if search.stratum is not None and "stratum" in users.columns:
        conditions.append(pl.col("stratum") == search.stratum)
    found = users.filter(pl.all_horizontal(conditions))
    by = search.by if search.by in users.columns else "user"
    # Equal values are in order of the id, so that a page is the same whenever it is opened.
    return found.sort(by, "user", descending=[not search.up, False], nulls_last=True)


def page_of(found: pl.DataFrame, page: int) -> tuple[pl.DataFrame, int, int]:
    """(one page of the users found, its number, how many pages there are)."""
    pages = max(1, -(-found.height // PAGE))
    page = min(page, pages)
    return found.slice((page - 1) * PAGE, PAGE), page, pages


def beside(found: pl.DataFrame, user: str) -> tuple[int | None, str | None, str | None]:
    """(place of a user among those found, from 1; who is before; who comes after); None where there is nobody."""
    at = found["user"].index_of(user)
    if at is None:
        return None, None, None
    before = found["user"][at - 1] if at > 0 else None
    after = found["user"][at + 1] if at + 1 < found.height else None
    return at + 1, before, after


def one_user(folder: Path, user: str) -> dict[str, Any]:
    """Everything that the users table says of one user.

    Raises:
        NotFound: the audit has no such user.
    """
    rows = parquet.scan(folder / "users.parquet").filter(pl.col("user") == user).collect()
    if rows.is_empty():
        raise NotFound(f"{user[:80]!r} is not part of this audit. Ids are matched exactly: case and spaces count")
    return rows.row(0, named=True)


def said_by_attacks(folder: Path, result: AuditResult, row: Mapping[str, Any]) -> pl.DataFrame:
    """What each attack that ran says of one user.

    Args:
        row: by `one_user`.
    Returns:
        attack, title, group, status, score, p, p_stratum, above (share of the other calibration users with a lower score;
        null without a score), the lead first.
    """
    ran = [attack for attack in result.attacks if not attack.skipped and f"score.{attack.name}" in row]
    ran.sort(key=lambda attack: attack.name != result.lead)
    others = parquet.scan(folder / "users.parquet").filter(
        pl.col("role") == Role.AUDITED_HELD_OUT, pl.col("user") != row["user"]
    )
    scored = [attack.name for attack in ran if row[f"score.{attack.name}"] is not None]
    shares = others.select(
        (pl.col(f"score.{name}").drop_nulls() < row[f"score.{name}"]).mean().alias(name) for name in scored
    ).collect()
    above = shares.row(0, named=True) if scored and shares.height else {}
    rows = [
        {
            "attack": attack.name,
            "title": attack.title,
            "group": attack.group,
            "status": attack.status,
            **{kind: row.get(f"{kind}.{attack.name}") for kind in ("score", "p", "p_stratum")},
            "above": above.get(attack.name),
        }
        for attack in ran
    ]
    text, number = dict.fromkeys(("attack", "title", "group", "status"), pl.String), pl.Float64
    return pl.DataFrame(rows, {**text, **dict.fromkeys(("score", "p", "p_stratum", "above"), number)})


def scores_beside(folder: Path, attack: str, user: str, member: Role) -> tuple[pl.Series, pl.Series]:
    """(scores of the other users of a role, scores of the other calibration users), without missing ones."""
    score = f"score.{attack}"
    others = parquet.scan(folder / "users.parquet").select("user", "role", score).filter(pl.col("user") != user)
    rows = others.drop_nulls(score).collect()
    members, held_out = (rows.filter(pl.col("role") == role)[score] for role in (member, Role.AUDITED_HELD_OUT))
    return members, held_out


def tokens_of(folder: Path, user: str) -> pl.DataFrame:
    """What the models expected of each token of one user's answers, in order.

    Returns:
        window, place, text, item, target, and raised: by how much (nats) the target expects the token more than the base
        does, or where there is no base more than the references do; null where there is neither. Empty where no tokens
        were kept.
    """
    path = folder / "tokens.parquet"
    if not path.is_file():
        return pl.DataFrame(schema={"window": pl.Int64, "place": pl.Int64, "text": pl.String})
    rows = parquet.scan(path).filter(pl.col("user") == user).sort("window", "place").collect()
    before = "base" if rows["base"].null_count() < rows.height else "reference"
    return rows.select(
        "window", "place", "text", "item", "target", raised=pl.col("target") - pl.col(before), before=pl.lit(before)
    )


def telling_titles(tokens: pl.DataFrame, data: Path | None) -> pl.DataFrame:
    """title, tokens, raised: the items of one user, those first whose tokens together were raised the most.

    Args:
        tokens: by `tokens_of`.
        data: folder of the kept interactions, which know the titles; None: ids stand for them.
    """
    if not {"item", "raised"} <= set(tokens.columns):
        return pl.DataFrame(schema={"title": pl.String, "tokens": pl.UInt32, "raised": pl.Float64})
    by_item = tokens.drop_nulls(["item", "raised"]).group_by("window", "item", maintain_order=True)
    # One item in two windows is two occasions.
    items = by_item.agg(tokens=pl.len(), raised=pl.col("raised").sum())
    return with_titles(items, data).sort("raised", descending=True).select("title", "tokens", "raised")


def history_of(data: Path, user: str) -> pl.DataFrame:
    """title, rating, timestamp of one user's kept interactions, the latest first; columns without any value are left out."""
    kept = parquet.scan(data / "interactions.parquet").filter(pl.col("user") == user)
    history = with_titles(kept.select("item", "rating", "timestamp").collect(), data).reverse()
    empty = [name for name in ("rating", "timestamp") if history[name].null_count() == history.height]
    return history.select("title", "rating", "timestamp").drop(empty)


def with_titles(rows: pl.DataFrame, data: Path | None) -> pl.DataFrame:
    """The rows with a column title for their item, shortened; an item without one is called by its id."""
    if data is None:
        return rows.with_columns(title=shortened(pl.col("item")))
    wanted = rows["item"].unique()
    titles = parquet.scan(data / "items.parquet").filter(pl.col("item").is_in(wanted.implode()))
    named = rows.join(titles.select("item", "title").collect(), on="item", how="left", maintain_order="left")
    return named.with_columns(title=shortened(pl.coalesce("title", "item")))


def shortened(text: pl.Expr) -> pl.Expr:
    """At most `LONGEST_TEXT` characters of a text from a file, the rest as an ellipsis."""
    text = visible_column(text)
    long = text.str.len_chars() > LONGEST_TEXT
    return pl.when(long).then(pl.concat_str(text.str.slice(0, LONGEST_TEXT), pl.lit("…"))).otherwise(text)


def printed(p_values: pl.Expr) -> pl.Expr:
    """p-values as they are printed everywhere else, for a few rows."""
    return p_values.map_elements(format_p, return_dtype=pl.String)
