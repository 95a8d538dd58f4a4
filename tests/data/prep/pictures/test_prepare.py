import hashlib
import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from dat_runtime import files, manifest
from dat_runtime.types import Size
from data.prep.build import main
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import looks, prepare, records, tones
from data.prep.pictures.pool import over_all
from tests.data.prep.source_builder import jpeg, picture


@pytest.mark.parametrize("name", [prepare.LEDGER, records.NAME])
def test_a_ledger_that_was_changed_costs_only_time(source, tmp_path, name):
    out = tmp_path / "data"
    assert main(["--source", str(source.root), "--out", str(out)]) == 0
    content = (out / name).read_bytes()
    assert len(prepare.recall(out)) == 12
    (out / name).write_bytes(content[:-1] + b"\1")
    assert prepare.recall(out) == {}
    (out / name).unlink()
    assert prepare.recall(out) == {}


def test_what_is_compared_is_made_once_and_taken_from_the_last_build(source, tmp_path):
    out = tmp_path / "data"
    assert main(["--source", str(source.root), "--out", str(out)]) == 0
    found = records.read_all(out / records.NAME)
    with Image.open(source.accidents / "train/images/train0.jpg") as image:
        expected = records.of_pictures([image])
    names = [row["file"] for _, row in files.read_json_lines(out / prepare.LEDGER) if "file" in row]
    number = next(i for i, name in enumerate(names) if name.endswith("images/train0.jpg"))
    assert found[number] == expected[0]
    memory = prepare.recall(out)
    known = next(known for known in memory.values() if known.record[1] == number)
    job = prepare.Job(source.accidents / "train/images/train0.jpg", tmp_path / "0.jpg", False)
    marked = known.prepared.sha256
    with (out / records.NAME).open("r+b") as file:  # only a record that was read can show it
        file.seek(number * records.RECORD.itemsize)
        file.write(b"\7")
    made, record = prepare.prepare(job, {(False, marked): known})
    assert (made.sha256, record[0]) == (marked, 7)


def test_a_picture_that_cannot_be_read_is_a_fault_of_it_alone(tmp_path):
    job = prepare.Job(tmp_path / "gone.jpg", tmp_path / "0.jpg", negative=False)
    made, record = prepare.prepare(job, {})
    assert (made.size, [kind for kind, _ in made.faults]) == (None, ["corrupt-image"])
    assert record == records.NOTHING


def frame(folder, name, content, **more):
    """A frame of the source whose file holds those bytes."""
    path = folder / name
    path.write_bytes(content)
    return SourceFrame(id=path.stem, split=None, path=path, file=f"source/{name}", **more)


