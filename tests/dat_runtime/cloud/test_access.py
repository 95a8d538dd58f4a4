"""Who may do what: tokens, operators, loopback, rates."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dat_runtime.cloud import access as access_module
from dat_runtime.cloud.access import Access, read_tokens
from dat_runtime.cloud.rates import Rates
from dat_runtime.errors import ConfigError
from tests.dat_runtime.cloud.conftest import Running, alert

TOKENS = "n1\tsecret-one\nn2\tsecret-two\n\n# people\noperator:anna\tsecret-anna\n"


@pytest.fixture
def guarded(make_receiver: Callable[..., Running]) -> Running:
    return make_receiver(TOKENS)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_known_token_nothing_is_told_or_taken(guarded: Running) -> None:
    for headers in (
        {},
        bearer("wrong"),
        bearer("secret-on"),
        bearer("secret-one2"),
        {"Authorization": "Basic x"},
    ):
        assert guarded.post(alert(), **headers).status_code == 401
        for path in ("/v1/events", "/v1/events/n1-000001", "/v1/session"):
            answer = guarded.client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_token(guarded: Running) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert guarded.client.get(path).status_code == 200


def test_other_methods_and_other_paths_are_told_apart(guarded: Running) -> None:
    for method in ("DELETE", "PUT", "HEAD", "OPTIONS"):
        answer = guarded.client.request(method, "/v1/events")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    # No redirect: behind a proxy it would lead from https to http, with the token.
    for path in ("/v1/events/", "/healthz/", "//v1/events"):
        assert guarded.client.get(path).status_code == 404
    assert guarded.client.head("/healthz").status_code == 200


def test_a_node_sends_for_itself_only(guarded: Running) -> None:
    assert guarded.post(alert(node="n1"), **bearer("secret-one")).status_code == 201
    answer = guarded.post(alert(node="n2"), **bearer("secret-one"))
    assert answer.status_code == 403
    assert "n1" in answer.json()["detail"]
    mixed = [alert("a", "n1"), alert("b", "n2")]
    assert guarded.post(mixed, **bearer("secret-one")).status_code == 403
    told = guarded.client.get("/v1/events", headers=bearer("secret-anna")).json()
    assert [event["id"] for event in told["events"]] == ["n1-000001"]


def test_a_node_reads_its_own_events_only(guarded: Running) -> None:
    guarded.post(alert("mine", "n1"), **bearer("secret-one"))
    guarded.post(alert("other", "n2"), **bearer("secret-two"))
    guarded.post(alert("both", "n1"), **bearer("secret-one"))
    guarded.post(alert("both", "n2"), **bearer("secret-two"))
    one = bearer("secret-one")
    told = guarded.client.get("/v1/events", headers=one).json()
    assert [event["id"] for event in told["events"]] == ["mine", "both"]
    assert guarded.client.get("/v1/events?node=n2", headers=one).status_code == 403
    for path in ("/v1/events/other", "/v1/events/other?node=n2"):
        assert guarded.client.get(path, headers=one).status_code == 404
    assert guarded.client.get("/v1/events/both", headers=one).json()["node"] == "n1"


def test_an_operator_reads_all_and_sends_nothing(guarded: Running) -> None:
    anna = bearer("secret-anna")
    guarded.post(alert("a", "n1"), **bearer("secret-one"))
    guarded.post(alert("b", "n2"), **bearer("secret-two"))
    assert len(guarded.client.get("/v1/events", headers=anna).json()["events"]) == 2
    assert guarded.post(alert("c"), **anna).status_code == 403
    assert guarded.client.get("/v1/session", headers=anna).json() == {
        "name": "operator:anna",
        "node": None,
        "reviews": True,
    }


def test_nodes_review_only_while_there_is_no_operator(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKENS)
    assert {who.name: who.reviews for who in read_tokens(file).values()} == {
        "n1": False,
        "n2": False,
        "operator:anna": True,
    }
    file.write_text("n1\tsecret-one\n")
    assert [who.reviews for who in read_tokens(file).values()] == [True]


def test_a_browser_gets_a_cookie_that_no_script_reads(guarded: Running) -> None:
    assert guarded.client.post("/v1/session", json={"token": "wrong"}).status_code == 401
    answer = guarded.client.post("/v1/session", json={"token": "secret-anna"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.client.get("/v1/events").status_code == 200  # the client keeps the cookie
    assert guarded.client.get("/v1/events", headers=bearer("wrong")).status_code == 401
    assert "secure" not in cookie
    sent = {"X-Forwarded-Proto": "https"}  # as a proxy on this machine says it
    answer = guarded.client.post("/v1/session", json={"token": "secret-anna"}, headers=sent)
    assert "secure" in answer.headers["set-cookie"].lower()
    assert guarded.client.delete("/v1/session").status_code == 204
    assert guarded.client.get("/v1/events").status_code == 401


@pytest.mark.parametrize("body", ["{}", "[]", '{"token": 1}', '{"token": ""}', "x", "[" * 3000])
def test_a_session_without_a_token_is_refused(guarded: Running, body: str) -> None:
    head = {"content-type": "application/json"}
    assert guarded.client.post("/v1/session", content=body, headers=head).status_code == 400


def test_a_token_may_stand_in_the_file_as_its_digest_only(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"n1\tsha256:{hashlib.sha256(b'secret-one').hexdigest()}\n")
    access = Access(file)
    who = access.of("secret-one")
    assert who is not None
    assert who.node == "n1"
    assert access.of(file.read_text().split("\t")[1].strip()) is None


def test_only_digests_are_held(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKENS)
    assert "secret" not in repr(vars(Access(file)))


def test_the_file_is_read_again_when_it_changes_and_the_old_tokens_hold_while_it_is_wrong(
    tmp_path: Path,
) -> None:
    now = [0.0]
    file = tmp_path / "tokens"
    file.write_text("n1\told\n")
    access = Access(file, clock=lambda: now[0])

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, ns=(time.time_ns(), time.time_ns() + len(text)))
        now[0] += 2

    write("n1\tnew-token\n")
    assert access.of("old") is None
    assert access.of("new-token") is not None
    write("n1 without a tab\n")
    assert access.of("new-token") is not None
    assert "expected NODE<TAB>TOKEN" in access.problem
    file.unlink()
    now[0] += 2
    assert access.of("new-token") is not None
    assert "cannot be read" in access.problem
    write("n1\tthird\n")
    assert access.of("third") is not None
    assert access.problem == ""


def test_a_wrong_file_is_told_by_readyz_which_stays_ready(
    guarded: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "LOOK_EVERY", 0.0)
    (tmp_path / "tokens").write_text("n1\n")
    assert guarded.post(alert(), **bearer("secret-one")).status_code == 201
    told = guarded.client.get("/readyz")
    assert told.status_code == 200
    assert "expected NODE<TAB>TOKEN" in told.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "nobody could send"),
        ("n1 token\n", ":1: expected NODE<TAB>TOKEN"),
        ("n1\t\n", ":1: expected"),
        ("n1\ta\n../n2\tb\n", ":2: "),
        ("operator:\ta\n", ":1: "),
        ("n1\tschlüssel\n", ":1: a token is of printable ASCII"),
        ("n1\tsame\nn2\tsame\n", "same token"),
    ],
)
def test_a_wrong_file_of_tokens_is_named_with_its_line(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named) as told:
        read_tokens(file)
    assert "same\n" not in str(told.value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "attacker.example"}, 403),
        ({"Host": "127.0.0.1.attacker.example:8080"}, 403),
        ({"Host": "localhost.attacker.example"}, 403),
        ({"Host": "192.0.2.1"}, 403),
    ],
)
def test_without_tokens_a_foreign_name_for_loopback_is_refused(
    sqlite_receiver: Running, headers: dict[str, str], status: int
) -> None:
    """A page of another site can make its own name resolve to 127.0.0.1 (DNS rebinding)."""
    assert sqlite_receiver.client.get("/v1/events", headers=headers).status_code == status


def test_without_tokens_a_page_of_another_site_changes_nothing(sqlite_receiver: Running) -> None:
    assert sqlite_receiver.post(alert(), Origin="http://attacker.example").status_code == 403
    assert sqlite_receiver.post(alert(), Origin="null").status_code == 403
    assert sqlite_receiver.post(alert(), Origin=sqlite_receiver.url).status_code == 201


def test_a_node_that_sends_too_much_is_told_when_to_come_again(guarded: Running) -> None:
    guarded.inside.rates = Rates(rate=5, burst=10)
    one, two = bearer("secret-one"), bearer("secret-two")
    assert guarded.post([alert(f"e{n}") for n in range(10)], **one).status_code == 201
    answer = guarded.post([alert(f"f{n}") for n in range(8)], **one)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert guarded.post(alert("x", "n2"), **two).status_code == 201


def test_a_node_that_asks_too_often_is_told_when_to_come_again(guarded: Running) -> None:
    guarded.inside.reads = Rates(rate=1, burst=3)
    one, anna = bearer("secret-one"), bearer("secret-anna")
    statuses = [guarded.client.get("/v1/events", headers=one).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    for _ in range(10):
        assert guarded.client.get("/v1/events", headers=anna).status_code == 200


def test_tokens_of_a_bucket_come_back_with_time_and_never_above_its_burst() -> None:
    now = [0.0]
    rates = Rates(rate=2, burst=4, clock=lambda: now[0])

    def taken(name: str) -> int:
        count = 0
        while count < 100:
            try:
                rates.take(name)
            except Exception:
                return count
            count += 1
        return count

    assert taken("n1") == 4
    now[0] += 1
    assert taken("n1") == 2
    now[0] += 1000
    assert taken("n1") == 4
    rates.take("n2", 50)  # a whole bucket is enough for any batch, and owes the rest
    now[0] += 10
    assert taken("n2") == 0


def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from dat_runtime.cloud import rates as module

    monkeypatch.setattr(module, "MAX_NODES", 10)
    now = [0.0]
    rates = Rates(rate=1, burst=1, clock=lambda: now[0])
    for n in range(1000):
        now[0] += 0.2
        rates.take(f"n{n}")
    assert len(rates._buckets) <= 12


def test_the_metrics_count_what_came_and_what_was_refused(guarded: Running) -> None:
    guarded.post(alert(), **bearer("secret-one"))
    guarded.post(alert(), **bearer("secret-one"))
    guarded.post(alert())
    told = guarded.client.get("/metrics").text
    assert 'dat_receiver_alerts_total{outcome="created"} 1.0' in told
    assert 'dat_receiver_alerts_total{outcome="unchanged"} 1.0' in told
    assert 'dat_receiver_refused_total{status="401"} 1.0' in told
    assert "secret" not in told


def test_what_a_receiver_is_made_of_is_not_told(guarded: Running) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert guarded.client.get(path).status_code == 404
    assert "server" not in guarded.client.get("/healthz").headers
    problem = guarded.client.get("/v1/events")
    assert problem.headers["content-type"] == "application/problem+json"
    assert json.loads(problem.text)["status"] == 401
