"""Small folders as `eval.codes`, `train.offload` and `data.prep.instruct` leave them."""

from pathlib import Path
from typing import Any

from dat_runtime.answer import dump, target
from dat_runtime.codec_folder import FILE, WEIGHTS, codec_id
from dat_runtime.files import write_json, write_json_lines
from dat_runtime.prompt import PROMPT_VERSION, task_prompt
from dat_runtime.stage import Stage
from dat_runtime.types import Box, Detection, Size

FRAMES = 4
SIZE = Size(100, 80)

ROWS = [
    ("boxes alone", "boxes", 0, 0.1),
    ("code, 8 channels", "code", 88, 0.4),
    ("code, 32 channels", "code", 280, 0.7),
    ("features", "float", 12_288, 0.9),
    ("webp q1", "webp", 250, 0.5),
    ("jpeg q5", "jpeg", 1_000, 0.6),
    ("webp q50", "webp", 3_000, 0.8),
    ("webp q9, camera's size", "webp", 9_000, 0.95),
]
"""Name, kind, bytes and Count EM."""


def score(value: float | None) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def row(name: str, kind: str, size: int, value: float | None) -> dict[str, Any]:
    """A row of accuracy.json; some pictures have five bytes more than the mean."""
    return {
        "name": name,
        "kind": kind,
        "bytes": float(size),
        "bytes_max": size + 5 if kind in ("jpeg", "webp") else size,
        "channels": int(name.split()[1]) if kind == "code" else None,
        "quality": int(name.split("q")[1].split(",")[0]) if kind in ("jpeg", "webp") else None,
        "count_em": score(value),
        "sev_f1": score(value),
        "bbox_miou": score(None),
        "merger_error": round(1 - (value or 0.0), 3),
        "n": FRAMES,
    }


def instructions(folder: Path, gate: bool = True) -> Path:
    """Half of the frames have an accident; the gate finds all, and one that is none."""
    truth, samples = [], []
    accident = {"bbox": [10, 10, 50, 60], "severity": "severe"}
    for i in range(FRAMES):
        frame = {"image_id": f"f{i}", "image": "", "width": 100, "height": 80}
        truth.append({**frame, "accidents": [accident] * (i % 2)})
        found = [Detection(Box(10, 10, 50, 60, SIZE), "severe", 0.9)] if i else []
        turns = [{"content": f"<image>{task_prompt(SIZE, found)}"}]
        samples.append({"image_id": f"f{i}", "frame": [100, 80], "messages": turns})
    boxes = folder.with_name("gate.txt")
    boxes.write_text("a gate", "utf-8")
    with Stage(
        folder, kind="instructions", inputs={"gate": boxes} if gate else {}, config={}
    ) as made:
        write_json_lines(made / "truth.jsonl", truth)
        write_json(made / "boxed_test.json", samples)
    return folder


def codec(folder: Path, spatial: bool = False) -> Path:
    fields = {
        "version": 1,
        "base": "base",
        "revision": "a" * 64,
        "adapter": None,
        "prompt": PROMPT_VERSION,
        "block": 7,
        "channels": [8, 32],
        "spatial": spatial,
        "features": 96,
        "width": 96,
        "grids": [[8, 8]],
        "images": [[112, 112]],
        "patch": 14,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    with Stage(folder, kind="codec", inputs={}, config={"spatial": spatial}) as made:
        (made / WEIGHTS).write_bytes(b"weights")
        write_json(made / FILE, fields | {"id": codec_id(fields, made / WEIGHTS)})
    return folder


def codes(folder: Path, of: dict[str, Path], **changes: Any) -> Path:
    """What `eval.codes` made of these inputs; `changes` are keys of accuracy.json."""
    parts = {"head": 2.0, "encoder": 1.0, "decoder": 4.0, "tail": 8.0, "answer": 150.0}
    report = {
        "codec": "0123456789abcdef",
        "rows": [row(*known) for known in ROWS],
        "goal": None,
        "picture": {"matters": True},
        "milliseconds": {**parts, "device": "cpu"},
        **changes,
    }
    lines = [
        {"image_id": f"f{i}", "text": dump(target([])), "latency_s": 0.1 * i} for i in range(FRAMES)
    ]
    with Stage(folder, kind="codes", inputs=of, config={}) as made:
        write_json(made / "accuracy.json", report)
        (made / "answers").mkdir()
        write_json_lines(made / "answers" / "00-boxes.jsonl", lines)
    return folder
