"""The handshake without sockets: what it proves, what it refuses, and that no bytes break it."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.keys import SoftwareSigner
from ledger_core.node.peers import (
    Bearer,
    HandshakeError,
    LocalNode,
    PeerError,
    Refusal,
    RefusedByPeer,
    RemoteNode,
)
from ledger_core.node.peers.cipher import Opener
from ledger_core.node.peers.handshake import (
    MAX_HANDSHAKE_BYTES,
    Initiator,
    Responder,
    Session,
    refusal_bytes,
)
from ledger_core.node.peers.key_schedule import Ephemeral
from ledger_core.records.codec import invite
from ledger_core.records.members import Invitation
from tests.node.peer_world import CHAIN_ID, local_node, seeded

ALICE, BOB, AUTHORITY, ONCE = (seeded(number) for number in (11, 12, 13, 14))
INVITATION = invite(CHAIN_ID, AUTHORITY, ONCE.public_key, 3, 2_000_000_000)


def sides(
    alice: LocalNode | None = None, bob: LocalNode | None = None, expected: bytes | None = None
) -> tuple[Initiator, Responder]:
    """Give both sides, with ephemeral keys that are always the same."""
    return (
        Initiator(alice or local_node(ALICE), expected, Ephemeral(b"\x01" * 32)),
        Responder(bob or local_node(BOB), Ephemeral(b"\x02" * 32)),
    )


def shake(initiator: Initiator, responder: Responder) -> tuple[Session, Session, list[bytes]]:
    """Make a whole handshake; give both sessions and the messages."""
    opening = initiator.opening()
    answer = responder.opening(opening)
    initiator.answer(answer)
    proof = initiator.proof()
    responder.proof(proof)
    verdict, bobs = responder.welcome()
    return initiator.verdict(verdict), bobs, [opening, answer, proof, verdict]


def test_both_sides_know_each_other_and_share_keys() -> None:
    alices, bobs, _ = shake(*sides(expected=BOB.public_key))
    assert alices.remote == RemoteNode(BOB.public_key, 1, "energy-ledger/test")
    assert bobs.remote == RemoteNode(ALICE.public_key, 1, "energy-ledger/test")
    for _ in range(3):
        assert bobs.opener.open(alices.sealer.seal(b"to bob")) == b"to bob"
        assert alices.opener.open(bobs.sealer.seal(b"to alice")) == b"to alice"


def test_two_handshakes_share_no_key() -> None:
    one, _, _ = shake(Initiator(local_node(ALICE)), Responder(local_node(BOB)))
    _, two, _ = shake(Initiator(local_node(ALICE)), Responder(local_node(BOB)))
    with pytest.raises(PeerError, match="comes next"):
        two.opener.open(one.sealer.seal(b"x"))


def test_the_bytes_of_the_handshake_stay_what_they_are() -> None:
    """Golden bytes: a change here is a new protocol version."""
    alices, _, messages = shake(*sides())
    assert [len(each) for each in messages] == [93, 237, 144, 25]
    assert messages[0].hex() == (
        "95b5656e657267792d6c65646765722f6f70656e696e670101c420"
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fc420"
        "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
    )
    digest = sha256(b"".join(messages)).hexdigest()
    assert digest == "c40492790bde4a584fd25644fea61bb67b8a0d3a2f4cfdaf7aa1c46e3af9f4be"
    assert alices.sealer.seal(b"golden").hex() == "2d19ad55e3b8d02a108fc3a1f07a80bf0524ca2bc767"


@pytest.mark.parametrize("number", range(4))
def test_no_bit_of_a_message_can_be_flipped(number: int) -> None:
    """Every byte of every message, one bit changed: never a session on both sides."""
    _, _, messages = shake(*sides())
    for place in range(len(messages[number])):
        initiator, responder = sides()
        with pytest.raises(PeerError):
            _shake_tampered(initiator, responder, number, place)


def _shake_tampered(initiator: Initiator, responder: Responder, number: int, place: int) -> None:
    def flip(message: bytes, index: int) -> bytes:
        if index != number:
            return message
        changed = bytearray(message)
        changed[place] ^= 0x01
        return bytes(changed)

    answer = responder.opening(flip(initiator.opening(), 0))
    initiator.answer(flip(answer, 1))
    responder.proof(flip(initiator.proof(), 2))
    verdict, _ = responder.welcome()
    initiator.verdict(flip(verdict, 3))


def test_a_replayed_handshake_is_refused() -> None:
    """The recorded messages of the initiator mean nothing to a responder's new ephemeral key."""
    initiator, _ = sides()
    _, _, (opening, answer, proof, _) = shake(initiator, Responder(local_node(BOB)))
    again = Responder(local_node(BOB))
    assert again.opening(opening) != answer
    with pytest.raises(HandshakeError) as error:
        again.proof(proof)
    assert error.value.code == "handshake_forged"
    newer = Initiator(local_node(ALICE))
    newer.opening()
    with pytest.raises(HandshakeError) as error:
        newer.answer(answer)
    assert error.value.code == "handshake_forged"


