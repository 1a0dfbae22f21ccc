"""Find Modbus devices on the local network: which hosts have a Modbus port open, and what answers there."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from homeassistant.components import network
from homeassistant.core import HomeAssistant

from ..devices.errors import DeviceError, SettingsError
from ..devices.profile.model import Profile, Transport
from ..devices.transport.base import LinkKind, LinkSettings
from .modbus_device import link_pool
from .probing import Probed, Wish, async_probe

MOST_HOSTS: Final = 1024
_MOST_PORTS: Final = 16
_CONNECT_S: Final = 1.0
_AT_ONCE: Final = 64
_PROBES_AT_ONCE: Final = 4
_TIMEOUT_S: Final = 1.0
_KINDS: Final = {Transport.TCP: LinkKind.TCP, Transport.RTU_OVER_TCP: LinkKind.RTU_OVER_TCP}


async def async_own_networks(hass: HomeAssistant) -> list[str]:
    """The IPv4 networks that this machine is in, as far as they are small enough to be searched."""
    found: list[str] = []
    for adapter in await network.async_get_adapters(hass):
        for address in adapter["ipv4"] if adapter["enabled"] else ():
            prefix = f"{address['address']}/{address['network_prefix']}"
            net = ipaddress.ip_network(prefix, strict=False)
            if net.num_addresses <= MOST_HOSTS and not net.is_loopback and str(net) not in found:
                found.append(str(net))
    return found


def parse_networks(text: str) -> list[str]:
    """The hosts of `192.0.2.0/24, 192.0.2.7, gateway.example`. Raises SettingsError."""
    hosts: list[str] = []
    for part in text.replace(",", " ").split():
        try:
            net = ipaddress.ip_network(part, strict=False)
        except ValueError:
            if "/" in part:
                raise SettingsError(
                    f"{part!r} is no network; right would be 192.0.2.0/24", "network_invalid", part=part
                ) from None
            hosts.append(part)
            continue
        if net.num_addresses > MOST_HOSTS:
            raise SettingsError(
                f"{part} has {net.num_addresses} addresses; at most {MOST_HOSTS} are searched",
                "network_too_large",
                part=part,
                count=net.num_addresses,
                most=MOST_HOSTS,
            )
        hosts += [str(host) for host in net.hosts()]
    unique = list(dict.fromkeys(hosts))
    if not 0 < len(unique) <= MOST_HOSTS:
        raise SettingsError(
            f"{len(unique)} addresses to search; right would be 1 to {MOST_HOSTS}",
            "addresses_count",
            count=len(unique),
            most=MOST_HOSTS,
        )
    return unique


def parse_ports(text: str) -> list[int]:
    """The ports of `502, 1502`. Raises SettingsError."""
    ports: list[int] = []
    for part in text.replace(",", " ").split():
        if not part.isdecimal() or not 1 <= int(part) <= 65_535:
            raise SettingsError(
                f"{part!r} is no port; right would be a number from 1 to 65535", "port_invalid", part=part
            )
        ports.append(int(part))
    unique = list(dict.fromkeys(ports))
    if not 0 < len(unique) <= _MOST_PORTS:
        raise SettingsError(
            f"{len(unique)} ports to try; right would be 1 to {_MOST_PORTS}",
            "ports_count",
            count=len(unique),
            most=_MOST_PORTS,
        )
    return unique


def usual_ports(profiles: Iterable[Profile]) -> list[int]:
    """The TCP ports that known devices use, the most usual first."""
    counts: dict[int, int] = {}
    for profile in profiles:
        for way in profile.link.transports:
            if way.transport in _KINDS:
                for port in way.ports:
                    counts[port] = counts.get(port, 0) + 1
    return sorted(counts, key=lambda port: (-counts[port], port))[:_MOST_PORTS]


def _kinds_at(port: int, profiles: Iterable[Profile]) -> list[LinkKind]:
    """How to talk at a port: as the profiles say, plain Modbus TCP first."""
    kinds = {
        _KINDS[way.transport]
        for profile in profiles
        for way in profile.link.transports
        if way.transport in _KINDS and port in way.ports
    }
    return sorted(kinds or {LinkKind.TCP}, key=lambda kind: kind is not LinkKind.TCP)


async def async_search(
    hass: HomeAssistant,
    hosts: Sequence[str],
    ports: Sequence[int],
    profiles: Mapping[str, Profile],
    on_progress: Callable[[float], None],
) -> tuple[Probed, ...]:
    """Every known device at those hosts and ports; `on_progress` is told a fraction from 0 to 1."""
    pairs = [(host, port) for host in hosts for port in ports]
    done = 0
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(host: str, port: int) -> bool:
        nonlocal done
        async with gate:
            # A device that takes one client must not be knocked at while we are that client.
            ours = link_pool(hass).open_link(LinkSettings(host=host, port=port).endpoint)
            there = ours is not None or await _is_open(host, port)
        done += 1
        on_progress(0.8 * done / len(pairs))
        return there

    there = await asyncio.gather(*(look(host, port) for host, port in pairs))
    doors = [pair for pair, is_open in zip(pairs, there, strict=True) if is_open]
    probes = asyncio.Semaphore(_PROBES_AT_ONCE)

    async def ask(host: str, port: int) -> tuple[Probed, ...]:
        async with probes:
            return await _ask(hass, host, port, profiles)

    answers = await asyncio.gather(*(ask(host, port) for host, port in doors))
    on_progress(1.0)
    found = {probed.uid: probed for answer in answers for probed in answer}
    return tuple(found.values())


async def _is_open(host: str, port: int) -> bool:
    """Whether something takes a connection."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError, TimeoutError, UnicodeError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _ask(
    hass: HomeAssistant, host: str, port: int, profiles: Mapping[str, Profile]
) -> tuple[Probed, ...]:
    for kind in _kinds_at(port, profiles.values()):
        settings = LinkSettings(kind=kind, host=host, port=port, timeout_s=_TIMEOUT_S)
        try:
            return await async_probe(hass, Wish(settings=settings), profiles)
        except DeviceError:
            continue
    return ()
