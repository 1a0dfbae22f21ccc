"""A peer that was written from docs/protocol.md alone: it links with a node and asks it for what it has.

It shares no code with the ledger but the independent reader's encoding. It mines and votes nothing.
"""

import hmac
import os
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_seed_keypair,
)

from tests.docs.independent import H, decode, encode, need, verify

OPENING = b"energy-ledger/peer-handshake/opening\0"
PROOF = b"energy-ledger/peer-handshake/proof\0"
BEARER = b"energy-ledger/peer-handshake/bearer\0"
CHUNK = 32768
BULK = (6, 8, 22)
"""Kinds of messages that travel in lane 1."""


def lengths(*parts: bytes) -> bytes:
    """Return parts with the length of each before it."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def transcript(before: bytes, *parts: bytes) -> bytes:
    """Return X of the page."""
    return H(OPENING, lengths(before, *parts))


def hkdf(secret: bytes, salt: bytes, label: bytes) -> bytes:
    """Return a key of 32 bytes by HKDF-SHA256."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), label + b"\1", "sha256")


def statement(domain: bytes, part: bytes, chain_id: bytes, said: bytes, key: bytes) -> bytes:
    """Return what a node signs in a handshake of version 1."""
    return domain + H(domain, lengths(part, chain_id, struct.pack(">H", 1), said, key))


class Sealing:
    """One direction's key and counter."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.count = 0

    def _next(self) -> tuple[bytes, bytes]:
        now = self.count.to_bytes(12, "little"), self.key
        self.count += 1
        if self.count == 65536:
            self.key, self.count = hmac.digest(self.key, b"energy-ledger/peer-rekey/1", "sha256"), 0
        return now

    def seal(self, plain: bytes, bound: bytes = b"") -> bytes:
        nonce, key = self._next()
        return crypto_aead_chacha20poly1305_ietf_encrypt(plain, bound, nonce, key)

    def open(self, sealed: bytes, bound: bytes = b"") -> bytes:
        nonce, key = self._next()
        return crypto_aead_chacha20poly1305_ietf_decrypt(sealed, bound, nonce, key)


class Initiator:
    """The dialling side of a handshake."""

    def __init__(
        self,
        seed: bytes,
        chain_id: bytes,
        ephemeral: bytes | None = None,
        invitation: tuple[list[Any], bytes] | None = None,
    ) -> None:
        """Begin with a node's seed; `invitation`: a newcomer's, and the seed of its one-time key."""
        self.key, self._secret = crypto_sign_seed_keypair(seed)
        self.chain_id = chain_id
        self._invitation = invitation
        self._ephemeral = ephemeral or os.urandom(32)
        self.said = b""
        self.responder = b""
        """The other side's node key, proven."""
        self.software = ""

    def opening(self) -> bytes:
        """Return step 1."""
        public = crypto_scalarmult_base(self._ephemeral)
        opening = encode(["energy-ledger/opening", 1, 1, self.chain_id, public])
        self.said = transcript(b"", opening)
        return opening

    def proof(self, answer: bytes) -> bytes:
        """Check step 2, return step 3."""
        name, *fields = decode(answer)
        need(name == "energy-ledger/answer", f"no answer: {fields}")
        version, chain_id, public, sealed = fields
        need((version, chain_id) == (1, self.chain_id), "an answer to something else")
        self.said = transcript(self.said, struct.pack(">H", 1), chain_id, public)
        self._shared = crypto_scalarmult(self._ephemeral, public)
        sending = Sealing(hkdf(self._shared, self.said, b"handshake/initiator"))
        self._receiving = Sealing(hkdf(self._shared, self.said, b"handshake/responder"))
        name, key, software, signature, invitation, bearer = decode(self._receiving.open(sealed, self.said))
        need(name == "proof" and invitation is None and bearer is None, "no proof")
        signed = statement(PROOF, b"responder", chain_id, self.said, key)
        need(verify(key, signed, signature), "the responder did not prove its key")
        self.responder, self.software = key, software
        self.said = transcript(self.said, sealed)
        sealed = sending.seal(self._own_proof(), self.said)
        self._before = self.said
        self.said = transcript(self.said, sealed)
        return sealed

    def _own_proof(self) -> bytes:
        signed = statement(PROOF, b"initiator", self.chain_id, self.said, self.key)
        proof: list[Any] = [
            "proof",
            self.key,
            "independent",
            crypto_sign(signed, self._secret)[:64],
            None,
            None,
        ]
        if self._invitation is not None:
            proof[4], seed = self._invitation
            signed = statement(BEARER, b"initiator", self.chain_id, self.said, self.key)
            proof[5] = crypto_sign(signed, crypto_sign_seed_keypair(seed)[1])[:64]
        return encode(proof)

    def keys(self, verdict: bytes) -> tuple[Sealing, Sealing]:
        """Check step 4; return the keys for sending and receiving."""
        plain = decode(self._receiving.open(verdict, self.said))
        need(plain == ["welcome"], f"refused: {plain[1:]}")
        self.said = transcript(self.said, verdict)
        return (
            Sealing(hkdf(self._shared, self.said, b"traffic/initiator")),
            Sealing(hkdf(self._shared, self.said, b"traffic/responder")),
        )