def test_own_words_sent_back_are_refused() -> None:
    """A reflection of the opening, as opening and as answer."""
    initiator, _ = sides()
    opening = initiator.opening()
    with pytest.raises(HandshakeError):
        initiator.answer(opening)
    echo = msgspec.msgpack.decode(opening)
    initiator, _ = sides()
    initiator.opening()
    with pytest.raises(HandshakeError) as error:
        initiator.answer(msgspec.msgpack.encode(["energy-ledger/answer", 1, CHAIN_ID, echo[4], b"\0" * 32]))
    assert error.value.code == "handshake_reflected"


def test_a_nodes_own_proof_sent_back_is_refused() -> None:
    """Two links to one victim: what it signs as initiator does not serve as a responder's proof."""
    victim, _ = sides()
    mirror = _Replaying(local_node(BOB), b"")
    answer = mirror.opening(victim.opening())
    with pytest.raises(HandshakeError):
        victim.answer(answer)
    # The victim's own proof, taken from another link on which it is the initiator.
    other, responder = sides()
    other.answer(responder.opening(other.opening()))
    stolen = _opened(responder, other.proof())
    victim = Initiator(local_node(ALICE))
    mirror = _Replaying(local_node(BOB), stolen)
    answer = mirror.opening(victim.opening())
    with pytest.raises(Refusal) as error:
        victim.answer(answer)
    assert error.value.code == "own_node"


class _Replaying(Responder):
    """A responder that shows a proof that is not its own."""

    def __init__(self, local: LocalNode, stolen: bytes) -> None:
        super().__init__(local)
        self._stolen = stolen

    def _prove(self, bearer: Bearer | None = None) -> bytes:
        return self._stolen


def _opened(side: Any, sealed: bytes) -> bytes:
    """Open a sealed proof with the keys of a side, as whoever has done the key exchange can."""
    plaintext: bytes = side._opener.open(sealed, side._said)
    return plaintext


def test_a_man_in_the_middle_cannot_pass_on_anothers_proof() -> None:
    """He exchanges keys with both sides and passes the true proof on: it is bound to the other exchange."""
    mallory = Initiator(local_node(seeded(66)))
    bob = Responder(local_node(BOB))
    answer = msgspec.msgpack.decode(bob.opening(mallory.opening()))
    stolen = _bobs_proof(mallory, answer)
    alice = Initiator(local_node(ALICE), BOB.public_key)
    middle = _Replaying(local_node(seeded(66)), stolen)
    with pytest.raises(HandshakeError) as error:
        alice.answer(middle.opening(alice.opening()))
    assert error.value.code == "handshake_forged"


def _bobs_proof(mallory: Initiator, answer: list[Any]) -> bytes:
    """Open Bob's proof with the keys that he shares with Mallory."""
    mallory._version = answer[1]
    mallory._hear(answer[1].to_bytes(2), answer[2], answer[3])
    return Opener(mallory._agree(answer[3]).from_responder).open(answer[4], mallory._said)


def test_another_node_than_the_one_looked_for_is_refused_and_told() -> None:
    initiator, responder = sides(expected=seeded(77).public_key)
    answer = responder.opening(initiator.opening())
    with pytest.raises(Refusal) as error:
        initiator.answer(answer)
    assert error.value.code == "wrong_node"
    with pytest.raises(RefusedByPeer) as told:
        responder.proof(initiator.refuse(error.value))
    assert (told.value.code, told.value.proven) == ("wrong_node", False)


def test_a_node_does_not_link_with_itself() -> None:
    initiator, responder = sides(bob=local_node(ALICE))
    answer = responder.opening(initiator.opening())
    with pytest.raises(Refusal) as error:
        initiator.answer(answer)
    assert error.value.code == "own_node"
    with pytest.raises(RefusedByPeer, match="copy of its key"):
        responder.proof(initiator.refuse(error.value))


