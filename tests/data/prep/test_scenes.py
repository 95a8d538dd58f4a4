import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from data.prep import scenes
from data.prep.rendering import public_sets
from data.prep.rendering.public_sets import TRACE_SECONDS

COUNTS = ["--train", "6", "--val", "2", "--test", "3", "--negatives", "9"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "source"
    assert scenes.main(["--out", str(out), *COUNTS]) == 0
    return out


def boxes_of(label: Path) -> list[list[float]]:
    return [[float(v) for v in row.split()] for row in label.read_text().splitlines()]


def test_the_folders_are_laid_out_as_the_public_sets(source: Path) -> None:
    manifest.verify(source, kind="source")
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        folder = source / "accidents-detection" / split
        images = sorted(p.stem for p in (folder / "images").glob("*.jpg"))
        assert len(images) == count
        assert images == sorted(p.stem for p in (folder / "labels").glob("*.txt"))
    assert "names: [moderate, severe]" in (source / "accidents-detection/data.yaml").read_text()
    classes = source / "accident-detection-from-cctv-footage" / "data"
    assert len(list(classes.glob("*/Non Accident/*.jpg"))) == 9 + 4
    assert {p.parent.name for p in classes.glob("*/Accident")} == {"train", "val", "test"}


def test_frames_are_the_same_from_several_processes(source: Path) -> None:
    images = source / "accidents-detection" / "train" / "images"
    made = {f"{name}.jpg": jpeg for name, jpeg, _ in public_sets.accident_frames(0, 0, 6)}
    assert made == {path.name: path.read_bytes() for path in images.iterdir()}


def test_labels_are_boxes_inside_the_frame_without_a_final_newline(source: Path) -> None:
    labels = list(source.glob("accidents-detection/*/labels/*.txt"))
    rows = [row for label in labels for row in boxes_of(label)]
    assert len(rows) >= 8
    for kind, cx, cy, w, h in rows:
        assert kind in (0, 1)
        assert 0 <= cx - w / 2 < cx + w / 2 <= 1
        assert 0 <= cy - h / 2 < cy + h / 2 <= 1
        assert max(w, h) > 0.12
    assert not any(label.read_text().endswith("\n") for label in labels)


def test_frames_are_square_colour_pictures_of_640_pixels(source: Path) -> None:
    for path in source.rglob("*.jpg"):
        assert cv2.imread(str(path)).shape == (640, 640, 3)


def test_exact_copies_and_a_stray_shortcut_are_planted_among_the_negatives(source: Path) -> None:
    folder = source / "accident-detection-from-cctv-footage" / "data"
    digests: dict[str, list[Path]] = {}
    for path in folder.glob("*/Non Accident/*.jpg"):
        digests.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path)
    twins = [paths for paths in digests.values() if len(paths) > 1]
    assert len(twins) == 4
    assert any({p.parts[-3] for p in paths} == {"train", "test"} for paths in twins)
    assert (folder / "test" / "Non Accident" / "Pictures - Shortcut.lnk").is_file()


def test_the_trace_is_autocorrelated_bursty_and_dips_to_almost_nothing(source: Path) -> None:
    with (source / "5g-traffic" / "zoom_1s.csv").open() as file:
        rows = list(csv.DictReader(file))
    uplink = np.array([int(row["UL_bitrate"]) for row in rows], float)
    assert len(uplink) == TRACE_SECONDS
    assert 0.5e6 < np.median(uplink) < 2e6
    assert 0 <= uplink.min() < 0.1e6
    assert np.corrcoef(uplink[:-1], uplink[1:])[0, 1] > 0.6


def test_a_second_run_leaves_the_folder_as_it_is(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (source / "manifest.json").stat().st_mtime_ns
    assert scenes.main(["--out", str(source), *COUNTS]) == 0
    assert "up to date" in capsys.readouterr().out
    assert (source / "manifest.json").stat().st_mtime_ns == before


def test_a_count_below_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scenes.main(["--out", str(tmp_path / "s"), "--train", "0"]) == 1
    assert "train" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
