"""What a reader takes home of an audit: the report as HTML and PDF, its tables, and all of it in one sealed archive."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime

import polars as pl

from mia_core.report.contents import compose
from mia_core.report.export import metrics_document, users_csv
from mia_core.report.finished import Annex, Finished
from mia_core.report.html import as_html
from mia_core.storage.seal import SealingKey, in_groups
from mia_core.toml import as_toml

CONTENTS = {
    "report.html": "the report, for a browser; sealed",
    "report.pdf": "the report, for paper and the files; sealed",
    "users.csv": "every user with roles, scores and p-values, for a spreadsheet",
    "users.parquet": "the same, for programs",
    "audit.json": "every figure, gate and claim, and every user, for programs",
    "config.toml": "every setting: 'python -m mia_core audit config.toml' runs the audit again",
    "split.json": "who was drawn into which role",
}
"""File of the package: what it is."""
OF_USERS = ("users.csv", "users.parquet")
NAMED = {
    "none": "Nobody is listed: it holds no ids and no scores of single users.",
    "pseudonyms": "Users go by pseudonyms, which only the key in the home folder of this audit can trace back.",
    "ids": "Users go by their real ids: these are personal data.",
}
"""What a package says of whom it lists, by annex."""
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Of every file in the archive, so that the same audit gives the same bytes."""


def sealed_html(
    finished: Finished, key: SealingKey, annex: Annex, left_out: Sequence[str] = (), now: datetime | None = None
) -> bytes:
    """The report as a sealed HTML file."""
    return key.seal(as_html(compose(finished, annex, left_out)), now)


def sealed_pdf(
    finished: Finished, key: SealingKey, annex: Annex, left_out: Sequence[str] = (), now: datetime | None = None
) -> bytes:
    """The report as a sealed PDF."""
    from mia_core.report.pdf import as_pdf

    return key.seal(as_pdf(compose(finished, annex, left_out)), now)


def users_of(finished: Finished, annex: Annex) -> pl.DataFrame:
    """The table of users under the names that the annex gives them; without an annex it has no rows."""
    users = finished.table("users")
    if annex == "none":
        return users.clear()
    if annex == "ids":
        return users
    name = finished.naming(annex)
    # In the order of the pseudonyms: the order of the data would give away who is who.
    return users.with_columns(pl.Series("user", [name(user) for user in users["user"]], pl.String)).sort("user")


def audit_json(finished: Finished, annex: Annex) -> bytes:
    """Everything as one JSON document, as `metrics_document` describes it; its users are written without a detour."""
    users = users_of(finished, annex)
    attacks = [name.removeprefix("score.") for name in users.columns if name.startswith("score.")]
    if not attacks:
        return _json(metrics_document(finished.result, users, finished.follow_ups))
    document = metrics_document(finished.result, users.clear(), finished.follow_ups)
    del document["users"]
    head = _json(document).removesuffix(b"\n}\n")
    return head + b',\n "users": ' + _users_json(users, attacks) + b"\n}\n"


def _users_json(users: pl.DataFrame, attacks: Sequence[str]) -> bytes:
    def by_attack(prefix: str, name: str) -> pl.Expr:
        columns = [
            pl.col(f"{prefix}.{attack}").cast(pl.Float64).fill_nan(None).alias(attack)
            if f"{prefix}.{attack}" in users.columns
            else pl.lit(None, pl.Float64).alias(attack)
            for attack in attacks
        ]
        return pl.struct(columns).alias(name)

    named = pl.col("named") if "named" in users.columns else pl.lit(None, pl.Boolean).alias("named")
    kinds = {"scores": "score", "p_values": "p", "stratum_p_values": "p_stratum"}
    rows = users.select("user", "role", "windows", *(by_attack(prefix, name) for name, prefix in kinds.items()), named)
    return rows.write_json().encode()


def split_json(finished: Finished, annex: Annex) -> bytes:
    """Who was drawn into which role, and how; `sha256` is the hash of the manifest with real ids, as in the report."""
    kept = finished.split
    roles = kept["split"].get("roles", {})
    name = finished.naming(annex)
    shown = {} if annex == "none" else dict(sorted((name(user), role) for user, role in roles.items()))
    return _json({"sha256": kept["sha256"], "users": annex, "split": {**kept["split"], "roles": shown}})


def exported(
    finished: Finished, key: SealingKey, annex: Annex, left_out: Sequence[str] = (), now: datetime | None = None
) -> dict[str, Callable[[], bytes]]:
    """Every file of the package by its name; each is computed when it is called for."""

    def parquet() -> bytes:
        written = io.BytesIO()
        users_of(finished, annex).write_parquet(written)
        return written.getvalue()

    files: dict[str, Callable[[], bytes]] = {
        "report.html": lambda: sealed_html(finished, key, annex, left_out, now),
        "report.pdf": lambda: sealed_pdf(finished, key, annex, left_out, now),
        "users.csv": lambda: users_csv(users_of(finished, annex)).encode(),
        "users.parquet": parquet,
        "audit.json": lambda: audit_json(finished, annex),
        "config.toml": lambda: as_toml(finished.result.config).encode(),
        "split.json": lambda: split_json(finished, annex),
    }
    return {name: files[name] for name in CONTENTS if annex != "none" or name not in OF_USERS}


def sealed_package(
    finished: Finished, key: SealingKey, annex: Annex, left_out: Sequence[str] = (), now: datetime | None = None
) -> bytes:
    """All of it as one ZIP file, with a list of what is in it; the archive as a whole is sealed."""
    files = {name: make() for name, make in exported(finished, key, annex, left_out, now).items()}
    files["README.txt"] = _contents(finished, key, annex, list(files)).encode()
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return key.seal(written.getvalue(), now)


def _contents(finished: Finished, key: SealingKey, annex: Annex, names: Sequence[str]) -> str:
    listed = "".join(f"  {name:<15}{CONTENTS[name]}\n" for name in names)
    return (
        f"MemberScope: the audit {finished.result.key}\n\n{listed}  {'SHA256SUMS':<15}'sha256sum -c SHA256SUMS' checks them\n\n"
        f"{NAMED[annex]}\n\nSealed by the key with the fingerprint\n  {in_groups(key.fingerprint)}\n"
        "Check this archive, or a report from it, with\n  python -m mia_core verify FILE --key FINGERPRINT\n"
        "and take the fingerprint from whoever gave you the report, not from this file.\n"
    )


def _json(document: object) -> bytes:
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()
