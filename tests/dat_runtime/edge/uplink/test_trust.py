import pytest

from dat_runtime.edge.uplink import trust
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.trust import require_safe, tls_context, token_in
from dat_runtime.errors import ConfigError


def settings(url, token=None, **more):
    return UplinkSettings(url, token, 1e5, **more)


@pytest.mark.parametrize(
    "url",
    ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:1", "http://localhost/prefix"],
)
def test_a_token_goes_to_https_and_loopback(url, tmp_path):
    require_safe(settings(url, tmp_path / "token"))


@pytest.mark.parametrize("url", ["http://a.example", "http://10.0.0.7:8080"])
def test_a_token_goes_nowhere_else(url, tmp_path):
    with pytest.raises(ConfigError, match="https and loopback"):
        require_safe(settings(url, tmp_path / "token"))
    require_safe(settings(url))  # without one there is nothing to steal


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example",
        "https://",
        "https://a.example:port",
        "https://user:secret@a.example",
        "https://a.example/?x=1",
        "a.example",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="is no address"):
        require_safe(settings(url))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://user:secret@a.example/x?y", "https://a.example"),
        ("https://a.example#part", "https://a.example"),
        ("https://a.example:0", "https://a.example"),
        ("https://", "https://"),
        ("ftp://a.example:port", "ftp://a.example"),
    ],
)
def test_of_an_address_that_is_none_no_password_is_told(url, named):
    with pytest.raises(ConfigError) as caught:
        require_safe(settings(url))
    assert str(caught.value) == (
        f"{named}... is no address such as https://alerts.example: a host, a port and a path; "
        "no user, password or question, and the token has a file of its own"
    )


def test_whom_a_token_would_be_shown_to_is_told(tmp_path):
    with pytest.raises(ConfigError) as caught:
        require_safe(settings("http://a.example:81/x", tmp_path / "token"))
    words = "a token goes to https and loopback addresses only, not to http://a.example"
    assert str(caught.value) == words


@pytest.mark.parametrize("content", ["", "  \n", "two\nlines", "schlüssel"])
def test_a_file_without_a_token_is_named(content, tmp_path):
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    with pytest.raises(ConfigError) as caught:
        token_in(file)
    assert str(caught.value) == f"{file}: holds no token: one line of printable ASCII"
    file.write_text(" secret\n")
    assert token_in(file) == "secret"


def test_a_certificate_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "c.pem").write_text("nothing")
    for more in ({"certificate": tmp_path / "c.pem"}, {"authorities": tmp_path / "missing.pem"}):
        with pytest.raises(ConfigError, match=r"\.pem: holds no certificate"):
            tls_context(settings("https://a.example", **more))


def test_no_token_file_is_no_token_and_one_that_is_missing_is_named(tmp_path):
    assert token_in(None) == ""
    with pytest.raises(ConfigError, match=r"token: .*it holds the node's token"):
        token_in(tmp_path / "token")


def test_certificate_and_authorities_go_each_to_its_place(monkeypatch, tmp_path):
    asked = []

    def tls(*files):
        asked.append(files)
        if broken:
            raise OSError("no PEM")
        return "context"

    monkeypatch.setattr(trust, "client_tls", tls)
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    broken = False
    both = settings("https://a.example", certificate=mine, authorities=theirs)
    assert tls_context(both) == "context"
    assert asked == [(theirs, mine)]
    broken = True
    only = settings("https://a.example", authorities=theirs)
    for way, file in ((both, mine), (only, theirs)):
        with pytest.raises(ConfigError) as caught:
            tls_context(way)
        words = "holds no certificate that can be used (no PEM)"
        assert str(caught.value) == f"{file}: {words}"
