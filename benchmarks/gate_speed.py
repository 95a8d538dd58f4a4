"""The gate on the CPU: torch, ONNX Runtime, OpenVINO and INT8 on the same frames, in one run.

    python -m benchmarks.gate_speed --frames OUT/data/images/test --out gate_speed.json

Contenders take turns, each over all frames at a time, so that other work on the machine slows all
alike; a ratio is the median over pairs (same round, same frame). The cores' time, all threads
together, hardly depends on other work. "torch" is the fused network with this project's letterbox
and NMS, "Ultralytics" its own `predict`. A network's time does not depend on what it learnt, so a
model given by its definition is not trained: the statistics of its normalisation come from the
frames, and its scores are shifted so that `--candidates` boxes of the median frame reach the NMS.
Weights (.pt) are measured unchanged.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dat_runtime.command import command
from dat_runtime.draw import Image, size_of
from dat_runtime.edge.detector import MIN_CONFIDENCE, Letterbox, YoloDetector, model_input
from dat_runtime.edge.engines import Floats, silent_openvino
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.types import SEVERITIES
from train.detector import int8, onnx_export
from train.detector.ultralytics_run import quiet
from train.recipe.config_file import versions

Times = tuple[float, float, float, float]
"""Seconds before, in and after the network, and of all cores together."""

Contender = Callable[[Image], Times]
BASELINES = ("torch", "Ultralytics")


@dataclass(frozen=True)
class Prepared:
    """One input size: trained weights and a gate folder for each exported form."""

    settings: GateSettings
    weights: Path
    gates: dict[str, Path]


class TorchEngine:
    """The fused network in torch, in place of an exported one."""

    inputs = outputs = ()

    def __init__(self, weights: Path):
        from ultralytics import YOLO

        self._network = YOLO(weights).model.float().eval().fuse(verbose=False)

    def run(self, blob: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            return np.asarray(self._network(torch.from_numpy(blob))[0].numpy())


def prepare(model: str, images: Sequence[Path], side: int, candidates: int, work: Path) -> Prepared:
    """Weights and all exported forms for one input size, INT8 calibrated on the same frames."""
    settings = GateSettings(classes=SEVERITIES, imgsz=side)
    folders = {name: work / f"{side}-{name}" for name in ("ONNX Runtime", "OpenVINO", "INT8")}
    for folder in folders.values():
        folder.mkdir()
    weights = work / f"{side}.pt"
    yolo = untrained(model, images, side, candidates) if model.endswith(".yaml") else loaded(model)
    yolo.save(weights)
    onnx = folders["ONNX Runtime"]
    onnx_export.export_onnx(weights, onnx, settings)
    openvino = silent_openvino()
    network = openvino.Core().read_model(onnx / settings.model)
    openvino.save_model(network, folders["OpenVINO"] / "gate.xml", compress_to_fp16=False)
    small = int8.quantize(network, images, side)
    openvino.save_model(small, folders["INT8"] / "gate.xml", compress_to_fp16=False)
    in_openvino = replace(settings, model="gate.xml")
    for name in ("OpenVINO", "INT8"):
        write_json(folders[name] / GATE_FILE, in_openvino.as_json())
    return Prepared(settings, weights, folders)


def loaded(weights: str) -> Any:
    from ultralytics import YOLO

    return YOLO(weights)


def untrained(definition: str, images: Sequence[Path], side: int, candidates: int) -> Any:
    """An untrained model whose answers vary, with `candidates` boxes above the least confidence."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    yolo = YOLO(definition, task="detect")
    network = yolo.model = DetectionModel(definition, nc=len(SEVERITIES), verbose=False)
    blobs = torch.from_numpy(np.concatenate([int8.blob_of(path, side) for path in images]))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Its statistics become those of the one pass below.
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(blobs)
        # Weights are saved in half precision: shift the scores that these give.
        network.half().float()
        best = torch.logit(network.eval()(blobs)[0][:, 4:]).amax(dim=1)
        reached = best.sort(dim=1, descending=True).values[:, candidates].median()
        for branch in network.model[-1].cv3:
            branch[-1].bias += float(np.log(MIN_CONFIDENCE / (1 - MIN_CONFIDENCE)) - reached)
    return yolo


def contenders(prepared: Prepared, threads: int) -> dict[str, Contender]:
    running = {
        "Ultralytics": ultralytics(prepared),
        "torch": stepwise(YoloDetector(TorchEngine(prepared.weights), prepared.settings)),
    }
    for name, folder in prepared.gates.items():
        running[name] = stepwise(YoloDetector.load(folder, threads))
    return running


def stepwise(detector: YoloDetector) -> Contender:
    """`detector.detect`, with the clock read between its three steps."""

    def run(image: Image) -> Times:
        began, busy = time.perf_counter(), time.process_time()
        letterbox = Letterbox(size_of(image), detector.settings.imgsz)
        blob = model_input(letterbox.apply(image))
        given = time.perf_counter()
        output = detector.infer(blob)
        answered = time.perf_counter()
        detector.read(output, letterbox)
        after = time.perf_counter() - answered
        return given - began, answered - given, after, time.process_time() - busy

    return run


def ultralytics(prepared: Prepared) -> Contender:
    """`predict` as a program would call it; its own clock splits it, the rest counts as after."""
    from ultralytics import YOLO

    model = YOLO(prepared.weights)

    def run(image: Image) -> Times:
        began, busy = time.perf_counter(), time.process_time()
        (result,) = model.predict(
            image,
            imgsz=prepared.settings.imgsz,
            conf=MIN_CONFIDENCE,
            iou=prepared.settings.nms_iou,
            rect=False,
            device="cpu",
            verbose=False,
        )
        whole, busy = time.perf_counter() - began, time.process_time() - busy
        before, network = (result.speed[step] / 1000 for step in ("preprocess", "inference"))
        return before, network, whole - before - network, busy

    return run


