"""The loop closes: what operators judged is a set that `data.prep.build` reads."""

import io
import json
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.cloud import labels
from dat_runtime.cloud.review import MAX_EXPORTS
from data.prep.build import main as build
from tests.dat_runtime.cloud.conftest import Running, alert, running
from tests.dat_runtime.cloud.evidence import jpeg, send_visual


@pytest.fixture
def receiver(tmp_path: Path) -> Any:
    with running(f"sqlite:///{tmp_path}/receiver.db", tmp_path / "data") as receiver:
        yield receiver


def answer(*accidents: tuple[list[int], str]) -> dict[str, Any]:
    severities = [severity for _, severity in accidents]
    severity = "severe" if "severe" in severities else "moderate" if severities else "none"
    return {
        "count": len(accidents),
        "severity": severity,
        "level": int(severity == "severe"),
        "score": 0.8 if severity == "severe" else 0.2,
        "accidents": [{"bbox": bbox, "severity": severity} for bbox, severity in accidents],
        "summary": "",
    }


def judged(receiver: Running, id: str, verdict: str, picture: bytes | None, **data: Any) -> None:
    answer = receiver.post(alert(id, **data))
    assert answer.status_code == 201, answer.text
    if picture is not None:
        send_visual(receiver, id, "roi", picture)
    review = {"verdict": verdict, "note": f"about {id}"}
    assert receiver.client.post(f"/v1/events/{id}/review", json=review).status_code == 201


def exported(receiver: Running) -> zipfile.ZipFile:
    answer = receiver.client.get("/v1/reviews/export")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(answer.content))


