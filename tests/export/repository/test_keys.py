"""Signing keys on disk: how they are made, and what is none."""

import getpass
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime.errors import ConfigError
from export.repository.keys import MOST_BYTES, make_key, read_private, read_public

PHRASE = "correct horse battery"
PEM = serialization.Encoding.PEM


@pytest.fixture(autouse=True)
def phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAT_PASSPHRASE", PHRASE)


def refused(call: object, path: Path) -> str:
    with pytest.raises(ConfigError) as refusal:
        call(path)  # type: ignore[operator]
    return str(refusal.value)


def test_a_key_is_made_with_its_public_half_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    keyid = make_key(path)
    public = tmp_path / "root.pub"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644 & ~os_umask()
    assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert read_public(public).keyid == keyid == read_private(path).public_key.keyid
    signature = read_private(path).sign(b"content")
    read_public(public).verify_signature(signature, b"content")


def os_umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    for name in ("a.pem", "a.pub"):
        (tmp_path / name).write_text("mine")
        words = f"{tmp_path}/{name}: is there already, and a key is never overwritten"
        assert refused(make_key, tmp_path / "a.pem") == words
        (tmp_path / name).unlink()
    nowhere = tmp_path / "none" / "a.pem"
    words = f"{nowhere}: cannot be written (No such file or directory)"
    assert refused(make_key, nowhere) == words


def test_a_passphrase_has_twelve_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pem"
    monkeypatch.setenv("DAT_PASSPHRASE", "x" * 11)
    words = f"{path}: a passphrase of 11 characters, expected 12 or more"
    assert refused(make_key, path) == words
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("DAT_PASSPHRASE", "x" * 12)
    make_key(path)
    read_private(path)


def test_a_passphrase_is_asked_for_twice_and_then_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAT_PASSPHRASE")
    asked: list[str] = []
    typed = [PHRASE, PHRASE, PHRASE, PHRASE, "another horse"]

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return typed.pop(0)

    monkeypatch.setattr(getpass, "getpass", ask)
    path, other = tmp_path / "a.pem", tmp_path / "b.pem"
    make_key(path)
    read_private(path)
    assert refused(make_key, other) == f"{other}: the two passphrases differ"
    assert asked == [
        *(f"new passphrase for {path}: ", "once more: ", f"passphrase of {path}: "),
        *(f"new passphrase for {other}: ", "once more: "),
    ]


def test_what_is_no_private_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pem"
    own = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(PHRASE.encode())
    closed = "cannot be opened: another passphrase, or a damaged file"
    for content, words in (
        (b"x", "is no encrypted private key: export.publish key makes one"),
        (
            own.private_bytes(PEM, form, serialization.NoEncryption()),
            "is no encrypted private key: export.publish key makes one",
        ),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END", closed),
        (
            own.private_bytes(PEM, form, serialization.BestAvailableEncryption(b"another")),
            closed,
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, form, lock),
            "is no Ed25519 key",
        ),
        (bytes(MOST_BYTES + 1), "larger than 16,384 bytes"),
    ):
        path.write_bytes(content)
        assert refused(read_private, path) == f"{path}: {words}"
    path.write_bytes(own.private_bytes(PEM, form, lock).ljust(MOST_BYTES, b"\n"))
    read_private(path)
    assert refused(read_private, tmp_path / "none").startswith(f"{tmp_path}/none: cannot be read")


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(PEM, form)
    for content, words in (
        (b"x", "is no public key: name the .pub file"),
        (other, "is no Ed25519 key"),
        (bytes(MOST_BYTES + 1), "larger than 16,384 bytes"),
    ):
        path.write_bytes(content)
        assert refused(read_public, path) == f"{path}: {words}"
    assert refused(read_public, tmp_path / "none").startswith(f"{tmp_path}/none: cannot be read")
