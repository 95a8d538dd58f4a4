"""Test 30: endless, slow, truncated and swapped downloads, over HTTP and from a folder."""

import fcntl
import functools
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dat_runtime.edge.updates.fetching import HttpFetcher, base_of
from dat_runtime.edge.updates.offer import Offer, OfferedFile
from dat_runtime.edge.updates.refusals import Unreachable, UntrustedMetadata, UpdateError, WrongFile
from dat_runtime.edge.updates.repository import Repository
from dat_runtime.edge.updates.served_file import PIECE, Patience
from dat_runtime.errors import ConfigError
from tests.dat_runtime.edge.updates import lying_server
from tests.dat_runtime.edge.updates.lying_server import LyingServer
from tests.export.repository.small_repository import FILES, SmallRepository

LARGE = FILES | {"adapter/adapter_model.safetensors": os.urandom(3 * PIECE + 17)}
SHORT = Patience(seconds=0.5, failures=2)


@pytest.fixture
def published(tmp_path: Path) -> SmallRepository:
    repository = SmallRepository(tmp_path)
    repository.publish("1", LARGE)
    return repository


@pytest.fixture
def server(published: SmallRepository) -> Iterator[LyingServer]:
    with LyingServer(published.store.folder) as running:
        yield running


def client(published: SmallRepository, url: str, tmp_path: Path) -> Repository:
    return Repository(url, published.first_root, tmp_path / "trusted", HttpFetcher(patience=SHORT))


def only_offer(repository: Repository) -> Offer:
    (offer,) = repository.refresh()
    return offer


def holds(folder: Path, files: dict[str, bytes]) -> bool:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()} == files


def test_a_bundle_comes_over_http(
    published: SmallRepository, server: LyingServer, tmp_path: Path
) -> None:
    repository = client(published, server.url, tmp_path)
    offer = only_offer(repository)
    assert (offer.name, offer.version, offer.terms.rank) == ("crossing", "1", 8)
    assert holds(repository.download(offer, tmp_path / "bundle"), LARGE)
    assert not (tmp_path / ".bundle.coming").exists()


@pytest.mark.parametrize("as_url", [False, True])
def test_a_bundle_comes_from_a_stick(
    published: SmallRepository, tmp_path: Path, as_url: bool
) -> None:
    stick = tmp_path / "a stick"
    shutil.copytree(published.store.folder, stick)
    url = stick.as_uri() if as_url else str(stick)
    repository = Repository(url, published.first_root, tmp_path / "trusted")
    assert holds(repository.download(only_offer(repository), tmp_path / "bundle"), LARGE)


