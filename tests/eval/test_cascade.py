"""eval.cascade from its options to its files, on a world whose probabilities are known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dat_runtime.edge.settings import GateSettings
from dat_runtime.files import write_json_lines
from dat_runtime.manifest import digest
from dat_runtime.stage import Stage
from eval import cascade
from eval.routing import fitting
from eval.routing.fitting import Wanted
from eval.routing.gated import GatedFrames
from eval.routing.load_curve import error_of
from eval.routing.probabilities import Scored
from tests.eval.routing.world import answer, world


@pytest.fixture
def stages(tmp_path: Path, gate_folder: Path) -> Callable[..., list[str]]:
    """Writes the folders of eval.gating and eval.predict about a world; returns arguments."""

    def write(n: int = 300) -> list[str]:
        arguments = ["--gate", str(gate_folder), "--gating", str(tmp_path / "gating")]
        with Stage(
            tmp_path / "gating", kind="gating", inputs={"gate": gate_folder}, config={}
        ) as folder:
            for seed, part in enumerate(("val", "test")):
                frames = world(n, seed)
                ids = tuple(f"{part}{i}" for i in range(n))
                gated = GatedFrames(ids, frames.score, frames.accident, frames.severe)
                write_json_lines(folder / f"scores_{part}.jsonl", gated.lines())
                arguments += [f"--{part.replace('val', 'validation')}", row(part, frames)]
        return arguments

    def row(part: str, frames: Scored) -> str:
        with Stage(tmp_path / part, kind="predictions", inputs={}, config={}) as folder:
            lines = []
            for i, reports in enumerate(frames.mllm_reports):
                lines.append({"image_id": f"{part}{i}", "text": answer(reports)})
            write_json_lines(folder / "predictions.jsonl", lines)
        return str(tmp_path / part)

    return write


@pytest.mark.slow
def test_a_fitted_cascade_is_what_the_runtime_then_does(
    stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "cascade"
    arguments = [*stages(), "--policy", "band", "--load", "0.3", "--missed-severe", "0.4"]
    assert cascade.main([*arguments, "--out", str(out)]) == 0
    report = json.loads((out / "cascade.json").read_text())
    routing = GateSettings.read(out / "gate.json").routing
    frames = world(300, seed=1)
    decisions = [routing.decide(float(s)) for s in frames.score]
    assert decisions.count("ask") / 300 == pytest.approx(report["rates"]["load"]["value"])
    assert {"drop", "ask", "report"} == set(decisions)
    validation = world(300, seed=0)  # what the thresholds were fitted on, and nothing else
    error = error_of(validation)
    wanted = Wanted("band", 0.3, missed_severe=0.4)
    assert report["mllm_error"] == error
    method = report["calibration"]["method"]
    assert routing == fitting.fitted(routing.keep, validation, method, wanted, error)
    calibrated = fitting.calibrated(validation, frames, method)
    for part in ("val", "test"):
        assert report["calibration"][part]["log_loss"] == calibrated[part]["log_loss"]
    for name in ("reliability.png", "load.png", "curve.png", "cascade.md"):
        assert (out / name).stat().st_size > 100
    assert report["closed_form_above_grid"] <= 0.01
    for phase in report["drift"]["phases"]:
        assert phase["controlled"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_shares_of_rare_accidents_are_not_rounded_to_nothing(
    stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "cascade"
    wishes = ["--policy", "entropy", "--load", "0.1", "--accident-share", "0.0005"]
    assert cascade.main([*stages()[:4], *wishes, "--mllm-error", "0.3", "--out", str(out)]) == 0
    words = (out / "cascade.md").read_text()
    assert "0.05 % of the frames with an accident" in words
    assert "0.15 % accidents: 0.000 -> 0.000" in words, "nothing is asked: a plot without height"
    assert (out / "load.png").stat().st_size > 100


def test_without_a_budget_the_thresholds_stay_the_papers(
    stages: Callable[..., list[str]], tmp_path: Path, gate_folder: Path
) -> None:
    out = tmp_path / "cascade"
    assert cascade.main([*stages()[:4], "--out", str(out)]) == 0
    assert GateSettings.read(out / "gate.json") == GateSettings.read(gate_folder / "gate.json")
    assert not (out / "curve.png").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--policy", "band"], "needs a budget"),
        (["--missed-severe", "0.1"], "needs a budget"),
        (["--load", "1.5"], "--load is 1.5"),
        (["--load", "0.3", "--mllm-error", "0.1"], "leave --mllm-error out"),
        (["--load", "0.3", "--accident-share", "1"], "between 0 and 1"),
        (["--calibration", "isotonic", "--signals", "s.csv"], "cannot fuse --signals"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_by_name(
    stages: Callable[..., list[str]],
    tmp_path: Path,
    more: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cascade.main([*stages(60), *more, "--out", str(tmp_path / "cascade")]) == 1
    assert words in capsys.readouterr().err


def test_scores_of_another_gate_are_refused(
    stages: Callable[..., list[str]],
    tmp_path: Path,
    gate_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = stages(60)
    before = digest(gate_folder)
    with Stage(gate_folder, kind="gate", inputs={}, config={"other": 1}) as folder:
        (folder / "gate.json").write_bytes((gate_folder / "gate.json").read_bytes())
    assert digest(gate_folder) != before
    assert cascade.main([*arguments, "--out", str(tmp_path / "cascade")]) == 1
    assert "measured with another gate" in capsys.readouterr().err
