"""The bytes of visuals, on disk and in the store together."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import Connection, Row, update

from dat_runtime.cloud import alerts, uploads
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.tus import Wanted
from dat_runtime.cloud.upload_files import Files, Uploads, Writing
from dat_runtime.cloud.uploads import UploadError
from tests.dat_runtime.cloud.conftest import alert
from tests.dat_runtime.cloud.evidence import jpeg

KEY = "ab" + 38 * "0"
JPEG = jpeg(64, 48)


def test_a_file_lies_in_a_folder_of_few_and_is_removed_at_will(tmp_path: Path) -> None:
    files = Files(tmp_path / "new" / "visuals")
    assert Files(tmp_path / "new" / "visuals").folder.is_dir()
    assert files.path(KEY) == tmp_path / "new" / "visuals" / "ab" / KEY
    assert files.keys() == []
    for key in (KEY, "00" + KEY):
        Writing(files, key).close()
        os.utime(files.path(key), (5.0, 7.5))
    (files.folder / ".DS_Store").write_text("what a file manager leaves")
    assert files.keys() == [("00" + KEY, 7.5), (KEY, 7.5)]
    files.remove(KEY)
    files.remove(KEY)
    assert files.keys() == [("00" + KEY, 7.5)]


def test_one_writes_at_a_time_and_nobody_else_reads(tmp_path: Path) -> None:
    files = Files(tmp_path)
    one = Writing(files, KEY)
    with pytest.raises(UploadError, match=r"^another request is writing to this upload$") as told:
        Writing(files, KEY)
    assert told.value.status == 423
    assert files.path(KEY).stat().st_mode & 0o777 == 0o600
    one.close()
    other = Writing(files, KEY)
    assert other.size == 0
    assert not os.get_inheritable(other._file)
    other.close()


def test_what_was_never_acknowledged_is_cut_off(tmp_path: Path) -> None:
    files = Files(tmp_path)
    writing = Writing(files, KEY)
    writing.begin(0)
    writing.write(b"abcdef")
    writing.sync()
    writing.close()
    writing = Writing(files, KEY)
    assert writing.size == 6
    writing.begin(4)
    writing.write(b"X" * 100_000)
    writing.write(b"")
    assert writing.size == 100_004
    with writing.picture as file:
        file.seek(0)
        assert file.read() == b"abcd" + b"X" * 100_000
    writing.write(b"Y")  # still open
    writing.close()
    assert files.path(KEY).read_bytes() == b"abcd" + b"X" * 100_000 + b"Y"


def test_a_folder_is_synced_once_for_a_file_that_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("dat_runtime.cloud.upload_files.sync_folder", synced.append)
    files = Files(tmp_path)
    writing = Writing(files, KEY)
    for _ in range(2):
        writing.sync()
    writing.close()
    assert synced == [tmp_path / "ab", tmp_path]
    writing = Writing(files, KEY)
    writing.sync()
    writing.close()
    assert len(synced) == 2


Scenario = Callable[[Receiver, Uploads], Coroutine[Any, Any, None]]


def within(folder: Path, scenario: Scenario) -> Receiver:
    """Run with a receiver that has one event, and that is closed afterwards."""
    receiver = opened(f"sqlite:///{folder}/r.db", folder / "data")

    async def run() -> None:
        one = alerts.received(alert("e"), 5.0)
        await receiver.store.write(lambda c: alerts.record(c, [one]))
        await scenario(receiver, Uploads(receiver))

    try:
        asyncio.run(run())
    finally:
        receiver.store.close()
    return receiver


async def made(receiver: Receiver, kind: str = "roi", length: int = len(JPEG)) -> str:
    def work(connection: Connection) -> str:
        event = alerts.find(connection, "e")
        assert event is not None
        wanted = Wanted("e", kind, None, None, length, "event ZQ==,kind Y29kZQ==,prompt cA==")
        return str(uploads.create(connection, event, wanted)[0].key)

    return await receiver.store.write(work)


async def row_of(receiver: Receiver, key: str) -> Row[Any] | None:
    return await receiver.store.read(partial(uploads.find, key=key))


def count(receiver: Receiver, outcome: str) -> float:
    name = "dat_receiver_visuals_total"
    return receiver.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def test_a_picture_comes_in_parts_and_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Uploads) -> None:
        assert mine.files.folder == receiver.folder / "visuals"
        key = await made(receiver)
        writing, row, there = await mine.begin(key, 0)
        assert (row.key, there) == (key, 0)
        writing.write(JPEG[:100])
        await mine.acknowledge(writing, row, 100)
        writing.write(b"left over")
        writing.close()
        now = await row_of(receiver, key)
        assert now is not None
        assert (now.arrived, now.complete) == (100, False)
        assert count(receiver, "complete") == 0

        long_ago = update(uploads.uploads).values(written_at=1.0)
        await receiver.store.write(lambda c: c.execute(long_ago))
        writing, row, there = await mine.begin(key, None)
        assert (there, row.written_at) == (100, 1.0)
        now = await row_of(receiver, key)
        assert now is not None
        assert now.written_at == 1.0  # to begin alone keeps nothing alive
        writing.write(JPEG[100:])
        await mine.acknowledge(writing, row, len(JPEG))
        writing.close()
        now = await row_of(receiver, key)
        assert now is not None
        assert now.complete
        assert count(receiver, "complete") == 1
        assert mine.files.path(key).read_bytes() == JPEG

        # What is whole stays so, whoever goes on with it.
        writing, _, there = await mine.begin(key, None)
        assert there == len(JPEG)
        writing.close()
        assert mine.files.path(key).read_bytes() == JPEG

    within(tmp_path, scenario)


def test_an_upload_that_cannot_go_on_says_why_and_lets_go(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Uploads) -> None:
        key = await made(receiver)
        for given, status, words in (
            ((key, 1), 409, "Upload-Offset: this upload is at 0"),
            (("f" * 40, 0), 404, "no such upload"),
        ):
            for _ in range(2):  # the second is not told that the first writes
                with pytest.raises(UploadError) as told:
                    await mine.begin(*given)
                assert (told.value.status, str(told.value)) == (status, words)

        writing, row, _ = await mine.begin(key, 0)
        writing.write(JPEG)
        await receiver.store.write(partial(uploads.remove, key=key))
        with pytest.raises(UploadError, match=r"^this upload has been removed$") as told:
            await mine.acknowledge(writing, row, 10)
        assert told.value.status == 404
        writing.close()

    within(tmp_path, scenario)


def test_a_file_that_is_shorter_than_was_acknowledged_goes_on_where_it_ends(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Uploads) -> None:
        key = await made(receiver)
        writing, row, _ = await mine.begin(key, 0)
        writing.write(JPEG[:200])
        await mine.acknowledge(writing, row, 200)
        writing.close()
        os.truncate(mine.files.path(key), 50)
        with pytest.raises(UploadError, match=r"^Upload-Offset: this upload is at 50$"):
            await mine.begin(key, 200)
        now = await row_of(receiver, key)
        assert now is not None
        assert now.arrived == 50
        writing, _, there = await mine.begin(key, 50)
        assert there == 50
        writing.close()

    within(tmp_path, scenario)


@pytest.mark.parametrize(
    ("kind", "words"), [("roi", "no JPEG that can be shown: it "), ("code", "no question: it ")]
)
def test_what_is_whole_and_no_picture_goes(tmp_path: Path, kind: str, words: str) -> None:
    async def scenario(receiver: Receiver, mine: Uploads) -> None:
        key = await made(receiver, kind, 4)
        writing, row, _ = await mine.begin(key, 0)
        writing.write(b"none")
        with pytest.raises(UploadError, match=f"^{words}") as told:
            await mine.acknowledge(writing, row, 4)
        writing.close()
        assert told.value.status == 400
        assert await row_of(receiver, key) is None
        assert mine.files.keys() == []
        assert (count(receiver, "refused"), count(receiver, "complete")) == (1, 0)

    within(tmp_path, scenario)


def test_a_picture_that_is_replaced_goes_from_the_disk(tmp_path: Path) -> None:
    async def scenario(receiver: Receiver, mine: Uploads) -> None:
        for revision in range(2):
            later = alerts.received(alert("e", revision=revision), time.time())
            await receiver.store.write(lambda c, later=later: alerts.record(c, [later]))
            key = await made(receiver)
            writing, row, _ = await mine.begin(key, 0)
            writing.write(JPEG)
            await mine.acknowledge(writing, row, len(JPEG))
            writing.close()
            ((name, _),) = mine.files.keys()
            assert name == key

    within(tmp_path, scenario)
