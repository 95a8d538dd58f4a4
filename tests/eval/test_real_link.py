import json
import re
from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from eval.real_link import main
from eval.uplink.setting import load_setting
from eval.uplink.shaped_link import experiment, not_permitted

C0 = Path("configs/transmission/c0.yaml")


@pytest.fixture
def arguments(tmp_path):
    trace = tmp_path / "bandwidth.csv"
    trace.write_text("second,uplink_bytes_per_s\n" + "".join(f"{s},1000\n" for s in range(800)))
    return ["--trace", str(trace), "--config", str(C0), "--out", str(tmp_path / "out")]


def test_without_the_tools_the_comparison_is_skipped_with_the_reason(
    arguments, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(arguments) == 0
    assert "skipped: unshare is not installed" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_without_the_tools_round_trips_are_simulated_only(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*arguments, "--round-trips", "--seconds", "30"]) == 0
    assert "simulated only: unshare is not installed" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "round_trips.json").read_text())
    assert {row["round_trip"] for row in rows} == {0.0, 0.05, 0.1, 0.3}
    assert not any("real" in row for row in rows)
    assert "2 % loss" in (tmp_path / "out" / "round_trips.md").read_text()


def test_a_run_too_short_to_settle_is_refused(arguments, capsys):
    assert main([*arguments, "--round-trips", "--seconds", "29"]) == 1
    assert "expected 30 or more" in capsys.readouterr().err


def test_a_run_too_short_for_one_event_is_refused():
    setting, trace = load_setting(C0), [1000.0] * 800
    with pytest.raises(ConfigError, match="--seconds is 2, expected") as told:
        experiment(setting, trace, 2)
    least = int(re.findall(r"expected (\d+)", str(told.value))[0])
    assert experiment(setting, trace, least)[0]
    with pytest.raises(ConfigError):
        experiment(setting, trace, least - 1)


@pytest.mark.slow
@pytest.mark.skipif(not_permitted() is not None, reason=f"no namespaces: {not_permitted()}")
def test_a_real_link_gives_what_the_simulator_says(arguments, tmp_path):
    assert main([*arguments, "--seconds", "9"]) == 0
    rows = json.loads((tmp_path / "out" / "real_link.json").read_text())
    for row in rows:
        simulated, real = row["simulated"], row["real"]
        assert real["w_alarm"] == pytest.approx(simulated["w_alarm"], abs=0.1)
        assert real["avg_visual_delay"] == pytest.approx(simulated["avg_visual_delay"], abs=0.2)
