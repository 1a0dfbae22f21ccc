"""Whether a node elsewhere is of a version that this integration understands."""

import re

_RELEASE = re.compile(r"(\d+)\.(\d+)")


def version_fits(theirs: str, ours: str) -> bool:
    """Tell whether two versions talk the same API: the first two numbers are the same."""
    parts = [_RELEASE.match(version) for version in (theirs, ours)]
    return None not in parts and len({part.groups() for part in parts if part}) == 1
