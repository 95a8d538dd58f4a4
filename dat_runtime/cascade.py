"""Whether the MLLM runs: the gate's score as a probability, and what is worth a call (COEF-VQ).

A frame's calibrated probability p of an accident lies below a band (dropped), in it (the MLLM is
asked) or above it (the gate answers itself). DAT's own rule (§3.2.1) is a band without an upper
end, on the score itself. Costs and prices are in one unit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dat_runtime.gate import LOW_THRESHOLD

Floats = NDArray[np.float64]

Decision = Literal["drop", "ask", "report"]
"""What is done with a frame; "report": the gate makes the answer, marked `source: gate`."""

FLOOR = 0.005
"""Scores are kept this far from 0 and 1, where log-odds are infinite; half of the lowest
confidence that the detector reports."""


def logit(score: ArrayLike) -> Floats:
    """log(s / (1 - s)) of scores in [0, 1], kept `FLOOR` away from both ends."""
    inside = np.clip(np.asarray(score, float), FLOOR, 1 - FLOOR)
    return np.asarray(np.log(inside) - np.log1p(-inside))


class Calibration(Protocol):
    """From trigger scores (Eq. 1), and other signals, to probabilities of an accident."""

    def __call__(self, score: ArrayLike, signals: Mapping[str, ArrayLike]) -> Floats:
        """Probabilities, in the shape of `score`.

        Args:
            score: s_t of frames.
            signals: further scores in [0, 1] by name, such as of sound; NaN or left out: missing.
        """
        ...


@dataclass(frozen=True)
class Signal:
    """The part of one more signal in a fused score, in log-odds.

    Attributes:
        weight: of its logit.
        missing: what is added instead where the signal is missing.
    """

    weight: float
    missing: float = 0.0


@dataclass(frozen=True)
class Logistic:
    """p = σ(weight · logit(s) + bias + Σ signals): Platt's calibration; temperature with bias 0.

    With signals it is a late fusion that also says what a silent microphone is worth.
    """

    weight: float
    bias: float = 0.0
    signals: Mapping[str, Signal] = field(default_factory=dict)

    def __call__(self, score: ArrayLike, signals: Mapping[str, ArrayLike]) -> Floats:
        odds = self.weight * logit(score) + self.bias
        for name, signal in self.signals.items():
            value = np.asarray(signals.get(name, np.nan), float)
            odds = odds + np.where(np.isnan(value), signal.missing, signal.weight * logit(value))
        # The exponential overflows from 710 on; at 500 p is within 1e-217 of 0 or 1.
        bounded = np.clip(odds, -500, 500)
        return np.asarray(1 / (1 + np.exp(-bounded)))


@dataclass(frozen=True)
class Isotonic:
    """p by straight lines between knots, rising; flat outside them."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, score: ArrayLike, signals: Mapping[str, ArrayLike]) -> Floats:
        return np.asarray(np.interp(np.asarray(score, float), self.scores, self.probabilities))


@dataclass(frozen=True)
class Costs:
    """What mistakes cost, and how often the MLLM makes one.

    Attributes:
        miss: of an accident that is not reported.
        false_alarm: of a report without an accident.
        mllm_error: share of its answers that are wrong, in [0, 0.5).
    """

    miss: float = 1.0
    false_alarm: float = 1.0
    mllm_error: float = 0.0

    @property
    def indifferent(self) -> float:
        """The probability at which a drop costs as much as a report."""
        return self.false_alarm / (self.miss + self.false_alarm)

    def highest_useful_price(self, reports: bool) -> float:
        """The price from which no call pays, whatever p; `reports`: the gate may answer itself."""
        if not reports:
            # cost_band's low reaches 1: not even a certain accident is worth a call.
            return (1 - self.mllm_error) * self.miss
        # Both ends of cost_band meet, at `indifferent`.
        return (1 - 2 * self.mllm_error) * self.miss * self.indifferent


class Band(NamedTuple):
    """The MLLM is asked when low ≤ p < high; a `high` of `None` has no upper end."""

    low: float
    high: float | None


def cost_band(price: float, costs: Costs) -> tuple[float, float]:
    """The band (low, high) of least expected cost for calibrated p when a call costs `price`.

    A drop costs p · miss, a report (1 - p) · false_alarm, a call its price and the MLLM's error.
    From some price on low ≥ high: no call pays, the gate alone decides (at `Costs.indifferent`).
    """
    e, miss, false_alarm = costs.mllm_error, costs.miss, costs.false_alarm
    # A call costs price + e (p · miss + (1 - p) · false_alarm): low is where that equals a drop's
    # p · miss, high where it equals a report's (1 - p) · false_alarm.
    low = (price + e * false_alarm) / (miss - e * (miss - false_alarm))
    high = 1 - (price + e * miss) / (false_alarm + e * (miss - false_alarm))
    return low, high


