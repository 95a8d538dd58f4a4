from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from eval.uplink.setting import Arrivals, Priorities, Setting, Sizes, Window, load_setting

C0 = Path("configs/transmission/c0.yaml")


def test_c0_is_read_field_by_field():
    assert load_setting(C0) == Setting(
        events=600,
        interval=1.0,
        visual_deadline=1.5,
        capture_spread=1.0,
        arrivals={
            "low": Arrivals(4.0, (1, 1)),
            "medium": Arrivals(1.0, (1, 1)),
            "burst": Arrivals(5.0, (4, 7)),
        },
        trace=Window(4300, 700, 1.9e6, "43add98ea48d72cc"),
        scales=(1.0, 0.5, 0.25),
        sizes=Sizes((450, 0.15), (42000, 0.45), (0.4, 1.0), (0.67, 1.0), 0.035),
        priority=Priorities(0.40, 0.5, 0.05, 0.5),
        parse={"json": 0.05, "box": 0.30, "roi": 0.31},
        bandwidth_only={"box_from": 0.7, "roi_from": 0.4},
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("events: 600", "event: 600"), "unknown key 'event'"),
        (("interval: 1.0", ""), "interval is missing"),
        (("gamma: 0.5", "gama: 0.5"), "priority: unknown key 'gama'"),
        (("events: 600", "events: [600"), "is not YAML"),
    ],
)
def test_a_setting_with_a_wrong_key_is_refused_by_its_name(tmp_path, change, message):
    path = tmp_path / "setting.yaml"
    path.write_text(C0.read_text().replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        load_setting(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("interval: 1.0", "interval: 0", "interval is 0, expected a number above 0"),
        ("interval: 1.0", "interval: fast", "interval is 'fast'"),
        ("events: 600", "events: 0", "events is 0"),
        ("events: 600", "events: 6.5", "events is 6.5"),
        ("events: 600", "events: true", "events is True"),
        ("seconds: 700", "seconds: 0", "trace: seconds is 0"),
        ("mean: 1.9e+6", "mean: .nan", "trace: mean is nan"),
        ("together: [4, 7]", "together: [7, 4]", "arrivals.burst: together is"),
        ("json: [450, 0.15]", "json: [450]", "sizes: json is"),
        ("severe: 0.40", "severe: 40", "priority: severe is 40, expected a number from 0 to 1"),
        ("lowest: 0.05", "lowest: 0.9", "priority: lowest is 0.9, above gamma"),
        ("scales: [1.0, 0.5, 0.25]", "scales: [0]", "scales is"),
        ("{json: 0.05, ", "{", "parse: json is missing"),
        ("{json: 0.05, ", "{json: slow, ", "parse: json is 'slow'"),
        (
            "low: {every: 4.0, together: [1, 1]}",
            "low: 4",
            "arrivals.low: 4 is not an object with the keys every, together",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_by_file_and_key(tmp_path, old, new, words):
    path = tmp_path / "setting.yaml"
    assert old in C0.read_text()
    path.write_text(C0.read_text().replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        load_setting(path)
    assert f"{path}: {words}" in str(refusal.value)
