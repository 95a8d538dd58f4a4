"""The paper's tables and the controller's figures as offload.json holds them."""

import pytest

from eval.offloading import study
from eval.offloading.printed import models

CONTROLLERS = [
    [1, "last sample", 10, 20, 0, 0, [0, 10, 0, 0, 0, 0]],
    [1, "q10 of 8 samples", 0, 20, 0, 0, [0, 0, 0, 0, 0, 0]],
    [4, "last sample", 30, 80, 0, 0, [0, 30, 0, 0, 0, 0]],
    [4, "q10 of 8 samples", 0, 80, 0, 0, [0, 0, 0, 0, 0, 0]],
    [4, "last sample, d/B alone", 30, 80, 0, 0, [0, 30, 0, 0, 0, 0]],
    [4, "q10 of 8 samples, d/B alone", 0, 80, 0, 0, [0, 0, 0, 0, 0, 0]],
]
"""Cameras, controller, latencies missed, infeasible, accuracies likewise, missed by window."""


def test_the_papers_rows_have_their_bytes_and_what_follows_from_them() -> None:
    paper = study.of_paper()
    assert list(paper) == ["tables", "misprints", "exchanged", "best"]
    assert [table["model"] for table in paper["tables"]] == [model.name for model in models()]
    table = paper["tables"][0]
    assert (table["table"], table["mbps"]) == (1, (3, 6, 50))
    assert table["input"] == "32 frames of 224x224; features 16x14x14 of 384 channels"
    (row,) = [row for row in table["rows"] if row["method"] == "ApproxBit-64-Enc-B8"]
    assert row == {
        **row,
        "level": "feature",
        "tensor": (64, 8, 7, 7),
        "bits": 1,
        "shape_bytes": 3136,
        "bytes": 3136,
        "from_shape": True,
        "base_ms": pytest.approx(298.49824),
        "predicted_ms": pytest.approx((306.8609, 302.6796, 299.0), abs=1e-4),
    }
    assert 0 <= row["worst_ms"] < 0.1
    assert [m["printed_ms"] for m in paper["misprints"]] == [1719.8, 14440.4]
    assert [pair["method"] for pair in paper["exchanged"]] == ["DCVC-FM", "LimitNet"]
    assert [(part["model"], part["mbps"]) for part in paper["best"][:4]] == [
        *(("MViTv2-B", mbps) for mbps in (3, 6, 50)),
        ("Video-LLaVA-7B", 3),
    ]
    point = paper["best"][0]["points"][0]
    assert set(point) == {"method", "level", "accuracy", "best", "latency_ms"}


def test_every_controller_follows_figure_9_and_each_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn, trace = study.of_links({"x": [1.0, 3.0] * 60}, 1)
    assert capsys.readouterr().out.splitlines() == [
        "[offload] the controller on Fig. 9",
        "[offload] the controller on x",
    ]
    assert (drawn["name"], drawn["links"], trace["name"], trace["links"]) == ("Fig. 9", 1, "x", 1)
    assert trace["fastest_s"] == pytest.approx(0.30171465025641026)
    assert [window["end"] for window in trace["windows"]] == [20, 40, 60, 80, 100, 120]
    told = []
    for found in trace["controllers"]:
        timed, graded = found["latency"], found["accuracy"]
        counts = [timed["missed"], timed["infeasible"], graded["missed"], graded["infeasible"]]
        by_window = [window["missed"] for window in found["windows"]]
        told.append([found["cameras"], found["controller"], *counts, by_window])
        assert [timed["clips"], graded["clips"]] == [60 * found["cameras"]] * 2
        assert timed["missed_share"] == pytest.approx(
            timed["missed"] / {1: 40, 4: 160}[found["cameras"]]
        )
    assert told == CONTROLLERS


def test_a_figure_shows_the_first_link_second_by_second() -> None:
    _, trace = study.of_links({"x": [1.0, 3.0] * 60}, 1)
    course = trace["course"]
    assert course["bytes_per_s"] == [487_500, 1_462_500] * 60
    assert len(course["windows"]) == 6
    assert course["latency"][:3] == [0.3049, 0.3006, 0.3049]
    assert course["latency"][-2:] == [0.4669, 0.4669]
    assert [round(course["accuracy"][at], 3) for at in (0, 30, 119)] == [0.679, 0.694, 0.708]
    assert [course["rows"][at] for at in (0, 30, 119)] == [
        "ApproxBit-64-Enc-B8",
        "ApproxBit-128-Enc-B16",
        "Edge-only",
    ]
    assert [sum(course["possible"][at : at + 20]) for at in (0, 20, 100)] == [0, 20, 20]