@pytest.mark.parametrize(
    ("lie", "kind", "words"),
    [
        (lying_server.endless, WrongFile, "has no end"),
        (lying_server.endless_head, Unreachable, "not HTTP"),
        (lying_server.slow, Unreachable, r"no whole response in 0\.5 s"),
        (lying_server.byte_by_byte, Unreachable, "1 bytes came, expected 32,768"),
        (lying_server.truncated, WrongFile, "ends after"),
        (lying_server.swapped, WrongFile, "sha256 differs"),
        (lying_server.endless_whole, WrongFile, "without an end"),
        (lying_server.slow_whole, Unreachable, r"less than 32,768 bytes came in 0\.5 s"),
        (lying_server.short_whole, Unreachable, "not HTTP"),
        (lying_server.elsewhere, Unreachable, "status 302"),
    ],
)
def test_a_file_that_comes_wrong_is_refused_by_name(
    published: SmallRepository,
    server: LyingServer,
    tmp_path: Path,
    lie: object,
    kind: type[UpdateError],
    words: str,
) -> None:
    repository = client(published, server.url, tmp_path)
    offer = only_offer(repository)
    server.lies["safetensors"] = lie
    with pytest.raises(kind, match=words):
        repository.download(offer, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    # What came before goes on where it was, once the server tells the truth.
    server.lies.clear()
    assert holds(repository.download(offer, tmp_path / "bundle"), LARGE)


def test_a_file_with_more_after_its_end_is_cut_at_its_signed_length(
    published: SmallRepository, server: LyingServer, tmp_path: Path
) -> None:
    repository = client(published, server.url, tmp_path)
    offer = only_offer(repository)
    server.lies["safetensors"] = lying_server.longer
    assert holds(repository.download(offer, tmp_path / "bundle"), LARGE)


@pytest.mark.parametrize(
    ("lie", "kind", "words"),
    [
        (lying_server.endless, WrongFile, "has no end"),
        (lying_server.endless_head, Unreachable, "not HTTP"),
        (lying_server.slow, Unreachable, r"no whole response in 0\.5 s"),
        (lying_server.byte_by_byte, Unreachable, "1 bytes came, expected"),
        (lying_server.truncated, UntrustedMetadata, "deserialize"),
        (lying_server.swapped, UntrustedMetadata, "deserialize"),
        (lying_server.elsewhere, Unreachable, "status 302"),
    ],
)
def test_a_statement_that_comes_wrong_is_refused_by_name(
    published: SmallRepository,
    server: LyingServer,
    tmp_path: Path,
    lie: object,
    kind: type[UpdateError],
    words: str,
) -> None:
    server.lies["timestamp"] = lie
    repository = client(published, server.url, tmp_path)
    with pytest.raises(kind, match=words):
        repository.refresh()
    assert repository.stale


def test_a_server_that_is_not_there_is_said(published: SmallRepository, tmp_path: Path) -> None:
    with LyingServer(tmp_path) as gone:
        url = gone.url
    with pytest.raises(Unreachable, match="cannot connect"):
        client(published, url, tmp_path).refresh()


def test_an_update_comes_from_a_web_server_that_knows_no_parts_of_files(
    published: SmallRepository, tmp_path: Path
) -> None:
    # Statements larger than a piece too.
    many = LARGE | {f"notes/{number:02}-{'n' * 100}": b"note" for number in range(50)}
    for version in ("2", "3", "4"):
        published.publish(version, many)
    serves = functools.partial(QuietHandler, directory=published.store.folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), serves) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        repository = client(published, f"http://127.0.0.1:{server.server_port}", tmp_path)
        first = repository.refresh()[-1]
        assert holds(repository.download(first, tmp_path / "bundle"), LARGE)
        server.shutdown()
    assert (tmp_path / "trusted/targets.json").stat().st_size > PIECE


