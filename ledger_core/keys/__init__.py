"""Keys: Ed25519 signatures, readable addresses, key files.

signing        Signer (the protocol a secure module can fill), SoftwareSigner, verify
bech32         the checksummed text code (BIP-350), and where a typing error is
address        a public key or a seed as text
library_check  does this machine's libsodium agree with the others'
keyfile        one seed in a JSON file, plain or sealed by a passphrase
private_file   writing a file that only its owner may read
"""

from ledger_core.keys.address import (
    ADDRESS_PREFIX,
    SEED_PREFIX,
    address,
    parse_address,
    parse_seed_text,
    seed_text,
)
from ledger_core.keys.bech32 import AddressError
from ledger_core.keys.keyfile import (
    DEFAULT_COST,
    KeyFile,
    KeyFileError,
    SealingCost,
    load_key,
    save_key,
)
from ledger_core.keys.library_check import require_agreed_library
from ledger_core.keys.signing import (
    CRYPTO_OPEN_ADDRESS,
    PUBLIC_KEY_LENGTH,
    SEED_LENGTH,
    SIGNATURE_LENGTH,
    Signer,
    SoftwareSigner,
    is_valid_public_key,
    verify,
)

__all__ = [
    "ADDRESS_PREFIX",
    "CRYPTO_OPEN_ADDRESS",
    "DEFAULT_COST",
    "PUBLIC_KEY_LENGTH",
    "SEED_LENGTH",
    "SEED_PREFIX",
    "SIGNATURE_LENGTH",
    "AddressError",
    "KeyFile",
    "KeyFileError",
    "SealingCost",
    "Signer",
    "SoftwareSigner",
    "address",
    "is_valid_public_key",
    "load_key",
    "parse_address",
    "parse_seed_text",
    "require_agreed_library",
    "save_key",
    "seed_text",
    "verify",
]
