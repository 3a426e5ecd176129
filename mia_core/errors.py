"""Errors that users see. Each message names the field, the value, the allowed range and the way out."""


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


class Cancelled(MemberScopeError):
    """The user asked a running job to stop."""

    exit_code = 130
