"""A person promotes what was scored, and nothing else is promoted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dat_runtime import manifest
from dat_runtime.answer import dump, target
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from eval import promote
from export.bundle import make_bundle

ANSWER = dump(target([Accident(Box(10, 10, 50, 40, Size(100, 80)), "severe")]))


class Scored:
    """An adapter, answers made with it, and their truth."""

    def __init__(self, root: Path, adapter: Path):
        self.root, self.adapter = root, adapter
        self.out = root / "promoted"
        self.predictions = self.predict("predictions", adapter)
        accident = {"bbox": [10, 10, 50, 40], "severity": "severe"}
        frame = {"image_id": "a", "image": "a.jpg", "width": 100, "height": 80}
        (root / "truth.jsonl").write_text(json.dumps(frame | {"accidents": [accident]}) + "\n")

    def predict(self, name: str, adapter: Path, text: str = ANSWER) -> Path:
        out = self.root / name
        inputs = {"adapter": adapter}
        with Stage(out, kind="predictions", inputs=inputs, config={"text": text}) as folder:
            row = {"image_id": "a", "text": text, "latency_s": 0.1}
            (folder / "predictions.jsonl").write_text(json.dumps(row) + "\n")
        return out

    def run(self, *options: str, require: str = "sev_acc>=1", by: str = "A. Name") -> int:
        paths = {
            "--adapter": self.adapter,
            "--predictions": self.predictions,
            "--truth": self.root / "truth.jsonl",
            "--out": self.out,
        }
        named = [str(part) for pair in paths.items() for part in pair]
        return promote.main([*named, "--require", require, "--by", by, *options])


@pytest.fixture
def scored(tmp_path: Path, make_lora: Callable[..., Path]) -> Scored:
    return Scored(tmp_path, make_lora())


def test_a_promotion_says_who_when_and_on_what(scored: Scored) -> None:
    assert scored.run() == 0
    record = json.loads((scored.out / "promotion.json").read_text())
    assert record["by"] == "A. Name"
    assert record["at"].endswith("+00:00")
    assert record["adapter"] == manifest.digest(scored.adapter)
    assert (record["require"][0]["metric"], record["require"][0]["bound"]) == ("sev_acc", 1.0)
    assert record["scores"]["n"] == 1
    assert manifest.verify(scored.out, "lora").config["promotion"]["by"] == "A. Name"


def test_the_promoted_adapter_is_the_one_that_was_scored_and_goes_into_a_bundle(
    scored: Scored, gate_folder: Path, base_folder: Path
) -> None:
    assert scored.run() == 0
    for name in ("adapter_model.safetensors", "adapter_config.json", "config.yaml"):
        assert (scored.out / name).read_bytes() == (scored.adapter / name).read_bytes()
    make_bundle(gate_folder, scored.out, str(base_folder), scored.root / "bundle")


def test_a_requirement_that_is_not_met_promotes_nothing(
    scored: Scored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scored.run(require="count_mae<=0.0") == 0
    scored.predictions = scored.predict("worse", scored.adapter, dump(target([])))
    scored.out = scored.root / "second"
    assert scored.run(require="count_mae<=0.0") == 1
    assert "error: not promoted: count_mae is 1, not <= 0" in capsys.readouterr().err
    assert not scored.out.exists()


def test_answers_of_another_adapter_promote_nothing(
    scored: Scored, make_lora: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_lora(**{"README.md": "# Another\n"})
    assert made == scored.adapter  # changed since the answers were made
    assert scored.run() == 1
    assert "was not made with" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["", "  "])
def test_nobody_promotes_nothing(
    scored: Scored, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scored.run(by=by) == 1
    assert "--by is empty: a person promotes, by name" in capsys.readouterr().err


def test_a_changed_adapter_is_not_promoted(
    scored: Scored, capsys: pytest.CaptureFixture[str]
) -> None:
    (scored.adapter / "adapter_model.safetensors").write_bytes(b"changed")
    assert scored.run() == 1
    assert "changed since it was written" in capsys.readouterr().err
