"""How files come: what is asked for, what is refused, and what lies on the disk afterwards."""

import asyncio
import contextlib
import hashlib
import io
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from dat_runtime.edge.updates import disk, download, fetching, polite
from dat_runtime.edge.updates.fetching import FolderFetcher, HttpFetcher, base_of, copy
from dat_runtime.edge.updates.polite import PoliteFetcher
from dat_runtime.edge.updates.processor import MOST_BYTES, processor_digest
from dat_runtime.edge.updates.refusals import UpdateError
from dat_runtime.edge.updates.served_file import (
    PATIENCE,
    PIECE,
    DownloadError,
    MissingError,
    NoPartsError,
    Patience,
    WrongFileError,
)
from dat_runtime.edge.uplink.connection import Response
from dat_runtime.errors import ConfigError, DataError

URL = "http://h/file"
CONTENT = bytes(range(256)) * 300  # two pieces and a part of one
SHA = hashlib.sha256(CONTENT).hexdigest()


class Served:
    """In the place of a `ServedFile`: gives parts of a content, or the whole of it only."""

    def __init__(self, content: bytes = CONTENT, total: object = None):
        self.content = content
        self.total = len(content) if total is None else total
        self.has_parts = True
        self.asked: list[tuple[int, int, str]] = []
        self.most: list[int] = []
        self.given: tuple[object, ...] = ()

    async def ask(self, first: int, size: int, where: str) -> Response:
        if not self.has_parts:
            raise NoPartsError
        self.asked.append((first, size, where))
        body = self.content[first : first + size]
        headers = {"content-range": f"bytes {first}-{first + len(body) - 1}/{self.total}"}
        return Response(206, headers, body)

    async def whole(self, out: IO[bytes], most_bytes: int) -> None:
        self.most.append(most_bytes)
        out.seek(0)
        out.truncate()
        out.write(self.content)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    source = Served()

    @contextlib.asynccontextmanager
    async def served_file(*given: object) -> AsyncIterator[Served]:
        source.given = given
        yield source

    monkeypatch.setattr(download, "served_file", served_file)
    return source


def never() -> bool:
    return False


def bring(file: Path, sha256: str = SHA, size: int = len(CONTENT)) -> None:
    told = {"sha256": sha256, "size": size, "bytes_per_s": 5.0, "is_busy": never}
    asyncio.run(download.download(URL, file, **told, patience=Patience(1.0)))  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_piece_by_piece_and_has_its_name_when_it_is_whole(
    tmp_path: Path, served: Served
) -> None:
    bring(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]
    assert served.given == (URL, 5.0, never, Patience(1.0))
    assert served.asked == [
        (0, PIECE, "after 0 of 76,800 bytes"),
        (PIECE, PIECE, "after 32,768 of 76,800 bytes"),
        (2 * PIECE, 76_800 - 2 * PIECE, "after 65,536 of 76,800 bytes"),
    ]


