"""Visuals as a node sends them."""

import base64

import cv2
import httpx
import numpy as np

from tests.dat_runtime.cloud.conftest import Running


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """A picture that looks like no other seed's: large blocks of random colours."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    image = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
    return bytes(cv2.imencode(".jpg", image)[1])


def send_visual(
    receiver: Running, id: str, kind: str, content: bytes, **headers: str
) -> httpx.Response:
    """Send a visual whole, with its creation (tus 1.0.0, creation-with-upload)."""
    words = {"event": id, "kind": kind}
    metadata = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in words.items())
    tus = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(content)),
        "Upload-Metadata": metadata,
        "Content-Type": "application/offset+octet-stream",
    }
    answer = receiver.client.post("/v1/visuals", content=content, headers=tus | headers)
    assert answer.status_code == 201, answer.text
    return answer
