"""What of a review becomes a label, and the zip, without a network."""

import asyncio
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from sqlalchemy import Connection

from dat_runtime.cloud import alerts, labels, uploads, verdicts
from dat_runtime.cloud.application import opened
from dat_runtime.cloud.receiver import Receiver
from dat_runtime.cloud.tus import Wanted
from dat_runtime.cloud.upload_files import Files
from dat_runtime.cloud.verdicts import Review
from dat_runtime.types import Size
from tests.dat_runtime.cloud.conftest import alert
from tests.dat_runtime.cloud.evidence import jpeg

SIZE = Size(100, 200)


def data(*boxes: list[int], severity: str = "severe", roi: Any = (10, 20, 110, 220)) -> Any:
    accidents = [{"bbox": box, "severity": severity} for box in boxes]
    return {"roi": roi and list(roi), "answer": {"accidents": accidents}}


def test_a_box_becomes_a_row_in_shares_of_the_roi() -> None:
    assert labels._rows(data([12, 24, 100, 200]), SIZE) == (
        "1 0.460000 0.460000 0.880000 0.880000\n",
    )
    assert labels._rows(data([10, 20, 60, 70], severity="moderate"), SIZE) == (
        "0 0.250000 0.125000 0.500000 0.250000\n",
    )
    both = labels._rows(data([10, 20, 110, 220], [60, 120, 110, 220]), SIZE)
    assert both == (
        "1 0.500000 0.500000 1.000000 1.000000\n",
        "1 0.750000 0.750000 0.500000 0.500000\n",
    )


def test_a_box_that_lies_outside_is_cut_and_one_of_which_little_is_left_goes() -> None:
    tenth = [100, 120, 200, 220]  # 10 of its 100 columns lie in the ROI
    assert labels._rows(data(tenth), SIZE) == ("1 0.950000 0.750000 0.100000 0.500000\n",)
    less = [101, 120, 200, 220]
    assert labels._rows(data(less, tenth), SIZE) == labels._rows(data(tenth), SIZE)
    for gone in ([less], [[110, 20, 210, 120]], [[0, 0, 10, 20]]):
        with pytest.raises(LookupError, match=r"^none of the alert's boxes lies in the ROI$"):
            labels._rows(data(*gone), SIZE)
    with pytest.raises(
        LookupError, match=r"^the alert states no accident: nothing to draw a box around$"
    ):
        labels._rows(data(), SIZE)


def test_a_picture_of_ten_pixels_is_large_enough(tmp_path: Path) -> None:
    for width, height in ((10, 12), (12, 10)):
        (tmp_path / "p").write_bytes(jpeg(width, height))
        assert labels._size(tmp_path / "p") == Size(width, height)
    for width, height in ((9, 12), (12, 9)):
        (tmp_path / "p").write_bytes(jpeg(width, height))
        with pytest.raises(LookupError) as told:
            labels._size(tmp_path / "p")
        assert told.value.args == (f"the ROI has {width} x {height} pixels: too few",)
    (tmp_path / "p").write_bytes(b"none")
    with pytest.raises(LookupError, match=r"^the ROI "):
        labels._size(tmp_path / "p")
    with pytest.raises(LookupError, match=r"^the ROI was removed$"):
        labels._size(tmp_path / "nowhere")


def test_a_name_is_of_one_camera_and_moment() -> None:
    row: Any = SimpleNamespace(node="n1", id="e", camera="north", captured_at=1_769_860_800.2504)
    assert labels._name(row) == "n1_north_1769860800250_fd09bbd1f65b"
    other: Any = SimpleNamespace(**vars(row) | {"id": "f"})
    assert labels._name(other) != labels._name(row)


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Receiver]:
    receiver = opened(f"sqlite:///{tmp_path}/r.db", tmp_path / "data")
    yield receiver
    receiver.store.close()


def judge(
    receiver: Receiver,
    id: str,
    verdict: Any,
    picture: bytes | None = None,
    node: str = "n1",
    shows: int = 0,
    **data: Any,
) -> Path:
    """An event that was judged, with its picture; where that lies."""
    key = ""

    def work(connection: Connection) -> None:
        nonlocal key
        alerts.record(connection, [alerts.received(alert(id, node, **data), 5.0)])
        event = alerts.find(connection, id, node)
        assert event is not None
        verdicts.record(connection, event, Review(verdict, f"about {id}", "ada", None), 9.0)
        if picture is not None:
            wanted = Wanted(id, "roi", node, shows, len(picture), "")
            key = uploads.create(connection, event, wanted)[0].key
            uploads.complete(connection, key)

    asyncio.run(receiver.store.write(work))
    path = Files(receiver.folder / "visuals").path(key)
    if picture is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
    return path


def exported(receiver: Receiver, node: str | None = None) -> tuple[zipfile.ZipFile, list[bytes]]:
    async def pieces() -> list[bytes]:
        return [piece async for piece in labels.archive(receiver, node)]

    came = asyncio.run(pieces())
    return zipfile.ZipFile(io.BytesIO(b"".join(came))), came


