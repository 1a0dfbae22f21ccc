"""Signatures: RFC 8032's own vectors, and everything libsodium must refuse."""

import copy
import hashlib
import pickle
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.errors import LedgerError
from ledger_core.keys import (
    Signer,
    SoftwareSigner,
    address,
    is_valid_public_key,
    library_check,
    signing,
    verify,
)

# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]

# --- the curve in plain integers (RFC 8032, section 5.1), to make signatures that no library makes ----

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
IDENTITY = (0, 1)
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    k = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, P) % P


def multiply(factor: int, point: Point) -> Point:
    result = IDENTITY
    while factor:
        if factor & 1:
            result = add(result, point)
        point = add(point, point)
        factor >>= 1
    return result


def point_at(y: int, *, odd: bool) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (P - x if x & 1 != odd else x), y


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def base_point() -> Point:
    point = point_at(4 * pow(5, -1, P) % P, odd=False)
    assert point is not None
    return point


def point_of_order_8() -> Point:
    for y in range(2, 100):
        point = point_at(y, odd=False)
        if point is not None and multiply(4, torsion := multiply(L, point)) != IDENTITY:
            return torsion
    raise AssertionError("no point found")


BASE = base_point()
TORSION = point_of_order_8()
SECRET = 2**200 + 12345
PUBLIC = multiply(SECRET, BASE)


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def forged(key: bytes, r: bytes, nonce: int, message: bytes) -> bytes:
    """A signature with this R whose S is right if R = nonce * BASE."""
    s = (nonce + challenge(r, key, message) * SECRET) % L
    return r + s.to_bytes(32, "little")


SMALL_ORDER = [encoded(multiply(factor, TORSION)) for factor in range(8)]
# y >= p: the same point as y - p, written in a second way.
NON_CANONICAL = [
    ((y + P) | sign << 255).to_bytes(32, "little")
    for y in range(19)
    for sign in (0, 1)
    if point_at(y, odd=bool(sign)) is not None
]

# --- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "key", "message", "signature"), RFC_8032)
def test_vectors_of_rfc_8032(seed: str, key: str, message: str, signature: str) -> None:
    signer = SoftwareSigner(bytes.fromhex(seed))
    assert signer.public_key.hex() == key
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    assert verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


@given(st.binary(max_size=300), st.data())
def test_any_flipped_bit_is_refused(message: bytes, data: st.DataObject) -> None:
    signer = SoftwareSigner(bytes(range(32)))
    parts = [signer.public_key, message, signer.sign(message)]
    assert verify(*parts)
    which = data.draw(st.sampled_from([index for index, part in enumerate(parts) if part]))
    bit = data.draw(st.integers(0, len(parts[which]) * 8 - 1))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    assert not verify(*parts)


@pytest.mark.parametrize("key_length", [0, 31, 33, 64])
def test_a_key_of_another_length_verifies_nothing(key_length: int) -> None:
    signer = SoftwareSigner(bytes(range(32)))
    key = (signer.public_key * 2)[:key_length]
    assert not verify(key, b"message", signer.sign(b"message"))
    assert not is_valid_public_key(key)


@pytest.mark.parametrize("cut", [0, 1, 63, 65])
def test_a_signature_of_another_length_is_refused(cut: int) -> None:
    signer = SoftwareSigner(bytes(range(32)))
    signed = signer.sign(b"message") + b"message"
    # Cut in the wrong place, signature and message are together what would verify.
    assert not verify(signer.public_key, signed[cut:], signed[:cut])


def test_a_signature_made_by_hand_is_accepted() -> None:
    key = encoded(PUBLIC)
    assert verify(key, b"m", forged(key, encoded(multiply(777, BASE)), 777, b"m"))
    assert is_valid_public_key(key)