@dataclass(frozen=True)
class Budget:
    """What keeps the share of frames that are asked about at a budget.

    Attributes:
        load: the share, in [0, 1].
        price: of a call, at which the load of the validation data met the budget.
        costs: with the price they give the band (`cost_band`).
        low_at_most: the band's lower end stays at or below it: the bound on missed severe
            accidents.
    """

    load: float
    price: float
    costs: Costs
    low_at_most: float = 1.0

    def band(self, price: float, reports: bool) -> Band:
        """The band at a price; `reports` false has no upper end."""
        low, high = cost_band(price, self.costs)
        if reports and low >= high:  # no call pays: the gate drops or reports
            low = high = self.costs.indifferent
        low = max(0.0, min(low, self.low_at_most))
        if not reports:
            return Band(low, None)
        return Band(low, min(1.0, max(high, low)))


PAPER = Band(LOW_THRESHOLD, None)
"""g_t of Eq. 1: every frame from τ_g on goes to the MLLM."""


@dataclass(frozen=True)
class Routing:
    """Which frames the MLLM is asked about, as `gate.json` says.

    The default is the paper's rule: every frame with s_t ≥ τ_g.

    Attributes:
        keep: τ_g of Eq. 2: detections from this confidence on are drawn and listed in the prompt.
            A frame without one is asked about where its band says report: the gate has nothing to
            report.
        band: of probabilities, or of scores where there is no calibration.
    """

    keep: float = LOW_THRESHOLD
    band: Band = PAPER
    calibration: Calibration | None = None
    budget: Budget | None = None

    def probability(self, score: float, signals: Mapping[str, float] | None = None) -> float:
        """The calibrated probability of an accident; the score itself without a calibration."""
        if self.calibration is None:
            return score
        return float(self.calibration(score, signals or {}))

    def decide(self, score: float, signals: Mapping[str, float] | None = None) -> Decision:
        """What to do with a frame of trigger score `score` (Eq. 1)."""
        return self.decide_in(self.band, score, signals)

    def decide_in(
        self, band: Band, score: float, signals: Mapping[str, float] | None = None
    ) -> Decision:
        """The same with another band."""
        p = self.probability(score, signals)
        if p < band.low:
            return "drop"
        has_kept_detection = score >= self.keep
        if band.high is not None and p >= band.high and has_kept_detection:
            return "report"
        return "ask"


ODDS_RANGE = 12.0
"""Log-odds at the ends of a price's range: shares of it within 6e-6 of 0 and 1 (see `_LEAST`)."""


class LoadController:
    """Decides as a `Routing` does, and moves the price of a call so that the load stays at budget.

    Dual ascent on u, the log-odds of the price between 0 and the highest useful one: each call
    raises u by step · (1 - load), each other frame lowers it by step · load, so over n frames the
    load is off by (change of u) / (step · n). Where accidents are rare the prices that matter lie
    close to an end of the range; steps of the price itself would leap over all of them.

    u stops at its ends. At price 0 the load may stay below the budget: calls that are not worth
    making are not made to fill it. At the highest useful price the load may stay above: the bound
    on missed severe accidents comes first, and so do frames where the gate has nothing to report.

    Raises:
        ValueError: the routing has no budget.
    """

    def __init__(self, routing: Routing, step: float = 0.05):
        if routing.budget is None:
            raise ValueError("expected a routing with a budget")
        self._routing, self._budget, self._step = routing, routing.budget, step
        self._reports = routing.band.high is not None
        self._highest = routing.budget.costs.highest_useful_price(self._reports)
        share = min(max(routing.budget.price / self._highest, 0.0), 1.0)
        inside = _LEAST + share * (1 - 2 * _LEAST)
        self._odds = math.log(inside / (1 - inside))

    @property
    def price(self) -> float:
        """The price of a call now, from 0 to the highest useful one."""
        share = (_logistic(self._odds) - _LEAST) / (1 - 2 * _LEAST)
        return self._highest * min(max(share, 0.0), 1.0)

    @property
    def band(self) -> Band:
        """The band at the current price."""
        return self._budget.band(self.price, self._reports)

    def decide(self, score: float, signals: Mapping[str, float] | None = None) -> Decision:
        """What to do with the next frame."""
        decision = self._routing.decide_in(self.band, score, signals)
        odds = self._odds + self._step * ((decision == "ask") - self._budget.load)
        self._odds = min(max(odds, -ODDS_RANGE), ODDS_RANGE)
        return decision


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


_LEAST = _logistic(-ODDS_RANGE)
