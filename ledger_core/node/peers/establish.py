"""Takes a fresh link through the handshake, and tells the other side why where it is refused."""

import contextlib
from collections.abc import Callable

from ledger_core.node.peers.errors import Refusal, RefusedByPeer
from ledger_core.node.peers.handshake import (
    Initiator,
    LocalNode,
    RemoteNode,
    Responder,
    Session,
    refusal_bytes,
)
from ledger_core.node.peers.link import Link, LinkLost

type Check = Callable[[RemoteNode], None]
"""Raises Refusal for a node that may not have a link."""


async def initiate(link: Link, local: LocalNode, expected: bytes | None, check: Check) -> Session:
    """Make the handshake as the side that dialled.

    Raises RefusedByPeer, Refusal (told to the other side), HandshakeError, Misbehaviour and LinkLost. The
    caller limits the time.
    """
    initiator = Initiator(local, expected)
    await link.send(initiator.opening())
    try:
        check(initiator.answer(await link.receive()))
    except RefusedByPeer:
        raise
    except Refusal as refusal:
        await _tell(link, initiator.refuse(refusal))
        raise
    await link.send(initiator.proof())
    return initiator.verdict(await link.receive())


async def respond(link: Link, local: LocalNode, check: Check) -> tuple[bytes, Session]:
    """Make the handshake as the side that was dialled; return the verdict, which is still to be sent.

    Raises as `initiate`.
    """
    responder = Responder(local)
    try:
        answer = responder.opening(await link.receive())
    except Refusal as refusal:
        await _tell(link, refusal_bytes(refusal))
        raise
    await link.send(answer)
    try:
        check(responder.proof(await link.receive()))
    except RefusedByPeer:
        raise
    except Refusal as refusal:
        await _tell(link, responder.refuse(refusal))
        raise
    return responder.welcome()


async def _tell(link: Link, refusal: bytes) -> None:
    with contextlib.suppress(LinkLost):
        await link.send(refusal)
