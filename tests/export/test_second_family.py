"""Qwen3-VL on the whole way: instructions, LoRA, answers, scores, proof, bundle, demo, field."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.answer import dump, in_frame, target
from dat_runtime.cli import main as dat_runtime
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.source import header_size
from dat_runtime.family import QWEN3_VL
from dat_runtime.schema import check
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from export.live import processes
from export.live.processes import operator, until, write_tokens
from tests.data.prep.prepared_builder import write_data

THOUSANDTHS = Size(1000, 1000)
MAX_PIXELS = 2 * QWEN3_VL.least_pixels
TUNING = (
    f"template={QWEN3_VL.template}",
    f"image_max_pixels={MAX_PIXELS}",
    f"image_min_pixels={QWEN3_VL.least_pixels}",
    "cutoff_len=2048",
    "per_device_train_batch_size=4",
    "max_steps=20",
)


def command(main: Any, *words: object) -> None:
    assert main([str(word) for word in words]) == 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_tiny_qwen3_vl_goes_from_the_instructions_to_the_field(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from data.prep import instruct
    from eval import predict, proof, score
    from export import bundle
    from tests.task_texts import task_texts
    from train import lora
    from train.mllm import tiny_qwen3_vl

    data = write_data(tmp_path / "data")
    made, base = tmp_path / "instructions", tmp_path / "base"
    asked = ["--data", data, "--gate", gate_folder, "--max-pixels", MAX_PIXELS]
    command(instruct.main, *asked, "--family", "qwen3_vl", "--out", made)
    samples = {s["image_id"]: s for s in json.loads((made / "boxed_test.json").read_text())}
    for sample in samples.values():
        seen = header_size((made / sample["images"][0]).read_bytes())
        assert (seen.width % 32, seen.height % 32, sample["frame"]) == (0, 0, [1000, 1000])
        assert QWEN3_VL.least_pixels <= seen.pixels <= MAX_PIXELS
    with Stage(base, kind="base", inputs={}, config={}) as folder:
        tiny_qwen3_vl.build(folder, task_texts(0, 100), 400, MAX_PIXELS, seed=0)

    adapter, about = tmp_path / "lora", ["--instructions", made, "--base", base]
    tuning = ["--config", "configs/lora/smoke.yaml", "--dataset", "boxed_train", *about]
    assert lora.main([str(word) for word in (*tuning, "--out", adapter)]) == 1
    assert "expected 'qwen2_5_vl'" in capsys.readouterr().err
    command(lora.main, *tuning, "--out", adapter, *TUNING)

    answers = tmp_path / "answers"
    asking = ["--instructions", made, "--inputs", "boxed", "--model", base, "--adapter", adapter]
    command(predict.main, *asking, "--constrained", "rules", "--out", answers)
    for line in lines(answers / "predictions.jsonl"):
        original = Size(*samples[line["image_id"]]["original"])
        assert line["text"] == in_frame(line["model_text"], THOUSANDTHS, original)
        verdict = check(line["text"], original.width, original.height)
        assert verdict.rule
        assert not verdict.violation
    scored = ["--predictions", answers / "predictions.jsonl", "--out", tmp_path / "scores"]
    command(score.main, "--truth", made / "truth.jsonl", *scored, "--require", "rule>=1", "viol<=0")
    proved = tmp_path / "proof"
    given = [*about, "--inputs", "boxed", "--adapter", adapter, "--samples", 4]
    command(proof.main, *given, "--accept-untrained", "--out", proved)

    out = tmp_path / "bundle"
    parts = ["--gate", gate_folder, "--adapter", adapter, "--base", base, "--proof", proved]
    command(bundle.main, *parts, "--accept-untrained", "--out", out)
    for folder in (made, adapter, answers, proved, out):
        assert manifest.verify(folder).family is QWEN3_VL
    assert open_bundle(out).adapter.base == "base"
    assert_read_in_thousandths(tmp_path, out, data / "images" / "test" / "wide.jpg")


def assert_read_in_thousandths(tmp_path: Path, bundle: Path, frame: Path) -> None:
    """What the model says of a frame of 1280 x 360, in the demo and at the receiver."""
    accident = Accident(Box(500, 250, 750, 500, THOUSANDTHS), "severe")
    (tmp_path / "answer.json").write_text(dump(target([accident])))
    in_camera = [640, 90, 960, 180]
    shown = ["--frame", frame, "--answer", tmp_path / "answer.json", "--out", tmp_path / "demo"]
    command(dat_runtime, "demo", "--bundle", bundle, *shown)
    told = json.loads((tmp_path / "demo" / "alert.json").read_text())["data"]
    assert told["answer"]["accidents"][0]["bbox"] == in_camera

    (tmp_path / "frames").mkdir()
    for i in range(4):
        (tmp_path / "frames" / f"{i}.jpg").write_bytes(frame.read_bytes())
    tokens = write_tokens(tmp_path)
    cameras = [{"name": "north", "source": str(tmp_path / "frames"), "fps": 5}]
    store = f"sqlite:///{tmp_path / 'events.sqlite'}"
    with processes.receiver(store, "--tokens", tokens, listen="127.0.0.1:0") as receiving:
        mllm = {"recorded": "answer.json", "concurrency": 1}
        node = processes.write_node(tmp_path, bundle, receiving.url, cameras=cameras, mllm=mllm)
        with processes.running("edge", "run", node), operator(receiving.url) as client:

            def answered() -> list[dict[str, Any]]:
                events = client.get("/v1/events").json()["events"]
                return [e["data"] for e in events if e["data"]["source"] == "mllm"]

            (data,) = until(answered)
    assert data["frame"] == {"width": 1280, "height": 360}
    assert data["answer"]["accidents"][0]["bbox"] == in_camera
    assert data["versions"].keys() == {"bundle", "prompt", "schema", "drawing", "mllm"}
