import pytest

from eval.uplink.perfect import PACKET_HEAD, perfect_delays


def test_alone_an_alert_takes_its_bytes_and_one_behind_it_waits_for_them() -> None:
    assert perfect_delays([0.0, 5.0], 1_000, 0, 50e3) == pytest.approx([0.02, 0.02])
    assert perfect_delays([0.0, 0.005], 1_000, 0, 50e3) == pytest.approx([0.02, 0.035])


def test_it_waits_for_the_piece_of_a_visual_that_is_on_the_link_and_for_no_other() -> None:
    first, second = perfect_delays([0.0, 0.025], 1_000, 10_000, 50e3, piece=940)
    assert PACKET_HEAD + 940 == 1_000
    assert (first, second) == pytest.approx((0.02, 0.035))


def test_what_is_lost_goes_again_at_once_before_what_came_meanwhile() -> None:
    # The first packet is lost with this seed, the next ones are not.
    lost = perfect_delays([0.0, 0.001], 1_000, 0, 50e3, loss=0.5, seed=1)
    assert lost == pytest.approx([0.04, 0.059])
