"""What each key of node.yaml may hold, at its bounds."""

from typing import Any

import pytest

from dat_runtime.edge import node_rules
from dat_runtime.edge.node_rules import MLLM, TOP, UPLINK, _address, _listens
from dat_runtime.edge.spool import LEAST_BYTES


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("https://a.example", True),
        ("http://a.example:1/x?y", True),
        ("http://user@h", True),
        ("http://[::1]:80", True),
        ("http://bücher.example", True),
        ("http://a b.example", False),
        ("http://a.example/x y", False),
        ("http://a\u00a0b", False),
        ("http://h:0", False),
        ("http://h:65535", True),
        ("http://h:65536", False),
        ("http://h:x", False),
        ("http://[::1", False),
        ("http://", False),
        ("mqtt://h", False),
        ("h", False),
        ("", False),
        (7, False),
        (None, False),
        (["http://h"], False),
    ],
)
def test_an_address_has_a_scheme_a_host_and_a_port_that_can_be(value: object, holds: bool) -> None:
    rule = _address("http", "https")
    assert rule.holds(value) is holds
    assert rule.expected == "an address that begins with http:// or https://"


def test_an_uplink_may_lead_to_a_broker_and_an_mllm_may_not() -> None:
    assert UPLINK["url"].holds("mqtts://h")
    assert not MLLM["url"].holds("mqtts://h")
    schemes = "http:// or https:// or mqtt:// or mqtts://"
    assert UPLINK["url"].expected == f"an address that begins with {schemes}"


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("127.0.0.1:0", True),
        ("h:65535", True),
        ("h:65536", False),
        ("h:99999", False),
        ("h:123456", False),
        ("h:", False),
        (":1", False),
        ("[::1]:9108", True),
        ("::1:9108", False),
        ("a_b-c.d:1", True),
        ("h:1 ", False),
        (9108, False),
        (b"h:1", False),
        (None, False),
    ],
)
def test_metrics_listen_on_a_host_and_a_port(value: object, holds: bool) -> None:
    assert _listens(value) is holds


@pytest.mark.parametrize(
    ("rules", "name", "good", "bad"),
    [
        ("TOP", "bundle", ["a", "a b/c"], ["", 7, "a\nb"]),
        ("TOP", "uplink", [{"a": 1}, [1]], [{}, [], "x", None]),
        ("TOP", "cameras", [[{}], [{}] * 1000], [[], [{}] * 1001, {}]),
        ("CAMERA", "fps", [0.001, 240], [0, 240.1, True]),
        ("MLLM", "model", ["m", "m" * 200], ["", "m" * 201, "m\n"]),
        ("MLLM", "concurrency", [1, 1024], [0, 1025, 1.5]),
        ("MLLM", "timeout", [0.1, 600], [0, 601]),
        ("MLLM", "restart", [["a"], ["a"] * 64], [[], ["a"] * 65, [""]]),
        ("OFFLOAD", "max_latency", [0.1, 3600], [0, 3601]),
        ("OFFLOAD", "min_accuracy", [0, 1], [-0.1, 1.1]),
        ("UPLINK", "initial_bytes_per_s", [0.1, 1e12], [0, 1.1e12]),
        ("SPOOL", "max_bytes", [LEAST_BYTES], [LEAST_BYTES - 1, 1e7]),
        ("SPOOL", "alert_reserve_bytes", [0], [-1]),
        ("UPDATES", "probation_minutes", [0, 100_000], [-1, 100_001]),
        ("UPDATES", "probation_frames", [0], [-1, 0.5]),
        ("UPDATES", "bytes_per_s", [0.1, 1e12], [0]),
    ],
)
def test_each_number_and_text_has_its_bounds(
    rules: str, name: str, good: list[Any], bad: list[Any]
) -> None:
    rule = getattr(node_rules, rules)[name]
    assert [rule.holds(value) for value in good] == [True] * len(good)
    assert [rule.holds(value) for value in bad] == [False] * len(bad)


def test_all_keys_of_the_top_are_known() -> None:
    assert list(TOP) == [
        "node",
        "bundle",
        "cameras",
        "mllm",
        "offload",
        "uplink",
        "spool",
        "metrics",
        "updates",
    ]