def test_s_not_below_the_group_order_is_refused() -> None:
    key = encoded(PUBLIC)
    signature = forged(key, encoded(multiply(777, BASE)), 777, b"m")
    for multiple in (1, 2, 7):
        s = int.from_bytes(signature[32:], "little") + multiple * L
        assert not verify(key, b"m", signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("key", SMALL_ORDER + NON_CANONICAL, ids=bytes.hex)
def test_small_order_and_non_canonical_keys_are_refused(key: bytes) -> None:
    # h * A vanishes for a multiple of 8: among so many messages a lax check accepts some.
    r = encoded(multiply(5, BASE))
    signature = r + (5).to_bytes(32, "little")
    assert not any(verify(key, bytes([number]), signature) for number in range(64))
    assert not is_valid_public_key(key)


@pytest.mark.parametrize("r", SMALL_ORDER + NON_CANONICAL, ids=bytes.hex)
def test_small_order_and_non_canonical_r_are_refused(r: bytes) -> None:
    key = encoded(PUBLIC)
    assert not verify(key, b"m", forged(key, r, 0, b"m"))


def test_an_r_with_a_small_order_part_is_refused() -> None:
    key = encoded(PUBLIC)
    for factor in range(1, 8):
        r = encoded(add(multiply(777, BASE), multiply(factor, TORSION)))
        assert not verify(key, b"m", forged(key, r, 777, b"m"))


def test_a_key_with_a_small_order_part_is_no_valid_key() -> None:
    for factor in range(1, 8):
        assert not is_valid_public_key(encoded(add(PUBLIC, multiply(factor, TORSION))))


def test_bytes_that_are_no_point_are_no_valid_key() -> None:
    y = next(y for y in range(2, 50) if point_at(y, odd=False) is None)
    key = y.to_bytes(32, "little")
    assert not is_valid_public_key(key)
    assert not verify(key, b"m", bytes(64))


def test_this_library_agrees_with_the_others() -> None:
    library_check.require_agreed_library()


@pytest.mark.parametrize("answer", [True, False])
def test_a_library_that_judges_differently_is_named(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(library_check, "verify", lambda *_: answer)
    with pytest.raises(LedgerError, match="libsodium") as caught:
        library_check.require_agreed_library()
    assert caught.value.code == "signature_library"


def test_the_small_order_vector_is_right_after_multiplication_by_8() -> None:
    signature = library_check._SMALL_ORDER_PART
    r = point_at(int.from_bytes(signature[:32], "little") % 2**255, odd=bool(signature[31] >> 7))
    key = point_at(
        int.from_bytes(library_check._KEY, "little") % 2**255, odd=bool(library_check._KEY[31] >> 7)
    )
    assert r is not None
    assert key is not None
    h = challenge(signature[:32], library_check._KEY, library_check._MESSAGE)
    left = multiply(int.from_bytes(signature[32:], "little"), BASE)
    right = add(r, multiply(h, key))
    assert left != right
    assert multiply(8, left) == multiply(8, right)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"a seed has 32 bytes, not {length}"):
        SoftwareSigner(bytes(length))


def test_generated_keys_differ_and_come_back_from_their_seed() -> None:
    first, second = SoftwareSigner.generate(), SoftwareSigner.generate()
    assert first.public_key != second.public_key
    assert SoftwareSigner(first.export_seed()).public_key == first.public_key


def test_a_signer_shows_its_address_and_never_its_seed() -> None:
    signer = SoftwareSigner(bytes(range(32)))
    assert repr(signer) == f"SoftwareSigner({address(signer.public_key)})"
    with pytest.raises(TypeError, match="seed"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="seed"):
        copy.copy(signer)


class ModuleSigner:
    """Holds its key elsewhere, as a secure module does: shows that the protocol asks for no more."""

    def __init__(self, held: SoftwareSigner) -> None:
        self._held = held

    @property
    def public_key(self) -> bytes:
        return self._held.public_key

    def sign(self, message: bytes) -> bytes:
        return self._held.sign(message)


@pytest.mark.parametrize("wrap", [False, True])
def test_any_signer_will_do(wrap: bool) -> None:
    held = SoftwareSigner.generate()
    signer: Signer = ModuleSigner(held) if wrap else held
    assert verify(signer.public_key, b"message", signer.sign(b"message"))


def test_without_pynacls_inner_module_the_public_function_judges_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signer = SoftwareSigner.generate()
    signature, other = signer.sign(b"message"), SoftwareSigner.generate()
    monkeypatch.setitem(sys.modules, "nacl._sodium", None)
    crypto_open, _, address = signing._fastest_open()
    assert (crypto_open, address) == (signing._open_by_copy, None)
    assert signing._crypto_open is not crypto_open
    for function in (signing._crypto_open, crypto_open):
        monkeypatch.setattr(signing, "_crypto_open", function)
        assert verify(signer.public_key, b"message", signature)
        assert not verify(signer.public_key, b"message!", signature)
        assert not verify(other.public_key, b"message", signature)


def test_threads_verify_side_by_side_without_mixing_their_answers() -> None:
    signer = SoftwareSigner.generate()
    good = [(number.to_bytes(4), signer.sign(number.to_bytes(4))) for number in range(200)]
    answers: dict[bool, list[bool]] = {}

    def work(right: bool) -> None:
        answers[right] = [
            verify(signer.public_key, message if right else message + b"!", signature)
            for message, signature in good
        ]

    threads = [threading.Thread(target=work, args=(right,)) for right in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers[True])
    assert not any(answers[False])
