"""The demo's frame and answer for a machine without a model: one test frame, and its answer.

    python -m export.recording --bundle OUT/bundle --data OUT/data \\
        --predictions OUT/predictions/boxed-lora --out dat_runtime/demo

Takes the first test frame, by name, that shows a severe and a moderate accident in under 60 kB and
whose answer is compliant and right in count and severity: it shows how DAT works, not how well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.edge.bundle import Bundle, open_bundle
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError, reports_errors
from dat_runtime.fields import TEXT, checked
from dat_runtime.files import read_json_lines, write_atomically, write_json
from dat_runtime.schema import check
from dat_runtime.truth import read_split
from dat_runtime.types import Size

MAX_FRAME_BYTES = 60_000
"""The frame is shipped in the wheel."""

BY = "the gate and the adapter of `make smoke`, on a test frame that they read well"

_ANSWER = {"image_id": TEXT, "text": TEXT}


@dataclass(frozen=True)
class Answered:
    """A test frame and the MLLM's answer about it, boxes in the frame's pixels."""

    path: Path
    size: Size
    severities: tuple[str, ...]
    text: str


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.recording", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder made by export.bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder made by data.prep.build")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="folder made by eval.predict"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
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
    frames = sorted(read_split(data, "test"), key=lambda frame: frame.image_id)
    for frame in frames:
        if frame.image_id in texts:
            path = data / frame.image
            yield Answered(path, frame.size, frame.severities, texts[frame.image_id])


def _texts(path: Path) -> dict[str, str]:
    """The answers by image id."""
    texts = {}
    for line, record in read_json_lines(path):
        try:
            checked(record, _ANSWER, "", further_keys=True)
        except ValueError as error:
            raise DataError(str(error), path, line) from None
        texts[record["image_id"]] = record["text"]
    return texts


def _shows_well(answered_frame: Answered) -> bool:
    """Whether both severities are in the frame, the answer is right, and the picture is small."""
    verdict = check(answered_frame.text, answered_frame.size.width, answered_frame.size.height)
    assessment = verdict.assessment
    if assessment is None or not verdict.rule or verdict.violation:
        return False
    answered_severities = sorted(accident.severity for accident in assessment.accidents)
    return (
        set(answered_frame.severities) == {"moderate", "severe"}
        and answered_severities == sorted(answered_frame.severities)
        and answered_frame.path.stat().st_size < MAX_FRAME_BYTES
    )


def record(chosen: Answered, bundle: Bundle, out: Path) -> None:
    """Write `frame.jpg` and `recording.json`."""
    detections = []
    for detection in bundle.detector.detect(read_frame(chosen.path)):
        box = detection.box
        detections.append(
            {
                "bbox": [round(edge, 1) for edge in (box.x1, box.y1, box.x2, box.y2)],
                "severity": detection.severity,
                "confidence": round(detection.confidence, 3),
            }
        )
    recording = {
        "by": BY,
        "frame": [chosen.size.width, chosen.size.height],
        "threshold": bundle.detector.settings.keep,
        "detections": detections,
        "max_pixels": bundle.max_pixels,
        "answer": chosen.text,
    }
    write_atomically(out / "frame.jpg", chosen.path.read_bytes())
    write_json(out / "recording.json", recording)


if __name__ == "__main__":
    raise SystemExit(main())
