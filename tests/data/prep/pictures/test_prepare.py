import pytest
from PIL import Image

from dat_runtime import files
from data.prep.build import main
from data.prep.pictures import prepare, records


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
