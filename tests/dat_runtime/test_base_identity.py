"""Two folders with one model are one base, two models in one folder are not."""

import hashlib
import os
from pathlib import Path

import pytest

from dat_runtime import manifest
from dat_runtime.base_identity import DOWNLOADS, difference

NAME = "Qwen/Qwen2.5-VL-7B-Instruct"
COMMIT = "cc594898137f460bfe9f0759e9844b3ce807cfb5"
FILES = {
    "config.json": b'{"model_type": "qwen2_5_vl"}',
    "model-00001-of-00001.safetensors": b"weights",
    "tokenizer.json": b"{}",
}


def test_an_adapter_of_a_release_that_counted_every_file_keeps_its_base(base: Path) -> None:
    (base / "README.md").write_bytes(b"card")
    digest = manifest.digest(base)
    assert digest != manifest.digest(base, "base")
    assert difference(base, "base", digest) is None
    (base / "tokenizer.json").write_bytes(b"{ }")
    assert "it has the digest" in str(difference(base, "base", digest))


def test_large_weights_are_read_once_as_long_as_they_stay(base: Path) -> None:
    weights = base / "model.safetensors"
    with weights.open("wb") as file:
        file.truncate(manifest.LARGE)
    first = manifest.digest(base, "base")
    known = weights.stat()
    with weights.open("r+b") as file:
        file.write(b"other")
    os.utime(weights, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert manifest.digest(base, "base") == first  # nothing but its content tells
    os.utime(weights, ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    assert manifest.digest(base, "base") != first


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def oid(file: str) -> str:
    """Weights are named by their sha256, small files as git does."""
    content = FILES[file]
    return hashlib.sha256(content).hexdigest() if "safetensors" in file else git_oid(content)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "base"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_a_folder_gains_in_use_makes_no_other_base(base: Path) -> None:
    digest = manifest.digest(base, "base")
    for name in (".DS_Store", "README.md", "._config.json", ".cache/huggingface/CACHEDIR.TAG"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"new")
    assert manifest.digest(base, "base") == digest
    assert difference(base, "base", digest) is None
    (base / "generation_config.json").write_bytes(b"{}")
    assert "it has the digest" in str(difference(base, "base", digest))
    (base / "generation_config.json").unlink()
    (base / "config.json").write_bytes(b"{}")
    assert manifest.digest(base, "base") != digest


def test_git_names_contents_as_git_does() -> None:
    assert git_oid(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def note_download(base: Path) -> None:
    notes = base / DOWNLOADS
    notes.mkdir(parents=True)
    for file in FILES:
        (notes / f"{file}.metadata").write_text(f"{COMMIT}\n{oid(file)}\n1700000000.0\n")


def fill_cache(base: Path) -> Path:
    """The hub's cache as huggingface_hub fills it: links to blobs that their contents name."""
    model = base.parent / "hub" / "models--Qwen--Qwen2.5-VL-7B-Instruct"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    for file, content in FILES.items():
        (model / "blobs" / oid(file)).write_bytes(content)
        (snapshot / file).symlink_to(f"../../blobs/{oid(file)}")
    return snapshot


@pytest.mark.parametrize("told_by", [note_download, fill_cache])
def test_a_copy_of_the_hubs_commit_is_that_commit_as_long_as_its_files_are(base, told_by) -> None:
    assert "hf download" in str(difference(base, NAME, COMMIT))
    told_by(base)
    assert difference(base, NAME, COMMIT) is None
    assert "hf download" in str(difference(base, NAME, "0" * 40))
    (base / "tokenizer.json").write_bytes(b"{ }")
    assert difference(base, NAME, COMMIT) == "its tokenizer.json is not that of the commit"
    (base / "tokenizer.json").unlink()
    assert difference(base, NAME, COMMIT) == "tokenizer.json is missing"
    (base / "tokenizer.json").write_bytes(FILES["tokenizer.json"])
    (base / "other.safetensors").write_bytes(b"more")
    assert difference(base, NAME, COMMIT) == "its other.safetensors is not that of the commit"


def test_a_snapshot_of_a_cache_elsewhere_is_its_commit(base: Path, monkeypatch) -> None:
    snapshot = fill_cache(base)
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    assert difference(snapshot, NAME, COMMIT) is None


@pytest.mark.parametrize("home", ["HF_HOME", "HOME"])
def test_the_cache_is_where_the_hub_keeps_it(base: Path, home: str, monkeypatch) -> None:
    fill_cache(base)
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv(home, str(base.parent))
    if home == "HOME":
        (base.parent / ".cache").mkdir()
        (base.parent / ".cache/huggingface").symlink_to(base.parent)
    assert difference(base, NAME, COMMIT) is None


def test_a_note_that_is_no_text_notes_nothing(base: Path) -> None:
    note_download(base)
    (base / DOWNLOADS / "torn.metadata").write_bytes(b"\xff\xfe")
    os.mkfifo(base / DOWNLOADS / "pipe.metadata")  # opened, it would never end
    (base / DOWNLOADS / "zero.metadata").symlink_to("/dev/zero")
    (base / DOWNLOADS / "folder.metadata").mkdir()
    assert difference(base, NAME, COMMIT) is None
    for file in FILES:
        (base / DOWNLOADS / f"{file}.metadata").write_bytes(b"\xff")
    assert difference(base, NAME, COMMIT) == (
        f"nothing here tells what its files are at that commit: `hf download {NAME} --revision "
        f"{COMMIT} --local-dir {base}` compares them, and fetches only what differs"
    )
