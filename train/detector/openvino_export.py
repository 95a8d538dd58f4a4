"""The gate in OpenVINO's format: in float32, held to the trained one, or in INT8 with its cost."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import DataError
from dat_runtime.files import read_json, write_atomically, write_json
from dat_runtime.truth import read_split
from train.detector import int8
from train.detector.onnx_export import FRAMES, check_parity
from train.detector.ultralytics_run import quiet

MODEL = "gate.xml"
WEIGHTS = "best.pt"


def export_openvino(gate: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Fill the folder with the gate's model in float32.

    Returns:
        The parity report, against the trained model on validation frames, accidents first.

    Raises:
        ModelError: the two differ by more than the limits of `onnx_export`.
        DataError: the gate's folder does not hold the trained weights.
    """
    if not (gate / WEIGHTS).is_file():
        raise DataError("is missing: expected the folder that train.gate made", gate / WEIGHTS)
    openvino = silent_openvino()
    settings = write_settings(gate, folder)
    model = openvino.Core().read_model(gate / settings.model)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    frames = sorted(read_split(data, "val"), key=lambda frame: not frame.accidents)
    compared = [data / frame.image for frame in frames[:FRAMES]]
    with tempfile.TemporaryDirectory() as work, quiet(Path(work) / "log", Path(work)):
        parity = check_parity(gate / WEIGHTS, folder, compared)
    write_atomically(folder / "metrics.json", (gate / "metrics.json").read_bytes())
    return parity


def export_int8(gate: Path, data: Path, folder: Path, accept_loss: bool) -> dict[str, Any]:
    """Fill the folder with the gate in INT8, calibrated on training frames.

    Returns:
        The cost on the test frames, see `int8.cost`.

    Raises:
        ModelError: it costs more than `int8.MAX_LOSS` and that is not accepted; or the gate
            is not in float.
    """
    openvino = silent_openvino()
    settings = write_settings(gate, folder)
    calibration = int8.spread(read_split(data, "train"), int8.CALIBRATION_FRAMES)
    model = openvino.Core().read_model(gate / settings.model)
    quantized = int8.quantize(model, [data / frame.image for frame in calibration], settings.imgsz)
    openvino.save_model(quantized, folder / MODEL, compress_to_fp16=False)
    # The metrics of the training, with the accuracy of the exported gate in place of its own.
    metrics = read_json(gate / "metrics.json")
    costs = {}
    for split in ("val", "test"):
        costs[split] = int8.cost(gate, folder, data, read_split(data, split))
        metrics[split] = costs[split]["int8"]
    write_json(folder / "metrics.json", metrics)
    report = {"calibration_frames": len(calibration), **costs["test"]}
    if not accept_loss:
        int8.demand_small_loss(report)
    return report


def write_settings(gate: Path, folder: Path) -> GateSettings:
    """Write the gate's settings for the exported model; returns the gate's own."""
    settings = GateSettings.read(gate / GATE_FILE)
    write_json(folder / GATE_FILE, replace(settings, model=MODEL).as_json())
    return settings
