"""Where others may reach this node, as far as this computer can tell."""

import ipaddress
from collections.abc import Iterable
from typing import Final

import ifaddr

from ledger_core.node.config import Settings

_EVERY_IPV4: Final = "0.0.0.0"  # noqa: S104 - compared with, not bound to
_EVERY: Final = frozenset({_EVERY_IPV4, "::"})
_MOST: Final = 4


def lan_addresses(settings: Settings) -> list[str]:
    """Return this computer's IP addresses on which the node listens and others could reach it."""
    host = settings.peer_host
    if not host:
        return []
    found = _of_this_computer() if host in _EVERY else [host]
    if host == _EVERY_IPV4:
        found = [each for each in found if ":" not in each]
    return [each for each in found if _may_be_reached(each)][:_MOST]


def told_addresses(settings: Settings, port: int) -> list[str]:
    """Return what invitations and clients are told: what the owner set, else what this computer knows."""
    if settings.advertise:
        return [settings.advertise]
    if not settings.peer_host or not port:
        return []
    hosts = lan_addresses(settings) or ([] if settings.peer_host in _EVERY else [settings.peer_host])
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]


def _of_this_computer() -> Iterable[str]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            yield ip.ip if isinstance(ip.ip, str) else ip.ip[0]


def _may_be_reached(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return True  # a name
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)
