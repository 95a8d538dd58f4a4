import asyncio
import ssl
import subprocess
import time

import pytest

from dat_runtime.edge.uplink.connection import MAX_RESPONSE_BYTES, Address, ClosedError, Connection
from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.names import Names
from dat_runtime.edge.uplink.sender import OutgoingAlert, OutgoingVisual, SendError
from dat_runtime.edge.uplink.settings import UplinkSettings
from tests.dat_runtime.edge.uplink import small_receiver as small
from tests.dat_runtime.edge.uplink.events import event, fill
from tests.dat_runtime.edge.uplink.small_receiver import SmallReceiver

PATIENCE = 0.5
"""Seconds that a request may take in these tests."""


async def opened(receiver, tls=None):
    address = Address.of(receiver.url, tls)
    return await Connection.open(address, Names(address.host), 5.0)


def asked(receiver, body=b"{}", tls=None, timeout=PATIENCE, method="PUT"):
    """What one request to the receiver gives, and how long it took."""

    async def ask():
        connection = await opened(receiver, tls)
        began = time.monotonic()
        try:
            return await connection.request(method, "/v1/nodes/n1", [], body, timeout)
        finally:
            connection.close()
            await asyncio.sleep(0)
            took.append(time.monotonic() - began)

    took = []
    try:
        return asyncio.run(ask()), took[0]
    except SendError as error:
        return error, took[0] if took else 0.0


@pytest.mark.parametrize("fault", [small.drip, small.only_1xx, small.endless])
def test_a_response_that_never_ends_is_given_up_in_time(fault):
    with SmallReceiver() as receiver:
        receiver.always = ("/", fault)
        error, took = asked(receiver)
    assert isinstance(error, SendError)
    assert took < PATIENCE + 2


def test_a_response_is_bounded_in_size():
    async def large(writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"x" * 900_000)
        await writer.drain()

    with SmallReceiver() as receiver:
        receiver.always = ("/", large)
        error, _ = asked(receiver, timeout=5)
    assert f"{MAX_RESPONSE_BYTES:,}" in str(error)


@pytest.mark.parametrize("fault", [small.close, small.close_in_the_middle])
def test_a_connection_that_closes_early_is_an_error_of_its_own(fault):
    with SmallReceiver() as receiver:
        receiver.always = ("/", fault)
        error, _ = asked(receiver, timeout=5)
    assert isinstance(error, SendError)
    assert isinstance(error, ClosedError) or "HTTP" in str(error)


def test_what_is_not_http_is_no_response():
    async def other(writer):
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()

    with SmallReceiver() as receiver:
        receiver.always = ("/", other)
        error, _ = asked(receiver, timeout=5)
    assert "is not HTTP" in str(error)


def test_a_server_that_reads_nothing_holds_a_request_no_longer_than_its_deadline():
    async def ask():
        async def silent(reader, writer):
            await ended.wait()
            writer.transport.abort()

        ended = asyncio.Event()

        server = await asyncio.start_server(silent, "127.0.0.1", 0, limit=1)
        port = server.sockets[0].getsockname()[1]
        address = Address("127.0.0.1", port, "", None)
        connection = await Connection.open(address, Names("127.0.0.1"), 5.0)
        try:
            await connection.request("PUT", "/", [], b"x" * 20_000_000, PATIENCE)
        finally:
            assert connection.progress().in_flight > 0  # the kernel knows what did not arrive
            connection.close()
            ended.set()
            server.close()
            await asyncio.sleep(0.05)

    began = time.monotonic()
    with pytest.raises(SendError, match="no whole response"):
        asyncio.run(ask())
    assert time.monotonic() - began < PATIENCE + 3


def test_an_early_refusal_ends_the_body():
    class Pieces:
        given = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.sleep(0.01)
            self.given += 1
            if self.given > 500:
                raise StopAsyncIteration
            return b"x" * 100

    async def refuse(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 413 too large\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.transport.abort()

    async def ask():
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], "", None)
        connection = await Connection.open(address, Names("127.0.0.1"), 5.0)
        pieces = Pieces()
        response = await connection.request("POST", "/v1/visuals", [], pieces, 10.0)
        reusable = connection.reusable
        connection.close()
        server.close()
        await asyncio.sleep(0.05)
        return response.status, pieces.given, reusable

    status, given, reusable = asyncio.run(ask())
    assert status == 413
    assert given < 400
    assert not reusable


