"""Invitations as text: whole, short enough for a picture, and clear about what happened to a damaged one."""

import base64
import random
import re
import string
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.community import encode_genesis
from ledger_core.keys import SoftwareSigner
from ledger_core.records.codec import invite
from ledger_core.records.invitations import (
    MAX_TEXT,
    Anchor,
    InvitationError,
    InvitationLink,
    decode_link,
    encode_link,
)
from ledger_core.records.types import Role
from tests.core.world import HOUSEHOLD, START, World, signer

BEARER = signer("bearer")
EXPIRES = START + 86_400


def make_link(world: World | None = None, **changes: Any) -> InvitationLink:
    world = world or World()
    invitation = invite(world.chain_id, world["anna"].key, BEARER.public_key, HOUSEHOLD, EXPIRES)
    fields: dict[str, Any] = {
        "genesis": encode_genesis(world.genesis),
        "addresses": ("192.168.1.7:7946", "ws://anna.example/peer"),
        "invitation": invitation,
        "secret": BEARER.export_seed(),
        "anchor": Anchor(8, bytes(range(32))),
    }
    return InvitationLink(**{**fields, **changes})


TEXT = encode_link(make_link())


def refused(text: str) -> InvitationError:
    with pytest.raises(InvitationError) as caught:
        decode_link(text)
    return caught.value


@pytest.mark.parametrize("anchor", [None, Anchor(2**32 - 1, b"h" * 32)])
@pytest.mark.parametrize("addresses", [(), ("[fe80::1]:7946",), tuple(f"h{n}:1" for n in range(8))])
def test_a_link_comes_back_from_its_text(addresses: tuple[str, ...], anchor: Anchor | None) -> None:
    link = make_link(addresses=addresses, anchor=anchor)
    text = encode_link(link)
    assert decode_link(text) == link
    assert re.fullmatch("ELINVITE-1-[A-Z2-7]+", text)


def test_a_link_knows_its_community_and_its_one_time_key() -> None:
    world = World()
    link = decode_link(encode_link(make_link(world)))
    assert link.community == world.genesis
    assert link.chain_id == world.chain_id
    assert link.signer.public_key == link.invitation.key == BEARER.public_key
    assert link.invitation.roles == Role.HOME | Role.NODE


def test_a_small_community_s_invitation_fits_a_picture_with_room_for_errors() -> None:
    # The largest QR code with medium correction holds 3391 of its alphanumeric characters.
    assert len(encode_link(make_link(World(("anna", *"bcdefghij"))))) < 3391


def test_what_letters_and_mails_do_to_a_text_does_no_harm() -> None:
    folded = "  " + "\r\n".join(TEXT[at : at + 60] for at in range(0, len(TEXT), 60)) + "\n"
    assert decode_link(folded) == decode_link(TEXT.lower()) == decode_link(TEXT) == make_link()
    head, body = TEXT[:11], TEXT[11:]
    assert decode_link(head + body.replace("O", "0").replace("I", "1").replace("B", "8")) == make_link()


@pytest.mark.parametrize("text", ["", "el1qqqq", "ELINVITE", "INVITE-1-AAAA", "ELINVITE-x-AAAA", TEXT[3:]])
def test_another_text_is_told_what_an_invitation_starts_with(text: str) -> None:
    error = refused(text)
    assert error.code == "invitation_text_prefix"
    assert "ELINVITE-1-" in error.message


def test_another_version_is_named() -> None:
    error = refused(TEXT.replace("-1-", "-2-", 1))
    assert (error.code, error.details) == ("invitation_text_version", {"version": 2, "known": 1})


def test_a_text_of_the_wrong_kind_of_size_is_not_looked_at() -> None:
    assert refused("ELINVITE-1-" + "A" * MAX_TEXT).code == "invitation_text_length"


@pytest.mark.parametrize("cut", [11, 12, 14, 15, 100, len(TEXT) - 1])
def test_a_cut_text_says_so(cut: int) -> None:
    error = refused(TEXT[:cut])
    assert error.code == "invitation_text_length"
    assert "missing" in error.message or "too early" in error.message


def test_a_text_with_something_behind_it_says_so() -> None:
    error = refused(TEXT + "ABC")
    assert (error.code, "3 are too many" in error.message) == ("invitation_text_length", True)


def test_a_character_that_can_not_be_is_named_with_its_place() -> None:
    error = refused(TEXT[:20] + "\u00e9" + TEXT[21:])
    assert error.code == "invitation_text_character"
    assert (error.details["character"], error.details["position"]) == ("\u00c9", 21)
    assert error.message.isascii()


@given(st.integers(15, len(TEXT) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_every_mistyped_character_is_noticed(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    if changed != TEXT:
        assert refused(changed).code == "invitation_text_checksum"


@given(st.text(st.sampled_from(string.printable)), st.booleans())
@example("ELINVITE-1-", False)
@example("ELINVITE-1-AAAAA", False)
def test_no_text_breaks_the_decoder(text: str, with_prefix: bool) -> None:
    assert refused("ELINVITE-1-" + text if with_prefix else text).code.startswith("invitation_text_")


def framed(content: bytes) -> str:
    """A text with good length and checksum around any content."""
    from ledger_core.records.invitations import _checksum

    data = len(content).to_bytes(2) + content + _checksum(content)
    return "ELINVITE-1-" + base64.b32encode(data).decode().rstrip("=")


def test_a_content_that_is_none_is_refused() -> None:
    content = base64.b32decode(TEXT[11:] + "=" * (-len(TEXT[11:]) % 8))[2:-5]
    assert decode_link(framed(content)) == make_link()
    assert refused(framed(content[:-1])).code == "invitation_text_malformed"
    assert refused(framed(b"\xdc" + content)).code == "invitation_text_malformed"
    # An array header in a longer form than needed.
    assert content[0] == 0x98
    assert "re-encode" in refused(framed(b"\xdc\x00\x08" + content[1:])).message
    noise = random.Random(1)
    for _ in range(200):
        at = noise.randrange(len(content))
        damaged = content[:at] + bytes([content[at] ^ 1 << noise.randrange(8)]) + content[at + 1 :]
        # Some changes only move an address or the anchor: nothing else is left open.
        with suppress(InvitationError):
            changed = decode_link(framed(damaged))
            assert (changed.genesis, changed.invitation) == (make_link().genesis, make_link().invitation)


def test_an_invitation_for_another_community_is_refused() -> None:
    other = World(name="Other street")
    content = make_link(genesis=encode_genesis(other.genesis))
    with pytest.raises(InvitationError, match="not signed by the authority"):
        encode_link(content)


@pytest.mark.parametrize(
    "changes",
    [
        {"genesis": b"\x00"},
        {"secret": SoftwareSigner.generate().export_seed()},
        {"addresses": ("two words:1",)},
        {"addresses": tuple(f"h{n}:1" for n in range(9))},
    ],
)
def test_what_no_text_can_hold_is_refused_when_it_is_written(changes: dict[str, Any]) -> None:
    with pytest.raises(InvitationError) as caught:
        encode_link(make_link(**changes))
    assert caught.value.code == "invitation_text_malformed"


def test_an_invitation_that_names_another_one_time_key_is_refused() -> None:
    world = World()
    stranger = invite(world.chain_id, world["anna"].key, signer("x").public_key, HOUSEHOLD, EXPIRES)
    with pytest.raises(InvitationError):
        encode_link(make_link(world, invitation=stranger))
    right = make_link(world).invitation
    with pytest.raises(InvitationError, match="one-time key"):
        encode_link(make_link(world, invitation=replace(right, key=stranger.key)))
