"""What a node keeps of a repository, and what it says where one of its steps fails."""

import errno
import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

tuf = pytest.importorskip("tuf")

from tuf.api import exceptions  # noqa: E402
from tuf.api.metadata import TargetFile  # noqa: E402

from dat_runtime.edge.updates import repository as module  # noqa: E402
from dat_runtime.edge.updates.fetching import FolderFetcher  # noqa: E402
from dat_runtime.edge.updates.offer import Offer, OfferedFile, Target  # noqa: E402
from dat_runtime.edge.updates.refusals import (  # noqa: E402
    ExpiredMetadata,
    Unreachable,
    UntrustedMetadata,
    UpdateError,
    WrongFile,
)
from dat_runtime.edge.updates.repository import LIMITS, ROLES, Repository  # noqa: E402
from dat_runtime.edge.updates.served_file import (  # noqa: E402
    DownloadError,
    MissingError,
    WrongFileError,
)
from dat_runtime.errors import ConfigError  # noqa: E402
from export.repository import releases  # noqa: E402
from tests.export.repository.small_repository import (  # noqa: E402
    FILES,
    Mirror,
    SmallRepository,
    write,
)


@pytest.fixture
def published(tmp_path: Path) -> SmallRepository:
    repository = SmallRepository(tmp_path / "made")
    repository.publish("1")
    return repository


