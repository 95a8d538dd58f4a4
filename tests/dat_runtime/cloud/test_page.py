"""What the operator sees and does: the real page in a real browser, against a real receiver."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dat_runtime.cloud import page as page_module
from tests.dat_runtime.cloud.conftest import Running, alert, running
from tests.dat_runtime.cloud.evidence import jpeg, send_visual

PAGE = Path(page_module.__file__).parent / "page"
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name is looked up
]
PATIENCE = 20_000
"""Milliseconds that the browser waits for what has to appear: generous on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Running]:
    with running(f"sqlite:///{tmp_path}/receiver.db", tmp_path / "data") as receiver:
        yield receiver


@pytest.fixture
def visit(browser: Any, receiver: Running) -> Iterator[Callable[..., Any]]:
    """Opens the page; afterwards no error was thrown and no other host was asked."""
    contexts, errors, hosts = [], [], set()

    def visit(url: str = "", ready: bool = True, **options: Any) -> Any:
        options.setdefault("viewport", {"width": 1200, "height": 800})
        context = browser.new_context(locale="en-GB", reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(httpx.URL(request.url).host))
        page.goto((url or receiver.url) + "/")
        if ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert errors == []
    assert hosts <= {"127.0.0.1"}


def rows(page: Any) -> list[str]:
    """The ids of the listed events, from top to bottom."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('#list li')]"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map((row) => row.dataset.key.split('/')[1])"
    )
    return found


def wait_for_text(page: Any, selector: str, text: str) -> None:
    page.locator(selector).filter(has_text=text).first.wait_for()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what the browser cannot wait for: the page's policy forbids scripts from texts."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


def selected(page: Any) -> str:
    key: str = page.locator("#list li[aria-selected=true]").get_attribute("data-key")
    return key.partition("/")[2]


def verdict(receiver: Running, id: str) -> str | None:
    found: str | None = receiver.client.get(f"/v1/events/{id}").json()["verdict"]
    return found


def three(receiver: Running) -> None:
    receiver.post([alert("low", priority=0.2), alert("top", priority=0.9), alert("mid")])
    receiver.post(alert("mid", priority=0.5, revision=1))


def test_large_alerts_hide_none_of_those_after_them(receiver: Running, visit: Any) -> None:
    """A page of them is shorter than was asked for, and not the end."""
    large = [alert(f"e{n}") | {"comment": "é" * 5_000} for n in range(40)]
    assert receiver.post(large).status_code == 201
    receiver.post(alert("last", priority=0.1))
    page = visit()
    deadline = time.monotonic() + PATIENCE / 1000
    while "last" not in rows(page) and time.monotonic() < deadline:
        page.evaluate("document.querySelector('#list li:last-child').scrollIntoView()")
        page.keyboard.press("j")
    assert "last" in rows(page)


def test_an_alert_appears_soon_after_its_commit(receiver: Running, visit: Any) -> None:
    page = visit()
    assert "Nothing is open" in page.locator("#tail").inner_text()
    for number in range(3):
        receiver.post(alert(f"e{number}", priority=0.1 * number))
        begun = time.monotonic()
        page.wait_for_selector(f"#list li[data-key='n1/e{number}']")
        assert time.monotonic() - begun < 10  # `benchmarks/page.py` measures it
    assert rows(page) == ["e2", "e1", "e0"]
    eventually(lambda: page.title() == "(3) DAT review")


def test_the_most_urgent_comes_first_and_says_what_it_is(receiver: Running, visit: Any) -> None:
    three(receiver)
    receiver.post(alert("odd", priority=0.95, conflict=True, source="gate", degraded="it hangs"))
    page = visit()
    assert rows(page) == ["odd", "top", "mid", "low"]
    text = page.locator("#list li[data-key='n1/odd']").inner_text()
    for word in ("severe", "0.95", "north · n1", "A car lies overturned.", "conflict", "degraded"):
        assert word in text
    assert "r1" in page.locator("#list li[data-key='n1/mid']").inner_text()


def test_events_are_judged_by_keyboard_alone(receiver: Running, visit: Any) -> None:
    three(receiver)
    page = visit()
    press = page.keyboard.press
    press("j")
    assert selected(page) == "top"
    press("j")
    press("ArrowDown")
    press("k")
    assert selected(page) == "mid"
    press("m")
    page.keyboard.type("cd?/ u")  # in a note, letters are letters
    press("Escape")
    press("c")
    page.wait_for_selector("#list li[data-key='n1/mid']", state="detached")
    told = receiver.client.get("/v1/events/mid").json()
    assert told["verdict"] == "confirmed"
    assert told["reviews"][0]["note"] == "cd?/ u"
    assert told["reviews"][0]["revision"] == 1
    assert selected(page) == "low"  # the one that took its place
    press("d")
    page.wait_for_selector("#list li[data-key='n1/low']", state="detached")
    assert verdict(receiver, "low") == "dismissed"
    press("u")
    page.wait_for_selector("#list li[data-key='n1/low']")
    assert verdict(receiver, "low") is None
    press("o")
    page.wait_for_selector("body[data-ready=judged]")
    assert rows(page) == ["mid"]
    with page.expect_download() as download:
        page.click("#tail a")
    assert download.value.suggested_filename == "reviews.zip"
    press("?")
    assert page.locator("#help").is_visible()
    press("Escape")
    assert not page.locator("#help").is_visible()


def test_a_change_of_mind_is_kept_and_told(receiver: Running, visit: Any) -> None:
    receiver.post(alert("a"))
    page = visit()
    page.keyboard.press("j")
    page.keyboard.press("c")
    wait_for_text(page, "#toast", "Confirmed")
    page.keyboard.press("o")
    page.wait_for_selector("#list li[data-key='n1/a'] .badge.confirmed")
    page.keyboard.press("j")
    page.keyboard.press("d")
    page.wait_for_selector("#list li[data-key='n1/a'] .badge.dismissed")
    page.locator(".history li").nth(2).wait_for()
    history = page.locator(".history").inner_text()
    assert history.index("Alert") < history.index("Confirmed") < history.index("Dismissed")


def test_a_key_that_is_held_down_judges_one_event(receiver: Running, visit: Any) -> None:
    three(receiver)
    page = visit()
    page.keyboard.press("j")
    page.keyboard.down("c")
    page.wait_for_selector("#list li[data-key='n1/top']", state="detached")
    for _ in range(5):
        page.keyboard.down("c")  # as a keyboard repeats it
    page.wait_for_timeout(300)
    assert rows(page) == ["mid", "low"]


def test_a_dismissal_of_what_became_worse_meanwhile_is_not_saved(
    receiver: Running, visit: Any
) -> None:
    receiver.post(alert("a", priority=0.4))
    page = visit()
    page.keyboard.press("j")
    page.route("**/v1/events?order=changed*", lambda route: route.abort())
    page.wait_for_selector("#lost:visible")  # the page does not hear of the next revision
    receiver.post(alert("a", priority=0.9, revision=1))
    page.keyboard.press("d")
    wait_for_text(page, "#toast", "look again")
    assert verdict(receiver, "a") is None


def test_the_filter_leaves_what_matches(receiver: Running, visit: Any) -> None:
    three(receiver)
    receiver.post(alert("odd", node="harbour", priority=0.6))
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("HARBOUR overturned")
    assert rows(page) == ["odd"]
    assert "1 match" in page.locator("#tail").inner_text()
    page.keyboard.press("Escape")
    assert rows(page) == ["top", "odd", "mid", "low"]


def test_evidence_appears_as_it_arrives_under_boxes_in_its_place(
    receiver: Running, visit: Any
) -> None:
    receiver.post(alert("a"))  # ROI [10, 20, 110, 220], box [12, 24, 100, 200]
    page = visit()
    page.keyboard.press("j")
    assert page.locator("#details .figures image").count() == 0
    assert page.locator("#details figure.box .roi").count() == 1
    send_visual(receiver, "a", "roi", jpeg(100, 200))
    page.wait_for_selector("#details figure.roi image")
    send_visual(receiver, "a", "box", jpeg(640, 480))
    page.wait_for_selector("#details figure.box image")
    page.wait_for_selector("#list li image")
    for kind, size in (("roi", (100, 200)), ("box", (640, 480))):
        picture, box = page.evaluate(
            "(kind) => ['image', '.box'].map((part) => {"
            "  const { x, y, width, height } ="
            "    document.querySelector(`figure.${kind} ${part}`).getBoundingClientRect();"
            "  return { x, y, width, height };"
            "})",
            kind,
        )
        corner = (10, 20) if kind == "roi" else (0, 0)
        scale = picture["width"] / size[0]
        assert picture["height"] == pytest.approx(size[1] * scale, abs=1)
        assert box["x"] - picture["x"] == pytest.approx((12 - corner[0]) * scale, abs=3)
        assert box["y"] - picture["y"] == pytest.approx((24 - corner[1]) * scale, abs=3)
        assert box["width"] == pytest.approx(88 * scale, abs=6)
    page.keyboard.press("b")
    assert page.locator("#details .box:not(figure)").count() == 0


def test_a_picture_of_an_earlier_revision_keeps_its_own_boxes(
    receiver: Running, visit: Any
) -> None:
    receiver.post(alert("a"))
    send_visual(receiver, "a", "roi", jpeg(100, 200))
    receiver.post(alert("a", revision=1, roi=[300, 100, 400, 300]))
    page = visit()
    page.keyboard.press("j")
    wait_for_text(page, "figure.roi figcaption", "of revision 0")
    assert page.locator("figure.roi image").get_attribute("x") == "10"


def test_what_is_read_does_not_move_when_new_events_come(receiver: Running, visit: Any) -> None:
    receiver.post([alert(f"e{i:02}", priority=0.3 + 0.01 * i) for i in range(30)])
    page = visit()
    for _ in range(3):
        page.keyboard.press("j")
    before = page.locator("#list li[aria-selected=true]").bounding_box()
    receiver.post([alert("new", priority=0.99), alert("calm", priority=0.98)])
    page.wait_for_selector("#pill:visible")
    wait_for_text(page, "#pill", "2 new, 2 severe")
    assert page.locator("#list li[aria-selected=true]").bounding_box() == before
    assert selected(page) == "e27"
    page.keyboard.press("n")
    assert rows(page)[:2] == ["new", "calm"]
    assert not page.locator("#pill").is_visible()


def test_many_events_are_paged_and_few_are_elements(receiver: Running, visit: Any) -> None:
    receiver.post([alert(f"e{i:03}", priority=i / 1000) for i in range(350)])
    page = visit()
    most = 0
    deadline = time.monotonic() + 30
    while "e000" not in rows(page) and time.monotonic() < deadline:
        page.evaluate("document.querySelector('#scroll').scrollTop += 6000")
        page.wait_for_timeout(60)
        most = max(most, page.locator("#list li").count())
    assert rows(page)[-1] == "e000"
    assert most < 60


def test_html_from_outside_is_text(receiver: Running, visit: Any) -> None:
    evil = "<img src=x onerror=\"document.body.dataset.run='1'\"><script>alert(1)</script>"
    said = alert("a")["data"]["answer"] | {"summary": evil}
    receiver.post(alert("a", answer=said, degraded=evil, source="gate", versions={"bundle": evil}))
    receiver.client.post("/v1/events/a/review", json={"verdict": "confirmed", "note": evil})
    receiver.client.post("/v1/events/a/review", json={"verdict": "open"})
    page = visit()
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.dismiss()))
    page.keyboard.press("j")
    page.locator(".history li").nth(2).wait_for()
    assert page.locator(".lead").inner_text() == evil
    assert evil in page.locator("#list li .summary").text_content()
    assert evil in page.locator(".history").inner_text()
    assert page.locator("img, #details script").count() == 0
    assert (dialogs, page.evaluate("document.body.dataset.run ?? null")) == ([], None)
    # Even HTML that slipped in would not run: the policy forbids it.
    page.evaluate("(html) => { document.querySelector('.lead').innerHTML = html; }", evil)
    page.wait_for_timeout(200)
    assert (dialogs, page.evaluate("document.body.dataset.run ?? null")) == ([], None)


def test_a_lost_receiver_is_told_and_found_again(receiver: Running, visit: Any) -> None:
    receiver.post(alert("a"))
    page = visit()
    page.context.set_offline(True)
    page.wait_for_selector("#lost:visible")
    banner = page.locator("#lost").inner_text()
    assert re.search(r"Showing what was known at \d\d:\d\d:\d\d", banner), banner
    assert rows(page) == ["a"]
    page.keyboard.press("j")
    page.keyboard.press("c")
    wait_for_text(page, "#toast", "Not saved")
    receiver.post(alert("b", priority=0.95))
    page.context.set_offline(False)
    page.wait_for_selector("#lost", state="hidden")
    page.click("#toast button")
    page.wait_for_selector("#list li[data-key='n1/a']", state="detached")
    assert verdict(receiver, "a") == "confirmed"
    assert rows(page) == ["b"]


def test_a_phone_shows_one_thing_at_a_time_with_large_targets(
    receiver: Running, visit: Any
) -> None:
    three(receiver)
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert not page.locator("#details").is_visible()
    page.tap("#list li[data-key='n1/top']")
    assert page.locator("#details").is_visible()
    for name in (".confirm", ".dismiss", ".back"):
        box = page.locator(f"#details {name}").bounding_box()
        assert box["height"] >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.go_back()
    assert not page.locator("#details").is_visible()
    page.tap("#list li[data-key='n1/top']")
    page.tap("#details .dismiss")
    page.wait_for_selector("#list li[data-key='n1/top']", state="detached")
    assert verdict(receiver, "top") == "dismissed"
    page.tap("#toast button")
    wait_for_text(page, "#toast", "Opened again")
    assert verdict(receiver, "top") is None


def test_a_link_leads_to_an_event(receiver: Running, visit: Any) -> None:
    three(receiver)
    page = visit(f"{receiver.url}/#n1/low")
    wait_for_text(page, ".facts", "low")
    page.keyboard.press("Escape")  # does not leave the page
    assert page.url == f"{receiver.url}/"
    assert rows(page) == ["top", "mid", "low"]


def test_where_tokens_are_needed_the_page_asks_for_one(visit: Any, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("n1\tsends\noperator\toperates\n")
    with running(f"sqlite:///{tmp_path}/t.db", tmp_path / "t", tokens) as receiver:
        receiver.post(alert("a"), authorization="Bearer sends")
        page = visit(receiver.url, ready=False)
        page.wait_for_selector("#sign-in:visible")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        wait_for_text(page, "#sign-in-problem", "not known")
        page.fill("#token", "operates")
        page.keyboard.press("Enter")
        page.wait_for_selector("#list li")
        assert page.evaluate("document.cookie") == ""  # no script can read it
        page.keyboard.press("j")
        page.keyboard.press("c")
        wait_for_text(page, "#toast", "Confirmed")
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.locator("#sign-out").is_visible()
        page.click("#sign-out")
        page.wait_for_selector("#sign-in:visible")


UNFIT = "never <img src=x onerror=alert(1)> does as well"
"""A bundle may say anything of itself."""


def test_nodes_and_cameras_that_are_away_are_told(receiver: Running, visit: Any) -> None:
    status = {
        "schema": 1,
        "time": 0,
        "cameras": {"north": "live", "south": "silent"},
        "uplink": {"bytes_per_s": 48_000, "round_trip_s": 0.08},
        "waiting": {"alerts": 0, "visuals": 3},
        "dropped": {"visuals: expired": 12},
        "not_fit": UNFIT,
    }
    assert receiver.client.put("/v1/nodes/n1", json=status).status_code == 204
    page = visit()
    wait_for_text(page, "#link", "1 node, 1 camera away")
    page.click("#link")
    text = page.locator("#nodes").inner_text()
    for words in ("n1", "online", "48 kB/s, 80 ms", "3 pictures", "expired 12", "south silent"):
        assert words in text
    assert UNFIT in text
    assert page.locator("#nodes img").count() == 0


def test_the_page_needs_nothing_inline_and_is_asked_for_anew(receiver: Running) -> None:
    answer = receiver.client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-cache"
    again = receiver.client.get("/", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in PAGE.iterdir():
        assert receiver.client.get(f"/page/{name.name}").content == name.read_bytes()
    for name in ("", "nothing.js", "../page.py", "..%2fpage.py", "%2e%2e/page.py"):
        assert receiver.client.get(f"/page/{name}").status_code == 404


def forbidden(text: str) -> list[str]:
    """What the policy would block, or what would turn a text from outside into HTML."""
    patterns = (
        r"<script(?![^>]*\bsrc=)",
        r"<style",
        r"\bstyle=",
        r"\son\w+=\"",
        r"(?:inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(",
        r"https?://(?!www\.w3\.org/)",
    )
    return [pattern for pattern in patterns if re.search(pattern, text)]


def test_no_file_of_the_page_holds_what_is_forbidden() -> None:
    files = sorted(PAGE.iterdir())
    assert len(files) > 8
    assert {file.name: forbidden(file.read_text()) for file in files} == {
        file.name: [] for file in files
    }


@pytest.mark.parametrize(
    "text",
    [
        "<script>go()</script>",
        '<p style="color:red">',
        '<b onclick="go()">',
        "row.innerHTML = event.summary",
        '<link href="https://cdn.example/x.css">',
    ],
)
def test_what_is_forbidden_is_found(text: str) -> None:
    assert len(forbidden(text)) == 1


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour if len(colour) == 6 else "".join(2 * c for c in colour)
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_have_contrast_aa_by_day_and_by_night() -> None:
    assert contrast("fff", "000") == pytest.approx(21)
    assert contrast("777777", "ffffff") < 4.5  # a grey that would fail
    themes = re.findall(r":root \{(.*?)\n\s*\}", (PAGE / "style.css").read_text(), re.DOTALL)[:2]
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6}|[0-9a-f]{3});", theme))
        pairs = [(text, on) for text in ("ink", "dim") for on in ("panel", "ground", "chosen")]
        pairs += [(text, on) for text in ("severe", "moderate") for on in ("panel", "chosen")]
        pairs += [(name, f"{name}-ground") for name in ("severe", "moderate", "fine")]
        pairs += [("on-accent", "accent"), ("dim", "quiet-ground"), ("panel", "severe")]
        found = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in pairs}
        assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}
