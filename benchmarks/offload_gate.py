"""What a codec's encoder takes from the gate of a weak node.

    python -m benchmarks.offload_gate --gate OUT/gate --codec OUT/codec

Frames a second of the gate's detector alone, and while the encoder's process makes a code every
tenth of a second, in turns of some seconds. At least 90 % are demanded; a node asks at news only.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dat_runtime.command import command
from dat_runtime.draw import encode_seen
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.offloading.encoder import Encoder
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.errors import reports_errors

EVERY = 0.1
"""Seconds between a code and the next question: ten a second are more news than any node has."""

TURN, TURNS = 3.0, 7
"""Seconds, and how many of each kind."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """1 where the gate is slowed by more than a tenth."""
    parser = command("benchmarks.offload_gate", __doc__)
    parser.add_argument("--gate", type=Path, required=True, help="folder of train.gate")
    parser.add_argument("--codec", type=Path, required=True, help="folder of train.offload")
    args = parser.parse_args(argv)
    detector, codec = YoloDetector.load(args.gate), open_codec(args.codec)
    size = next(iter(codec.encoders))
    jpeg = encode_seen(np.full((size.height, size.width, 3), 99, np.uint8))
    frame = np.full((640, 640, 3), 99, np.uint8)
    encoder = Encoder(args.codec, codec, 60.0, Counts())
    encoder.start()
    busy, codes = threading.Event(), [0]

    def encode() -> None:
        while True:
            busy.wait()
            encoder.unit(jpeg)
            codes[0] += 1
            time.sleep(EVERY)

    def rate() -> float:
        began, frames = time.monotonic(), 0
        while time.monotonic() < began + TURN:
            detector.detect(frame)
            frames += 1
        return frames / (time.monotonic() - began)

    threading.Thread(target=encode, daemon=True).start()
    rates: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * TURNS):
        (busy.set if turn % 2 else busy.clear)()
        rates[bool(turn % 2)].append(rate())
    alone, beside = (sorted(rates[is_busy])[TURNS // 2] for is_busy in (False, True))
    print(
        f"the gate alone {alone:.1f} frames/s, beside an encoder {beside:.1f}, medians of {TURNS}"
    )
    print(f"{beside / alone:.0%}, while {codes[0] / TURN / TURNS:.1f} codes/s were made")
    return 0 if beside >= 0.9 * alone else 1


if __name__ == "__main__":
    raise SystemExit(main())
