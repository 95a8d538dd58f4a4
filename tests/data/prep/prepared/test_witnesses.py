"""Pictures that the CCTV set calls accidents testify, in whichever split they lie."""

import shutil

from data.prep.build import main
from data.prep.importers import cctv
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import find_sources
from data.prep.pictures import records
from data.prep.prepared import witnesses
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
