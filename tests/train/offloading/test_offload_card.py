"""The card's benchmark on a CPU with a small tower: every path runs, and the split is exact."""

import json
from pathlib import Path

import pytest

from benchmarks import offload_card

pytestmark = pytest.mark.slow


def test_a_small_tower_is_measured_and_its_halves_are_exact(tmp_path: Path, capsys) -> None:
    out = tmp_path / "card.json"
    given = ["--size", "small", "--pixels", "140", "--repeats", "1", "--out", str(out)]
    assert offload_card.main(given) == 0
    report = json.loads(out.read_text())
    assert [(cut["blocks"], cut["difference"]) for cut in report["cuts"]] == [
        (1, 0),
        (2, 0),
        (3, 0),
    ]
    sizes = {(codec["channels"], codec["spatial"]): codec["bytes"] for codec in report["codecs"]}
    assert sizes[64, False] == 100 * 64 // 8
    assert sizes[256, True] == 25 * 256 // 8
    assert "| 64 | 2 x 2 | 200 |" in capsys.readouterr().out


@pytest.mark.parametrize("pixels", ["0", "100"])
def test_a_picture_that_is_no_grid_is_refused(pixels: str, capsys) -> None:
    assert offload_card.main(["--pixels", pixels]) == 1
    assert "expected a multiple of 28" in capsys.readouterr().err