def png(image):
    """Bytes that differ from the JPEG's, of the same picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def prepared(folder, frames, memory=None):
    """The results for the frames, written to `folder`/staging."""
    staging = folder / "staging"
    staging.mkdir(exist_ok=True)
    features = folder / records.NAME
    return list(prepare.prepare_all(frames, staging, features, memory or {}, "threads"))


def test_each_picture_is_written_under_its_number_with_its_record(tmp_path):
    sound, upright = jpeg(picture(0)), picture(1)
    size = Size(*upright.size)
    frames = [
        frame(tmp_path, "a.jpg", sound, declared=size),
        frame(tmp_path, "b.png", png(upright)),
        frame(tmp_path, "c.jpg", sound, negative=True),
        frame(tmp_path, "d.jpg", b""),
        frame(tmp_path, "e.jpg", jpeg(upright), declared=Size(10, 20)),
    ]
    made = prepared(tmp_path, frames)
    staging = tmp_path / "staging"
    assert sorted(path.name for path in staging.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    assert (staging / "0.jpg").read_bytes() == sound
    assert [one.size for one in made] == [size, size, Size(tones.SIDE, tones.SIDE), None, None]
    with Image.open(staging / "1.jpg") as first, Image.open(staging / "2.jpg") as second:
        assert (first.format, first.size, second.size) == ("JPEG", upright.size, (640, 640))
    assert [one.sha256 for one in made] == [
        hashlib.sha256(one.path.read_bytes()).hexdigest() for one in frames
    ]
    assert [one.faults for one in made] == [
        (),
        (("not-jpeg", "the content is PNG"),),
        (),
        (("empty-file", "0 bytes"),),
        (("size-mismatch", f"{size.width} x {size.height}, labels say 10 x 20"),),
    ]
    with Image.open(frames[0].path) as image:
        look = looks.look_of_view(looks.view_of(image.convert("L"))).hex()
    assert [one.look for one in made[:1] + made[2:]] == [look, look, "", ""]
    found = records.read_all(tmp_path / records.NAME)
    expected = [records.of_pictures([Image.open(frames[i].path)])[0] for i in (0, 1, 0)]
    assert list(found[:3]) == expected
    assert [bytes(record.tobytes()) for record in found[3:]] == [records.NOTHING] * 2


def test_faults_that_were_repaired_are_told_beside_a_wrong_size(tmp_path):
    frames = [frame(tmp_path, "a.png", png(picture(0)), declared=Size(1, 2))]
    (made,) = prepared(tmp_path, frames)
    assert [kind for kind, _ in made.faults] == ["not-jpeg", "size-mismatch"]


def test_a_file_that_is_gone_says_why(tmp_path):
    gone = SourceFrame(id="a", split=None, path=tmp_path / "a.jpg", file="a.jpg")
    (made,) = prepared(tmp_path, [gone])
    unreadable = (("corrupt-image", "cannot be read (No such file or directory)"),)
    assert made == prepare.Prepared("", None, "", unreadable)


@pytest.fixture
def earlier(tmp_path):
    """A frame encoded anew by an earlier build: its frame, its result, and what is known of it."""
    one = frame(tmp_path, "a.png", png(picture(0)))
    (made,) = prepared(tmp_path, [one])
    image = (tmp_path / "staging/0.jpg").rename(tmp_path / "kept.jpg")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    (tmp_path / records.NAME).rename(tmp_path / "kept.bin")
    marked = replace(made, look="taken from the earlier build")
    known = prepare.Known(marked, image, digest, (tmp_path / "kept.bin", 0))
    return one, known


def test_what_an_earlier_build_wrote_is_written_again(tmp_path, earlier):
    one, known = earlier
    key = (False, known.prepared.sha256)
    record = known.record[0].read_bytes()
    for declared in (None, known.prepared.size):
        (made,) = prepared(tmp_path, [replace(one, declared=declared)], {key: known})
        assert made == known.prepared
        assert (tmp_path / "staging/0.jpg").read_bytes() == known.image.read_bytes()
        assert (tmp_path / records.NAME).read_bytes() == record
    (made,) = prepared(tmp_path, [one], {(True, key[1]): known})  # of a negative: another image
    assert made != known.prepared


def test_an_image_of_the_sources_own_bytes_is_taken_from_the_source(tmp_path, earlier):
    _, known = earlier
    own = frame(tmp_path, "b.jpg", sound := jpeg(picture(2)))
    sha256 = hashlib.sha256(sound).hexdigest()
    before = replace(known.prepared, sha256=sha256)
    gone = replace(known, prepared=before, image=tmp_path / "gone.jpg", image_sha256=sha256)
    (made,) = prepared(tmp_path, [own], {(False, sha256): gone})
    assert (made, (tmp_path / "staging/0.jpg").read_bytes()) == (before, sound)


@pytest.mark.parametrize("change", ["none", "gone", "edited", "declared"])
def test_an_image_that_is_not_the_earlier_one_is_made_again(tmp_path, earlier, change):
    one, known = earlier
    if change == "none":
        known = replace(known, image=None, image_sha256=None)
    elif change == "gone":
        known.image.unlink()
    elif change == "edited":
        known.image.write_bytes(b"edited")
    else:
        one = replace(one, declared=Size(1, 1))
    (made,) = prepared(tmp_path, [one], {(False, known.prepared.sha256): known})
    assert made.look != known.prepared.look
    assert (made.size is None) == (change == "declared")


def test_pictures_of_one_look_are_told_apart_by_their_pixels(tmp_path, monkeypatch):
    image = picture(0, 640, 480)
    other = image.copy()
    other.putpixel((0, 0), tuple(value ^ 1 for value in image.getpixel((0, 0))))
    alone = jpeg(picture(9))
    contents = [png(image), png(image) + b"more", png(other), alone, alone, b""]
    frames = [frame(tmp_path, f"{i}.png", content) for i, content in enumerate(contents)]
    made = prepared(tmp_path, frames)
    assert made[0].look == made[1].look == made[2].look != made[3].look
    read = []
    monkeypatch.setattr(
        prepare,
        "over_all",
        lambda do, paths, *more: read.extend(paths) or over_all(do, paths, *more),
    )
    found = prepare.contents(frames, made, "threads")
    assert found[0] == found[1] != found[2]
    assert found[3] == found[4] == made[3].sha256
    assert found[5] == made[5].sha256
    assert read == [frames[i].path for i in range(3)]  # a look of one file needs no second reading


def test_a_ledger_is_recalled_as_it_was_written(tmp_path, monkeypatch):
    size = Size(64, 48)
    rows = [
        (frame(tmp_path, "a.jpg", b"a"), prepare.Prepared("1a", size, "ff", ()), "images/a.jpg"),
        (
            frame(tmp_path, "b.jpg", b"b", negative=True),
            prepare.Prepared("2b", None, "", (("empty-file", "0 bytes"),)),
            None,
        ),
    ]
    prepare.write_ledger(rows, tmp_path / prepare.LEDGER)
    lines = [row for _, row in files.read_json_lines(tmp_path / prepare.LEDGER)]
    assert [len(lines[0].pop("code")), lines[0]] == [64, {}]
    assert lines[1:] == [
        {
            "file": "source/a.jpg",
            "negative": False,
            "image": "images/a.jpg",
            "sha256": "1a",
            "size": [64, 48],
            "look": "ff",
            "faults": [],
        },
        {
            "file": "source/b.jpg",
            "negative": True,
            "image": None,
            "sha256": "2b",
            "size": None,
            "look": "",
            "faults": [["empty-file", "0 bytes"]],
        },
    ]
    (tmp_path / records.NAME).write_bytes(records.NOTHING * 2)
    outputs = {name: manifest.digest(tmp_path / name) for name in (prepare.LEDGER, records.NAME)}
    outputs["images/a.jpg"] = "3c"
    monkeypatch.setattr(manifest, "read", lambda *_: SimpleNamespace(outputs=outputs))
    features = tmp_path / records.NAME
    expected = {
        (False, "1a"): prepare.Known(rows[0][1], tmp_path / "images/a.jpg", "3c", (features, 0)),
        (True, "2b"): prepare.Known(rows[1][1], None, None, (features, 1)),
    }
    assert prepare.recall(tmp_path) == expected
    monkeypatch.setattr(prepare, "PIL", SimpleNamespace(__version__="other"))
    assert prepare.recall(tmp_path) == {}  # other code


def test_no_set_is_no_memory(tmp_path):
    assert prepare.recall(tmp_path) == {}