class QuietHandler(SimpleHTTPRequestHandler):
    """`python -m http.server`."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_download_that_broke_off_goes_on_where_it_was(
    published: SmallRepository, server: LyingServer, tmp_path: Path
) -> None:
    repository = client(published, server.url, tmp_path)
    offer = only_offer(repository)

    def at_third_piece(handler: object, content: bytes) -> None:
        if handler.headers["range"].startswith(f"bytes={2 * PIECE}-"):
            handler.close_connection = True
        else:
            lying_server.serve(handler, content)

    server.lies["safetensors"] = at_third_piece
    with pytest.raises(Unreachable, match="stopped after"):
        repository.download(offer, tmp_path / "bundle")
    server.lies.clear()
    server.asked.clear()
    assert holds(repository.download(offer, tmp_path / "bundle"), LARGE)
    weights = [ranged for path, ranged in server.asked if "safetensors" in path]
    assert weights[0] == f"bytes={2 * PIECE}-{3 * PIECE - 1}"


def test_files_that_are_there_are_not_fetched_again(
    published: SmallRepository, server: LyingServer, tmp_path: Path
) -> None:
    repository = client(published, server.url, tmp_path)
    first = repository.download(only_offer(repository), tmp_path / "1")
    published.publish("2", LARGE | {"manifest.json": b"two"})
    offer = repository.refresh()[0]
    server.asked.clear()
    second = repository.download(offer, tmp_path / "2", have=first)
    assert holds(second, LARGE | {"manifest.json": b"two"})
    assert [path.rpartition(".")[2] for path, _ in server.asked] == ["json"]
    # A copy: what happens to one does not happen to the other.
    (first / "gate/gate.json").write_bytes(b"changed")
    assert holds(second, LARGE | {"manifest.json": b"two"})


def test_a_damaged_file_of_the_bundle_in_use_is_fetched(
    published: SmallRepository, tmp_path: Path
) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    offer = only_offer(repository)
    first = repository.download(offer, tmp_path / "1")
    (first / "gate/gate.onnx").write_bytes(b"x" * len(FILES["gate/gate.onnx"]))
    assert holds(repository.download(offer, tmp_path / "2", have=first), LARGE)


def test_a_folder_that_is_there_is_not_touched(published: SmallRepository, tmp_path: Path) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    offer = only_offer(repository)
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UpdateError, match="is there already"):
        repository.download(offer, tmp_path / "bundle")


def test_what_another_offer_had_left_does_not_get_in(
    published: SmallRepository, tmp_path: Path
) -> None:
    left = tmp_path / ".bundle.coming"
    (left / "gate").mkdir(parents=True)
    (left / "gate" / "evil.py").write_bytes(b"print()")
    (left / "gate" / "gate.json").symlink_to("/dev/zero")
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    assert holds(repository.download(only_offer(repository), tmp_path / "bundle"), LARGE)


@pytest.mark.parametrize("make", ["pipe", "device", "folder", "absent", "short", "swapped"])
def test_a_stick_that_holds_something_else_is_refused_by_name(
    published: SmallRepository, tmp_path: Path, make: str
) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    offer = only_offer(repository)
    (file,) = (published.store.targets / "bundles/crossing/1/gate").glob("*.gate.onnx")
    length = file.stat().st_size
    file.unlink()
    if make == "pipe":
        os.mkfifo(file)
    elif make == "device":
        file.symlink_to("/dev/zero")
    elif make == "folder":
        file.mkdir()
    elif make != "absent":
        file.write_bytes(b"x" * (length if make == "swapped" else 7))
    kind = Unreachable if make == "absent" else WrongFile
    with pytest.raises(kind):
        repository.download(offer, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("url", ["ftp://example.org/x", "file://elsewhere/x", "s3://bucket"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no repository"):
        base_of(url)


def test_a_missing_root_file_is_said(published: SmallRepository, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"root\.json"):
        Repository(published.url, tmp_path / "root.json", tmp_path / "trusted")


def test_a_root_file_that_is_none_is_refused(published: SmallRepository, tmp_path: Path) -> None:
    with pytest.raises(UntrustedMetadata):
        Repository(published.url, b"{}", tmp_path / "trusted").refresh()


def test_a_bundle_for_which_the_disk_has_no_room_is_not_begun(
    published: SmallRepository, tmp_path: Path
) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    offer = only_offer(repository)
    too_much = OfferedFile("adapter/large", "0" * 64, shutil.disk_usage(tmp_path).free)
    with pytest.raises(UpdateError, match="the disk has"):
        repository.download(replace(offer, files=(*offer.files, too_much)), tmp_path / "bundle")
    assert not any((tmp_path / ".bundle.coming").iterdir())


@pytest.mark.parametrize("content", [b"", b"{}", b'{"signed": []}', b'{"signed": {"expires": 7}}'])
def test_trusted_statements_that_were_damaged_count_as_stale_and_are_fetched_again(
    published: SmallRepository, tmp_path: Path, content: bytes
) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    assert repository.stale
    repository.refresh()
    assert not repository.stale
    for role in ("timestamp", "snapshot", "targets"):
        (tmp_path / "trusted" / f"{role}.json").write_bytes(content)
    assert repository.stale
    assert only_offer(repository).version == "1"
    assert not repository.stale


def test_one_process_at_a_time_changes_the_trusted_statements(
    published: SmallRepository, tmp_path: Path
) -> None:
    repository = Repository(published.url, published.first_root, tmp_path / "trusted")
    repository.refresh()
    with ThreadPoolExecutor() as others, (tmp_path / "trusted" / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        look = others.submit(repository.refresh)
        with pytest.raises(TimeoutError):
            look.result(timeout=0.3)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert len(look.result()) == 1


def test_a_statement_is_given_up_once_it_says_that_it_is_too_long(
    published: SmallRepository, server: LyingServer, tmp_path: Path
) -> None:
    server.lies["timestamp"] = lambda handler, _: lying_server.serve(handler, b" " * 1_000_000)
    with pytest.raises(WrongFile, match="1,000,000 bytes, expected at most 16,384"):
        client(published, server.url, tmp_path).refresh()
    assert sum("timestamp" in path for path, _ in server.asked) == 1
