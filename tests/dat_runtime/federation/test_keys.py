import subprocess
from pathlib import Path

import pytest

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
    private.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read this key: chmod 600"):
        read_private_key(private)


@pytest.mark.parametrize("algorithm", ["x25519", "rsa"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, algorithm: str) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "node-1.pem"
    openssl("genpkey", "-algorithm", algorithm, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    private.chmod(0o600)
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        read_private_key(private)
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        read_public_key(public)


def test_the_registry_is_a_folder_of_public_keys(fleet: Fleet) -> None:
    folder = fleet.write_registry()
    assert list(read_registry(folder)) == ["node-00", "node-01"]
    (folder / "node-01.pem").unlink()
    assert list(read_registry(folder)) == ["node-00"]


def test_two_nodes_with_one_key_are_refused(fleet: Fleet) -> None:
    folder = fleet.write_registry()
    (folder / "node-09.pem").write_bytes((folder / "node-00.pem").read_bytes())
    with pytest.raises(ConfigError, match="has the key of node-00: every node has its own"):
        read_registry(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("node-05.pem", b"", "no public key in PEM"),
        ("node-05.pem", b"-----BEGIN PUBLIC KEY-----\n????\n", "no public key in PEM"),
        ("README", b"", "expected only files NODE.pem"),
        (".pem", b"", "expected only files NODE.pem"),
        ("node-05.pem", bytes(100_000), "larger than"),
    ],
)
def test_anything_else_in_the_registry_is_refused(
    fleet: Fleet, name: str, content: bytes, reason: str
) -> None:
    folder = fleet.write_registry()
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_registry(folder)


def test_a_registry_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no public key"):
        read_registry(tmp_path)
    with pytest.raises(ConfigError, match="is no folder of public keys"):
        read_registry(tmp_path / "absent")
