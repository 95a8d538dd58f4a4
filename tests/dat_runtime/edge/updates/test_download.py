import asyncio
import hashlib
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dat_runtime.edge.updates.download import download
from dat_runtime.edge.updates.served_file import PIECE, DownloadError

CONTENT = random.Random(0).randbytes(5 * PIECE + 123)


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            ranges.append(self.headers["range"])
            if server.faults and server.faults.pop(0) == "close":
                self.close_connection = True
                return
            if not server.knows_ranges:
                self.send_response(200)
                self.send_header("content-length", str(len(server.content)))
                self.end_headers()
                self.wfile.write(server.content)
                return
            first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
            piece = server.content[first : last + 1]
            self.send_response(206)
            self.send_header("content-range", f"bytes {first}-{last}/{len(CONTENT)}")
            self.send_header("content-length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece)

        def log_message(self, *_):
            pass

    ranges = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.ranges, server.faults, server.content = ranges, [], CONTENT
    server.knows_ranges = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def bring(server, file, rate=1e9, is_busy=lambda: False):
    url = f"http://127.0.0.1:{server.server_port}/adapter"
    told = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    asyncio.run(download(url, file, **told, bytes_per_s=rate, is_busy=is_busy))


def test_a_file_comes_in_pieces_and_is_there_when_it_is_whole(server, tmp_path):
    bring(server, tmp_path / "adapter")
    assert (tmp_path / "adapter").read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [tmp_path / "adapter"]
    assert len(server.ranges) == 6


def test_a_download_goes_on_where_it_ended(server, tmp_path):
    (tmp_path / "adapter.part").write_bytes(CONTENT[: 3 * PIECE])
    server.faults = ["close", "", "close"]
    bring(server, tmp_path / "adapter")
    assert (tmp_path / "adapter").read_bytes() == CONTENT
    assert server.ranges[0] == f"bytes={3 * PIECE}-{4 * PIECE - 1}"


def test_the_rate_is_capped(server, tmp_path):
    began = time.monotonic()
    bring(server, tmp_path / "adapter", rate=len(CONTENT) / 0.5)
    assert time.monotonic() - began >= 0.5


def test_it_waits_while_something_more_important_is_under_way(server, tmp_path):
    until = time.monotonic() + 0.3
    asked = []

    def is_busy():
        asked.append(len(server.ranges))
        return time.monotonic() < until

    bring(server, tmp_path / "adapter", is_busy=is_busy)
    assert asked[1] == 0  # nothing was asked for meanwhile
    assert (tmp_path / "adapter").read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadError, match="sha256 differs"):
        bring(server, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


def test_more_than_was_stated_is_never_kept(server, tmp_path):
    (tmp_path / "adapter.part").write_bytes(CONTENT + b"more")
    bring(server, tmp_path / "adapter")
    assert (tmp_path / "adapter").read_bytes() == CONTENT


@pytest.mark.parametrize("had", [b"", CONTENT[: 2 * PIECE], b"other" * PIECE])
def test_a_server_without_ranges_gives_the_whole_file_from_its_beginning(server, tmp_path, had):
    server.knows_ranges = False
    (tmp_path / "adapter.part").write_bytes(had)
    bring(server, tmp_path / "adapter")
    assert (tmp_path / "adapter").read_bytes() == CONTENT
    assert server.ranges[-1] is None


def test_the_rate_of_a_whole_file_is_capped_too(server, tmp_path):
    server.knows_ranges = False
    began = time.monotonic()
    bring(server, tmp_path / "adapter", rate=len(CONTENT) / 0.5)
    # All but the last of the five pieces is waited for.
    assert time.monotonic() - began >= 0.35


def test_a_whole_file_waits_too_while_something_more_important_is_under_way(server, tmp_path):
    server.knows_ranges = False
    part = tmp_path / "adapter.part"
    looks = []

    def is_busy():
        """From the second piece on, for three looks."""
        here = part.stat().st_size if part.exists() else 0
        if here < PIECE or len(looks) == 3:
            return False
        looks.append(here)
        return True

    bring(server, tmp_path / "adapter", is_busy=is_busy)
    assert len(set(looks)) == 1
    assert looks[0] < len(CONTENT)
    assert (tmp_path / "adapter").read_bytes() == CONTENT


@pytest.mark.parametrize("more", [b"x", b"x" * 3 * PIECE])
def test_a_whole_file_that_is_longer_than_stated_is_refused(server, tmp_path, more):
    server.knows_ranges = False
    server.content = CONTENT + more
    with pytest.raises(DownloadError, match="more than 163,963 bytes"):
        bring(server, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_whole_file_that_ends_too_early_is_refused(server, tmp_path):
    server.knows_ranges = False
    server.content = CONTENT[:-1]
    with pytest.raises(DownloadError, match="ends after 163,962 bytes"):
        bring(server, tmp_path / "adapter")
