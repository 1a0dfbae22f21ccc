"""Devices put together from a pool of links."""

import pytest

from custom_components.energy_ledger.devices.connect import open_device, settings_for
from custom_components.energy_ledger.devices.errors import SettingsError
from custom_components.energy_ledger.devices.transport.base import LinkSettings
from custom_components.energy_ledger.devices.transport.pool import LinkPool
from tests.devices.homes import known_profiles, site


async def test_a_device_and_its_companion_on_one_link() -> None:
    async with site("fronius_gen24") as place:
        settings = LinkSettings(host="127.0.0.1", port=place.server.port)
        pool = LinkPool()
        profile = known_profiles()["fronius_gen24"]
        opened = await open_device(pool, profile, settings, 1, owner="Roof")
        assert place.check(await opened.device.poll()) >= 9
        assert opened.device.name == "Roof"
        assert [hold.unit.unit_id for hold in opened.holds] == [1, 200]
        meter = known_profiles()["sunspec_meter"]
        with pytest.raises(SettingsError, match=r"unit 200 at .* is already set up as Roof"):
            await open_device(pool, meter, settings, 200, owner="Meter")
        with pytest.raises(SettingsError, match="unit 200 at"):
            await open_device(pool, profile, settings, 2, owner="Garage")
        with pytest.raises(SettingsError, match="has no companion 'battery'; known: meter"):
            await open_device(pool, profile, settings, 3, owner="Garage", companions={"battery": 9})
        await opened.close()
        assert not opened.holds[0].link.connected
        again = await open_device(pool, meter, settings, 200, owner="Meter")
        await again.device.poll()
        assert again.device.error is None
        await pool.close()


def test_the_profile_says_how_its_device_is_talked_to() -> None:
    profile = known_profiles()["huawei_sun2000"]
    settings = settings_for(profile, LinkSettings(host="192.0.2.7"))
    assert settings.connect_delay_s == profile.link.connect_delay == 1
    assert settings.spacing_s == profile.link.spacing > 0
    assert settings.timeout_s == profile.link.timeout
