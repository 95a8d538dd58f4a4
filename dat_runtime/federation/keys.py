"""Ed25519 keys of nodes: one PEM file each, `openssl genpkey -algorithm ed25519` makes them.

The registry is a folder of public keys, NODE.pem; to remove a node, remove its file.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dat_runtime.alert import NAME
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_bytes

MOST_BYTES = 1 << 14
SUFFIX = ".pem"


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the key's sha256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A node's own key.

    Raises:
        ConfigError: it is not an unencrypted Ed25519 key, or others may read it.
    """
    content = read_bytes(path, ConfigError, most_bytes=MOST_BYTES)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"others may read this key: chmod 600 {path}", path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"no private key in PEM without a password ({error})", path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key: openssl genpkey -algorithm ed25519", path)
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A registered key.

    Raises:
        ConfigError: it is not an Ed25519 public key.
    """
    content = read_bytes(path, ConfigError, most_bytes=MOST_BYTES)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"no public key in PEM ({error})", path) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("not an Ed25519 key: openssl pkey -pubout makes it", path)
    return key


def read_registry(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Node -> its key.

    Raises:
        ConfigError: the folder holds no key or something else, or two nodes have the same key.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder of public keys NODE{SUFFIX}")
    keys: dict[str, Ed25519PublicKey] = {}
    owners: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        node = path.name.removesuffix(SUFFIX)
        if not path.name.endswith(SUFFIX) or not NAME.holds(node):
            raise ConfigError(f"expected only files NODE{SUFFIX}, NODE {NAME.expected}", path)
        keys[node] = read_public_key(path)
        owner = owners.setdefault(key_id(keys[node]), node)
        if owner != node:
            raise ConfigError(f"has the key of {owner}: every node has its own", path)
    if not keys:
        raise ConfigError(f"{folder} holds no public key NODE{SUFFIX}")
    return keys
