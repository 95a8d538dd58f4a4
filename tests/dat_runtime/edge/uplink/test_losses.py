import random

from dat_runtime.edge.uplink.losses import Losses
from dat_runtime.edge.uplink.sender import Progress


def seen(*counts):
    losses = Losses()
    for packets, resent in counts:
        losses.read(Progress(0, 0, None, packets=packets, resent=resent))
    return losses.is_lossy


def test_a_path_is_lossy_when_about_one_packet_in_a_hundred_is_sent_again():
    assert seen((400, 3))
    assert seen((200, 1), (400, 3))
    assert not seen((400, 2))
    assert not seen((401, 3))


def test_what_was_lost_long_ago_is_forgotten():
    counts = [(100, 8)] + [(100 + 100 * step, 8) for step in range(1, 30)]
    assert seen(*counts[:2])
    assert not seen(*counts)


def test_a_connection_that_ends_takes_its_count_with_it():
    assert not seen((1_000, 2), (10, 0), (500, 2))
    assert seen((1_000, 2), (10, 0), (500, 3), (510, 5))


def test_a_packet_that_was_only_late_is_not_lost():
    """A link that slows down: TCP repeats three, and the other end says that it had them."""
    assert seen((400, 3))
    assert not seen((380, 3), (390, 1))
    assert not seen((100, 2), (110, 0), (120, 2))


def test_past_800_packets_those_until_then_count_half():
    assert seen((800, 6))
    assert not seen((801, 6))
    assert seen((801, 8), (900, 8))
    assert not seen((801, 8), (936, 8))


def test_a_path_that_loses_two_in_a_hundred_is_nearly_always_lossy():
    chance = random.Random(0)
    losses, resent, lossy = Losses(), 0, []
    for packets in range(1, 40_001):
        resent += chance.random() < 0.02
        losses.read(Progress(0, 0, None, packets=packets, resent=resent))
        lossy.append(losses.is_lossy)
    assert sum(lossy[400:]) > 0.98 * len(lossy[400:])


def test_what_is_sent_again_alone_counts_and_the_count_of_a_new_connection_does_not():
    assert seen((100, 0), (100, 3))
    assert not seen((300, 2), (10, 3))
