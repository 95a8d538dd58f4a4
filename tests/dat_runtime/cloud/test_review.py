"""Reviews: kept, counted, taken back, and told to whoever follows."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.dat_runtime.cloud.conftest import Running, alert, running


def judge(receiver: Running, id: str, verdict: str, **more: Any) -> httpx.Response:
    return receiver.client.post(f"/v1/events/{id}/review", json={"verdict": verdict} | more)


def reviews(receiver: Running, **asked: Any) -> list[dict[str, Any]]:
    answer = receiver.client.get("/v1/reviews", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["reviews"]
    return found


def test_a_review_is_kept_with_its_history_and_the_latest_verdict_counts(receiver: Running) -> None:
    receiver.post(alert("a"))
    assert judge(receiver, "a", "confirmed", note="seen").status_code == 201
    told = judge(receiver, "a", "dismissed", note="it was a shadow")
    assert told.status_code == 201
    assert told.json()["verdict"] == "dismissed"
    said = [(r["verdict"], r["note"], r["by"]) for r in told.json()["reviews"]]
    assert said == [("dismissed", "it was a shadow", "anyone"), ("confirmed", "seen", "anyone")]
    assert [r["verdict"] for r in reviews(receiver)] == ["confirmed", "dismissed"]
    assert [r["verdict"] for r in reviews(receiver, current="true")] == ["dismissed"]
    summary = receiver.client.get("/v1/reviews/summary").json()
    assert (summary["open"], summary["confirmed"], summary["dismissed"]) == (0, 0, 1)


def test_a_review_that_is_sent_twice_is_kept_once(receiver: Running) -> None:
    receiver.post(alert("a"))
    statuses = [judge(receiver, "a", "confirmed", note="n").status_code for _ in range(3)]
    assert statuses == [201, 200, 200]
    assert len(reviews(receiver)) == 1


def test_open_takes_a_verdict_back(receiver: Running) -> None:
    receiver.post(alert("a"))
    assert judge(receiver, "a", "open").status_code == 200  # it was open
    judge(receiver, "a", "confirmed")
    assert judge(receiver, "a", "open").json()["verdict"] is None
    assert reviews(receiver, current="true") == []
    listed = receiver.client.get("/v1/events?order=priority&verdict=open").json()["events"]
    assert [event["id"] for event in listed] == ["a"]


def test_whoever_follows_changes_sees_a_verdict(receiver: Running) -> None:
    receiver.post(alert("a"))
    place = receiver.client.get("/v1/reviews/summary").json()["changed"]
    followed = f"/v1/events?order=changed&after={place}"
    assert receiver.client.get(followed).json()["events"] == []
    judge(receiver, "a", "confirmed")
    assert [e["verdict"] for e in receiver.client.get(followed).json()["events"]] == ["confirmed"]


def test_reviews_are_paged_by_cursor_in_the_order_of_commit(receiver: Running) -> None:
    receiver.post([alert(f"e{i}") for i in range(7)])
    for i in range(7):
        judge(receiver, f"e{i}", "confirmed")
    seen, after = [], 0
    for _ in range(5):
        answer = receiver.client.get(f"/v1/reviews?after={after}&limit=3").json()
        seen += [review["id"] for review in answer["reviews"]]
        after = answer["next"]
    assert seen == [f"e{i}" for i in range(7)]
    newest = reviews(receiver, current="true", limit=3)
    assert [review["event"]["id"] for review in newest] == ["e6", "e5", "e4"]
    older = reviews(receiver, current="true", limit=3, after=newest[-1]["cursor"])
    assert [review["event"]["id"] for review in older] == ["e3", "e2", "e1"]


def test_an_event_that_was_dismissed_and_becomes_worse_is_open_again(receiver: Running) -> None:
    receiver.post(alert("a", priority=0.4))
    judge(receiver, "a", "dismissed")
    receiver.post(alert("a", priority=0.3, revision=1))
    assert receiver.client.get("/v1/events/a").json()["verdict"] == "dismissed"
    receiver.post(alert("a", priority=0.9, revision=2))
    told = receiver.client.get("/v1/events/a").json()
    assert told["verdict"] is None
    assert told["reviews"][0]["by"] == "receiver"
    assert told["reviews"][0]["note"] == "priority rose from 0.40 to 0.90 after it was dismissed"


def test_a_confirmed_event_stays_confirmed_whatever_comes(receiver: Running) -> None:
    receiver.post(alert("a", priority=0.4))
    judge(receiver, "a", "confirmed")
    receiver.post(alert("a", priority=0.9, revision=1))
    assert receiver.client.get("/v1/events/a").json()["verdict"] == "confirmed"


def test_an_outdated_view_dismisses_nothing_that_has_become_worse(receiver: Running) -> None:
    receiver.post(alert("a", priority=0.4))
    receiver.post(alert("a", priority=0.9, revision=1))
    refused = judge(receiver, "a", "dismissed", revision=0)
    assert refused.status_code == 409
    assert "look again" in refused.json()["detail"]
    assert judge(receiver, "a", "dismissed", revision=1).status_code == 201


WRONG: list[tuple[Any, str]] = [
    ({"verdict": "maybe"}, "verdict"),
    ({}, "verdict"),
    ({"verdict": "confirmed", "note": "x" * 1001}, "note"),
    ({"verdict": "confirmed", "note": "half \ud83d"}, "note"),
    ({"verdict": "confirmed", "note": "null \0"}, "note"),
    ({"verdict": "confirmed", "by": "me"}, "by"),
    ({"verdict": "confirmed", "revision": 7}, "revision"),
    ({"verdict": "confirmed", "revision": -1}, "revision"),
    ([], "verdict"),
]


def test_a_wrong_review_is_refused_by_the_name_of_its_field(receiver: Running) -> None:
    receiver.post(alert("a"))
    for body, named in WRONG:
        refused = receiver.client.post(
            "/v1/events/a/review",
            content=json.dumps(body),  # escaped: half a character has no bytes
            headers={"content-type": "application/json"},
        )
        assert refused.status_code == 400, body
        assert named in refused.json()["detail"]
    assert reviews(receiver) == []


def test_an_event_that_is_not_there_or_whose_node_is_open_is_not_judged(receiver: Running) -> None:
    assert judge(receiver, "a", "confirmed").status_code == 404
    for node in ("n1", "n2"):
        receiver.post(alert("a", node=node))
    assert judge(receiver, "a", "confirmed").status_code == 409
    path = "/v1/events/a/review?node=n2"
    assert receiver.client.post(path, json={"verdict": "confirmed"}).status_code == 201
    assert [review["node"] for review in reviews(receiver)] == ["n2"]


def test_operators_review_all_and_nodes_nothing_once_there_are_operators(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tnode-one\nn2\tnode-two\noperator:ada\toperates\n")
    with running(f"sqlite:///{tmp_path}/r.db", tmp_path / "data", tokens) as receiver:
        receiver.post(alert("a"), authorization="Bearer node-one")
        assert judge(receiver, "a", "confirmed").status_code == 401
        receiver.client.headers["authorization"] = "Bearer node-one"
        assert judge(receiver, "a", "confirmed").status_code == 403
        receiver.client.headers["authorization"] = "Bearer operates"
        assert judge(receiver, "a", "confirmed").json()["reviews"][0]["by"] == "operator:ada"
        receiver.client.headers["authorization"] = "Bearer node-two"
        assert reviews(receiver) == []
        summary = receiver.client.get("/v1/reviews/summary").json()
        assert (summary["open"], summary["confirmed"]) == (0, 0)


def test_a_node_reviews_its_own_events_while_there_is_no_operator(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tnode-one\nn2\tnode-two\n")
    with running(f"sqlite:///{tmp_path}/r.db", tmp_path / "data", tokens) as receiver:
        receiver.post(alert("a"), authorization="Bearer node-one")
        receiver.client.headers["authorization"] = "Bearer node-two"
        assert judge(receiver, "a", "confirmed").status_code == 404
        receiver.client.headers["authorization"] = "Bearer node-one"
        assert judge(receiver, "a", "confirmed").status_code == 201
