"""Where a broker listens, and what may not stand in its address."""

import re
from pathlib import Path

import pytest

from dat_runtime.broker import Broker, tls_of
from dat_runtime.errors import ConfigError

NO_ADDRESS = "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
MORE = "a broker's address ends with its port; the password stands in a file"
IN_THE_CLEAR = "a password goes to mqtts:// and loopback only"


@pytest.mark.parametrize(
    ("url", "broker", "shown"),
    [
        ("mqtt://h", Broker("h", 1883, False), "mqtt://h:1883"),
        ("mqtts://h/", Broker("h", 8883, True), "mqtts://h:8883"),
        ("mqtt://h:1", Broker("h", 1, False), "mqtt://h:1"),
        ("mqtts://a%40b@h:65535", Broker("h", 65535, True, "a@b"), "mqtts://h:65535"),
        ("mqtt://[::1]:7", Broker("::1", 7, False), "mqtt://[::1]:7"),
    ],
)
def test_an_address_names_host_port_user_and_whether_to_encrypt(
    url: str, broker: Broker, shown: str
) -> None:
    assert Broker.of(url) == broker
    assert str(broker) == shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://h:65536", f"'mqtt://h:65536': {NO_ADDRESS}"),
        ("mqtt://h:x", f"'mqtt://h:x': {NO_ADDRESS}"),
        ("mqtt://h:0", f"'mqtt://h:0': {NO_ADDRESS}"),
        ("mqtt://:1", f"'mqtt://:1': {NO_ADDRESS}"),
        ("http://ann:secret@h", f"'h': {NO_ADDRESS}"),
        ("x" * 81, f"'{'x' * 80}': {NO_ADDRESS}"),
        ("mqtts://ann:secret@h", f"'h': {MORE}"),
        ("mqtts://ann:@h", f"'h': {MORE}"),
        ("mqtt://h/topic", f"'mqtt://h/topic': {MORE}"),
        ("mqtt://h?qos=1", f"'mqtt://h?qos=1': {MORE}"),
    ],
)
def test_what_is_no_address_or_holds_a_password_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}$"):
        Broker.of(url)


def test_a_password_travels_encrypted_or_not_at_all() -> None:
    for url in ("mqtts://h", "mqtt://localhost", "mqtt://127.0.0.1"):
        assert Broker.of(url, password="secret").password == "secret"
    with pytest.raises(ConfigError, match=f"^'mqtt://h': {re.escape(IN_THE_CLEAR)}$"):
        Broker.of("mqtt://h", password="secret")


def test_the_user_of_the_address_goes_first_and_the_rest_is_kept() -> None:
    files = {"certificate": Path("c"), "authorities": Path("a")}
    broker = Broker.of("mqtts://h", user="ann", password="secret", **files)
    assert broker == Broker("h", 8883, True, "ann", "secret", Path("c"), Path("a"))
    assert Broker.of("mqtts://bob@h", user="ann").user == "bob"


@pytest.mark.parametrize("file", ["certificate", "authorities"])
def test_a_certificate_that_cannot_be_read_names_the_broker(tmp_path: Path, file: str) -> None:
    broker = Broker("h", 7, True, **{file: tmp_path / "none"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^mqtts://h:7: a certificate cannot be read \(.*No"):
        tls_of(broker)