class Peer:
    """A link with a node."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, handshake: Initiator) -> None:
        self._socket = socket
        self.handshake = handshake
        self._sending: Sealing
        self._receiving: Sealing
        self.hello: list[Any] = []
        """What the node said first, without its number."""
        self.addresses: list[Any] = []
        """Announcements that the node passed on."""
        self.votes_told: list[list[Any]] = []
        """Links that the node told votes of: source, target, voters."""

    async def link(self) -> None:
        """Make the handshake, and greet."""
        await self._socket.send_bytes(self.handshake.opening())
        answer = await self._socket.receive_bytes(timeout=30)
        await self._socket.send_bytes(self.handshake.proof(answer))
        verdict = await self._socket.receive_bytes(timeout=30)
        self._sending, self._receiving = self.handshake.keys(verdict)
        genesis = [0, self.handshake.chain_id]
        await self.say([1, [int(time.time()), genesis, 0, genesis], 1, "independent"])
        self.hello = await self.answer(1)

    async def say(self, message: list[Any]) -> None:
        """Send a message."""
        kind, data = message[0], encode(message)
        lane = 1 if kind in BULK else 0
        start = struct.pack(">BBBI", 1, lane, kind, len(data))
        await self._socket.send_bytes(self._sending.seal(start + data[:CHUNK]))
        for at in range(CHUNK, len(data), CHUNK):
            await self._socket.send_bytes(self._sending.seal(bytes([2, lane]) + data[at : at + CHUNK]))

    async def frame(self) -> bytes:
        """Return the next frame, having answered a ping."""
        plain = self._receiving.open(await self._socket.receive_bytes(timeout=30))
        if plain[0] == 3:
            await self._socket.send_bytes(self._sending.seal(b"\4" + plain[1:]))
        elif plain[0] == 5:
            self.addresses += decode(plain[1:])
        return plain

    async def messages(self) -> AsyncIterator[list[Any]]:
        """Give the node's messages."""
        under_way: dict[int, tuple[int, int, bytes]] = {}
        while True:
            plain = await self.frame()
            need(plain[0] != 6, f"the node ends the link: {plain[1:]!r}")
            if plain[0] == 1:
                _, lane, kind, total = struct.unpack_from(">BBBI", plain)
                under_way[lane] = kind, total, plain[7:]
            elif plain[0] == 2:
                lane = plain[1]
                kind, total, data = under_way[lane]
                under_way[lane] = kind, total, data + plain[2:]
            else:
                continue
            kind, total, data = under_way[lane]
            if len(data) == total:
                del under_way[lane]
                message = decode(data)
                need(message[0] == kind and lane == (1 if kind in BULK else 0), "kind or lane")
                if kind == 16:
                    self.votes_told += message[1]
                yield message

    async def answer(self, wanted: int) -> list[Any]:
        """Return the fields of the next message of a kind."""
        async for message in self.messages():
            if message[0] == wanted:
                return message[1:]
            if message[0] == 2:
                genesis = [0, self.handshake.chain_id]
                await self.say([3, message[1], [int(time.time()), genesis, 0, genesis]])
        raise AssertionError

    async def give_record(self, envelope: list[Any], record_id: bytes) -> None:
        """Announce a record, and give it when it is asked for."""
        await self.say([13, [record_id]])
        (wanted,) = await self.answer(14)
        need(wanted == [record_id], "another record is asked for")
        await self.say([15, [envelope]])

    async def give_block(self, block: list[bytes]) -> None:
        """Announce a block, and give its body when it, or its short form, is asked for."""
        header, signature, body = block
        await self.say([4, [header, signature], 0, 0])
        async for message in self.messages():
            if message[0] in (7, 9):
                places = message[1] if message[0] == 7 else [message[1]]
                need([place[1] for place in places] == [H(header)], "another block is asked for")
                await self.say([8, [[H(header), body]]])
                return

    async def votes(self, link: list[Any]) -> list[Any]:
        """Wait until the node tells of votes for a link, ask for them, and return the bundle."""
        _, source, source_hash, target, target_hash = link
        ends = [[source, source_hash], [target, target_hash]]
        while not (told := [each for each in self.votes_told if each[:2] == ends]):
            await self.answer(16)
        await self.say([17, told[-1:]])
        (bundle,) = (await self.answer(18))[0]
        need(bundle[:-1] == link, "votes for another link")
        found: list[Any] = bundle
        return found

    async def headers(self, locator: list[list[Any]], limit: int = 2000) -> list[list[bytes]]:
        """Ask for headers; return `[header, signature]` of each."""
        await self.say([5, locator, limit])
        found: list[list[bytes]] = (await self.answer(6))[0]
        return found

    async def bodies(self, blocks: list[list[Any]]) -> list[list[Any]]:
        """Ask for bodies; return `[hash, body]` of each."""
        await self.say([7, blocks])
        found: list[list[Any]] = (await self.answer(8))[0]
        return found


@asynccontextmanager
async def linked(
    url: str, seed: bytes, chain_id: bytes, invitation: tuple[list[Any], bytes] | None = None
) -> AsyncIterator[Peer]:
    """Link with the node at a URL."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, compress=0, max_msg_size=32792) as socket,
    ):
        peer = Peer(socket, Initiator(seed, chain_id, invitation=invitation))
        await peer.link()
        yield peer
