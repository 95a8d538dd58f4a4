"""The gate (Eq. 1-2): a frame's trigger score, and the detections that are kept.

Which frames go on to the MLLM is decided by `cascade.Routing`.
"""

from collections.abc import Sequence

from dat_runtime.types import Detection

LOW_THRESHOLD = 0.25
"""τ_g of Eq. 2, τ_low of Fig. 4: below it a frame is dropped."""

HIGH_THRESHOLD = 0.8
"""τ_high of Fig. 4: the additional routing threshold."""


def trigger_score(detections: Sequence[Detection]) -> float:
    """s_t of Eq. 1: the highest confidence in the frame, 0 when nothing was detected."""
    return max((d.confidence for d in detections), default=0.0)


def kept(
    detections: Sequence[Detection], threshold: float = LOW_THRESHOLD
) -> tuple[Detection, ...]:
    """D⁺ of Eq. 2: the detections with p ≥ τ_g, most confident first."""
    valid = [d for d in detections if d.confidence >= threshold]
    return tuple(sorted(valid, key=lambda d: -d.confidence))
