"""A world whose probabilities are known, and an MLLM's answers."""

import json

import numpy as np

from eval.routing.probabilities import Scored

MLLM_ERROR = 0.05


def world(n: int, seed: int = 0, sound: bool = False, spread: float = 1.5) -> Scored:
    """Frames whose score is twice as sure as it should be, and an MLLM that errs by chance."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, spread, n)
    accident = rng.uniform(size=n) < 1 / (1 + np.exp(-odds))
    mllm_reports = accident ^ (rng.uniform(size=n) < MLLM_ERROR)
    signals = {}
    if sound:
        heard = 1 / (1 + np.exp(-rng.normal(np.where(accident, 1.5, -1.5), 1.0)))
        signals["sound"] = np.where(rng.uniform(size=n) < 0.5, np.nan, heard)
    score = 1 / (1 + np.exp(-(2 * odds + 1)))
    severe = accident & (rng.uniform(size=n) < 0.5)
    return Scored(score, accident, severe, signals, mllm_reports)


def answer(accident: bool) -> str:
    """A compliant answer that reports an accident, or none."""
    if not accident:
        return json.dumps({"count": 0, "severity": "none", "level": 0, "score": 0.1,
                           "accidents": [], "summary": "None."})  # fmt: skip
    box = {"bbox": [1, 1, 5, 5], "severity": "severe"}
    return json.dumps({"count": 1, "severity": "severe", "level": 1, "score": 0.7,
                       "accidents": [box], "summary": "One."})  # fmt: skip
