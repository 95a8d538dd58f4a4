"""What the demo shows where no model is at hand: one test frame, and what was said about it.

    python -m export.recording --bundle OUT/bundle --data OUT/data \\
        --predictions OUT/predictions/boxed-lora --out dat_runtime/demo

Takes the first test frame, by name, that shows a severe and a moderate accident in under 60 kB and
whose answer is compliant and right in count and severity: it shows how DAT works, not how well.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.edge.bundle import Bundle, open_bundle
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError, reports_errors
from dat_runtime.files import read_json_lines, write_atomically
from dat_runtime.schema import check
from dat_runtime.truth import read_split
from dat_runtime.types import Size

MAX_FRAME_BYTES = 60_000
BY = "the gate and the adapter of `make smoke`, on a test frame that they read well"


@dataclass(frozen=True)
class Answered:
    """A test frame and the answer about it, boxes in the frame's pixels."""

    path: Path
    size: Size
    severities: tuple[str, ...]
    text: str


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m export.recording", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    bundle = open_bundle(args.bundle)
    manifest.verify(args.predictions, "predictions")
    chosen = next(filter(_shows_well, answered(args.data, args.predictions)), None)
    if chosen is None:
        raise DataError("no answer is compliant and right on a frame to show", args.predictions)
    record(chosen, bundle, args.out)
    print(f"[recording] {chosen.path.name} in {args.out}", flush=True)
    return 0


def answered(data: Path, predictions: Path) -> Iterator[Answered]:
    """The test frames that were answered, by name."""
    texts = _texts(predictions / "predictions.jsonl")
    truth = read_split(data, "test")
    for row in sorted(truth, key=lambda frame: frame.image_id):
        if row.image_id in texts:
            path = data / row.image
            yield Answered(path, row.size, row.severities, texts[row.image_id])


def _texts(path: Path) -> dict[str, str]:
    texts = {}
    for line, record in read_json_lines(path):
        image_id, text = record.get("image_id"), record.get("text")
        if not isinstance(image_id, str) or not isinstance(text, str):
            raise DataError("needs image_id and text, both strings", path, line)
        texts[image_id] = text
    return texts


def _shows_well(one: Answered) -> bool:
    verdict = check(one.text, one.size.width, one.size.height)
    said = verdict.assessment
    return (
        said is not None
        and verdict.rule
        and not verdict.violation
        and set(one.severities) == {"moderate", "severe"}
        and sorted(a.severity for a in said.accidents) == sorted(one.severities)
        and one.path.stat().st_size < MAX_FRAME_BYTES
    )


def record(chosen: Answered, bundle: Bundle, out: Path) -> None:
    """Write `frame.jpg` and `recording.json`."""
    detections = [
        {
            "bbox": [round(v, 1) for v in (d.box.x1, d.box.y1, d.box.x2, d.box.y2)],
            "severity": d.severity,
            "confidence": round(d.confidence, 3),
        }
        for d in bundle.detector.detect(read_frame(chosen.path))
    ]
    recording = {
        "by": BY,
        "frame": [chosen.size.width, chosen.size.height],
        "threshold": bundle.detector.settings.keep,
        "detections": detections,
        "max_pixels": bundle.max_pixels,
        "answer": chosen.text,
    }
    write_atomically(out / "frame.jpg", chosen.path.read_bytes())
    write_atomically(out / "recording.json", json.dumps(recording, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
