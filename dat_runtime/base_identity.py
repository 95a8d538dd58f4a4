"""Whether a folder holds the base model that an adapter states: a folder's digest, or a commit.

A folder gains `.DS_Store`, `.cache/huggingface` or a note in ordinary use, and a hub's model is
copied to where there is no network. Neither makes another model: weights, configuration and
tokenizer decide (`manifest.MODEL_FILE`).
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from dat_runtime import manifest

DOWNLOADS = ".cache/huggingface/download"
"""Where `hf download --local-dir` notes the commit and the hub's name of each file's content."""

MOST_CHARACTERS = 200
"""Of a line of such a note."""


def difference(folder: Path, name: str, revision: str) -> str | None:
    """Why a folder is not the base `name` at `revision`, in words; None where it is.

    Args:
        revision: as an adapter states it: the digest of a folder, or a commit of the hub.
    """
    if len(revision) == 64:
        found = manifest.digest(folder, "base")
        # Adapters of earlier releases state the digest of all files in the folder.
        is_it = found == revision or manifest.digest(folder) == revision
        return None if is_it else f"it has the digest {found}"
    known = dict(_noted(folder, revision)) or dict(_cached(folder, name, revision))
    if not known:
        return (
            "nothing here tells what its files are at that commit: `hf download "
            f"{name} --revision {revision} --local-dir {folder}` compares them, and fetches only "
            "what differs"
        )
    present = {path.name: path for path in folder.iterdir() if manifest.decides(path)}
    wanted = {file for file in known if manifest.MODEL_FILE.fullmatch(file)}
    for file in sorted(present.keys() | wanted):
        if file not in present:
            return f"{file} is missing"
        if file not in known or _oid(present[file], known[file]) != known[file]:
            return f"its {file} is not that of the commit"
    return None


def _noted(folder: Path, commit: str) -> Iterator[tuple[str, str]]:
    """File name and the hub's name of its content, as noted at the download."""
    for path in (folder / DOWNLOADS).glob("*.metadata"):
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            at, oid = (file.readline(MOST_CHARACTERS).rstrip("\n") for _ in range(2))
        if at == commit:
            yield path.name.removesuffix(".metadata"), oid


def _cached(folder: Path, name: str, commit: str) -> Iterator[tuple[str, str]]:
    """The same from the hub's cache, whose snapshots are links to blobs of that name."""
    home = os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE", Path(home) / "hub"))
    model = f"models--{name.replace('/', '--')}"
    for snapshot in (cache / model / "snapshots" / commit, folder.resolve()):
        if snapshot.name == commit and snapshot.parent.parent.name == model and snapshot.is_dir():
            for path in snapshot.iterdir():
                if path.is_symlink():
                    yield path.name, path.readlink().name


def _oid(path: Path, like: str) -> str:
    """The hub's name of a file's content: git's of small files, else the sha256."""
    if len(like) == 64:
        return manifest.weights_digest(path)
    named = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            named.update(part)
    return named.hexdigest()
