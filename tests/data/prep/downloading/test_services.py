import base64
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dat_runtime.errors import ConfigError, DataError
from data.prep.downloading.services import fetch_kaggle, fetch_roboflow, kaggle, roboflow
from data.prep.downloading.transfer import Service


def packed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data/train/a.txt", "hello" * 1000)
    return buffer.getvalue()


class Site:
    """A local site that plays Kaggle, Roboflow and the storage that both redirect to."""

    def __init__(self):
        self.content = packed()
        self.log = []
        self.busy = self.cut = self.making = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.log.append((self.path, dict(self.headers)))
                site.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.other = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        for server in (self.server, self.other):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://127.0.0.1:{self.other.server_port}"

    def answer(self, request):
        path, _, query = request.path.partition("?")
        if self.busy:
            self.busy -= 1
            return self.send(request, 503, b"")
        if path.startswith("/storage"):
            return self.stored(request)
        if path.startswith("/api/v1/datasets/download/"):
            if request.headers.get("Authorization") != self.expected:
                return self.send(request, 401, b"")
            if not path.endswith("/me/set"):
                return self.send(request, 404, b"")
            return self.send(request, 302, b"", Location=f"{self.storage}/storage/set.zip?X=1")
        if "api_key=SECRET" not in query:
            return self.send(request, 401, b"{}")
        if self.making:
            self.making -= 1
            return self.send(request, 202, b'{"progress": 0.5}')
        link = f'{{"export": {{"link": "{self.storage}/storage/export?key=x"}}}}'
        return self.send(request, 200, link.encode())

    def stored(self, request):
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        body = self.content[start:]
        status = 206 if start else 200
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cut:
            self.cut -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)

    def send(self, request, status, body, **headers):
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body)

    expected = "Basic " + base64.b64encode(b"me:SECRET").decode()


@pytest.fixture
def site():
    made = Site()
    yield made
    for server in (made.server, made.other):
        server.shutdown()
        server.server_close()


@pytest.fixture
def mine(site):
    return kaggle({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "SECRET"}, f"{site.url}/api/v1")


def at_once(_seconds):
    """In place of waiting."""


def test_a_kaggle_set_is_fetched_with_the_users_key_and_unpacked(site, mine, tmp_path):
    folder = fetch_kaggle("me/set", tmp_path / "src", mine, at_once)
    assert (folder / "data/train/a.txt").read_text() == "hello" * 1000
    assert sorted(p.name for p in (tmp_path / "src").iterdir()) == ["set"]
    requests = len(site.log)
    fetch_kaggle("me/set", tmp_path / "src", mine, at_once)
    assert len(site.log) == requests


def test_the_key_does_not_follow_a_redirect_to_another_host(site, mine, tmp_path):
    fetch_kaggle("me/set", tmp_path, mine, at_once)
    sent = {path.partition("?")[0]: headers for path, headers in site.log}
    assert "Authorization" in sent["/api/v1/datasets/download/me/set"]
    assert "Authorization" not in sent["/storage/set.zip"]


def test_a_cut_download_goes_on_where_it_stopped(site, mine, tmp_path):
    site.cut = 2
    folder = fetch_kaggle("me/set", tmp_path, mine, at_once)
    assert (folder / "data/train/a.txt").exists()
    ranges = [h["Range"] for p, h in site.log if p.startswith("/storage") and "Range" in h]
    assert len(ranges) == 2


def test_a_busy_server_is_asked_again_and_not_for_ever(site, mine, tmp_path):
    site.busy = 3
    assert fetch_kaggle("me/set", tmp_path / "a", mine, at_once).is_dir()
    site.busy = 100
    with pytest.raises(DataError, match=r"gave up after 6 attempts: .* answers 503"):
        fetch_kaggle("me/set", tmp_path / "b", mine, at_once)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("me/nothing", DataError, "404, no such set"),
        ("../../etc", ConfigError, "expected OWNER/NAME"),
        ("me", ConfigError, "expected OWNER/NAME"),
    ],
)
def test_a_set_that_is_not_there_is_named(site, mine, tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        fetch_kaggle(name, tmp_path, mine, at_once)


def test_refused_credentials_are_reported_without_being_shown(site, tmp_path, capsys):
    wrong = kaggle({"KAGGLE_API_TOKEN": "TOKEN"}, f"{site.url}/api/v1")
    with pytest.raises(ConfigError, match="401") as caught:
        fetch_kaggle("me/set", tmp_path, wrong, at_once)
    assert site.log[-1][1]["Authorization"] == "Bearer TOKEN"
    for text in (str(caught.value), capsys.readouterr().out, repr(wrong)):
        assert "TOKEN" not in text
    assert list(tmp_path.iterdir()) == []


def test_kaggle_json_is_read_where_the_official_client_keeps_it(tmp_path):
    (tmp_path / "kaggle.json").write_text('{"username": "me", "key": "SECRET"}')
    found = kaggle({"KAGGLE_CONFIG_DIR": str(tmp_path)})
    assert found.headers["Authorization"] == Site.expected
    assert found.endpoint == "https://www.kaggle.com/api/v1"


def test_missing_credentials_say_where_to_put_them(tmp_path):
    with pytest.raises(ConfigError, match="KAGGLE_API_TOKEN"):
        kaggle({"KAGGLE_CONFIG_DIR": str(tmp_path)})
    with pytest.raises(ConfigError, match="ROBOFLOW_API_KEY"):
        roboflow({})


def test_a_roboflow_version_is_fetched_when_its_export_is_ready(site, tmp_path):
    site.making = 2
    mine = roboflow({"ROBOFLOW_API_KEY": "SECRET"}, site.url)
    folder = fetch_roboflow("me/set/3", tmp_path, mine, pause=at_once)
    assert folder == tmp_path / "set-3"
    assert (folder / "data/train/a.txt").exists()
    assert site.log[0][0].startswith("/me/set/3/yolov8?")
    assert all("SECRET" not in path for path, _ in site.log if path.startswith("/storage"))


def test_a_refused_roboflow_key_is_not_shown(site, tmp_path):
    mine = Service(site.url, params={"api_key": "WRONG"})
    with pytest.raises(ConfigError, match="401") as caught:
        fetch_roboflow("me/set/3", tmp_path, mine, pause=at_once)
    assert "WRONG" not in str(caught.value)