def test_a_connection_serves_request_after_request_and_counts_what_arrived():
    async def ask(receiver):
        connection = await opened(receiver)
        arrived = [connection.progress().acknowledged]
        for _ in range(3):
            assert (await connection.request("PUT", "/v1/nodes/n1", [], b"{}", 5)).status == 204
            assert connection.reusable
            arrived.append(connection.progress().acknowledged)
        connection.close()
        await asyncio.sleep(0)
        return arrived

    with SmallReceiver() as receiver:
        arrived = asyncio.run(ask(receiver))
        assert receiver.connections == 1
    assert arrived[0] == 0
    assert arrived == sorted(set(arrived))


def test_nobody_listening_is_an_error_in_time():
    with SmallReceiver() as receiver:
        url = receiver.url
    with pytest.raises(SendError, match="cannot connect"):
        asyncio.run(Connection.open(Address.of(url, None), Names("127.0.0.1"), 2.0))


def test_a_name_that_does_not_exist_is_an_error_in_time():
    names = Names("no-such-host.invalid")
    address = Address("no-such-host.invalid", 80, "", None)
    began = time.monotonic()
    with pytest.raises(SendError, match=r"no (address|connection)"):
        asyncio.run(Connection.open(address, names, 2.0))
    assert time.monotonic() - began < 5


def test_addresses_are_written_as_http_wants_them():
    assert Address.of("http://[::1]:80/a/", None) == Address("::1", 80, "/a", None)
    assert Address.of("http://[::1]", None).host_header == "[::1]"
    assert Address.of("https://x.example:8443", None).host_header == "x.example:8443"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a receiver's certificate for 127.0.0.1 and a node's, as PEM files."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("receiver", "node"):
        openssl(
            "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "names", "-out", f"{name}.crt",
        )  # fmt: skip
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)
    return folder


def test_with_mutual_tls_only_a_node_with_a_certificate_is_served(certificates):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    server.load_cert_chain(certificates / "receiver.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    stranger = ssl.create_default_context(cafile=certificates / "ca.pem")
    node = ssl.create_default_context(cafile=certificates / "ca.pem")
    node.load_cert_chain(certificates / "node.pem")
    with SmallReceiver(server) as receiver:
        assert asked(receiver, tls=node, timeout=5)[0].status == 204
        assert isinstance(asked(receiver, tls=stranger, timeout=5)[0], SendError)
        # A receiver that the node does not trust gets nothing.
        unknown = ssl.create_default_context()
        assert "cannot connect" in str(asked(receiver, tls=unknown, timeout=5)[0])
        assert len(receiver.requests) == 1


def test_the_settings_of_a_way_make_tls_mutual_for_alerts_and_visuals(certificates, tmp_path):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    server.load_cert_chain(certificates / "receiver.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "token").write_text("secret")

    async def give():
        yield fill("a", 5_000)

    async def send(url):
        way = UplinkSettings(
            url,
            tmp_path / "token",
            1e6,
            certificate=certificates / "node.pem",
            authorities=certificates / "ca.pem",
        )
        sender = HttpSender(way, "n1")
        (answer,) = await sender.send_alerts([OutgoingAlert("a", event("a").json)])
        there = await sender.send_visual(OutgoingVisual("a", "roi", 5_000), lambda offset: give())
        progress = sender.progress()
        await sender.close()
        return answer.taken, there, progress

    with SmallReceiver(server) as receiver:
        taken, there, progress = asyncio.run(send(receiver.url))
    assert (taken, there) == (True, 5_000)
    assert progress.acknowledged > 5_000 + len(receiver.alerts["a"])  # what TLS adds is counted
    assert {r.headers["authorization"] for r in receiver.requests} == {"Bearer secret"}