def told(opened: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    lines = opened.read("reviews.jsonl").splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def test_the_loop_closes(receiver: Running, tmp_path: Path) -> None:
    two = answer(([120, 60, 180, 110], "severe"), ([60, 90, 130, 150], "moderate"))
    for i in range(6):
        roi = [50, 40, 250, 160]
        judged(receiver, f"c{i}", "confirmed", jpeg(200, 120, i), roi=roi, answer=two)
        judged(receiver, f"d{i}", "dismissed", jpeg(200, 120, 100 + i), roi=roi, answer=two)
    judged(receiver, "n", "confirmed", None, answer=two)

    file = tmp_path / "reviews.zip"
    file.write_bytes(receiver.client.get("/v1/reviews/export").content)
    command = labels.COMMAND.split()[3:]
    assert command[:2] == ["--source", "reviews.zip"]
    assert command[-2:] == ["--out", "OUT/reviews"]
    out = tmp_path / "OUT" / "reviews"
    out.parent.mkdir()
    assert build(["--source", str(file), *command[2:-2], "--out", str(out)]) == 0

    faults = json.loads((out / "report.json").read_text())["faults"]["counts"]
    assert faults == {"empty-label": 6}  # dismissed: accident-free frames
    truth: list[dict[str, Any]] = []
    for split in ("train", "val", "test"):
        lines = (out / f"truth_{split}.jsonl").read_text().splitlines()
        truth += [json.loads(line) for line in lines]
    assert len(truth) == 12
    assert all((frame["width"], frame["height"]) == (200, 120) for frame in truth)
    # Boxes of the frame, less the ROI's corner at (50, 40).
    confirmed = [
        {"bbox": [70, 20, 130, 70], "severity": "severe"},
        {"bbox": [10, 50, 80, 110], "severity": "moderate"},
    ]
    found = [sorted(frame["accidents"], key=str) for frame in truth]
    assert found.count(sorted(confirmed, key=str)) == 6
    assert found.count([]) == 6


def test_pictures_keep_their_bytes_and_no_boxed_image_is_one(receiver: Running) -> None:
    roi = jpeg(100, 200, 1)
    judged(receiver, "a", "confirmed", roi)
    send_visual(receiver, "a", "box", jpeg(640, 480, 2))
    judged(receiver, "b", "confirmed", None)
    send_visual(receiver, "b", "box", jpeg(640, 480, 3))
    opened = exported(receiver)
    pictures = [name for name in opened.namelist() if name.endswith(".jpg")]
    assert [opened.read(name) for name in pictures] == [roi]
    lines = told(opened)
    assert lines["a"]["picture"] == pictures[0]
    assert lines["a"]["note"] == "about a"
    assert lines["b"]["left_out"] == "there is no ROI"


def test_what_cannot_be_a_picture_is_listed_with_the_reason(receiver: Running) -> None:
    judged(receiver, "none", "confirmed", jpeg(100, 200), answer=answer(), priority=0.0)
    elsewhere = answer(([300, 300, 400, 400], "severe"))
    judged(receiver, "elsewhere", "confirmed", jpeg(100, 200), answer=elsewhere)
    sliver = answer(([105, 30, 205, 130], "severe"))  # a twentieth of it lies in the ROI
    judged(receiver, "sliver", "confirmed", jpeg(100, 200), answer=sliver)
    judged(receiver, "small", "dismissed", jpeg(9, 200), roi=[10, 20, 19, 220])
    judged(receiver, "other", "dismissed", jpeg(64, 64))
    judged(receiver, "open", "confirmed", jpeg(100, 200))
    receiver.client.post("/v1/events/open/review", json={"verdict": "open"})
    opened = exported(receiver)
    assert {id: line.get("left_out") for id, line in told(opened).items()} == {
        "none": "the alert states no accident: nothing to draw a box around",
        "elsewhere": "none of the alert's boxes lies in the ROI",
        "sliver": "none of the alert's boxes lies in the ROI",
        "small": "the ROI has 9 x 200 pixels: too few",
        "other": "the ROI has 64 x 64 pixels, its alert says 100 x 200",
    }
    assert not any(name.endswith(".jpg") for name in opened.namelist())


def test_a_roi_takes_the_boxes_of_its_own_revision(store_url: str, tmp_path: Path) -> None:
    later = answer(([400, 300, 500, 400], "moderate"))
    with running(store_url, tmp_path / "data") as receiver:
        receiver.post(alert("a"))
        send_visual(receiver, "a", "roi", jpeg(100, 200))
        judged(receiver, "a", "confirmed", None, revision=1, roi=[390, 290, 510, 410], answer=later)
        opened = exported(receiver)
    (label,) = [name for name in opened.namelist() if name.startswith("train/labels/n1_")]
    # [12, 24, 100, 200] in the ROI [10, 20, 110, 220].
    assert opened.read(label) == b"1 0.460000 0.460000 0.880000 0.880000\n"


def test_the_same_reviews_give_the_same_bytes(receiver: Running) -> None:
    ids = [f"e{i}" for i in range(60)]  # more than are looked up at a time
    receiver.post([alert(id) for id in ids])
    for id in ids:
        receiver.client.post(f"/v1/events/{id}/review", json={"verdict": "dismissed"})
    for id in ids[::10]:
        send_visual(receiver, id, "roi", jpeg(100, 200, int(id[1:])))
    first, second = (receiver.client.get("/v1/reviews/export").content for _ in range(2))
    assert first == second
    opened = zipfile.ZipFile(io.BytesIO(first))
    assert opened.testzip() is None
    assert sum(name.endswith(".jpg") for name in opened.namelist()) == 6
    assert list(told(opened)) == ids


def test_a_node_exports_its_own_events_only(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tone\nn2\ttwo\n")
    with running(f"sqlite:///{tmp_path}/r.db", tmp_path / "data", tokens) as receiver:
        assert receiver.client.get("/v1/reviews/export").status_code == 401
        for node, token in (("n1", "one"), ("n2", "two")):
            receiver.client.headers["authorization"] = f"Bearer {token}"
            receiver.post(alert(f"of-{node}", node=node))
            receiver.client.post(f"/v1/events/of-{node}/review", json={"verdict": "confirmed"})
        assert list(told(exported(receiver))) == ["of-n2"]


def test_an_empty_export_is_a_whole_zip(receiver: Running) -> None:
    opened = exported(receiver)
    assert told(opened) == {}
    assert "names: [moderate, severe]" in opened.read("data.yaml").decode()


def test_few_exports_at_a_time_and_no_picture_of_them_whole_in_memory(receiver: Running) -> None:
    """Twenty slow ones took 600 MB."""
    picture = jpeg(100, 200)
    filler = b"\xff\xfe\xff\xff" + b"x" * 65_533  # a comment
    judged(receiver, "a", "dismissed", picture[:2] + filler * 120 + picture[2:])
    with ExitStack() as stack:
        answers = [
            stack.enter_context(receiver.client.stream("GET", "/v1/reviews/export"))
            for _ in range(MAX_EXPORTS)
        ]
        firsts = [answer.iter_raw() for answer in answers]
        assert all(len(next(pieces)) <= 2 * labels.PIECE for pieces in firsts)
        refused = receiver.client.get("/v1/reviews/export")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    deadline = time.monotonic() + 20  # those that went away have given their places back
    while receiver.client.get("/v1/reviews/export").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(exported(receiver).namelist()) == 11
