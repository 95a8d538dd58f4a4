from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from eval.uplink import studies
from eval.uplink.arrivals import Event, draw, level_of_priority, read_events
from eval.uplink.setting import load_setting

C0 = Path("configs/transmission/c0.yaml")


class TestDraws:
    setting = load_setting(C0)

    def test_the_same_seed_gives_the_same_events_and_another_seed_others(self):
        assert draw(self.setting, "burst", 1) == draw(self.setting, "burst", 1)
        assert draw(self.setting, "burst", 1) != draw(self.setting, "burst", 2)

    def test_sizes_and_priorities_are_c0s(self):
        events = [e for seed in range(20) for e in draw(self.setting, "burst", seed)]
        mean = {
            "json": sum(e.json_bytes for e in events) / len(events),
            "box": sum(e.box_bytes for e in events) / len(events),
            "rois": sum(e.rois_bytes or 0 for e in events)
            / sum(e.rois_bytes is not None for e in events),
        }
        assert mean["json"] == pytest.approx(450, rel=0.02)
        assert mean["box"] == pytest.approx(42_000, rel=0.02)
        assert mean["rois"] == pytest.approx(45_000, rel=0.03)
        without = sum(e.roi_bytes is None for e in events) / len(events)
        assert without == pytest.approx(0.035, abs=0.005)
        severe = sum(e.priority >= 0.75 for e in events) / len(events)
        assert severe == pytest.approx(0.40, abs=0.02)

    def test_events_enter_at_interval_starts_up_to_a_second_after_capture(self):
        for pattern in self.setting.arrivals:
            for e in draw(studies.perturbed(self.setting, 60_000, 3), pattern, 0):
                assert e.entered_at == int(e.entered_at)
                assert 0 <= e.entered_at - e.captured_at <= 1

    def test_a_priority_gives_back_its_level_and_score(self):
        assert level_of_priority(0.5 + 0.5 * 0.6, 0.5, 0.5) == pytest.approx((1, 0.6))
        assert level_of_priority(0.5 * 0.3, 0.5, 0.5) == pytest.approx((0, 0.3))

    def test_predicted_priorities_differ_but_stay_in_range(self):
        events = draw(self.setting, "burst", 0)
        seen = studies.predicted(self.setting, events, 0)
        assert all(0 <= e.priority <= 1 for e in seen)
        assert seen != events


def test_the_events_of_a_log_are_shifted_to_the_start_of_the_trace(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_text('{"id": "a", "priority": 0.9, "json_bytes": 100, "captured_at": 77.25}')
    assert read_events(log)[0].captured_at == 1.0


def test_the_events_of_a_log_come_in_order_of_capture_with_one_roi_for_all(tmp_path):
    log = tmp_path / "events.jsonl"
    later = '{"id": "b", "priority": 0.9, "json_bytes": 100, "captured_at": 79.5'
    first = '{"id": "a", "priority": 0.2, "json_bytes": 90, "captured_at": 77.25}'
    log.write_text(f'{later}, "roi_bytes": 300, "box_bytes": 700}}\n{first}\n')
    assert read_events(log) == [
        Event("a", 1.0, 1.0, 0.2, 90, None, None, None),
        Event("b", 3.25, 3.25, 0.9, 100, 300, 300, 700),
    ]


def test_a_log_without_events_is_named(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_text("")
    with pytest.raises(DataError) as refused:
        read_events(log)
    assert str(refused.value) == f"{log}: holds no event"


def test_codes_of_a_log_are_refused_since_no_run_sends_them(tmp_path):
    log = tmp_path / "events.jsonl"
    line = '{"id": "cam1-1", "priority": 0.5, "json_bytes": 455'
    log.write_text(f'{line}, "code_bytes": 4256}}\n', "utf-8")
    with pytest.raises(
        DataError, match="event 'cam1-1' has a code, and codes are not replayed"
    ) as e:
        read_events(log)
    assert str(log) in str(e.value)
    log.write_text(f'{line}, "code_bytes": null}}\n', "utf-8")
    assert len(read_events(log)) == 1
