"""Bringing data: uploads that lie on the disk, folders of the server, the profile, what a model sees of a person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core.data import library, server_folders
from mia_core.data.interactions import Interactions, validate
from mia_core.data.profile import parted, profile, prompts_of
from mia_core.errors import ConfigError, DataError
from mia_core.experiment import Prompt
from mia_core.limits import UPLOADED
from mia_core.storage.store import Store
from mia_core.ui import uploads
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]
TABLE = "user,item,rating,timestamp,title\n" + "\n".join(
    f"u{u},i{i},{1 + (u + i) % 5},{1_577_836_800 + 2_700_000 * i},Film <b>{i}</b>" for u in range(30) for i in range(12)
)


def data(users: int = 6, items: int = 10) -> Interactions:
    rows = [
        (f"u{u}", f"i{i}", float(1 + (u + i) % 5), 1_577_836_800 + i * 86_400 * 40)
        for u in range(users)
        for i in range(items)
    ]
    frame = pl.DataFrame(rows, ["user", "item", "rating", "timestamp"], orient="row")
    return validate(
        frame, pl.DataFrame({"item": [f"i{i}" for i in range(items)], "title": [f"Title {i}" for i in range(items)]})
    )


def test_an_upload_lies_on_the_disk_and_survives_a_reload(open_page: Open, store: Store) -> None:
    app = open_page("data")
    app.get("file_uploader")[0].set_value([("films.csv", TABLE.encode(), "text/csv")]).run()
    no_fault(app)
    token = app.query_params["upload"]
    (kept,) = (store.home / "uploads" / token).iterdir()
    assert kept.read_text() == TABLE
    assert (store.home / "uploads" / token).stat().st_mode & 0o077 == 0
    assert not app.get("file_uploader")
    assert "Users 30" in words(app)
    # Another session with this address, as after a reload.
    app = open_page("data", upload=token)
    no_fault(app)
    assert "Users 30" in words(app)
    app.text_input("data_name").input("Films").run()
    app.button("save_data").click().run()
    no_fault(app)
    assert [entry.name for entry in library.saved(store)] == ["Films"]
    assert not (store.home / "uploads" / token).exists()


def test_files_of_one_name_are_kept_side_by_side_and_what_is_not_read_is_said(open_page: Open, store: Store) -> None:
    head, *rows = TABLE.splitlines(keepends=True)
    first, second = head + "".join(rows[:120]), head + "".join(rows[120:])
    long = "é" * 80 + ".csv"
    app = open_page("data")
    app.get("file_uploader")[0].set_value(
        [(name, text.encode(), "text/csv") for name in ("films.csv", long) for text in (first, second)]
    ).run()
    no_fault(app)
    folder = store.home / "uploads" / app.query_params["upload"]
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    ending = long[-uploads.LONGEST_NAME :]
    assert kept == {"films.csv": first, "2-films.csv": second, ending: first, f"2-{ending}": second}
    assert all(f"{name} · " in words(app) for name in kept)
    # Of several tables of interactions one is read: nobody takes its figures for those of all.
    (unread,) = [text.value for text in app.text if text.value.startswith("Not read: ")]
    assert sum(name in unread.replace("2-", "") for name in ("films.csv", ending)) == 2
    assert unread.count(".csv") == 3


def test_an_upload_can_be_taken_away(open_page: Open, store: Store) -> None:
    app = open_page("data")
    app.get("file_uploader")[0].set_value([("../../films.csv", TABLE.encode(), "text/csv")]).run()
    (folder,) = (store.home / "uploads").iterdir()
    assert [path.name for path in folder.iterdir()] == ["films.csv"]
    app.button("forget_upload").click().run()
    no_fault(app)
    assert not folder.exists()
    assert app.get("file_uploader")


def test_uploads_beyond_the_limit_are_refused_until_room_was_made(
    open_page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UPLOADED.variable, "1")
    left = store.home / "uploads" / ("b" * 32)
    left.mkdir(parents=True)
    (left / "x.csv").write_bytes(bytes(2**20))
    app = open_page("data")
    assert "1 MB until they are saved" in words(app)
    app.get("file_uploader")[0].set_value([("films.csv", TABLE.encode(), "text/csv")]).run()
    assert UPLOADED.variable in words(app)
    assert [path.name for path in (store.home / "uploads").iterdir()] == [left.name]
    app.button("clear_uploads").click().run()
    assert not left.exists()
    app = open_page("data")
    app.get("file_uploader")[0].set_value([("films.csv", TABLE.encode(), "text/csv")]).run()
    no_fault(app)
    assert "Users 30" in words(app)


@pytest.mark.parametrize(
    "name",
    ["../../films.csv", "..\\..\\films.csv", "/etc/films.csv", "films\x00.csv", "../.films.csv", "é" * 300 + ".csv"],
)
def test_an_uploaded_file_stays_in_its_folder_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    kept = tmp_path / uploads.file_name(name, 0)
    kept.write_text("kept")
    assert kept.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert kept.suffix == ".csv"


@pytest.mark.parametrize("name", ["", "..", "a/..", "\x07"])
def test_a_file_without_a_name_gets_one(name: str) -> None:
    assert uploads.file_name(name, 3) == "table-3.csv"


@pytest.mark.parametrize("token", ["../../etc", "a" * 32, "", "A" * 32])
def test_an_address_names_no_folder_but_an_upload(token: str, open_page: Open) -> None:
    app = open_page("data", upload=token)
    no_fault(app)
    assert app.get("file_uploader")


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the server offers, beside one that it does not."""
    top = tmp_path / "public"
    (top / "films").mkdir(parents=True)
    (top / "films" / "ratings.csv").write_text(TABLE)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.csv").write_text(TABLE)
    (top / "way_out.csv").symlink_to(tmp_path / "private" / "secret.csv")
    (top / "way_out").symlink_to(tmp_path / "private")
    monkeypatch.setenv(server_folders.VARIABLE, str(top))
    return top


