"""Scoring 100,000 answers against `json.loads` of the same answers, in the same run.

    python -m benchmarks.score_speed [--answers 100000]

Two ratios of CPU time, each the least of three rounds (OMP_NUM_THREADS=1 for one core):
    scoring   judging, matching, metrics and intervals of the answers / json.loads of their texts
    command   all of `python -m eval.score` after its imports, files included / json.loads of every
              line of both files and of every text
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dat_runtime.answer import dump, target
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.types import SEVERITIES, Accident, Box, Severity, Size
from eval.understanding.metrics import measure, score
from eval.understanding.records import read_predictions, read_truth
from eval.understanding.scores import score_files

FRAME = Size(640, 640)
ROUNDS = 3
SHARE_FAULTY = 0.05
"""Share of answers that do not comply, and so take the slower path of the check."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.score_speed", __doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    args = parser.parse_args(argv)
    if args.answers < 1:
        raise ConfigError(f"--answers is at least 1, got {args.answers}")
    with tempfile.TemporaryDirectory() as name:
        truth, predictions = write_files(Path(name), args.answers)
        frames = read_truth(truth)
        answers = read_predictions(predictions, frames)
        texts = [text for text in answers if text is not None]
        lines = truth.read_text("utf-8").splitlines() + predictions.read_text("utf-8").splitlines()
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(
                (
                    seconds(lambda: parse_all(texts)),
                    seconds(lambda: score(measure(frames, answers))),
                    seconds(lambda: parse_all(lines)),
                    seconds(lambda: score_files(truth, predictions)),
                )
            )
    loads, scoring, loads_lines, whole = np.min(rounds, axis=0)
    print(f"{args.answers} answers, {SHARE_FAULTY:.0%} of them faulty")
    print(f"json.loads of the texts   {loads:6.2f} s")
    print(f"scoring                   {scoring:6.2f} s   {scoring / loads:.2f} x")
    print(f"json.loads of all lines   {loads_lines:6.2f} s")
    print(f"command                   {whole:6.2f} s   {whole / (loads + loads_lines):.2f} x")
    return 0


def seconds(work: Callable[[], object]) -> float:
    """CPU time of this process: other work on the machine does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def parse_all(texts: Sequence[str]) -> None:
    """`json.loads` of each; the few that are not JSON cost their attempt."""
    for text in texts:
        try:
            json.loads(text)
        except ValueError:
            continue


def write_files(folder: Path, answers: int) -> tuple[Path, Path]:
    """A truth and a predictions file: up to three accidents, boxes a few pixels off."""
    rng = np.random.default_rng(0)
    truth, predictions = folder / "truth.jsonl", folder / "predictions.jsonl"
    with truth.open("w", encoding="utf-8") as t, predictions.open("w", encoding="utf-8") as p:
        for i in range(answers):
            count = rng.choice(4, p=[0.2, 0.4, 0.3, 0.1])
            corners = rng.integers(4, 500, (count, 2))
            boxes = np.hstack([corners, corners + rng.integers(10, 130, corners.shape)])
            severities = [SEVERITIES[k] for k in rng.integers(0, 2, len(boxes))]
            text = answer(rng, boxes + rng.integers(-3, 4, boxes.shape), severities)
            accidents = [
                {"bbox": box.tolist(), "severity": severity}
                for box, severity in zip(boxes, severities, strict=True)
            ]
            frame = {"image_id": str(i), "image": f"images/test/{i}.jpg"}
            frame |= {"width": FRAME.width, "height": FRAME.height, "accidents": accidents}
            t.write(json.dumps(frame) + "\n")
            p.write(json.dumps({"image_id": str(i), "text": text, "latency_s": 0.5}) + "\n")
    return truth, predictions


def answer(rng: np.random.Generator, boxes: np.ndarray, severities: Sequence[Severity]) -> str:
    """An answer that states the boxes; a share of `SHARE_FAULTY` is cut, fenced or miscounts."""
    accidents = []
    for corners, severity in zip(boxes.tolist(), severities, strict=True):
        x1, y1, x2, y2 = corners
        accidents.append(Accident(Box(x1, y1, x2, y2, FRAME), severity))
    text = dump(target(accidents))
    if rng.random() < SHARE_FAULTY:
        faulty = [text[:-2], f"```json\n{text}\n```", text.replace("1,", "3,")]
        text = str(rng.choice(faulty))
    return text


if __name__ == "__main__":
    raise SystemExit(main())