@pytest.mark.parametrize(
    ("had", "begins"),
    [(CONTENT[:1000], [1000]), (CONTENT, []), (CONTENT + b"x", [0])],
    ids=["a part", "the whole", "more"],
)
def test_what_had_come_is_gone_on_with_unless_it_is_too_much(
    tmp_path: Path, served: Served, had: bytes, begins: list[int]
) -> None:
    (tmp_path / "a.part").write_bytes(had)
    bring(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [first for first, _, _ in served.asked][:1] == begins


def test_a_file_that_is_another_one_leaves_nothing(tmp_path: Path, served: Served) -> None:
    words = f"^{URL}: is another file than the one asked for: its sha256 differs$"
    with pytest.raises(WrongFileError, match=words):
        bring(tmp_path / "a", sha256="0" * 64)
    assert names(tmp_path) == []


@pytest.mark.parametrize("has_parts", [True, False])
def test_a_file_that_is_too_short_is_another_one(
    tmp_path: Path, served: Served, has_parts: bool
) -> None:
    served.has_parts = has_parts
    with pytest.raises(WrongFileError, match=r"^ends after 76,800 bytes, expected 76,801$"):
        bring(tmp_path / "a", size=len(CONTENT) + 1)
    assert not (tmp_path / "a").exists()


def test_a_server_without_parts_gives_the_whole_file(tmp_path: Path, served: Served) -> None:
    served.has_parts = False
    (tmp_path / "a.part").write_bytes(b"left")
    bring(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.most == [len(CONTENT)]


def fetched(most: int = 100_000) -> bytes:
    coming = download.fetch(URL, most_bytes=most, bytes_per_s=5.0, is_busy=never)
    return asyncio.run(coming)


def test_a_file_of_unknown_size_is_asked_for_until_its_end(served: Served) -> None:
    assert fetched() == CONTENT
    assert served.given == (URL, 5.0, never, PATIENCE)
    assert served.asked == [
        (0, PIECE, "after 0 bytes"),
        (PIECE, PIECE, "after 32,768 bytes"),
        (2 * PIECE, PIECE, "after 65,536 bytes"),
    ]
    assert fetched(most=len(CONTENT)) == CONTENT
    words = f"^{URL}: 76,800 bytes, expected at most 76,799$"
    with pytest.raises(WrongFileError, match=words):
        fetched(most=len(CONTENT) - 1)


def test_a_file_of_unknown_size_that_comes_whole_is_taken_so(served: Served) -> None:
    served.has_parts = False
    assert fetched(most=99) == CONTENT
    assert served.most == [99]
    served.has_parts, served.total = True, "*"
    with pytest.raises(DownloadError, match=r"^the server does not say how long the file is$"):
        fetched()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://h/r/", "https://h/r"),
        ("http://h:8/r//", "http://h:8/r"),
        ("https://h/X/", "https://h/X"),
        ("file:///media/a%20stick/", "/media/a stick"),
        ("file://localhost/media", "/media"),
        ("/media/stick/", "/media/stick"),
    ],
)
def test_an_address_is_given_without_its_last_slash(url: str, base: str) -> None:
    assert base_of(url) == base


def test_a_path_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert base_of("~/r") == base_of("r") == f"{tmp_path}/r"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *(
            (url, f"'{url}' is no repository, expected a folder, file://, http:// or https://")
            for url in ("ftp://h/x", "file://elsewhere/x", "file://localhost", "FILEX://h")
        ),
        ("http://[::1", "the repository's address cannot be read: Invalid IPv6 URL"),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        base_of(url)
    with pytest.raises(ConfigError, match="password"):
        base_of("https://ann:secret@h/r")


def test_over_http_the_cap_and_the_patience_are_the_fetcher_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[object, ...], dict[str, object]]] = []

    async def fetch(*given: object, **named: object) -> bytes:
        asked.append((given, named))
        return b"content"

    monkeypatch.setattr(fetching, "fetch", fetch)
    monkeypatch.setattr(fetching, "download", fetch)
    fetcher = HttpFetcher(7.0, never, Patience(1.0, 2))
    given = {"bytes_per_s": 7.0, "is_busy": never, "patience": Patience(1.0, 2)}
    assert fetcher.metadata(URL, 99) == b"content"
    fetcher.file(URL, tmp_path, sha256="0", size=5)
    assert asked == [
        ((URL,), {"most_bytes": 99, **given}),
        ((URL, tmp_path), {"sha256": "0", "size": 5, **given}),
    ]
    HttpFetcher().metadata(URL, 1)
    told: Any = asked[-1][1]
    assert (told["bytes_per_s"], told["patience"]) == (float("inf"), PATIENCE)
    assert told["is_busy"]() is False


def test_a_statement_in_a_folder_may_have_its_most_bytes_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 1500)
    assert FolderFetcher().metadata(str(file), 1500) == b"x" * 1500
    with pytest.raises(WrongFileError, match=f"^{file}: more than 1,499 bytes$"):
        FolderFetcher().metadata(str(file), 1499)


def test_a_file_in_a_folder_is_copied_where_it_is_the_signed_one(tmp_path: Path) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    source.write_bytes(CONTENT)
    FolderFetcher().file(str(source), to, sha256=SHA, size=len(CONTENT))
    assert to.read_bytes() == CONTENT
    assert names(tmp_path) == ["source", "to"]
    to.unlink()
    words = f"^{source}: has 76,800 bytes, 76,801 were signed$"
    with pytest.raises(WrongFileError, match=words):
        FolderFetcher().file(str(source), to, sha256=SHA, size=len(CONTENT) + 1)
    words = f"^{source}: is another file than the one signed: its sha256 differs$"
    with pytest.raises(WrongFileError, match=words):
        FolderFetcher().file(str(source), to, sha256="0" * 64, size=len(CONTENT))
    assert names(tmp_path) == ["source"]


