"""What is said of a fault, on a page and in the log: where it was, and nothing that was in hand, which may be somebody's data."""

from __future__ import annotations

import logging
from typing import Any

import streamlit as st

from mia_core.errors import MemberScopeError, what_and_where

logger = logging.getLogger(__name__)


def explain(error: Exception) -> bool:
    """Shows an explained error as its text, any other as a calm sentence, the rest in the log; True: it is shown."""
    if isinstance(error, MemberScopeError):
        show_error(error)
    else:
        logger.error("A page failed: %s", what_and_where(error))
        st.error("This page ran into a fault of ours. Nothing that was finished is lost; reload to try again.")
    return True


def show_error(error: MemberScopeError) -> None:
    """An explained error. Its text may hold names from a file, so it is never read as Markdown."""
    st.error("That did not work. Here is what to change:", icon=":material/error:")
    st.text(str(error))


def keep_values_out_of_logs() -> None:
    """From now on no library logs the message of an error, nor the lines of code it came through."""
    make = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        error = made.exc_info[1] if made.exc_info else None
        if error is not None:
            made.msg, made.args = what_and_where(error), ()
        made.exc_info = None
        return made

    logging.setLogRecordFactory(record)
