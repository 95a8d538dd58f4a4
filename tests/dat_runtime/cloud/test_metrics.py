"""What is counted has the names and words that are in the documents; one worker and several."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from dat_runtime.cloud.metrics import Metrics

PAGE = """\
# HELP dat_receiver_alerts_total Alerts that came, by what became of them.
# TYPE dat_receiver_alerts_total counter
dat_receiver_alerts_total{outcome="created"} 2.0
# HELP dat_receiver_visuals_total Visuals that came to their end: complete, or refused.
# TYPE dat_receiver_visuals_total counter
dat_receiver_visuals_total{outcome="complete"} 1.0
# HELP dat_receiver_refused_total Requests that were refused, by status.
# TYPE dat_receiver_refused_total counter
dat_receiver_refused_total{status="404"} 1.0
# HELP dat_receiver_commit_seconds From an alert's arrival, read and checked, to the end of its \
commit.
# TYPE dat_receiver_commit_seconds histogram
"""


def test_a_worker_tells_what_it_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics = Metrics()
    metrics.alerts.labels("created").inc(2)
    metrics.visuals.labels("complete").inc()
    metrics.refused.labels("404").inc()
    metrics.commit_seconds.observe(0.3)
    told = [line for line in metrics.page().decode().splitlines() if "_created{" not in line]
    told = [line for line in told if "_created " not in line]
    assert told[: len(PAGE.splitlines())] == PAGE.splitlines()
    buckets = {
        line.split('"')[1]: line.rpartition(" ")[2] for line in told if "seconds_bucket" in line
    }
    bounds = [*["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25"], "0.5"]
    bounds += ["1.0", "2.5", "10.0", "+Inf"]
    assert list(buckets) == bounds
    assert [bound for bound in bounds if buckets[bound] == "1.0"] == bounds[8:]


def test_several_workers_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os\n"
        "from dat_runtime.cloud.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "child = os.fork()\n"
        "metrics.alerts.labels('created').inc()\n"
        "if not child: os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert b'dat_receiver_alerts_total{outcome="created"} 2.0' in Metrics().page()
