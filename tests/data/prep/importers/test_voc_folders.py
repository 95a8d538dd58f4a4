"""Where a Pascal VOC set keeps pictures and XML files, straight from its folders."""

from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.voc_folders import ImageSets, XmlFolder, xml_folders


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("images", "xmls"),
    [
        ("JPEGImages", "Annotations"),
        ("images", "annotations"),
        ("data", "labels"),
        ("images", "labels"),
        ("images", "xmls"),
    ],
)
def test_each_tool_has_its_pair_of_folders(tmp_path: Path, images: str, xmls: str) -> None:
    touch(tmp_path / xmls / "a" / "b" / "c.XML")
    (tmp_path / images).mkdir()
    (folder,) = xml_folders(tmp_path)
    assert folder == XmlFolder(None, tmp_path / images, tmp_path / xmls)
    assert folder.deep


def test_files_too_deep_or_left_over_make_no_set(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    touch(tmp_path / "annotations" / "a" / "b" / "c" / "d.xml")
    touch(tmp_path / "annotations" / ".hidden.xml")
    touch(tmp_path / "annotations" / "a.json")
    assert xml_folders(tmp_path) == []
    assert xml_folders(touch(tmp_path / "empty" / "a.xml").parent) == []


def test_pictures_and_files_side_by_side_are_one_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.xml")
    picture = touch(tmp_path / "deeper" / "a.jpg")
    assert xml_folders(tmp_path) == []
    picture.rename(tmp_path / "a.JPG")
    (folder,) = xml_folders(tmp_path)
    assert folder == XmlFolder(None, tmp_path, tmp_path)
    assert not folder.deep


def test_splits_are_folders_of_the_set_or_of_both_its_folders(tmp_path: Path) -> None:
    for split in ("valid", "train", "test"):
        touch(tmp_path / "a" / split / "x.xml")
        touch(tmp_path / "a" / split / "x.png")
    assert xml_folders(tmp_path / "a") == [
        XmlFolder("train", tmp_path / "a" / "train", tmp_path / "a" / "train"),
        XmlFolder("val", tmp_path / "a" / "valid", tmp_path / "a" / "valid"),
        XmlFolder("test", tmp_path / "a" / "test", tmp_path / "a" / "test"),
    ]
    both = tmp_path / "b"
    for split in ("train", "val"):
        touch(both / "annotations" / split / "x.xml")
    for split in ("val", "test"):
        touch(both / "images" / split / "x.png")
    assert xml_folders(both) == [
        XmlFolder("val", both / "images" / "val", both / "annotations" / "val")
    ]


def lists(root: Path, **texts: str) -> ImageSets:
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, "utf-8")
    return ImageSets(root)


def test_a_list_states_the_split_of_each_picture(tmp_path: Path) -> None:
    stems = {"a", "b c", "d.e", "f 1", "g", "h 2"}
    given = lists(
        tmp_path,
        train='\ufeffa\n"b c"\nd.e.jpg -1\n\n  \nf 1\n',
        valid="g 0\ng\nh 2\nnobody\ni 1\n",
        notes="a\n",
    )
    touch(tmp_path / "ImageSets" / "Main" / "test.csv")
    touch(tmp_path / "ImageSets" / "Main" / ".test.txt")
    assert given
    valid = tmp_path / "ImageSets" / "Main" / "valid.txt"
    assert given.splits(stems) == (
        {"a": "train", "b c": "train", "d.e": "train", "f 1": "train", "g": "val", "h 2": "val"},
        [(valid, "nobody"), (valid, "i 1")],
    )


@pytest.mark.parametrize(
    ("line", "stem"),
    [
        ("a", "a"),
        ("a.jpg", "a"),
        ("a.b.jpg", "a.b"),
        ('"a" 1', "a"),
        ("a 0", "a"),
        ("a -1", "a"),
        ("a 2", None),
        ("a.png 1", "a"),
        ("a b", None),
    ],
)
def test_a_line_names_a_picture_in_the_ways_of_the_tools(
    tmp_path: Path, line: str, stem: str | None
) -> None:
    found, lost = lists(tmp_path, test=line).splits({"a", "a.b"})
    assert found == ({stem: "test"} if stem else {})
    assert [told for _, told in lost] == ([] if stem else [line])


def test_without_lists_there_are_no_splits(tmp_path: Path) -> None:
    assert not ImageSets(tmp_path)
    assert ImageSets(tmp_path).splits({"a"}) == ({}, [])


def test_lists_that_contradict_one_another_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "ImageSets" / "Main"
    with pytest.raises(DataError) as refused:
        lists(tmp_path, train="a\n", val="b\na\n").splits({"a", "b"})
    assert str(refused.value) == f"{folder / 'val.txt'}: names 'a', as the list of train"
    with pytest.raises(DataError) as refused:
        lists(tmp_path, valid="b\n")
    assert str(refused.value) == f"{folder / 'valid.txt'}: is of the split val, as val.txt"