def told(opened: zipfile.ZipFile) -> list[dict[str, Any]]:
    return [json.loads(line) for line in opened.read("reviews.jsonl").splitlines()]


def test_the_zip_holds_pictures_labels_and_what_was_said(inside: Receiver) -> None:
    pictures = [jpeg(100, 200, n) for n in range(2)]
    judge(inside, "a", "confirmed", pictures[0])
    judge(inside, "b", "dismissed", pictures[1])
    judge(inside, "c", "confirmed")
    judge(inside, "d", "open")
    opened, _ = exported(inside)
    names = [entry.filename for entry in opened.infolist()]
    first, second = (names[i].removesuffix(".txt").rpartition("/")[2] for i in (8, 10))
    assert names == [
        "data.yaml",
        "README.txt",
        "train/images/",
        "train/labels/",
        "valid/images/",
        "valid/labels/",
        "test/images/",
        "test/labels/",
        f"train/labels/{first}.txt",
        f"train/images/{first}.jpg",
        f"train/labels/{second}.txt",
        f"train/images/{second}.jpg",
        "reviews.jsonl",
    ]
    assert opened.read(names[8]) == b"1 0.460000 0.460000 0.880000 0.880000\n"
    assert opened.read(names[10]) == b""
    assert [opened.read(names[i]) for i in (9, 11)] == pictures
    assert told(opened)[0] == {
        "node": "n1",
        "id": "a",
        "camera": "north",
        "verdict": "confirmed",
        "note": "about a",
        "by": "ada",
        "at": 9.0,
        "revision": 0,
        "picture": f"train/images/{first}.jpg",
    }
    assert [line["id"] for line in told(opened)] == ["a", "b", "c"]
    assert told(opened)[2]["left_out"] == "there is no ROI"
    for entry in opened.infolist():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.create_system == 3
        assert not entry.is_dir() or entry.file_size == 0
        mode = 0o40755 if entry.is_dir() else 0o100644
        assert entry.external_attr == mode << 16


def test_a_picture_that_goes_or_shows_another_roi_is_listed_with_the_reason(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(inside, "wide", "dismissed", jpeg(101, 200))
    judge(inside, "high", "dismissed", jpeg(100, 201))
    judge(inside, "whole", "dismissed", jpeg(100, 200), roi=None)
    gone = judge(inside, "gone", "dismissed", jpeg(100, 200))
    looked_up = labels._size

    def removed(file: Path) -> Size:
        size = looked_up(file)
        if file == gone:
            os.unlink(file)
        return size

    monkeypatch.setattr(labels, "_size", removed)
    opened, _ = exported(inside)
    assert [line["left_out"] for line in told(opened)] == [
        "the ROI has 101 x 200 pixels, its alert says 100 x 200",
        "the ROI has 100 x 201 pixels, its alert says 100 x 200",
        "the ROI has 100 x 200 pixels, its alert says 0 x 0",
        "the picture was removed",
    ]
    assert len(opened.namelist()) == 9


def test_a_roi_takes_the_boxes_of_its_own_revision(inside: Receiver) -> None:
    judge(inside, "a", "confirmed")
    later = {"roi": [390, 290, 510, 410], "priority": 0.5}
    judge(inside, "a", "confirmed", jpeg(100, 200), revision=1, **later)
    opened, _ = exported(inside)
    assert opened.read(opened.namelist()[8]) == b"1 0.460000 0.460000 0.880000 0.880000\n"


def test_so_many_pictures_fit_and_all_verdicts_are_told(
    inside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MAX_PICTURES", 2)
    monkeypatch.setattr(labels, "_AT_A_TIME", 2)
    for n in range(5):
        judge(inside, f"e{n}", "dismissed", jpeg(100, 200, n) if n != 1 else None)
    opened, _ = exported(inside)
    lines = told(opened)
    assert [line["id"] for line in lines] == [f"e{n}" for n in range(5)]
    assert ["picture" in line for line in lines] == [True, False, True, False, False]
    assert [line.get("left_out") for line in lines] == [
        None,
        "there is no ROI",
        None,
        "more than 2",
        "more than 2",
    ]
    assert sum(name.endswith(".jpg") for name in opened.namelist()) == 2


def test_a_node_is_told_of_its_own(inside: Receiver) -> None:
    judge(inside, "a", "confirmed")
    judge(inside, "b", "confirmed", node="n2")
    assert [line["id"] for line in told(exported(inside, "n2")[0])] == ["b"]
    assert [line["id"] for line in told(exported(inside)[0])] == ["a", "b"]


def test_a_picture_goes_in_pieces(inside: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "PIECE", 1_000)
    picture = jpeg(100, 200)
    judge(inside, "a", "dismissed", picture)
    opened, came = exported(inside)
    assert opened.read(opened.namelist()[9]) == picture
    assert len(came) == -(-len(picture) // 1_000) + 1 + 1
    assert max(map(len, came[1:])) < 3_000
