import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime.alert import NAME
from dat_runtime.errors import ConfigError
from dat_runtime.federation.keys import key_id, read_private_key, read_public_key, read_registry
from tests.dat_runtime.federation.fleet import Fleet, make_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path, 2)


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def test_keys_are_those_that_openssl_makes(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "node-1.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    key = read_private_key(private)
    assert key_id(key.public_key()) == key_id(read_public_key(public))
    digest = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
    assert key_id(key.public_key()) == digest[:16]
    for mode in (0o640, 0o602):
        private.chmod(mode)
        words = f"^{private}: others may read this key: chmod 600 {private}$"
        with pytest.raises(ConfigError, match=words):
            read_private_key(private)


@pytest.mark.parametrize("algorithm", ["x25519", "rsa"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, algorithm: str) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "node-1.pem"
    openssl("genpkey", "-algorithm", algorithm, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    words = f"^{private}: not an Ed25519 key: openssl genpkey -algorithm ed25519$"
    with pytest.raises(ConfigError, match=words):
        read_private_key(private)
    words = f"^{public}: not an Ed25519 key: openssl pkey -pubout makes it$"
    with pytest.raises(ConfigError, match=words):
        read_public_key(public)


def test_the_registry_is_a_folder_of_public_keys(fleet: Fleet) -> None:
    folder = fleet.write_registry()
    assert list(read_registry(folder)) == ["node-00", "node-01"]
    (folder / "node-01.pem").unlink()
    assert list(read_registry(folder)) == ["node-00"]


def test_two_nodes_with_one_key_are_refused(fleet: Fleet) -> None:
    folder = fleet.write_registry()
    (folder / "node-09.pem").write_bytes((folder / "node-00.pem").read_bytes())
    words = f"^{folder}/node-09.pem: has the key of node-00: every node has its own$"
    with pytest.raises(ConfigError, match=words):
        read_registry(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("node-05.pem", b"", r"no public key in PEM \(.+\)"),
        ("node-05.pem", b"-----BEGIN PUBLIC KEY-----\n????\n", r"no public key in PEM \(.+\)"),
        ("README", b"", f"expected only files NODE.pem, NODE {re.escape(NAME.expected)}"),
        (".pem", b"", f"expected only files NODE.pem, NODE {re.escape(NAME.expected)}"),
        ("node-05.pem", bytes(16_385), "larger than 16,384 bytes"),
    ],
)
def test_anything_else_in_the_registry_is_refused(
    fleet: Fleet, name: str, content: bytes, reason: str
) -> None:
    folder = fleet.write_registry()
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{folder}/{re.escape(name)}: {reason}$"):
        read_registry(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no key", r"no private key in PEM without a password \(.+\)"),
        (bytes(16_385), "larger than 16,384 bytes"),
    ],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "key.pem"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{path}: {reason}$"):
        read_private_key(path)


def test_a_key_with_a_password_and_one_that_is_missing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match=f"^{path}: cannot be read"):
        read_private_key(path)
    with pytest.raises(ConfigError, match=f"^{path}: cannot be read"):
        read_public_key(path)
    path.touch(0o600)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form, lock))
    words = rf"^{path}: no private key in PEM without a password \(Password was"
    with pytest.raises(ConfigError, match=words):
        read_private_key(path)


def test_a_registry_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{tmp_path} holds no public key NODE\.pem$"):
        read_registry(tmp_path)
    folder = tmp_path / "absent"
    with pytest.raises(ConfigError, match=rf"^{folder} is no folder of public keys NODE\.pem$"):
        read_registry(folder)
