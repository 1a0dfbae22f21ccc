"""Key files: their mode, their seal, and what is left when writing fails or is killed."""

import errno
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nacl.exceptions
import pytest
from nacl.pwhash import argon2id

from ledger_core.keys import (
    DEFAULT_COST,
    KeyFile,
    KeyFileError,
    SealingCost,
    SoftwareSigner,
    address,
    keyfile,
    load_key,
    save_key,
    seed_text,
)

SEED = bytes(range(32))
SIGNER = SoftwareSigner(SEED)
CHEAP = SealingCost(opslimit=1, memlimit=8192)
PASSPHRASE = "Zwölf Boxkämpfer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home.key"


@pytest.fixture
def sealed(path: Path) -> Path:
    save_key(path, SIGNER, passphrase=PASSPHRASE, cost=CHEAP)
    return path


def refusal(call: Callable[[], object]) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        call()
    return caught.value


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *, checksum: bool = True) -> None:
    """Change the fields of a key file; with a checksum that fits, as a bug or an attacker would."""
    fields = json.loads(path.read_bytes())
    change(fields)
    if checksum:
        fields["checksum"] = keyfile._checksum(fields)
    path.write_text(json.dumps(fields))


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


# A file of version 1 as it was written once: it must open for ever.
GOLDEN_SEALED = """{
  "format": "energy-ledger-key",
  "version": 1,
  "kind": "ed25519",
  "address": "el1qwss00lnecgtu8tsm5vwwj7qn9n7f43snwjs6hcamjrxgyj4xxuqg20vp5",
  "sealed": {
    "kdf": "argon2id",
    "opslimit": 1,
    "memlimit": 8192,
    "salt": "7454de53f834c5c3f27e32be6bbf8068",
    "box": "d93e5f1d67fa7e25e8222d7e02b50ccf5b319d3195e3de385b501905a0c9c239\
79cc99574cd617e44cec18d60fd26a93ea4feb50743801273d7c50f6dc670ae3e36f578b14ace52c"
  },
  "checksum": "01c99aa2772adf6e549e2f046504b29ec951de80a39d698703efbb96ccf164fa"
}
"""


# --- a good file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "p", PASSPHRASE, "a" * 500])
def test_a_saved_key_comes_back(path: Path, passphrase: str | None) -> None:
    save_key(path, SIGNER, passphrase=passphrase, cost=CHEAP)
    assert load_key(path, passphrase).export_seed() == SEED
    file = KeyFile.read(path)
    assert file.public_key == SIGNER.public_key
    assert file.is_sealed == (passphrase is not None)


def test_the_form_of_a_plain_file_is_fixed(path: Path) -> None:
    save_key(path, SIGNER)
    assert json.loads(path.read_bytes()) == {
        "format": "energy-ledger-key",
        "version": 1,
        "kind": "ed25519",
        "address": address(SIGNER.public_key),
        "seed": seed_text(SEED),
        "checksum": "c529238fbb19fd65a8a07f7ff36e4fac852426d62e4a6b42b94d6148d644c48b",
    }


def test_a_sealed_file_written_by_version_1_opens(path: Path) -> None:
    path.write_text(GOLDEN_SEALED)
    path.chmod(0o600)
    assert load_key(path, PASSPHRASE).export_seed() == SEED


def test_a_sealed_file_holds_its_cost_and_not_its_seed(sealed: Path) -> None:
    content = sealed.read_text()
    seal = json.loads(content)["sealed"]
    assert (seal["kdf"], seal["opslimit"], seal["memlimit"]) == ("argon2id", 1, 8192)
    assert seed_text(SEED) not in content
    assert SEED.hex() not in content


def test_two_seals_of_one_key_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_key(tmp_path / name, SIGNER, passphrase=PASSPHRASE, cost=CHEAP)
    seals = [json.loads((tmp_path / name).read_bytes())["sealed"] for name in ("a", "b")]
    assert seals[0]["salt"] != seals[1]["salt"]
    assert seals[0]["box"] != seals[1]["box"]


def test_the_default_seal_is_argon2id_of_64_mib(path: Path) -> None:
    save_key(path, SIGNER, passphrase="p")
    assert SealingCost(opslimit=4, memlimit=64 * 1024**2) == DEFAULT_COST
    assert load_key(path, "p").export_seed() == SEED


def test_a_passphrase_is_the_same_however_its_letters_are_composed(path: Path) -> None:
    save_key(path, SIGNER, passphrase="o\u0308", cost=CHEAP)
    assert load_key(path, "\u00f6").export_seed() == SEED


def test_a_key_file_does_not_show_its_secret(path: Path) -> None:
    save_key(path, SIGNER)
    assert seed_text(SEED) not in repr(KeyFile.read(path))


# --- modes and places ----------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_key_file_has_mode_0600_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save_key(path, SIGNER)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_can_use_is_refused_with_the_repair(path: Path, mode: int) -> None:
    save_key(path, SIGNER)
    path.chmod(mode)
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_permissions"
    assert f"mode {mode:04o}" in error.message
    assert error.message.endswith(f"repair it: chmod 600 {shlex.quote(str(path))}")
    path.chmod(0o600)
    assert load_key(path).export_seed() == SEED


