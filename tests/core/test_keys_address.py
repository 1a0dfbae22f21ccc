"""Addresses: BIP-350's own vectors, round trips, and what a typing error is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.keys import (
    AddressError,
    SoftwareSigner,
    address,
    bech32,
    parse_address,
    parse_seed_text,
    seed_text,
)

KEY = bytes(range(32))
ADDRESS = "el1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s8wtn67"

# BIP-350, test vectors "valid Bech32m" and "not valid Bech32m".
VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = {
    "\x201xj0phk": "address_character",
    "\x7f1g6xzxy": "address_character",
    "\x801vctc34": "address_character",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4": (
        "address_length"
    ),
    "qyrz8wqd2c9m": "address_prefix",
    "1qyrz8wqd2c9m": "address_prefix",
    "y1b0jsk6g": "address_character",
    "lt1igcx5c0": "address_character",
    "in1muywd": "address_length",
    "mm1crxm3i": "address_character",
    "au1s5cgom": "address_character",
    "M1VUXWEZ": "address_checksum",
    "16plkw9": "address_prefix",
    "1p2gdwpf": "address_prefix",
}

keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("text", VALID)
def test_valid_vectors_of_bip_350_come_back_unchanged(text: str) -> None:
    prefix, values = bech32.decode(text)
    assert bech32.encode(prefix, values) == text.lower()


@pytest.mark.parametrize(("text", "code"), INVALID.items())
def test_invalid_vectors_of_bip_350_are_refused(text: str, code: str) -> None:
    with pytest.raises(AddressError) as caught:
        bech32.decode(text)
    assert caught.value.code == code


# BIP-350, segwit addresses v1: the payload of 32 bytes is regrouped as ours is.
@pytest.mark.parametrize(
    ("text", "program"),
    [
        (
            "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
            "000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
        ),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
    ],
)
def test_payloads_of_bip_350_are_regrouped_alike(text: str, program: str) -> None:
    _, values = bech32.decode(text)
    assert bech32.unpack(values[1:]).hex() == program
    assert bech32.pack(bytes.fromhex(program)) == values[1:]


def test_the_form_of_an_address_is_fixed() -> None:
    assert address(KEY) == ADDRESS
    assert parse_address(ADDRESS) == KEY
    assert len(ADDRESS) == 61


@given(keys)
def test_addresses_come_back(key: bytes) -> None:
    assert parse_address(address(key)) == key
    assert parse_address(address(key).upper()) == key


@given(keys)
def test_seeds_come_back(seed: bytes) -> None:
    text = seed_text(seed)
    assert text.startswith("elsec1")
    assert parse_seed_text(text) == seed


PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


@given(keys, st.data())
def test_any_changed_character_is_refused(key: bytes, data: st.DataObject) -> None:
    text = address(key)
    place = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(PRINTABLE.filter(lambda character: character != text[place]))
    with pytest.raises(AddressError):
        parse_address(text[:place] + wrong + text[place + 1 :])


@given(keys, st.data())
def test_any_added_character_is_refused(key: bytes, data: st.DataObject) -> None:
    text = address(key)
    place = data.draw(st.integers(0, len(text)))
    with pytest.raises(AddressError):
        parse_address(text[:place] + data.draw(PRINTABLE) + text[place:])


@given(keys, st.integers(0, 60))
def test_any_left_out_character_is_refused(key: bytes, place: int) -> None:
    text = address(key)
    with pytest.raises(AddressError):
        parse_address(text[:place] + text[place + 1 :])


@given(keys, st.integers(0, 59))
def test_any_exchange_of_neighbours_is_refused(key: bytes, place: int) -> None:
    text = address(key)
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if swapped == text:
        assert parse_address(swapped) == key
    else:
        with pytest.raises(AddressError):
            parse_address(swapped)


@given(keys, st.data())
def test_one_wrong_character_is_located(key: bytes, data: st.DataObject) -> None:
    text = address(key)
    place = data.draw(st.integers(3, len(text) - 1))
    wrong = data.draw(st.sampled_from(sorted(set(bech32.CHARSET) - {text[place]})))
    with pytest.raises(AddressError) as caught:
        parse_address(text[:place] + wrong + text[place + 1 :])
    assert caught.value.code == "address_checksum"
    assert caught.value.details["positions"] == [place + 1]
    assert f"{wrong!r} at position {place + 1} is probably wrong" in caught.value.message


@given(keys, st.integers(3, 59))
def test_two_exchanged_characters_are_located(key: bytes, place: int) -> None:
    text = address(key)
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if swapped == text:
        return
    with pytest.raises(AddressError) as caught:
        parse_address(swapped)
    assert caught.value.details["positions"] == [place + 1, place + 2]
    assert "probably exchanged" in caught.value.message


def test_more_errors_are_found_but_not_located() -> None:
    text = list(ADDRESS)
    for place in (10, 25, 40):
        text[place] = "q" if text[place] != "q" else "p"
    with pytest.raises(AddressError) as caught:
        parse_address("".join(text))
    assert caught.value.message == "the checksum does not match: more than one character is wrong"
    assert caught.value.details == {"positions": []}


def refusal(text: str) -> AddressError:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    return caught.value


def test_a_character_outside_the_set_is_named_with_what_it_may_stand_for() -> None:
    error = refusal(ADDRESS[:20] + "o" + ADDRESS[21:])
    assert error.code == "address_character"
    assert error.message == "character 'o' at position 21 cannot occur there: perhaps 0 was meant"
    assert error.details == {"character": "o", "position": 21}
    assert (
        refusal(ADDRESS[:20] + "!" + ADDRESS[21:]).message
        == "character '!' at position 21 cannot occur there"
    )


def test_a_stray_separator_is_told_as_a_wrong_character() -> None:
    error = refusal(ADDRESS[:30] + "1" + ADDRESS[31:])
    assert error.code == "address_character"
    assert error.message == "character '1' at position 31 cannot occur there: perhaps l was meant"


def test_blanks_are_named() -> None:
    assert refusal(ADDRESS[:20] + "\t" + ADDRESS[21:]).message == (
        "character '\\t' at position 21 cannot occur:"
        " only the letters a-z and digits are possible, without blanks"
    )


def test_mixed_case_is_named_with_both_places() -> None:
    error = refusal(ADDRESS[:10] + ADDRESS[10:].replace("c", "C", 1))
    assert error.code == "address_case"
    assert error.message == (
        "upper case ('C' at position 24) and lower case ('e' at position 1) are mixed:"
        " use lower case throughout"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ADDRESS[:-2], "an address has 61 characters, this one has 59: 2 missing"),
        (ADDRESS + "q", "an address has 61 characters, this one has 62: 1 too many"),
    ],
)
def test_a_wrong_length_is_counted(text: str, message: str) -> None:
    error = refusal(text)
    assert error.code == "address_length"
    assert error.message == message


@pytest.mark.parametrize("text", ["", "el", "ei1" + ADDRESS[3:], "bc1" + ADDRESS[3:]])
def test_a_wrong_prefix_is_named(text: str) -> None:
    error = refusal(text)
    assert error.code == "address_prefix"
    assert error.message == "an address starts with 'el1', this text does not"


def test_a_seed_is_no_address_and_is_not_repeated() -> None:
    secret = seed_text(KEY)
    error = refusal(secret)
    assert error.code == "address_prefix"
    assert "secret seed" in error.message
    assert secret not in error.message
    assert secret not in str(error.details)


def test_an_address_is_no_seed() -> None:
    with pytest.raises(AddressError, match=r"this is an address \(el1\.\.\.\), not a secret seed"):
        parse_seed_text(ADDRESS)


def test_stray_bits_in_the_last_character_are_refused() -> None:
    values = bech32.pack(KEY)
    values[-1] |= 1
    assert refusal(bech32.encode("el", values)).code == "address_padding"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_has_no_address(length: int) -> None:
    with pytest.raises(AddressError, match=f"a public key has 32 bytes, not {length}"):
        address(bytes(length))


@given(st.binary(max_size=40))
def test_regrouping_comes_back_for_any_length(payload: bytes) -> None:
    assert bech32.unpack(bech32.pack(payload)) == payload


def test_a_whole_superfluous_value_is_stray_padding() -> None:
    with pytest.raises(AddressError, match="stray bits"):
        bech32.unpack([*bech32.pack(bytes(5)), 0])


def test_a_generated_key_has_the_address_of_its_public_key() -> None:
    signer = SoftwareSigner.generate()
    assert parse_address(address(signer.public_key)) == signer.public_key
