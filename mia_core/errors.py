"""Errors that users see. Each message names the field, the value, the allowed range and the way out."""

from pathlib import Path


class MemberScopeError(Exception):
    """Base of every error that is explained to the user instead of shown as a traceback."""

    exit_code = 1


class ConfigError(MemberScopeError):
    """A setting is unknown, out of range or contradicts another."""

    exit_code = 2


class DataError(MemberScopeError):
    """The interaction data cannot be used as they are."""

    exit_code = 3


class ModelError(MemberScopeError):
    """A model cannot be loaded or does not fit the audit."""

    exit_code = 4


class StoreError(MemberScopeError):
    """The store is unreadable, of another version, or out of space."""

    exit_code = 5


class NotFound(MemberScopeError):
    """An audit, a job, a data set or a user that was asked for does not exist."""

    exit_code = 6


class ClusterError(MemberScopeError):
    """Machines or processes that work is to be given to cannot be used, or were lost."""

    exit_code = 7


class LimitReached(MemberScopeError):
    """Somebody asked more of a server at once than it gives to one owner."""

    exit_code = 8


class Cancelled(MemberScopeError):
    """The user stopped a command, or answered that it should not go on."""

    exit_code = 130


class Stopped(BaseException):
    """The process of a job is asked to end. It is no Exception: nothing may take it for a fault of what was under way."""


def what_and_where(error: BaseException) -> str:
    """What an error of another kind is and where it happened, and not its text: that may hold somebody's data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "unknown place"
    return f"{type(error).__name__} at {place}"


def shortened(text: str, most: int = 600) -> str:
    """A message without its middle where it is long: what it was given is not repeated whole, and the way out stands last."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def as_plain(error: MemberScopeError) -> dict[str, str]:
    """An error of ours for another process."""
    return {"error": type(error).__name__, "told": str(error)}


def from_plain(plain: dict[str, str]) -> MemberScopeError:
    """An error of ours that another process met."""
    kinds = {kind.__name__: kind for kind in MemberScopeError.__subclasses__()}
    return kinds.get(plain["error"], ClusterError)(plain["told"])