@pytest.mark.parametrize("mode", [0o400, 0o700])
def test_the_owner_may_choose_their_own_bits(path: Path, mode: int) -> None:
    save_key(path, SIGNER)
    path.chmod(mode)
    assert load_key(path).export_seed() == SEED


def test_a_missing_file_is_named(path: Path) -> None:
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_missing"
    assert error.message == f"there is no key file {path}"


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    error = refusal(lambda: load_key(tmp_path))
    assert error.code == "key_file_unreadable"


def test_a_pipe_is_refused_and_does_not_block(path: Path) -> None:
    os.mkfifo(path, 0o600)
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_unreadable"
    assert error.message == f"{path} is not a file and cannot hold a key"


def test_a_place_that_cannot_be_read_is_named(path: Path) -> None:
    path.symlink_to(path.name)
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_unreadable"
    assert "symbolic links" in error.message


# --- writing -------------------------------------------------------------------------------------


def test_an_existing_file_is_replaced_only_by_force(path: Path) -> None:
    save_key(path, SIGNER)
    other = SoftwareSigner.generate()
    error = refusal(lambda: save_key(path, other))
    assert error.code == "key_file_exists"
    assert str(path) in error.message
    assert load_key(path).export_seed() == SEED
    save_key(path, other, force=True)
    assert load_key(path).public_key == other.public_key
    assert names(path.parent) == [path.name]


def test_a_dangling_link_counts_as_existing(path: Path) -> None:
    path.symlink_to("nowhere")
    assert refusal(lambda: save_key(path, SIGNER)).code == "key_file_exists"


def test_an_empty_passphrase_is_refused(path: Path) -> None:
    assert refusal(lambda: save_key(path, SIGNER, passphrase="")).code == "key_file_passphrase_empty"
    assert not path.exists()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "home.key"
    error = refusal(lambda: save_key(path, SIGNER))
    assert error.code == "key_file_unwritable"
    assert error.message == f"cannot write key file {path}: no such file or directory"


def test_a_file_that_appears_meanwhile_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes the name after the first look: the link, not the look, decides."""
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    path.write_text("theirs")
    assert refusal(lambda: save_key(path, SIGNER)).code == "key_file_exists"
    assert path.read_text() == "theirs"
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def no_link(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_link)
    save_key(path, SIGNER)
    assert load_key(path).export_seed() == SEED
    assert names(path.parent) == [path.name]
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert refusal(lambda: save_key(path, SoftwareSigner.generate())).code == "key_file_exists"
    assert load_key(path).export_seed() == SEED


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        error = refusal(lambda: save_key(path, SIGNER))
    assert error.code == "key_file_unwritable"
    assert error.message == f"cannot write key file {path}: no space left on device"
    assert names(path.parent) == []


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from ledger_core.keys import SoftwareSigner, save_key

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

step, path, force = sys.argv[1], sys.argv[2], sys.argv[3] == "force"
if step == "replace":
    Path.replace = die
else:
    setattr(os, step, die)
save_key(path, SoftwareSigner(bytes(32)), force=force)
"""