def test_a_server_offers_what_lies_in_its_folders_and_no_way_out(offered: Path) -> None:
    folders = server_folders.named_folders()
    names = [one.name for one in server_folders.offered(folders)]
    assert names == ["public", "public/films", "public/films/ratings.csv"]
    assert (
        server_folders.checked(offered / "films" / "ratings.csv", folders)
        == (offered / "films" / "ratings.csv").resolve()
    )
    for path in (
        offered.parent / "private" / "secret.csv",
        offered / "way_out.csv",
        offered / ".." / "private",
        Path("/etc/passwd"),
    ):
        with pytest.raises(DataError, match="outside of the folders"):
            server_folders.checked(path, folders)
    # A table of titles beside the one that was named would be read with it.
    (offered / "films" / "movies.csv").symlink_to(offered.parent / "private" / "secret.csv")
    with pytest.raises(DataError, match="leads out"):
        server_folders.checked(offered / "films" / "ratings.csv", folders)


def test_any_path_is_for_whoever_sits_at_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(server_folders.VARIABLE, raising=False)
    assert server_folders.any_path("127.0.0.1", others=False)
    assert not server_folders.any_path("127.0.0.1", others=True)
    assert not server_folders.any_path("0.0.0.0", others=False)  # noqa: S104
    assert not server_folders.any_path(None, others=False)
    monkeypatch.setenv(server_folders.VARIABLE, str(tmp_path))
    assert not server_folders.any_path("127.0.0.1", others=False)
    monkeypatch.setenv(server_folders.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="gone"):
        server_folders.named_folders()


def test_only_offered_files_are_read_where_folders_are_named(open_page: Open, offered: Path) -> None:
    app = open_page("data", data_way="folder")
    no_fault(app)
    assert not [box for box in app.text_input if box.key == "machine_path"]
    app.selectbox("offered_path").select("public/films/ratings.csv").run()
    no_fault(app)
    assert "Users 30" in words(app)
    audit = open_page("audit")
    audit.text_area("expert_toml").input('[data]\nsource = "file"\npath = "/etc/passwd"\n').run()
    no_fault(audit)
    assert any("outside of the folders that this server offers" in text.value for text in audit.text)
    assert "launch_expert" not in [button.key for button in audit.button]


def test_a_profile_is_small_and_right() -> None:
    found = profile(data())
    assert sorted(found.lengths.tolist()) == [10] * 6
    assert found.popularity["users"].to_list() == [6] * 10
    assert found.months["interactions"].sum() == 60
    assert found.months["month"].is_sorted()
    # Forty days lie between two interactions: some months have none of them, and stand there all the same.
    steps = found.months["month"].diff().drop_nulls().dt.total_days()
    assert 28 <= steps.min() <= steps.max() <= 31
    large = np.arange(20_000)
    frame = pl.DataFrame({"user": large % 50, "item": large // 3, "rating": None, "timestamp": None}).cast(
        {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
    )
    found = profile(validate(frame))
    assert found.popularity.height <= 300
    assert found.months.is_empty()


def test_notes_that_count_become_a_table() -> None:
    table, others = parted(
        [
            "12 repeated rows were left out.",
            "Dates without a time zone were read as UTC.",
            "a.csv: 3 rows that are cut off were left out.",
        ]
    )
    assert table.rows() == [(12, "repeated rows were left out."), (3, "a.csv: rows that are cut off were left out.")]
    assert others == ["Dates without a time zone were read as UTC."]


def test_the_preview_is_the_text_that_an_audit_asks() -> None:
    asked = prompts_of(data(), "u0", Prompt(style="next_item", history=3))
    assert [one.answer for one in asked] == ["Title 9", "Title 5"]
    assert asked[0].prompt == "History: Title 6 ; Title 7 ; Title 8 Next:"
    liked = prompts_of(data(), "u0", Prompt(style="like_dislike", history=3))
    assert {one.answer for one in liked} <= {"Yes", "No"}
    assert prompts_of(data(), "u0", Prompt(style="whole_history", history=99))[0].answer.startswith("i0 → i1")
    assert prompts_of(data(), "u0", Prompt(style="next_item", history=40)) == []
    with pytest.raises(DataError, match="nobody of this id"):
        prompts_of(data(), "U0", Prompt())


def test_what_the_model_sees_of_a_chosen_user_is_shown_inert(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    app = open_page("data", data_way="folder", machine_path=str(tmp_path / "t.csv"))
    no_fault(app)
    app.number_input("preview_history").set_value(2).run()
    app.selectbox("preview_user").select("u7").run()
    no_fault(app)
    codes = [block.value for block in app.code]
    assert codes == ["History: Film <b>9</b> ; Film <b>10</b> Next:", "Film <b>11</b>"]
    app.number_input("preview_window").set_value(2).run()
    assert [block.value for block in app.code][1] == "Film <b>8</b>"
    app.number_input("preview_history").set_value(30).run()
    no_fault(app)
    assert "fewer than 31 interactions" in words(app)
