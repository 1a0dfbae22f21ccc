"""Seeded noise as a pure function of an index or of the time: nothing is remembered between calls."""

from functools import lru_cache

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def mix64(seed: int, *indices: int) -> int:
    """Return 64 well mixed bits for a seed and indices (SplitMix64 of Steele, Lea and Flood, 2014)."""
    state = seed & _MASK
    for index in (0, *indices):
        state = (state + _GOLDEN_GAMMA + (index & _MASK) * 0xD1B54A32D192ED03) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


@lru_cache(maxsize=4096)
def uniform(seed: int, *indices: int) -> float:
    """Return a number in [0, 1) for a seed and indices."""
    return (mix64(seed, *indices) >> 11) / float(1 << 53)


def value_noise(seed: int, time_s: int, period_s: int) -> float:
    """Return smooth noise in [0, 1): random values every `period_s` seconds, eased between them."""
    index, offset = divmod(time_s, period_s)
    x = offset / period_s
    eased = x * x * (3.0 - 2.0 * x)
    return uniform(seed, period_s, index) * (1.0 - eased) + uniform(seed, period_s, index + 1) * eased
