"""Which sources are archives, where they are unpacked to, and which are refused."""

import zipfile
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.unpacked import folders_of


def zipped(path: Path, name: str = "a.txt") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "hello")
    return path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_an_archive_is_unpacked_once_beside_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = zipped(tmp_path / "source" / "Set.One.ZIP")
    made = tmp_path / "data.unpacked" / "Set.One"
    for told in (["[data] Set.One.ZIP: 1 files unpacked"], []):
        assert folders_of([path], tmp_path / "data") == [made]
        assert [
            line for line in capsys.readouterr().out.splitlines() if line.endswith("unpacked")
        ] == told
    assert (made / "a.txt").read_text() == "hello"


def test_a_folder_of_archives_is_these_and_itself_where_it_holds_more(tmp_path: Path) -> None:
    root = tmp_path / "source"
    for name in ("b.zip", "a.zip"):
        zipped(root / name)
    touch(root / ".DS_Store")
    out = tmp_path / "data"
    unpacked = [tmp_path / "data.unpacked" / name for name in ("a", "b")]
    assert folders_of([root], out) == unpacked
    touch(root / "trace.csv")
    assert folders_of([root], out) == [*unpacked, root]
    (root / "images").mkdir()
    assert folders_of([root], out) == [root]


def test_what_is_no_archive_stays_as_it_is(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    assert folders_of([plain], tmp_path / "data") == [plain]  # empty
    touch(plain / "a.7z")
    touch(plain / "a.txt")
    nowhere, text = tmp_path / "nowhere", touch(tmp_path / "a.txt")
    assert folders_of([plain, nowhere, text], tmp_path / "data") == [plain, nowhere, text]


@pytest.mark.parametrize(
    "name", ["a.rar", "a.7Z", "a.tar.bz2", "a.tar.xz", "a.tbz2", "a.txz", "a.gz", "a.bz2", "a.xz"]
)
def test_archives_of_another_kind_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = touch(tmp_path / "source" / name)
    for source in (path, path.parent):
        with pytest.raises(DataError) as refused:
            folders_of([source], tmp_path / "data")
        assert str(refused.value) == (
            f"{path}: only .zip, .tar and .tar.gz are unpacked: unpack it yourself"
        )
    touch(path.parent / "b.rar")
    with pytest.raises(DataError, match=f"{name}: only"):
        folders_of([path.parent], tmp_path / "data")
