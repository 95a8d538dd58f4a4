"""In place of trained models: a gate and an MLLM that know the rendered stills by heart.

They show how the parts work together and say nothing about how well a model sees. The MLLM answers
over HTTP as vLLM does, so that the node asks it as it asks any other, and now and then it takes
longer than an alert can wait.
"""

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from dat_runtime.answer import dump, target
from dat_runtime.draw import Image, size_of
from dat_runtime.types import Accident, Detection
from export.live.scenes import Album

MODEL = "recorded"
QUICK, SLOW = 0.3, 2.5
"""Seconds for an answer; the second is more than an event waits."""

EVERY = 4
"""One in so many answers is slow."""

_CONFIDENCES = {"severe": 0.9, "moderate": 0.6}
_SUMMARIES = {
    "severe": "A severe collision: vehicles are badly damaged and block the road.",
    "moderate": "A collision: vehicles stand damaged on the road.",
    "none": "No accident.",
}


class RecordedGate:
    """A `Detector` that finds what was rendered."""

    def __init__(self, album: Album):
        self._album = album

    def detect(self, image: Image) -> tuple[Detection, ...]:
        found = [
            Detection(a.box.to(size_of(image)), a.severity, _CONFIDENCES[a.severity])
            for a in self._album.accidents(image)
        ]
        return tuple(sorted(found, key=lambda detection: -detection.confidence))


def answer(album: Album, png: bytes) -> str:
    """What an MLLM that knows the still says of a picture, boxes in its pixels."""
    image = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    size = size_of(image)
    said = target([Accident(a.box.to(size), a.severity) for a in album.accidents(image)])
    return dump(replace(said, summary=_SUMMARIES[said.severity]))


@contextmanager
def mllm(album: Album) -> Iterator[str]:
    """An OpenAI-compatible server on loopback, while the context lasts; its address."""
    turns = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(SLOW if next(turns) % EVERY == 0 else QUICK)
            message = {"role": "assistant", "content": answer(album, _picture(request))}
            content = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _picture(request: dict[str, Any]) -> bytes:
    """The image of a chat request (`dat_runtime.chat`)."""
    parts = request["messages"][-1]["content"]
    url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    return base64.b64decode(url.partition(",")[2])