def test_what_cannot_be_read_from_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none, pipe = tmp_path / "none", tmp_path / "pipe"
    os.mkfifo(pipe)
    before = len(os.listdir("/proc/self/fd"))
    for path, kind, words in (
        (none, MissingError, "is missing"),
        (pipe, WrongFileError, "is no plain file"),
        (tmp_path, WrongFileError, "is no plain file"),
        (Path("/dev/zero"), WrongFileError, "is no plain file"),
        (pipe / "a", DownloadError, r"cannot be read \(Not a directory\)"),
    ):
        with pytest.raises(kind, match=f"^{path}: {words}$") as raised:
            FolderFetcher().metadata(str(path), 5)
        assert type(raised.value) is kind
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_copy_takes_so_many_bytes_and_says_their_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "CHUNK", 100)
    for size, taken in ((250, CONTENT[:250]), (0, b""), (100_000, CONTENT)):
        written: list[bytes] = []
        digest = copy(io.BytesIO(CONTENT), written.append, size)
        assert b"".join(written) == taken
        assert digest == hashlib.sha256(taken).hexdigest()
        assert max(map(len, written), default=0) <= 100


def test_a_copy_that_breaks_off_is_told(tmp_path: Path) -> None:
    def write(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"x")
    with (tmp_path / "a").open("rb") as source:
        words = rf"^{tmp_path}/a: the copy broke off \(No space left on device\)$"
        with pytest.raises(DownloadError, match=words):
            copy(source, write, 1)


def test_a_bundle_fits_where_fifty_megabytes_stay_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=51_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    disk.demand_space(tmp_path, 1_000_000)
    words = (
        f"{tmp_path}: the disk has 51,000,000 bytes left, the bundle takes 1,000,001 and 50,000,000"
        " are to stay free"
    )
    with pytest.raises(UpdateError, match=f"^{re.escape(words)}$"):
        disk.demand_space(tmp_path, 1_000_001)
    assert asked == [tmp_path, tmp_path]


def test_a_processor_s_digest_is_of_both_its_files_by_name(tmp_path: Path) -> None:
    words = (
        f"{tmp_path} holds no preprocessor_config.json or processor_config.json: name the base"
        " model's folder"
    )
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        processor_digest(tmp_path)
    lines = ""
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / name).write_text(name)
        lines += f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
        assert processor_digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    os.truncate(tmp_path / name, MOST_BYTES)
    processor_digest(tmp_path)
    os.truncate(tmp_path / name, MOST_BYTES + 1)
    with pytest.raises(DataError, match=rf"^{tmp_path}/{name}: larger than 1,048,576 bytes$"):
        processor_digest(tmp_path)


class Client:
    """In the place of `httpx.Client`."""

    made: list[dict[str, object]]
    text: str

    def __init__(self, **given: object):
        Client.made.append(given)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, url: str) -> SimpleNamespace:
        Client.made.append({"url": url})
        return SimpleNamespace(text=Client.text)


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ('{"uplink": {"connected": true}, "waiting": {"alerts": 1, "visuals": 0}}', True),
        ('{"uplink": {"connected": true}, "waiting": {"alerts": 0, "visuals": 1}}', True),
        ('{"uplink": {"connected": true}, "waiting": {"alerts": 0, "visuals": 0}}', False),
        ('{"uplink": {"connected": false}, "waiting": {"alerts": 1, "visuals": 1}}', False),
        ('{"uplink": {"connected": true}, "waiting": {"alerts": 1}}', False),
        ('{"uplink": null, "waiting": {"alerts": 1, "visuals": 1}}', False),
        ("[]", False),
        ("<html>", False),
    ],
)
def test_a_node_is_asked_at_its_own_address_within_a_second(
    text: str, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    Client.made, Client.text = [], text
    monkeypatch.setattr(httpx, "Client", Client)
    clock = [100.0]
    monkeypatch.setattr(polite, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    fetcher = PoliteFetcher(7.0, ("127.0.0.1", 8))
    assert fetcher.is_busy() is busy
    assert Client.made == [
        {"trust_env": False, "timeout": 1.0, "verify": False},
        {"url": "http://127.0.0.1:8/status"},
    ]
    for now, asked in ((100.24, 2), (100.25, 4), (100.49, 4), (100.5, 6)):
        clock[0] = now
        assert fetcher.is_busy() is busy
        assert len(Client.made) == asked
    assert fetcher._bytes_per_s == 7.0
    assert fetcher._is_busy == fetcher.is_busy
