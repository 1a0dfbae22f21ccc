"""The one exception family of the ledger: a stable code, a plain message, the figures behind it."""

from typing import Any

from msgspec import inspect


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


def wanted(kind: Any) -> str:
    """Return in words what a value of an annotated type may be: a decoder's own words are for programmers."""
    described = inspect.type_info(kind)
    # A description beside the bounds wraps the type.
    match described.type if isinstance(described, inspect.Metadata) else described:
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType(cls=choices):
            return f"one of {', '.join(str(each.value) for each in choices)}"
        case inspect.StrType(pattern=str(pattern)):
            return f"one of {pattern.strip('^$()').replace('|', ', ')}"
        case inspect.StrType() as text:
            return f"a text of {_span(text.min_length, text.max_length)}characters"
        case inspect.VarTupleType() as items:
            return f"a list of {_span(items.min_length, items.max_length)}texts"
        case inspect.IntType() as number:
            return f"a whole number{_range(number)}"
        case inspect.FloatType() as number:
            return f"a number{_range(number)}"
        case other:
            return type(other).__name__.removesuffix("Type").lower()


def _span(least: int | None, most: int | None) -> str:
    if most is None:
        return ""
    return f"{least} to {most} " if least else f"at most {most} "


def _range(number: inspect.IntType | inspect.FloatType) -> str:
    if number.le is None:
        return ""
    low = f"above {number.gt}, at most" if number.ge is None else f"from {number.ge} to"
    return f" {low} {number.le}"


class RecordError(LedgerError):
    """A record, block or genesis whose bytes are not what the format asks for."""


class RuleError(LedgerError):
    """A well-formed record or block that a rule refuses; the state is as it was before."""


class ChainError(LedgerError):
    """The chain store or its data is not usable as it is; the message names the remedy."""