def test_a_responder_tells_why_it_refuses() -> None:
    initiator, responder = sides()
    initiator.answer(responder.opening(initiator.opening()))
    responder.proof(initiator.proof())
    refusal = Refusal("stranger", "no\nmember", retry_after_s=7)
    with pytest.raises(RefusedByPeer) as error:
        initiator.verdict(responder.refuse(refusal))
    assert (error.value.code, error.value.message) == ("stranger", "no?member")
    assert (error.value.retry_after_s, error.value.proven) == (7, True)


def test_another_chain_is_refused_with_both_named() -> None:
    initiator, responder = sides(alice=local_node(ALICE, b"\xaa" * 32))
    with pytest.raises(Refusal) as error:
        responder.opening(initiator.opening())
    assert error.value.code == "wrong_chain"
    assert "0001020304050607" in error.value.message
    assert "aaaaaaaaaaaaaaaa" in error.value.message
    with pytest.raises(RefusedByPeer) as told:
        initiator.answer(refusal_bytes(error.value))
    assert (told.value.code, told.value.proven) == ("wrong_chain", False)


def at_versions(signer: SoftwareSigner, oldest: int, newest: int) -> LocalNode:
    return LocalNode(signer, CHAIN_ID, "energy-ledger/test", versions=(oldest, newest))


def test_the_newest_common_version_is_taken() -> None:
    alices, bobs, _ = shake(*sides(at_versions(ALICE, 1, 4), at_versions(BOB, 2, 3)))
    assert alices.remote.version == bobs.remote.version == 3


@pytest.mark.parametrize(("mine", "theirs"), [((1, 2), (3, 4)), ((5, 6), (3, 4))])
def test_no_common_version_is_refused_with_both_ranges(
    mine: tuple[int, int], theirs: tuple[int, int]
) -> None:
    initiator, responder = sides(at_versions(ALICE, *mine), at_versions(BOB, *theirs))
    with pytest.raises(Refusal) as error:
        responder.opening(initiator.opening())
    assert error.value.code == "protocol_version"
    assert f"{theirs[0]} to {theirs[1]}" in error.value.message
    assert f"{mine[0]} to {mine[1]}" in error.value.message


def test_a_version_cannot_be_talked_down() -> None:
    """Somebody on the way offers less in the initiator's name: the responder's proof does not fit."""
    initiator, responder = sides(at_versions(ALICE, 1, 2), at_versions(BOB, 1, 2))
    opening = msgspec.msgpack.decode(initiator.opening())
    assert opening[2] == 2
    opening[2] = 1
    with pytest.raises(HandshakeError) as error:
        initiator.answer(responder.opening(msgspec.msgpack.encode(opening)))
    assert error.value.code == "handshake_forged"


def test_an_answer_in_a_version_that_was_not_offered_is_refused() -> None:
    initiator, responder = sides()
    answer = msgspec.msgpack.decode(responder.opening(initiator.opening()))
    with pytest.raises(HandshakeError) as error:
        initiator.answer(msgspec.msgpack.encode([answer[0], 2, *answer[2:]]))
    assert error.value.code == "handshake_version"
    initiator, _ = sides()
    initiator.opening()
    with pytest.raises(HandshakeError) as error:
        initiator.answer(msgspec.msgpack.encode([answer[0], 1, b"\x07" * 32, *answer[3:]]))
    assert error.value.code == "handshake_chain"


def test_later_versions_may_add_to_the_opening() -> None:
    initiator, responder = sides()
    opening = msgspec.msgpack.decode(initiator.opening())
    assert responder.opening(msgspec.msgpack.encode([*opening, "new"]))


def test_a_point_of_low_order_is_refused() -> None:
    _, responder = sides()
    opening = msgspec.msgpack.encode(["energy-ledger/opening", 1, 1, CHAIN_ID, b"\0" * 32])
    with pytest.raises(HandshakeError) as error:
        responder.opening(opening)
    assert error.value.code == "handshake_weak_key"


def bearing(invitation: Invitation, signer: SoftwareSigner) -> LocalNode:
    return local_node(ALICE, bearer=Bearer(invitation, signer))


def test_an_invitations_bearer_is_known_as_such() -> None:
    _, bobs, _ = shake(*sides(bearing(INVITATION, ONCE)))
    assert bobs.remote.invitation == INVITATION