@pytest.mark.parametrize("step", ["fchmod", "fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_old_file(path: Path, step: str) -> None:
    save_key(path, SIGNER)
    child = subprocess.run(
        [sys.executable, "-c", KILLED_AT, step, path, "force"], check=False, timeout=60, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL
    assert load_key(path).export_seed() == SEED
    save_key(path, SoftwareSigner(bytes(32)), force=True)
    assert load_key(path).export_seed() == bytes(32)


@pytest.mark.parametrize("step", ["fchmod", "fsync", "link"])
def test_a_kill_before_the_first_link_leaves_no_file(path: Path, step: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED_AT, step, path, "new"], check=False, timeout=60, capture_output=True
    )
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert all(stat.S_IMODE(left.stat().st_mode) == 0o600 for left in path.parent.iterdir())
    save_key(path, SIGNER)
    assert load_key(path).export_seed() == SEED


# --- wrong passphrases and damaged files ---------------------------------------------------------


@pytest.mark.parametrize("wrong", ["", "wrong", PASSPHRASE + " ", PASSPHRASE.upper()])
def test_a_wrong_passphrase_is_told_from_a_damaged_file(sealed: Path, wrong: str) -> None:
    error = refusal(lambda: load_key(sealed, wrong))
    assert error.code == "key_file_passphrase_wrong"
    assert error.message == f"that is not the passphrase of key file {sealed}"


def test_a_sealed_file_asks_for_its_passphrase(sealed: Path) -> None:
    assert refusal(lambda: load_key(sealed)).code == "key_file_passphrase_needed"


def test_a_plain_file_does_not_look_at_a_passphrase(path: Path) -> None:
    save_key(path, SIGNER)
    assert load_key(path, "superfluous").export_seed() == SEED


def is_same_json(content: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(content) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize("is_sealed", [False, True])
def test_any_changed_byte_is_noticed(path: Path, is_sealed: bool) -> None:
    save_key(path, SIGNER, passphrase=PASSPHRASE if is_sealed else None, cost=CHEAP)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        if is_same_json(path.read_bytes(), good):
            # Another kind of blank between the fields.
            assert load_key(path, PASSPHRASE).export_seed() == SEED
        else:
            error = refusal(lambda: load_key(path, PASSPHRASE))
            assert error.code in {"key_file_damaged", "key_file_version"}, place


@pytest.mark.parametrize("is_sealed", [False, True])
def test_any_truncation_is_noticed(path: Path, is_sealed: bool) -> None:
    save_key(path, SIGNER, passphrase=PASSPHRASE if is_sealed else None, cost=CHEAP)
    good = path.read_bytes()
    for length in range(len(good) - 2):
        path.write_bytes(good[:length])
        error = refusal(lambda: load_key(path, PASSPHRASE))
        assert error.code == "key_file_damaged"
        assert "take it from a backup" in error.message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 10_000, "it is not JSON"),
        (b"[]", 'it does not say "format": "energy-ledger-key"'),
        (b'{"format": "other"}', 'it does not say "format": "energy-ledger-key"'),
        (b" " * 20_000, "it is larger than 16384 bytes"),
    ],
)
def test_a_file_of_another_format_is_refused(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_damaged"
    assert error.details == {"path": str(path), "reason": why}


def test_a_newer_version_is_named(path: Path) -> None:
    save_key(path, SIGNER)
    rewrite(path, lambda fields: fields.update(version=2))
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_version"
    assert error.message == (
        f"key file {path} has version 2, this program knows version 1: use a newer program"
    )


def test_another_kind_of_key_is_named(path: Path) -> None:
    save_key(path, SIGNER)
    rewrite(path, lambda fields: fields.update(kind="ed448"))
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_version"
    assert "'ed448'" in error.message


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: fields.update(version=0), "field 'version'"),
        (lambda fields: fields.update(version=True), "field 'version'"),
        (lambda fields: fields.update(version="1"), "field 'version'"),
        (lambda fields: fields.pop("address"), "field 'address' is missing or not a text"),
        (lambda fields: fields.update(address="el1"), "its address is wrong, an address has 61 characters"),
        (lambda fields: fields.pop("seed"), "field 'seed' is missing or not a text"),
        (lambda fields: fields.update(seed=7), "field 'seed' is missing or not a text"),
        (lambda fields: fields.update(seed="elsec1"), "its seed is wrong, a secret seed has 64 characters"),
        (lambda fields: fields.update(seed=seed_text(bytes(32))), "its seed does not belong to its address"),
        (lambda fields: fields.update(sealed="x"), "field 'sealed' is not an object"),
    ],
)
def test_a_wrong_field_is_named(path: Path, change: Callable[[dict[str, Any]], object], why: str) -> None:
    save_key(path, SIGNER)
    rewrite(path, change)
    error = refusal(lambda: load_key(path))
    assert error.code == "key_file_damaged"
    assert why in error.message
    assert seed_text(SEED) not in error.message


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("kdf", "scrypt", "its seal uses 'scrypt', this version knows 'argon2id'"),
        ("kdf", None, "its seal uses None"),
        ("opslimit", 0, "field 'opslimit' of its seal is not a number from 1 to 64"),
        ("opslimit", 65, "field 'opslimit'"),
        ("opslimit", "1", "field 'opslimit'"),
        ("memlimit", 8191, "field 'memlimit' of its seal is not a number from 8192 to 1073741824"),
        ("memlimit", 1024**3 + 1, "field 'memlimit'"),
        ("memlimit", 1e4, "field 'memlimit'"),
        ("salt", "00" * 15, "field 'salt' of its seal is not 16 bytes in hexadecimal"),
        ("salt", 5, "field 'salt'"),
        ("box", "zz", "field 'box' of its seal is not 72 bytes in hexadecimal"),
        ("box", "00" * 73, "field 'box'"),
    ],
)
def test_a_wrong_field_of_the_seal_is_named(sealed: Path, field: str, value: object, why: str) -> None:
    rewrite(sealed, lambda fields: fields["sealed"].update({field: value}))
    error = refusal(lambda: load_key(sealed, PASSPHRASE))
    assert error.code == "key_file_damaged"
    assert why in error.message


def test_a_seal_around_another_seed_is_refused(tmp_path: Path, sealed: Path) -> None:
    save_key(tmp_path / "other", SoftwareSigner(bytes(32)), passphrase=PASSPHRASE, cost=CHEAP)
    other = json.loads((tmp_path / "other").read_bytes())["sealed"]
    rewrite(sealed, lambda fields: fields.update(sealed=other))
    assert "its seed does not belong to its address" in refusal(lambda: load_key(sealed, PASSPHRASE)).message


def test_too_little_memory_is_no_wrong_passphrase(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object, **__: object) -> bytes:
        raise nacl.exceptions.RuntimeError("Key derivation failed")

    monkeypatch.setattr(argon2id, "kdf", starved)
    error = refusal(lambda: load_key(sealed, PASSPHRASE))
    assert error.code == "key_file_memory"
    assert "takes 8 KiB of memory" in error.message
