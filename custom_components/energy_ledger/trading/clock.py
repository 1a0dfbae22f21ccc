"""The time that trading goes by: UTC seconds of Home Assistant's clock."""

from collections.abc import Callable

from homeassistant.util import dt as dt_util

type Clock = Callable[[], float]


def now() -> float:
    """Return UTC seconds."""
    return dt_util.utcnow().timestamp()
