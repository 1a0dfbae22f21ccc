"""The one exception family of the ledger: a stable code, a plain message, the figures behind it."""

from typing import Any


class LedgerError(Exception):
    """Something was refused or failed.

    `code` is stable and meant for programs, `message` is one plain sentence for people, `details` holds
    the figures that broke the rule (JSON-friendly values; keys and hashes as lower-case hex).
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = {
            name: value.hex() if isinstance(value, bytes) else value for name, value in details.items()
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.code, self.message, self.details))

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the API and the command line print it."""
        return {"code": self.code, "message": self.message, "details": self.details}


def _restore(kind: type[LedgerError], code: str, message: str, details: dict[str, Any]) -> LedgerError:
    return kind(code, message, **details)


class RecordError(LedgerError):
    """A record, block or genesis whose bytes are not what the format asks for."""


class RuleError(LedgerError):
    """A well-formed record or block that a rule refuses; the state is as it was before."""


class ChainError(LedgerError):
    """The chain store or its data is not usable as it is; the message names the remedy."""
