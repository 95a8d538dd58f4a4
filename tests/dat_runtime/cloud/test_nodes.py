"""Nodes say how they are; the receiver judges their silence by its own clock."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from sqlalchemy import Connection, select

from dat_runtime.cloud import nodes
from dat_runtime.fields import Rule
from tests.dat_runtime.cloud.conftest import Running, running

STATUS: dict[str, Any] = {
    "schema": 1,
    "time": 1_769_860_800.0,
    "cameras": {"north": "online", "south": "silent"},
    "uplink": {"bytes_per_s": 125_000.0, "round_trip_s": None},
    "waiting": {"alerts": 0, "visuals": 3},
    "dropped": {"visuals: late": 2},
}


def put(
    receiver: Running, node: str = "n1", status: Any = STATUS, **headers: str
) -> httpx.Response:
    return receiver.client.put(f"/v1/nodes/{node}", json=status, headers=headers)


def listed(receiver: Running, **headers: str) -> list[Any]:
    found: list[Any] = receiver.client.get("/v1/nodes", headers=headers).json()["nodes"]
    return found


def test_the_last_status_of_each_node_is_listed(receiver: Running) -> None:
    assert listed(receiver) == []
    assert put(receiver).status_code == 204
    assert put(receiver, "n0").status_code == 204
    later = STATUS | {"waiting": {"alerts": 1, "visuals": 0}, "further": 1}
    later["not_fit"] = "never an alert does as well"
    assert put(receiver, "n0", later).status_code == 204
    first, second = listed(receiver)
    assert (first["node"], second["node"]) == ("n0", "n1")
    assert first["status"]["waiting"] == {"alerts": 1, "visuals": 0}
    assert first["status"]["not_fit"] == "never an alert does as well"
    assert second["status"] == STATUS
    assert first["state"] == "online"
    assert first["seen_at"] > 1.7e9


@pytest.mark.parametrize(
    ("silence", "state"),
    [(-86_400, "online"), (0, "online"), (24, "online"), (30, "late"), (61, "lost"), (1e9, "lost")],
)
def test_silence_is_judged(silence: float, state: str) -> None:
    assert nodes.state(silence) == state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"time": "now"}, "time is 'now'"),
        ({"cameras": ["a"]}, "cameras"),
        ({"cameras": {"a": "x" * 201}}, "cameras"),
        ({"cameras": {"a": "<b>\n"}}, "cameras"),
        ({"cameras": {str(n): "" for n in range(101)}}, "cameras"),
        ({"uplink": {}}, "uplink: bytes_per_s is missing"),
        ({"uplink": {"bytes_per_s": -1, "round_trip_s": 0}}, "uplink: bytes_per_s"),
        ({"waiting": {"alerts": 0.5, "visuals": 0}}, "waiting: alerts"),
        ({"dropped": {"late": -1}}, "dropped"),
    ],
)
def test_a_status_that_is_wrong_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        nodes.read_status(STATUS | change)


def test_what_is_no_status_is_refused(receiver: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert put(receiver, "a%20b").status_code == 400
    assert put(receiver, status=[]).status_code == 400
    assert put(receiver, status=STATUS | {"x": "y" * 20_000}).status_code == 413
    assert receiver.client.put("/v1/nodes/n1", content="{}").status_code == 415
    monkeypatch.setattr(nodes, "MAX_NODES", 1)
    assert put(receiver, "n1").status_code == 204
    assert put(receiver, "n2").status_code == 503
    assert [node["node"] for node in listed(receiver)] == ["n1"]


def test_a_node_speaks_for_itself_and_operators_see_all(store_url: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tone\nn2\ttwo\noperator\tboss\n")
    one, two, boss = ({"Authorization": f"Bearer {token}"} for token in ("one", "two", "boss"))
    with running(store_url, tmp_path / "data", tokens) as receiver:
        assert put(receiver).status_code == 401
        assert put(receiver, **two).status_code == 403
        assert put(receiver, **boss).status_code == 403
        assert put(receiver, **one).status_code == 204
        assert put(receiver, "n2", **two).status_code == 204
        assert receiver.client.get("/v1/nodes").status_code == 401
        assert [node["node"] for node in listed(receiver, **two)] == ["n2"]
        assert [node["node"] for node in listed(receiver, **boss)] == ["n1", "n2"]


@pytest.mark.parametrize(
    ("silence", "state"), [(25.0, "online"), (25.1, "late"), (60.0, "late"), (60.1, "lost")]
)
def test_a_node_is_late_and_lost_at_the_bounds(silence: float, state: str) -> None:
    assert nodes.state(silence) == state


LARGEST: dict[str, Any] = {
    "schema": 1,
    "time": 1e12,
    "cameras": {"c" * 100: "x" * 200} | {str(n): "" for n in range(99)},
    "uplink": {"bytes_per_s": 1e18, "round_trip_s": 0},
    "waiting": {"alerts": 10**15, "visuals": 0},
    "dropped": {str(n): 10**15 for n in range(100)},
    "not_fit": "x" * 200,
}


def test_a_status_at_its_bounds_is_read_and_what_is_not_known_is_left_out() -> None:
    assert nodes.read_status(LARGEST) == LARGEST
    more = {key: value | {"more": 1} for key, value in LARGEST.items() if key in PARTS}
    assert nodes.read_status(LARGEST | more | {"more": 1}) == LARGEST
    assert nodes.read_status(STATUS) == STATUS


PARTS = ("uplink", "waiting")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], "[] is not an object with the keys schema, time, cameras, uplink, waiting, dropped, "),
        ({"schema": True}, "schema is True, expected 1"),
        ({"time": 1.1e12}, "time is 1100000000000.0, expected a number from 0 to"),
        ({"cameras": {"c" * 101: ""}}, "cameras is "),
        ({"dropped": {str(n): 0 for n in range(101)}}, "dropped is "),
        ({"dropped": {"a": 10**15 + 1}}, "dropped is "),
        ({"not_fit": "x" * 201}, "not_fit is "),
        ({"waiting": {"alerts": 0}}, "waiting: visuals is missing"),
        ({"waiting": {"alerts": 0, "visuals": 10**15 + 1}}, "waiting: visuals is "),
        ({"uplink": {"bytes_per_s": 0, "round_trip_s": -1}}, "uplink: round_trip_s is -1"),
        ({"uplink": []}, "uplink is [], expected an object"),
    ],
)
def test_a_status_that_is_wrong_is_named(change: Any, words: str) -> None:
    value = STATUS | change if isinstance(change, dict) else change
    with pytest.raises(ValueError) as told:  # noqa: PT011
        nodes.read_status(value)
    assert str(told.value).startswith(words)


def test_an_object_of_so_many_entries_is_named_with_what_each_may_be() -> None:
    rule = nodes._named(Rule(lambda value: value == 1, "1"), 2)
    assert rule.expected == "an object of at most 2 entries, each 1"
    for value in ({}, {"a": 1}, {"a" * 100: 1, "b": 1}):
        assert rule.holds(value)
    for value in ({"a": 1, "b": 1, "c": 1}, {"a" * 101: 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}):
        assert not rule.holds(value)
    for other in ([], None, "a"):
        assert not rule.holds(other)


def test_the_last_status_counts_and_so_many_nodes_are_known(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "MAX_NODES", 2)
    nodes.seen(connection, "n2", STATUS, 5.0)
    nodes.seen(connection, "n1", LARGEST, 6.0)
    with pytest.raises(HTTPException) as told:
        nodes.seen(connection, "n3", STATUS, 7.0)
    assert (told.value.status_code, told.value.detail) == (503, "2 nodes are known already")
    nodes.seen(connection, "n2", LARGEST, 30.0)
    told_of = nodes.listed(connection, 55.5, None)
    assert told_of == [
        {"node": "n1", "state": "late", "seen_at": 6.0, "status": LARGEST},
        {"node": "n2", "state": "late", "seen_at": 30.0, "status": LARGEST},
    ]
    assert nodes.listed(connection, 55.0, "n2") == [told_of[1] | {"state": "online"}]
    assert nodes.listed(connection, 91.0, "n2")[0]["state"] == "lost"
    assert nodes.listed(connection, 55.5, "n3") == []
    kept = connection.execute(select(nodes.nodes.c.status)).scalars().first()
    assert kept == json.dumps(LARGEST, separators=(",", ":"))
