import pytest

from eval.uplink.baselines import bandwidth_only, dat, fixed, priority_only, schemes
from eval.uplink.sending import Scheme, waiting
from tests.eval.uplink.events import event


class TestBaselines:
    def pending(self, *events):
        return [waiting(e, Scheme("x", dat())) for e in events]

    def units(self, planned):
        return [(unit.event_id, unit.kind) for unit in planned]

    def test_fixed_is_first_in_first_out_and_knows_no_budget(self):
        events = self.pending(event("a", priority=0.1), event("b", priority=0.9))
        planned = fixed(("box",))(events, 1.0)
        assert self.units(planned) == [("a", "json"), ("a", "box"), ("b", "json"), ("b", "box")]

    def test_priority_only_sends_boxes_of_severe_events_and_rois_of_others(self):
        events = self.pending(event("mild", priority=0.2), event("severe", priority=0.8))
        assert self.units(priority_only(events, 1.0)) == [
            ("severe", "json"),
            ("severe", "box"),
            ("mild", "json"),
            ("mild", "roi"),
        ]

    @pytest.mark.parametrize(
        ("rate", "kinds"), [(700, ["json", "box"]), (500, ["json", "roi"]), (300, ["json"])]
    )
    def test_bandwidth_only_chooses_the_visual_by_bandwidth_alone(self, rate, kinds):
        planner = bandwidth_only(1000.0, 0.7, 0.4)
        planned = planner(self.pending(event()), rate)
        assert [unit.kind for unit in planned] == kinds

    def test_bandwidth_only_keeps_its_budget(self):
        planner = bandwidth_only(100.0, 0.7, 0.4)
        planned = planner(self.pending(event("a"), event("b")), 550)
        assert self.units(planned) == [("a", "json"), ("a", "box")]

    @pytest.mark.parametrize("scheme", schemes(1000.0, 0.7, 0.4), ids=lambda s: s.name)
    def test_every_scheme_has_the_signature_of_plan_and_sends_nothing_without_bandwidth(
        self, scheme
    ):
        assert scheme.planner(self.pending(event()), 0.0, 1.0, 1.5, None) == []