def only_offer(repository: Repository) -> Offer:
    (offer,) = repository.refresh()
    return offer


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_root_of_trust_is_a_file_or_its_content(tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    words = (
        f"{path}: is missing: it came with the node's installation: the repository's first"
        " root.json"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        Repository(str(tmp_path), path, tmp_path)
    path.write_bytes(b"x" * LIMITS.root_max_length)
    repository = Repository(f"{tmp_path}/", path, tmp_path / "kept")
    assert (repository._root, repository._base) == (path.read_bytes(), str(tmp_path))
    assert isinstance(repository._fetch, FolderFetcher)
    assert repository.refused == ()
    path.write_bytes(b"x" * (LIMITS.root_max_length + 1))
    with pytest.raises(ConfigError, match=rf"^{path}: larger than 65,536 bytes$"):
        Repository(str(tmp_path), path, tmp_path)


def test_trusted_statements_are_kept_below_folders_that_are_made(
    published: SmallRepository, tmp_path: Path
) -> None:
    kept = tmp_path / "a" / "b"
    repository = Repository(published.url, published.first_root, kept)
    assert repository.expires is None
    assert repository.stale
    assert only_offer(repository).version == "1"
    assert {f"{role}.json" for role in ROLES} <= {path.name for path in kept.iterdir()}
    timestamp = published.store.timestamp()
    assert timestamp is not None
    assert repository.expires == timestamp.signed.expires
    assert repository.expires - datetime.now(UTC) < timedelta(days=3)
    assert not repository.stale
    told = json.loads((kept / "timestamp.json").read_text())
    told["signed"]["expires"] = "2001-01-01T00:00:00Z"
    (kept / "timestamp.json").write_text(json.dumps(told))
    assert repository.expires == datetime(2001, 1, 1, tzinfo=UTC)
    assert repository.stale
    (tmp_path / "file").touch()
    nowhere = Repository(published.url, published.first_root, tmp_path / "file" / "kept")
    words = rf"^{tmp_path}/file/kept: trusted metadata cannot be kept \(.*Not a directory.*\)$"
    with pytest.raises(UpdateError, match=words):
        nowhere.refresh()


def test_what_is_no_offer_is_kept_apart(
    published: SmallRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = releases.renewed_targets(published.store)
    targets.targets["x"] = TargetFile.from_data("x", b"x", ["sha256"])
    releases.stage_targets(published.store, targets)
    published.sign(*published.targets)
    repository = published.client()
    assert only_offer(repository).version == "1"
    words = ["'x' is no file of a bundle: bundles/NAME/VERSION/FILE"]
    assert [str(one) for one in repository.refused] == words


def test_a_bundle_is_made_beside_its_place_below_folders_that_are_made(
    published: SmallRepository, tmp_path: Path
) -> None:
    repository = published.client()
    offer = only_offer(repository)
    into = tmp_path / "deep" / "er" / "bundle"
    assert repository.download(offer, into) == into
    assert content(into) == FILES
    with pytest.raises(UpdateError, match=rf"^{into}: is there already$"):
        repository.download(offer, into)


def test_every_folder_is_on_the_disk_before_the_bundle_has_its_name(
    published: SmallRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(module, "sync_folder", lambda folder: synced.append(folder.name))
    repository = published.client()
    repository.download(only_offer(repository), tmp_path / "bundle")
    assert synced[0] == ".bundle.coming"
    assert sorted(synced[1:-1]) == ["adapter", "gate"]
    assert synced[-1] == tmp_path.name


def test_a_disk_that_fails_is_said(
    published: SmallRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    repository = published.client()
    offer = only_offer(repository)
    monkeypatch.setattr(module, "sync_folder", full)
    words = rf"^{tmp_path}/\.bundle\.coming: cannot be written \(.*No space left on device\)$"
    with pytest.raises(UpdateError, match=words):
        repository.download(offer, tmp_path / "bundle")


def test_files_that_came_before_are_not_fetched_again_and_others_go(
    published: SmallRepository, tmp_path: Path
) -> None:
    mirror = published.mirror()
    repository = published.client(mirror)
    offer = only_offer(repository)
    coming = write(tmp_path / ".bundle.coming", FILES | {"gate/gate.json": b"[]"})
    write(coming, {"x/evil.py": b"", "gate/more": b""})
    (coming / "link").symlink_to("/etc")
    mirror.asked.clear()
    repository.download(offer, tmp_path / "bundle")
    assert content(tmp_path / "bundle") == FILES
    (asked,) = mirror.asked
    sha = next(file.sha256 for file in offer.files if file.path == "gate/gate.json")
    assert asked == f"{published.url}/targets/bundles/crossing/1/gate/{sha}.gate.json"


def test_files_of_the_bundle_in_use_are_copied_wherever_they_lie(
    published: SmallRepository, tmp_path: Path
) -> None:
    mirror = published.mirror()
    repository = published.client(mirror)
    offer = only_offer(repository)
    moved = {f"a/{number}": content for number, content in enumerate(FILES.values())}
    have = write(tmp_path / "have", moved)
    one = len(FILES["gate/gate.onnx"])
    write(have, {"a/0 other": b"x" * one, "a/longer": FILES["gate/gate.onnx"] + b"x"})
    mirror.asked.clear()
    repository.download(offer, tmp_path / "bundle", have)
    assert content(tmp_path / "bundle") == FILES
    assert mirror.asked == []


def test_only_a_plain_file_of_the_content_is_the_offered_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    sha = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    file = OfferedFile("a", sha, 7)
    assert module._is(path, file)
    assert not module._is(path, replace_file(file, length=8))
    assert not module._is(path, replace_file(file, sha256="0" * 64))
    (tmp_path / "link").symlink_to(path)
    assert not module._is(tmp_path / "link", file)
    assert not module._is(tmp_path / "none", file)
    assert not module._is(tmp_path, file)
    (tmp_path / "have").mkdir()
    (tmp_path / "have" / "link").symlink_to(path)
    os.mkfifo(tmp_path / "have" / "pipe")
    assert not module._copied(tmp_path / "have", file, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def replace_file(file: OfferedFile, **changes: object) -> OfferedFile:
    return file._replace(**changes)  # type: ignore[arg-type]


def test_what_comes_is_checked_whatever_brought_it(
    published: SmallRepository, tmp_path: Path
) -> None:
    mirror = published.mirror()
    repository = published.client(mirror)
    offer = only_offer(repository)
    mirror.swap_targets()
    with pytest.raises(WrongFile, match=rf"^{published.url}/targets/bundles/crossing/1/"):
        repository.download(offer, tmp_path / "bundle")
    short = replace(offer, files=tuple(replace_file(f, length=1) for f in offer.files))
    with pytest.raises(WrongFile):
        repository.download(short, tmp_path / "bundle")
    mirror.files.clear()
    with pytest.raises(Unreachable, match=r": is missing$"):
        repository.download(offer, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (
            exceptions.ExpiredMetadataError("old"),
            ExpiredMetadata,
            "x: old: nothing is installed until the repository is refreshed",
        ),
        (WrongFileError("longer"), WrongFile, "x: longer"),
        (exceptions.LengthOrHashMismatchError("hash"), WrongFile, "x: hash"),
        (
            exceptions.BadVersionNumberError("version"),
            UntrustedMetadata,
            "x: version: not what the trusted keys signed",
        ),
        (DownloadError("away"), Unreachable, "x: away"),
        (MissingError("none"), Unreachable, "x: none"),
        (exceptions.DownloadHTTPError("none", 404), Unreachable, "x: none"),
    ],
)
def test_each_failure_is_of_its_kind(
    raised: Exception, kind: type[UpdateError], words: str
) -> None:
    with pytest.raises(UpdateError, match=f"^{words}") as refusal, module._named("x"):
        raise raised
    assert type(refusal.value) is kind


def test_metadata_comes_our_way_and_what_is_missing_is_so_by_http_s_words() -> None:
    mirror = Mirror("/r", {"/r/a": b"content"})
    fetcher = module._MetadataFetcher(mirror)
    assert fetcher.download_bytes("/r/a", 7) == b"content"
    assert list(fetcher._fetch("/r/a")) == [b"content"]
    with pytest.raises(WrongFileError, match="too long"):
        fetcher.download_bytes("/r/a", 6)
    with pytest.raises(exceptions.DownloadHTTPError, match="is missing") as missing:
        fetcher.download_bytes("/r/b", 7)
    assert missing.value.status_code == 404


def test_a_target_says_its_length_digest_and_terms() -> None:
    file = TargetFile.from_data("a", b"content", ["sha256"])
    file.unrecognized_fields["custom"] = {"x": 1}
    assert module._target(file) == Target(7, file.hashes["sha256"], {"x": 1})
    other = TargetFile.from_data("a", b"content", ["sha512"])
    assert module._target(other) == Target(7, "", None)


def test_files_lie_as_deep_as_the_bundle_has_them(
    published: SmallRepository, tmp_path: Path
) -> None:
    files = FILES | {"notes/a/b/c.txt": b"deep"}
    published.publish("2", files)
    repository = published.client()
    repository.download(repository.refresh()[0], tmp_path / "bundle")
    assert content(tmp_path / "bundle") == files


def test_a_repository_that_is_not_there_is_named(
    published: SmallRepository, tmp_path: Path
) -> None:
    gone = Repository(str(tmp_path / "gone"), published.first_root, tmp_path / "kept")
    with pytest.raises(Unreachable, match=rf"^{tmp_path}/gone: .*timestamp\.json: is missing$"):
        gone.refresh()
