"""Builders of this room's tests."""

from eval.uplink.arrivals import Event

PARSE = {"json": 0.05, "box": 0.30, "roi": 0.31}


def event(name="a", entered=1.0, priority=0.5, json=100, roi=200, box=400, age=0.0):
    return Event(name, entered, entered - age, priority, json, roi, 2 * roi, box)