def test_an_invitation_without_its_one_time_key_is_refused() -> None:
    with pytest.raises(HandshakeError) as error:
        shake(*sides(bearing(INVITATION, seeded(99))))
    assert error.value.code == "handshake_forged"


def test_an_invitation_of_another_community_is_refused() -> None:
    foreign = invite(b"\x01" * 32, AUTHORITY, ONCE.public_key, 3, 2_000_000_000)
    initiator, responder = sides(bearing(foreign, ONCE))
    initiator.answer(responder.opening(initiator.opening()))
    with pytest.raises(Refusal) as error:
        responder.proof(initiator.proof())
    assert error.value.code == "invitation_invalid"
    with pytest.raises(RefusedByPeer, match="not valid in this community"):
        initiator.verdict(responder.refuse(error.value))


def test_a_shown_invitation_cannot_be_used_by_who_saw_it() -> None:
    """The responder that a newcomer showed it to can't show it elsewhere: the proof names key and link."""
    initiator, responder = sides(bearing(INVITATION, ONCE))
    initiator.answer(responder.opening(initiator.opening()))
    stolen = msgspec.msgpack.decode(_opened(responder, initiator.proof()))
    thief, other = Initiator(local_node(seeded(66))), Responder(local_node(BOB))
    thief.answer(other.opening(thief.opening()))
    own = msgspec.msgpack.decode(thief._prove())
    forged = thief._seal(msgspec.msgpack.encode([*own[:4], *stolen[4:]]))
    with pytest.raises(HandshakeError) as error:
        other.proof(forged)
    assert error.value.code == "handshake_forged"


@pytest.mark.parametrize("cut", [4, 5])
def test_an_invitation_comes_with_its_proof(cut: int) -> None:
    initiator, responder = sides(bearing(INVITATION, ONCE))
    initiator.answer(responder.opening(initiator.opening()))
    parts = msgspec.msgpack.decode(initiator._prove(initiator._local.bearer))
    parts[cut] = None
    with pytest.raises(HandshakeError) as error:
        responder.proof(initiator._seal(msgspec.msgpack.encode(parts)))
    assert error.value.code == "handshake_malformed"


def test_a_refusal_in_place_of_the_responders_proof_is_malformed() -> None:
    initiator = Initiator(local_node(ALICE))
    responder = _Replaying(local_node(BOB), refusal_bytes(Refusal("no", "no")))
    answer = responder.opening(initiator.opening())
    with pytest.raises(HandshakeError) as error:
        initiator.answer(answer)
    assert error.value.code == "handshake_malformed"


def test_steps_out_of_order_are_the_callers_mistake() -> None:
    initiator, _ = sides()
    with pytest.raises(RuntimeError, match="out of order"):
        initiator.proof()


def test_a_long_name_of_the_software_is_cut() -> None:
    alice = LocalNode(ALICE, CHAIN_ID, "x" * 500 + "\n")
    _, bobs, _ = shake(*sides(alice))
    assert bobs.remote.software == "x" * 63 + "…"


@given(st.binary(max_size=MAX_HANDSHAKE_BYTES + 8))
def test_no_bytes_break_either_side(data: bytes) -> None:
    """At each step: an exception of the family, or a step on."""
    for step in range(4):
        initiator, responder = sides()
        with pytest.raises(PeerError):
            _feed(initiator, responder, step, data)


def _feed(initiator: Initiator, responder: Responder, step: int, data: bytes) -> None:
    if step == 0:
        responder.opening(data)
    answer = responder.opening(initiator.opening())
    if step == 1:
        initiator.answer(data)
    initiator.answer(answer)
    if step == 2:
        responder.proof(data)
    responder.proof(initiator.proof())
    responder.welcome()
    initiator.verdict(data)


_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=80)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=10,
)


@given(
    st.sampled_from(("energy-ledger/opening", "energy-ledger/answer", "proof", "welcome")),
    st.lists(_junk, max_size=6),
)
def test_no_well_formed_junk_breaks_either_side(tag: str, fields: list[Any]) -> None:
    """MessagePack of the right tag with any fields, also sealed with the right keys."""
    data = msgspec.msgpack.encode([tag, *fields])
    initiator, responder = sides()
    for step in (0, 1):
        with pytest.raises(PeerError):
            _feed(*sides(), step, data)
    initiator.answer(responder.opening(initiator.opening()))
    if (tag, len(fields)) != ("welcome", 0):
        with pytest.raises(PeerError):
            responder.proof(initiator._seal(data))
