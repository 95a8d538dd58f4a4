from data.prep.build import main
from data.prep.pictures import prepare


def test_a_ledger_that_cannot_be_read_costs_only_time(source, tmp_path):
    out = tmp_path / "data"
    assert main(["--source", str(source.root), "--out", str(out)]) == 0
    ledger = out / prepare.LEDGER
    text = ledger.read_text()
    assert len(prepare.recall(out)) == 12
    ledger.write_text(text[: len(text) // 2])
    assert prepare.recall(out) == {}
    ledger.unlink()
    assert prepare.recall(out) == {}


def test_a_picture_that_cannot_be_read_is_a_fault_of_it_alone(tmp_path):
    job = prepare.Job(tmp_path / "gone.jpg", tmp_path / "0.jpg", negative=False)
    made = prepare.prepare(job, {})
    assert (made.size, [kind for kind, _ in made.faults]) == (None, ["corrupt-image"])
