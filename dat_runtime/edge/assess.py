"""Asking the MLLM about a boxed image (Eq. 3): one method, an endpoint or a recorded answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dat_runtime import chat
from dat_runtime.chat import Reply
from dat_runtime.endpoint import MAX_RESPONSE_BYTES, Endpoint
from dat_runtime.files import read_text


class Assessor(Protocol):
    """Whatever can look at one image and answer in text."""

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        """The answer about one image, boxes in its pixels.

        Raises:
            AssessmentError: there is no answer.
        """
        ...


class RecordedAssessor:
    """Gives one recorded answer, whatever it is asked."""

    def __init__(self, text: str):
        self._text = text

    @classmethod
    def from_file(cls, path: Path) -> "RecordedAssessor":
        """The text of a file is the answer.

        Raises:
            DataError: the file cannot be read as UTF-8 text, or is longer than any answer.
        """
        return cls(read_text(path, most_bytes=MAX_RESPONSE_BYTES))

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        return self._text


class EndpointAssessor(Endpoint):
    """An OpenAI-compatible chat endpoint, such as vLLM with the adapter loaded.

    Args:
        url, options: as `Endpoint` takes them.
        model: the name under which the endpoint serves the model.
        request: fields to set in each request, such as `{"max_tokens": 512}`; `None` leaves a
            field out, for endpoints that refuse it.

    Raises:
        ValueError: as `Endpoint`.
    """

    def __init__(
        self, url: str, model: str, *, request: Mapping[str, Any] | None = None, **options: Any
    ):
        super().__init__(url, **options)
        self._model = model
        self._fields = dict(request or {})

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        return self.ask(png, system, prompt).text

    def ask(self, png: bytes, system: str, prompt: str) -> Reply:
        """The answer about one image, boxes in its pixels, with the number of its tokens.

        Raises:
            AssessmentRefused: the endpoint will not answer this question.
            AssessmentError: there is no answer.
        """
        fields = chat.request(self._model, png, system, prompt) | self._fields
        return self.wait({name: value for name, value in fields.items() if value is not None})
