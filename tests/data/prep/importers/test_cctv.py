"""The accident-free frames of the CCTV set, straight from its folders."""

from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.cctv import scan
from data.prep.importers.cctv_folders import negative_folders
from data.prep.importers.faults import Fault
from data.prep.importers.source_frame import Ids, SourceFrame
from data.prep.importers.sources import Sources


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def sources(root: Path, negatives: Path | None) -> Sources:
    return Sources((root,), "yolo", root / "accidents", negatives, None, ())


def test_the_frames_of_all_splits_are_read_and_what_is_no_frame_is_told(tmp_path: Path) -> None:
    data = tmp_path / "cctv"
    val = write(data / "val" / "non_accident" / "a.JPG")
    train = write(data / "train" / "Non Accident" / "b c.png")
    same = write(data / "train" / "Non Accident" / "b_c.jpg")
    write(data / "train" / "Non Accident" / "Thumbs.db")
    write(data / "train" / "Non Accident" / "notes.txt")
    (data / "train" / "Non Accident" / "deeper.jpg").mkdir()
    write(data / "train" / "Accident" / "c.jpg")
    ids = Ids()
    ids.of("negative_a")
    place = "cctv/train/Non Accident"
    frames, faults = scan(sources(tmp_path, data), ids)
    assert frames == [
        SourceFrame("negative_b_c", "train", train, f"{place}/b c.png", negative=True),
        SourceFrame("negative_b_c-2", "train", same, f"{place}/b_c.jpg", negative=True),
        SourceFrame("negative_a-2", "val", val, "cctv/val/non_accident/a.JPG", negative=True),
    ]
    assert faults == [
        Fault("system-file", f"{place}/Thumbs.db", None, "no part of the set"),
        Fault("stray-file", f"{place}/deeper.jpg", None, "not an image by its suffix"),
        Fault("stray-file", f"{place}/notes.txt", None, "not an image by its suffix"),
    ]


def test_a_set_without_splits_has_one_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "NoAccidents" / "a.jpg")
    frames, faults = scan(sources(tmp_path, tmp_path), Ids())
    assert frames == [SourceFrame("negative_a", None, path, "NoAccidents/a.jpg", negative=True)]
    assert faults == []
    assert scan(sources(tmp_path, None), Ids()) == ([], [])


@pytest.mark.parametrize(
    "name", ["Non Accident", "non-accidents", "no_accident", "NOACCIDENTS", "NonAccident (2)"]
)
def test_the_folder_is_known_by_its_letters(tmp_path: Path, name: str) -> None:
    (tmp_path / "test" / name).mkdir(parents=True)
    assert negative_folders(tmp_path) == {"test": tmp_path / "test" / name}


@pytest.mark.parametrize("name", ["Accident", "nonaccidental", ".nonaccident"])
def test_other_folders_and_files_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "test" / name).mkdir(parents=True)
    write(tmp_path / "test" / "NonAccident")
    assert negative_folders(tmp_path) == {}


def test_splits_go_before_a_folder_of_none_and_two_of_one_split_are_refused(tmp_path: Path) -> None:
    (tmp_path / "test" / "Non Accident").mkdir(parents=True)
    (tmp_path / "Non Accident").mkdir()
    assert negative_folders(tmp_path) == {"test": tmp_path / "test" / "Non Accident"}
    (tmp_path / "test" / "non_accident").mkdir()
    with pytest.raises(DataError) as refused:
        negative_folders(tmp_path)
    first, second = sorted(tmp_path.glob("test/*"))
    told = f"{second}: holds accident-free frames, and so does {first}: join them"
    assert str(refused.value) == told
