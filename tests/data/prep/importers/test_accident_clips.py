"""The published table of the ACCIDENT benchmark, sound and unsound."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")

from dat_runtime.errors import DataError
from data.prep.importers.accident_clips import COLUMNS, read_clips
from tests.data.prep.accident_builder import HEADER, SOUND, write_table


def place(root: Path, path: str) -> Path:
    """An empty file where a clip should lie: the table's reader opens none."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
    return root / path


def test_a_row_is_read_as_published(tmp_path: Path) -> None:
    write_table(tmp_path / "metadata-real.csv", {})
    video = place(tmp_path, "real_videos/aB-c_00.mp4")
    (clip,) = read_clips(tmp_path)
    assert clip == (
        "real_videos/aB-c_00.mp4",
        video,
        "rear-end",
        1.5,
        3.0,
        (0.5, 0.25),
        (0.4, 0.1, 0.6, 0.4),
    )


@pytest.mark.parametrize(
    ("table", "video"),
    [
        ("metadata-real.csv", "real_videos/aB-c_00.mp4"),  # the archive of the data set
        ("real_videos/metadata-real.csv", "real_videos/videos/aB-c_00.mp4"),  # as the script sorts
        ("labels.csv", "videos/aB-c_00.mp4"),  # earlier
        ("labels.csv", "real_videos/aB-c_00.mp4"),
    ],
)
def test_the_layouts_of_all_releases_are_found(tmp_path: Path, table: str, video: str) -> None:
    write_table(tmp_path / table, {"path": "videos/aB-c_00.mp4"}, {"path": "real_videos/d_01.mp4"})
    expected = [place(tmp_path, video), place(tmp_path, video.replace("aB-c_00", "d_01"))]
    assert [clip.video for clip in read_clips(tmp_path)] == expected
    assert read_clips(tmp_path)[0].path == "videos/aB-c_00.mp4"  # a submission's name for it


def test_spaces_capitals_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    place(tmp_path, "videos/a.mp4")
    row = ", ".join(str({**SOUND, "path": "videos/a.mp4", "type": "T-Bone"}[c]) for c in COLUMNS)
    (tmp_path / "labels.csv").write_text("\ufeff" + ", ".join(COLUMNS) + "\r\n" + row + "\r\n")
    (clip,) = read_clips(tmp_path)
    assert (clip.type, clip.duration) == ("t-bone", 3.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "roll-over"}, "type is 'roll-over', expected one of head-on, rear-end"),
        ({"type": ""}, "type is ''"),
        ({"accident_time": "soon"}, "accident_time is 'soon', expected a finite number"),
        ({"accident_time": "nan"}, "accident_time is 'nan'"),
        ({"accident_time": 1500}, "accident_time is 1500 of a clip of 3 s: expected seconds"),
        ({"accident_time": -0.1}, "accident_time is -0.1"),
        ({"duration": 0, "accident_time": 0}, "of a clip of 0 s"),
        ({"duration": ""}, "duration is '', expected a finite number"),
        ({"center_x": 320}, "center_x is 320, expected a share of the frame, from 0 to 1"),
        ({"y2": "inf"}, "y2 is 'inf'"),
        ({"x1": 0.6}, "x1, y1, x2, y2 are 0.6, 0.1, 0.6, 0.4: no box"),
        ({"y1": 0.5}, "no box"),
        ({"path": "/etc/hosts"}, "path is '/etc/hosts', expected a path inside the folder"),
        ({"path": "videos/../../a.mp4"}, "expected a path inside the folder"),
        ({"path": "videos\\a.mp4"}, "expected a path inside the folder"),
        ({"path": ""}, "path is ''"),
        ({"path": "videos/b.mp4"}, "the clip 'videos/b.mp4' is neither there nor in real_videos/"),
        ({"path": "videos/aB-c_00.mp4"}, "clip 'aB-c_00' is already on line 2"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_its_line(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    place(tmp_path, "real_videos/aB-c_00.mp4")
    place(tmp_path, "real_videos/next.mp4")
    second = {"path": "real_videos/next.mp4", **change}
    table = write_table(tmp_path / "metadata-real.csv", {}, second)
    with pytest.raises(DataError) as refusal:
        read_clips(tmp_path)
    assert str(refusal.value).startswith(f"{table}:3: ")
    assert words in str(refusal.value)


def test_a_place_a_little_outside_of_the_frame_is_read(tmp_path: Path) -> None:
    place(tmp_path, "real_videos/aB-c_00.mp4")
    write_table(tmp_path / "metadata-real.csv", {"x1": -0.02, "y2": 1.01})
    assert read_clips(tmp_path)[0].box == (-0.02, 0.1, 0.6, 1.01)


def test_a_table_without_a_column_or_a_row_or_in_two_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "metadata-real.csv"
    without = [name for name in HEADER if name not in ("x2", "accident_time")]
    write_table(table, {}, header=without)
    with pytest.raises(DataError, match=r"csv:1: lacks the columns accident_time, x2$"):
        read_clips(tmp_path)
    write_table(table)
    with pytest.raises(DataError, match="no clip in it"):
        read_clips(tmp_path)
    table.write_text("")
    with pytest.raises(DataError, match=r"csv:1: lacks the columns path, type"):
        read_clips(tmp_path)
    table.write_text(",".join(COLUMNS) + '\n"videos/a.mp4" or,single\n')
    with pytest.raises(DataError, match="not CSV"):
        read_clips(tmp_path)
    write_table(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"found metadata-real\.csv, labels\.csv"):
        read_clips(tmp_path)
    with pytest.raises(DataError, match="found none"):
        read_clips(tmp_path / "elsewhere")


def test_a_row_that_ends_early_is_refused(tmp_path: Path) -> None:
    place(tmp_path, "videos/a.mp4")
    (tmp_path / "labels.csv").write_text(",".join(COLUMNS) + "\nvideos/a.mp4,single,1.0\n")
    with pytest.raises(DataError, match=r"labels\.csv:2: duration is None"):
        read_clips(tmp_path)
