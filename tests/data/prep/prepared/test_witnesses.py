"""Pictures that the CCTV set calls accidents testify, in whichever split they lie."""

import shutil

from dat_runtime.types import Size
from data.prep.build import main
from data.prep.importers import cctv
from data.prep.importers.source_frame import Ids, SourceFrame
from data.prep.importers.sources import Sources, find_sources
from data.prep.pictures import records
from data.prep.pictures.prepare import Prepared
from data.prep.prepared import witnesses
from data.prep.prepared.kept import Kept
from tests.data.prep.source_builder import jpeg, picture


def test_a_split_without_accident_free_frames_testifies_too(source):
    shutil.rmtree(source.negatives / "test" / "Non Accident")
    for split in ("train", "test", "backup"):
        folder = source.negatives / split / "Accident"
        folder.mkdir(parents=True)
        (folder / f"{split}.jpg").write_bytes(jpeg(picture(1)))
    sources = find_sources(source.root)
    negatives, _ = cctv.scan(sources, Ids())
    found = witnesses.find(negatives, sources)
    assert sorted(frame.path.name for frame in found) == ["test.jpg", "train.jpg"]


def test_a_set_shows_no_picture_that_is_no_part_of_it(source, tmp_path):
    folder = source.negatives / "train" / "Accident"
    folder.mkdir()
    (folder / "crash.jpg").write_bytes(jpeg(picture(1)))
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 0
    *views, witness = records.read_all(tmp_path / "data" / records.NAME)["view"]
    assert all(view.any() for view in views)
    assert not witness.any()


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_witnesses_are_in_the_folders_accident_of_every_split(tmp_path):
    quiet = touch(tmp_path / "set" / "train" / "Non Accident" / "n.jpg")
    for name in ("train/Accident/b.JPG", "train/Accident/a.png", "val/accidents/c.jpg"):
        touch(tmp_path / "set" / name)
    touch(tmp_path / "set" / "train" / "Accident" / "notes.txt")
    touch(tmp_path / "set" / "train" / "Accidental" / "d.jpg")
    touch(tmp_path / "set" / "other" / "Accident" / "e.jpg")
    (tmp_path / "set" / "train" / "Accident" / "folder.jpg").mkdir()
    negatives = [SourceFrame("negative_n", "train", quiet, "n.jpg", negative=True)]
    given = Sources((tmp_path,), "yolo", tmp_path, tmp_path / "set", None, ())
    root = tmp_path / "set"
    assert witnesses.find(negatives, given) == [
        SourceFrame("a", None, root / "train" / "Accident" / "a.png", "set/train/Accident/a.png"),
        SourceFrame("b", None, root / "train" / "Accident" / "b.JPG", "set/train/Accident/b.JPG"),
        SourceFrame("c", None, root / "val" / "accidents" / "c.jpg", "set/val/accidents/c.jpg"),
    ]
    assert witnesses.find([], given) == []


def test_a_set_without_splits_has_one_folder_of_witnesses(tmp_path):
    quiet = touch(tmp_path / "set" / "Non Accident" / "n.jpg")
    seen = touch(tmp_path / "set" / "Accident (2)" / "a.jpg")
    touch(tmp_path / "train" / "Accident" / "b.jpg")
    given = Sources((tmp_path,), "yolo", tmp_path, tmp_path / "set", None, ())
    (found,) = witnesses.find([SourceFrame("n", None, quiet, "n.jpg", negative=True)], given)
    assert found == SourceFrame("a", None, seen, "set/Accident (2)/a.jpg")


def test_those_with_a_usable_picture_keep_their_numbers(tmp_path):
    frames = [SourceFrame(name, None, tmp_path / name, name) for name in "abc"]
    size = Size(64, 48)
    sizes = zip("abc", (size, None, size), strict=True)
    pictures = [Prepared(name, given, "00", ()) for name, given in sizes]
    found = witnesses.usable(frames, pictures, ["1", "2", "3"], 10)
    assert found == [
        Kept(frames[0], pictures[0], "1", 10),
        Kept(frames[2], pictures[2], "3", 12),
    ]
