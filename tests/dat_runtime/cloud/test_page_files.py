"""The files of the operator's page and what goes with them; no browser."""

import hashlib
from importlib import resources

import pytest

pytest.importorskip("fastapi")

from fastapi import Request

from dat_runtime.cloud import page


def request(tags: str | None = None) -> Request:
    headers = [] if tags is None else [(b"if-none-match", tags.encode())]
    return Request({"type": "http", "headers": headers})


def test_the_files_are_read_with_their_types_and_tags() -> None:
    files = page._files()
    assert {"index.html", "page.js"} <= set(files)
    folder = resources.files("dat_runtime.cloud").joinpath("page")
    types = {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }
    for name, file in files.items():
        assert file.content == folder.joinpath(name).read_bytes()
        assert file.media_type == types[name.rpartition(".")[2]]
        assert file.etag == f'"{hashlib.sha256(file.content).hexdigest()[:32]}"'


def test_a_file_goes_with_its_policy_and_once() -> None:
    file = page._files()["index.html"]
    answer = page._answer(file, request())
    assert (answer.status_code, answer.body) == (200, file.content)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = page._POLICY | {"ETag": file.etag}
    assert {name: answer.headers[name] for name in policy} == policy
    for known in (file.etag, f"W/{file.etag}", f'"x" , {file.etag}', f'"x",{file.etag},"y"'):
        again = page._answer(file, request(known))
        assert (again.status_code, again.body) == (304, b"")
        assert {name: again.headers[name] for name in policy} == policy
    for other in ('"x"', file.etag.strip('"'), ""):
        assert page._answer(file, request(other)).status_code == 200
