"""The review page with many events beside the same page with few: `python -m benchmarks.page`.

A receiver on SQLite listens on loopback, headless Chromium opens its page. For each number of
events: the time to the first list, from a commit to its row on the page, from a verdict to the next
event, the frames of a long scroll, and how many elements and megabytes the page takes.
"""

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from dat_runtime.cloud import alerts
from dat_runtime.cloud.application import opened
from dat_runtime.command import command
from export.live import processes

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
)
CHUNK = 1_000

FRAMES = """async () => {
  const scroll = document.querySelector("#scroll");
  const times = [];
  let last = performance.now();
  for (let i = 0; i < 120; i += 1) {
    scroll.scrollTop += 400;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def event(number: int, priority: float, **data: Any) -> dict[str, Any]:
    """An alert of a made-up road."""
    severity = "severe" if priority >= 0.5 else "moderate"
    return {
        "specversion": "1.0",
        "id": f"n{number % 40}-{number:06d}",
        "source": f"/nodes/n{number % 40}/cameras/camera-{number % 7}",
        "type": "dat.alert.v1",
        "time": "2026-01-31T12:00:00Z",
        "data": {
            "schema": 1,
            "captured_at": 1_769_860_800.0 + number,
            "priority": round(priority, 4),
            "source": "mllm",
            "frame": {"width": 1920, "height": 1080},
            "roi": [100, 200, 700, 600],
            "answer": {
                "count": 1,
                "severity": severity,
                "level": int(severity == "severe"),
                "score": 0.8 if severity == "severe" else 0.2,
                "accidents": [{"bbox": [120, 220, 680, 580], "severity": severity}],
                "summary": "Two vehicles have collided; one of them blocks the left lane.",
            },
        }
        | data,
    }


@contextmanager
def receiver(folder: Path, count: int) -> Iterator[str]:
    """`dat-runtime receive` with so many events; its address."""
    store = f"sqlite:///{folder}/receiver.db"
    # Playwright runs an event loop in this thread.
    filling = threading.Thread(target=lambda: asyncio.run(fill(store, folder, count)))
    filling.start()
    filling.join()
    with processes.receiver(store) as process:
        yield process.url


async def fill(store: str, folder: Path, count: int) -> None:
    """Record events of all priorities below 0.9."""
    inside = opened(store, folder)
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        events = [event(n, 0.9 * ((n * 7919) % 100_003) / 100_003) for n in numbers]
        received = [alerts.received(one, time.time()) for one in events]
        await inside.store.write(partial(alerts.record, alerts=received))
    inside.store.close()


def measure(browser: Any, address: str) -> dict[str, str]:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    client = httpx.Client(base_url=address, timeout=30)
    shown = []
    for _ in range(5):
        begun = time.perf_counter()
        page.goto(address + "/")
        page.wait_for_selector("#list li")
        shown.append(time.perf_counter() - begun)
    fresh = [arrival(page, client, number) for number in range(20)]
    page.keyboard.press("j")
    judged = [verdict(page) for _ in range(10)]
    frames = sorted(page.evaluate(FRAMES))
    told = page.evaluate(
        "({ elements: document.querySelectorAll('*').length,"
        " heap: performance.memory.usedJSHeapSize })"
    )
    page.close()
    return {
        "list shown": milliseconds(shown),
        "commit to row": milliseconds(fresh),
        "verdict to next": milliseconds(judged),
        "frame of a scroll, median / 95 %": f"{frames[60]:.0f} / {frames[114]:.0f} ms",
        "elements": f"{told['elements']:,}",
        "script's memory": f"{told['heap'] / 1e6:.1f} MB",
    }


def arrival(page: Any, client: httpx.Client, number: int) -> float:
    """Seconds from the acknowledgement of a new alert to its row."""
    sent = event(10_000_000 + number, 0.95 + number / 1000, revision=0)
    answer = client.post(
        "/v1/events", json=sent, headers={"content-type": "application/cloudevents+json"}
    )
    begun = time.perf_counter()
    assert answer.status_code == 201, answer.text
    page.wait_for_selector(f"#list li[data-key$='/{sent['id']}']")
    return time.perf_counter() - begun


def verdict(page: Any) -> float:
    """Seconds from a key to the next event."""
    row = page.locator("#list li[aria-selected=true]").get_attribute("data-key")
    begun = time.perf_counter()
    page.keyboard.press("c")
    page.wait_for_selector(f"#list li[data-key='{row}']", state="detached")
    return time.perf_counter() - begun


def milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} (at most {1000 * max(seconds):.0f}) ms"


def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.page", __doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[100, 100_000])
    args = parser.parse_args(argv)
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for count in args.events:
            with tempfile.TemporaryDirectory() as folder, receiver(Path(folder), count) as address:
                found.append(measure(browser, address))
        browser.close()
    print(f"{'events':34}" + "".join(f"{count:>26,}" for count in args.events))
    for name in found[0]:
        print(f"{name:34}" + "".join(f"{one[name]:>26}" for one in found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
