"""Words of the task for the tokenizers of the tests' tiny models."""

import random
from collections.abc import Iterator

from dat_runtime import answer
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.types import SEVERITIES, Accident, Box, Detection, Size


def task_texts(seed: int, count: int = 500) -> Iterator[str]:
    """Questions and answers with random boxes: words for the vocabulary, nothing to learn."""
    draw = random.Random(seed)
    frame = Size(640, 640)
    for _ in range(count):
        detections = []
        for _ in range(draw.randint(0, 3)):
            x1, x2 = sorted(draw.sample(range(frame.width), 2))
            y1, y2 = sorted(draw.sample(range(frame.height), 2))
            severity = draw.choice(SEVERITIES)
            detections.append(Detection(Box(x1, y1, x2, y2, frame), severity, draw.random()))
        accidents = [Accident(detection.box, detection.severity) for detection in detections]
        yield SYSTEM
        yield task_prompt(frame, detections)
        yield answer.dump(answer.target(accidents))
