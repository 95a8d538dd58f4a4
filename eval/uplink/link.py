"""A discrete-event uplink: one server, bandwidth constant within each second of a trace."""

import bisect

from eval.uplink.trace import Rates


class Link:
    """When bytes arrive. The trace repeats without end."""

    def __init__(self, bandwidth: Rates):
        self._rates = list(bandwidth)
        # Entry i: bytes that a busy link carries before second i; the last one, in a whole round.
        self._before = [0.0]
        for rate in self._rates:
            self._before.append(self._before[-1] + rate)
        if not self._before[-1]:
            raise ValueError("a link without any bandwidth never delivers")

    def bandwidth(self, second: float) -> float:
        """Bytes per second at this time."""
        return self._rates[int(second) % len(self._rates)]

    def carried(self, time: float) -> float:
        """Bytes that a busy link carries from time 0 until `time`."""
        rounds, second = divmod(int(time), len(self._rates))
        part = (time - int(time)) * self._rates[second]
        return rounds * self._before[-1] + self._before[second] + part

    def finish(self, start: float, size: float) -> float:
        """When the last of `size` bytes is sent, the first going out at `start`."""
        second = int(start)
        rate = self._rates[second % len(self._rates)]
        if rate and start + size / rate <= second + 1:  # it ends in the second in which it begins
            return start + size / rate
        # Otherwise look up when the link has carried everything before `start`, and these bytes.
        rounds, rest = divmod(self.carried(start) + size, self._before[-1])
        index = bisect.bisect_left(self._before, rest) - 1
        if index < 0:
            # Nothing is left after whole rounds: the unit ended in the round before, in its last
            # second with bandwidth.
            rounds -= 1
            rest = self._before[-1]
            index = len(self._rates) - 1
            while not self._rates[index]:
                index -= 1
        within = (rest - self._before[index]) / self._rates[index]
        # Rounding may put the end of a tiny unit before its start.
        return max(start, rounds * len(self._rates) + index + within)