def turns(
    running: dict[str, Contender], images: Sequence[Image], rounds: int
) -> Iterator[tuple[str, list[Times]]]:
    """Each contender's times for all frames, round by round, in an order that rotates."""
    names = list(running)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            # One untimed run fills the caches again, and lets other contenders' threads come to
            # rest.
            running[name](images[0])
            yield name, [running[name](image) for image in images]
        print(f"[gate_speed] round {number + 1} of {rounds}", flush=True)


def rows(times: dict[str, list[Times]]) -> dict[str, dict[str, float]]:
    """Per contender the medians in milliseconds and the ratios; times pair by their place."""
    parts = {name: np.array(taken) for name, taken in times.items()}
    whole = {name: steps[:, :3].sum(axis=1) for name, steps in parts.items()}
    cores = {name: steps[:, 3] for name, steps in parts.items()}
    table = {}
    for name, steps in parts.items():
        before, network, after = np.median(steps[:, :3], axis=0) * 1000
        row = {
            "before_ms": before,
            "network_ms": network,
            "after_ms": after,
            "total_ms": np.median(whole[name]) * 1000,
            "cores_ms": np.median(cores[name]) * 1000,
            "share_around_network": np.median(1 - steps[:, 1] / whole[name]),
        }
        for baseline in BASELINES:
            row[f"times_{baseline}"] = np.median(whole[baseline] / whole[name])
        row["times_torch_by_cores"] = np.median(cores["torch"] / cores[name])
        table[name] = {key: float(value) for key, value in row.items()}
    return table


def measure(
    prepared: Prepared, images: Sequence[Image], threads: int, rounds: int
) -> dict[str, dict[str, float]]:
    import torch

    cv2.setNumThreads(threads)
    running = contenders(prepared, threads)
    for run in running.values():
        run(images[0])
    # After the first runs: Ultralytics' first prediction sets all cores but one.
    torch.set_num_threads(threads)
    times: dict[str, list[Times]] = {name: [] for name in running}
    for name, taken in turns(running, images, rounds):
        times[name] += taken
    return rows(times)


def seen(prepared: Prepared, images: Sequence[Image]) -> dict[str, float]:
    """The NMS's work: numbers of candidates and of detections, medians over the frames."""
    detector = YoloDetector.load(prepared.gates["ONNX Runtime"])
    before, after = [], []
    for image in images:
        letterbox = Letterbox(size_of(image), prepared.settings.imgsz)
        output = detector.infer(model_input(letterbox.apply(image)))
        before.append(int((output[4:].max(axis=0) > MIN_CONFIDENCE).sum()))
        after.append(len(detector.read(output, letterbox)))
    return {"candidates": statistics.median(before), "detections": statistics.median(after)}


def processor() -> str:
    """The processor's name; Linux has it, elsewhere Python knows at least the kind."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


COLUMNS = {
    "before ms": ("before_ms", ".1f"),
    "network ms": ("network_ms", ".1f"),
    "after ms": ("after_ms", ".1f"),
    "total ms": ("total_ms", ".1f"),
    "cores ms": ("cores_ms", ".1f"),
    "around the network": ("share_around_network", ".1%"),
    "x torch": ("times_torch", ".2f"),
    "x torch by cores": ("times_torch_by_cores", ".2f"),
    "x Ultralytics": ("times_Ultralytics", ".2f"),
}


def table(result: dict[str, Any]) -> str:
    lines = [["px", "threads", "path", *COLUMNS]]
    lines.append(["---"] * len(lines[0]))
    for run in result["runs"]:
        for name, row in run["paths"].items():
            cells = [format(row[key], form) for key, form in COLUMNS.values()]
            lines.append([str(run["side"]), str(run["threads"]), name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.gate_speed", __doc__)
    parser.add_argument("--frames", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=4, help="pictures to measure, spread over all")
    parser.add_argument("--model", default="yolo12s.yaml", help="a definition, or weights (.pt)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    if not args.frames.is_dir():
        raise ConfigError(f"--frames {args.frames} is not a folder")
    if args.model.endswith(".pt") and not Path(args.model).is_file():
        raise ConfigError(f"--model {args.model}: there are no such weights")
    if min(args.count, args.rounds, *args.sizes, *args.threads) < 1:
        raise ConfigError("--count, --rounds, --sizes and --threads are at least 1")
    pictures = sorted(p for p in args.frames.iterdir() if p.suffix in (".jpg", ".jpeg", ".png"))
    if not pictures:
        raise ConfigError(f"--frames {args.frames} holds no picture (.jpg, .jpeg, .png)")
    count = min(args.count, len(pictures))
    paths = [pictures[number * len(pictures) // args.count] for number in range(count)]
    images = [read_frame(path) for path in paths]
    result: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "model": Path(args.model).name,
        "frames": [list(image.shape[1::-1]) for image in images],
        "rounds": args.rounds,
        "versions": versions("torch", "ultralytics", "onnxruntime", "openvino", "nncf"),
        "runs": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for side in args.sizes:
            print(f"[gate_speed] {side} px: exporting", flush=True)
            with quiet(work / "log", work):
                prepared = prepare(args.model, paths, side, args.candidates, work)
            for threads in args.threads:
                print(f"[gate_speed] {side} px, {threads} threads: measuring", flush=True)
                run = {"side": side, "threads": threads}
                # Measured first: `seen` loads one more detector.
                measured = measure(prepared, images, threads, args.rounds)
                run |= seen(prepared, images)
                run["paths"] = measured
                result["runs"].append(run)
    print(table(result))
    if args.out:
        write_json(args.out, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
