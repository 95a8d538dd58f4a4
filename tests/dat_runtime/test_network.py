from pathlib import Path

import pytest

from dat_runtime.network import client_tls, is_loopback


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_only(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.7", "::", "localhost.example", "a b"])
def test_elsewhere_or_everywhere(host: str) -> None:
    assert not is_loopback(host)


def test_files_without_certificates_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for authorities, certificate in (
        (tmp_path / "empty.pem", None),
        (None, tmp_path / "empty.pem"),
        (tmp_path / "none.pem", None),
    ):
        with pytest.raises(OSError, match=r"\S"):
            client_tls(authorities, certificate)
