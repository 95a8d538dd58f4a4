"""Signing keys: Ed25519, the private half in an encrypted PEM file, the public half beside it.

Whoever keeps a key makes it: only its `.pub` file leaves their machine.
"""

import getpass
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey

from dat_runtime.errors import ConfigError
from dat_runtime.files import read_bytes

ENVIRONMENT = "DAT_PASSPHRASE"
"""Names the variable that holds the passphrase where nobody is there to type it."""

LEAST_CHARACTERS = 12
MOST_BYTES = 1 << 14


def make_key(path: Path) -> str:
    """Write a new private key, and its public half to the same name with `.pub`; the key's id.

    Raises:
        ConfigError: one of the files is there already or cannot be written, or the passphrase is
            too short.
    """
    public = path.with_suffix(".pub")
    for file in (path, public):
        if file.exists():
            raise ConfigError("is there already, and a key is never overwritten", file)
    phrase = _new_passphrase(path)
    private = Ed25519PrivateKey.generate()
    _write_new(
        path,
        0o600,
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(phrase),
        ),
    )
    key = private.public_key()
    pem = serialization.PublicFormat.SubjectPublicKeyInfo
    _write_new(public, 0o644, key.public_bytes(serialization.Encoding.PEM, pem))
    return SSlibKey.from_crypto(key).keyid


def _write_new(path: Path, mode: int, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", path) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _new_passphrase(path: Path) -> bytes:
    phrase = os.environ.get(ENVIRONMENT)
    if phrase is None:
        phrase = getpass.getpass(f"new passphrase for {path}: ")
        if phrase != getpass.getpass("once more: "):
            raise ConfigError("the two passphrases differ", path)
    if len(phrase) < LEAST_CHARACTERS:
        raise ConfigError(
            f"a passphrase of {len(phrase)} characters, expected {LEAST_CHARACTERS} or more", path
        )
    return phrase.encode()


def read_private(path: Path) -> CryptoSigner:
    """The signer of a private key's file.

    Raises:
        ConfigError: it cannot be read, the passphrase is wrong, or it is no such key.
    """
    content = read_bytes(path, ConfigError, most_bytes=MOST_BYTES)
    if b"ENCRYPTED PRIVATE KEY" not in content:
        raise ConfigError("is no encrypted private key: export.publish key makes one", path)
    phrase = os.environ.get(ENVIRONMENT)
    if phrase is None:
        phrase = getpass.getpass(f"passphrase of {path}: ")
    try:
        key = serialization.load_pem_private_key(content, phrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("cannot be opened: another passphrase, or a damaged file", path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("is no Ed25519 key", path)
    return CryptoSigner(key)


def read_public(path: Path) -> SSlibKey:
    """The key in a `.pub` file.

    Raises:
        ConfigError: it cannot be read, or is no public Ed25519 key.
    """
    content = read_bytes(path, ConfigError, most_bytes=MOST_BYTES)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("is no public key: name the .pub file", path) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("is no Ed25519 key", path)
    return SSlibKey.from_crypto(key)
