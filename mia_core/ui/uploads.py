"""Uploads that lie on the disk: Streamlit keeps an uploaded file in memory for as long as a session lasts, so it is written down
at once and forgotten there. What was uploaded stands in the address, so that a reload shows it again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from mia_core.data import server_folders
from mia_core.data.server_folders import Offered
from mia_core.errors import LimitReached
from mia_core.experiment import Experiment
from mia_core.limits import check_uploads
from mia_core.report.wording import file_size
from mia_core.ui import frame
from mia_core.ui.sign_in import BEHIND_A_GATE, providers

TOKEN = re.compile(r"[0-9a-f]{32}")
CHUNK = 2**20
LONGEST_NAME = 60
"""Characters; each may take four of the 255 bytes that a file system grants a name."""


@dataclass(frozen=True)
class Upload:
    """Files that were uploaded together."""

    token: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        """The files, by name."""
        return sorted(self.folder.iterdir())

    @property
    def name(self) -> str:
        """What they may be called together."""
        return ", ".join(path.stem for path in self.files)


def upload(label: str, types: list[str], help_text: str) -> Upload | None:
    """The files of this address, or a widget to upload some."""
    found = current()
    if found is not None:
        _show(found)
        return found
    # Another key is another widget: it does not remember what the one before held.
    turn = st.session_state.setdefault("upload_turn", 0)
    files = st.file_uploader(label, type=types, accept_multiple_files=True, key=f"upload_{turn}", help=help_text)
    if not files:
        return None
    uploads = frame.store().home / "uploads"
    uploads.mkdir(mode=0o700, exist_ok=True)
    kept = sum(path.stat().st_size for path in uploads.glob("*/*"))
    try:
        check_uploads(kept, sum(file.size for file in files))
    except LimitReached as error:
        frame.show_error(error)
        _forget_in_memory([file.file_id for file in files])
        _offer_to_clear(uploads, kept)
        return None
    folder = uploads / secrets.token_hex(16)
    folder.mkdir(mode=0o700)
    for i, file in enumerate(files):
        with (folder / _free(folder, file_name(file.name, i))).open("wb") as stream:
            shutil.copyfileobj(file, stream, CHUNK)
    _forget_in_memory([file.file_id for file in files])
    frame.note("files uploaded", files=len(files))
    st.session_state["upload_turn"] = turn + 1
    st.query_params["upload"] = folder.name
    st.rerun()


def file_name(name: str, number: int) -> str:
    """What an uploaded file is called on the disk: the end of its name, so that it stays in its folder and fits there."""
    last = re.split(r"[/\\]", name)[-1]
    last = re.sub(r"[\x00-\x1f\x7f]", "", last).lstrip(".")[-LONGEST_NAME:]
    return last or f"table-{number}.csv"


def _free(folder: Path, name: str) -> str:
    """The name, with a number before it where a file of this upload goes by it already."""
    return next(free for free in chain([name], (f"{n}-{name}" for n in count(2))) if not (folder / free).exists())


def _offer_to_clear(uploads: Path, kept: int) -> None:
    """What nobody's address leads to any more can still be taken away."""
    if kept and st.button("Take away every upload that is not saved", icon=":material/delete:", key="clear_uploads"):
        for folder in uploads.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        st.rerun()


def current() -> Upload | None:
    """The files that the address names, if they are still there."""
    token = st.query_params.get("upload", "")
    folder = frame.store().home / "uploads" / token
    return Upload(token, folder) if TOKEN.fullmatch(token) and folder.is_dir() and any(folder.iterdir()) else None


def forget() -> None:
    """Deletes the uploaded files of this address."""
    found = current()
    st.query_params.pop("upload", None)
    if found is not None:
        shutil.rmtree(found.folder, ignore_errors=True)


def any_path() -> bool:
    """Whether this server may read any path that somebody names."""
    address = st.get_option("server.address")
    # Whoever signs in, or comes through a gate, need not be the person at this machine.
    others = bool(providers()) or os.environ.get(BEHIND_A_GATE) == "1"
    return server_folders.any_path(str(address) if address else None, others=others)


def offered() -> list[Offered]:
    """What the folders of this server hold."""
    return server_folders.offered(server_folders.named_folders())


def check_paths(experiment: Experiment) -> None:
    """Refuses an audit that would read what this server does not offer.

    Raises:
        DataError: which path it is, and what to do.
    """
    if any_path():
        return
    target = experiment.target
    paths = [experiment.data.path, experiment.base.path, target.path, target.lists]
    paths += [target.members, target.held_out, target.judged]
    if experiment.distillation.student is not None:
        paths.append(experiment.distillation.student.path)
    # What was uploaded on the Audit page lies in the store.
    folders = (*server_folders.named_folders(), (frame.store().home / "lists").resolve())
    for path in filter(None, paths):
        server_folders.checked(Path(path), folders)


def _show(found: Upload) -> None:
    with st.container(border=True):
        words, button = st.columns([5, 1], vertical_alignment="center")
        for path in found.files:
            words.text(f"{path.name} · {file_size(path.stat().st_size)}")
        if button.button("Take away", icon=":material/close:", key="forget_upload", width="stretch"):
            forget()
            st.rerun()


def _forget_in_memory(file_ids: list[str]) -> None:
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file_id in file_ids:
            context.uploaded_file_mgr.remove_file(context.session_id, file_id)
