"""The one family of exceptions that reaches a user as a sentence and an exit code, never as a traceback."""

from __future__ import annotations


class LgtmError(Exception):
    """Something a user can mend.

    ``message`` says in one sentence what happened, ``hint`` what to do about it. ``exit_code`` is 1 (the spec or the
    stack is at fault) unless a subclass says otherwise.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"
