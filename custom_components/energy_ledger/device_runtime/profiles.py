"""Device profiles, ours and the user's own, read off the event loop."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from homeassistant.core import HomeAssistant

from ..devices.errors import ProfileError, SettingsError
from ..devices.profile.load import BUILT_IN, load_profile, load_profiles
from ..devices.profile.model import Profile
from ..devices.sunspec.definition import load_definitions

_LOGGER = logging.getLogger(__name__)

FOLDER: Final = ("energy_ledger", "profiles")
"""Below the configuration directory: profiles of the user's own, which replace ours of the same id."""


def own_folder(hass: HomeAssistant) -> Path:
    """Where the user's own profiles lie."""
    return Path(hass.config.path(*FOLDER))


async def async_all_profiles(hass: HomeAssistant) -> Mapping[str, Profile]:
    """Every profile. Own profiles that can't be read are left out, with a line in the log."""
    return await hass.async_add_executor_job(_all, own_folder(hass))


def _all(folder: Path) -> Mapping[str, Profile]:
    load_definitions()
    if folder.is_dir():
        try:
            return load_profiles(folder)
        except ProfileError as error:
            _LOGGER.warning("The own device profiles are not used: %s", error)
    return load_profiles()


async def async_profile(hass: HomeAssistant, profile_id: str, variant: str | None) -> Profile:
    """One profile in the variant that was set up. Raises ProfileError or SettingsError."""
    profile = await hass.async_add_executor_job(_one, own_folder(hass), profile_id)
    if variant is None:
        return profile
    try:
        return profile.choose(variant)
    except LookupError as error:
        raise SettingsError(str(error)) from error


def _one(folder: Path, profile_id: str) -> Profile:
    for place in (folder, BUILT_IN):
        path = place / f"{profile_id}.yaml"
        if path.is_file():
            profile = load_profile(path)
            if profile.sunspec is not None:
                load_definitions()
            return profile
    raise SettingsError(
        f"there is no device profile {profile_id!r} any more, neither among ours nor in {folder}"
    )
