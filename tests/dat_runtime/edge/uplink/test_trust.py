import pytest

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


@pytest.mark.parametrize("content", ["", "  \n", "two\nlines", "schlüssel"])
def test_a_file_without_a_token_is_named(content, tmp_path):
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match="token"):
        token_in(file)
    file.write_text(" secret\n")
    assert token_in(file) == "secret"


def test_a_certificate_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "c.pem").write_text("nothing")
    for more in ({"certificate": tmp_path / "c.pem"}, {"authorities": tmp_path / "missing.pem"}):
        with pytest.raises(ConfigError, match=r"\.pem: holds no certificate"):
            tls_context(settings("https://a.example", **more))
