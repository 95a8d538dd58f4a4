"""LLaMA-Factory's server with the one input that it leaves out: which tokens are the picture's.

The defaults of decoding that the model's own generation_config.json holds are set aside.

With Transformers 5.6, LLaMA-Factory 0.9.5 does not give Qwen-VL `mm_token_type_ids` at inference
(in training it does). The picture then gets the positions of text, and the boxes are wrong.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dat_runtime.adapter_place import demand_whole
from dat_runtime.errors import ConfigError
from dat_runtime.family import BY_TEMPLATE
from dat_runtime.files import read_yaml
from eval.answers.codes import CodeAnswers, add_codes
from eval.answers.model import without_defaults


def read_config(path: Path) -> dict[str, Any]:
    """LLaMA-Factory's keys.

    Raises:
        ConfigError: the file cannot be read, or its template is that of no family.
    """
    config = read_yaml(path)
    if not isinstance(config, dict) or config.get("template") not in BY_TEMPLATE:
        known = " or ".join(BY_TEMPLATE)
        raise ConfigError(f"expected LLaMA-Factory's keys, with template: {known}", path)
    return config


def application(config: dict[str, Any], codec: Path | None = None) -> Any:
    """LLaMA-Factory's web application of a model.

    Args:
        codec: of `train.offload`: codes of weak nodes are answered too.
    """
    from llamafactory.api.app import create_app
    from llamafactory.chat import ChatModel
    from llamafactory.data.template import TEMPLATES

    template = TEMPLATES[config["template"]]
    template.mm_plugin = _with_token_types(template.mm_plugin)
    chat = ChatModel(config)
    model = chat.engine.model
    if hasattr(model, "generation_config"):  # a request says nothing of its beams, for example
        model.generation_config = without_defaults(model.generation_config)
    for adapter in adapters_in(config):
        demand_whole(adapter, dict(chat.engine.model.named_modules()))
    served = create_app(chat)
    served.add_middleware(TakesWebp)
    refuse_broken_pictures(served)
    if codec is not None:
        engine, (adapter, *_) = chat.engine, (*adapters_in(config), None)
        base = str(config["model_name_or_path"])
        codes = CodeAnswers(engine.model, engine.processor, codec, base, adapter)
        add_codes(served, engine, codes)
    return served


def refuse_broken_pictures(served: Any) -> None:
    """Let an application say 422 where Pillow cannot read a picture.

    A 500 says that the server failed, and whoever asked would ask the same again, all day.
    """
    from fastapi.responses import JSONResponse

    async def refuse(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"a picture that cannot be read: {error}"}, 422)

    served.add_exception_handler(OSError, refuse)


class TakesWebp:
    """Lets LLaMA-Factory take WebP, in which small pictures of weak nodes come.

    It tells pictures from addresses by their stated type, and its list lacks WebP; what is there is
    then read by Pillow, whatever it was called.
    """

    def __init__(self, served: Any):
        self._served = served

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/chat/completions":
            await self._served(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        whole = bytes(body).replace(b"data:image/webp;base64,", b"data:image/png;base64,")
        messages = [{"type": "http.request", "body": whole, "more_body": False}]

        async def given() -> Any:
            return messages.pop() if messages else await receive()

        await self._served(scope, given, send)


def adapters_in(config: Mapping[str, Any]) -> list[Path]:
    """The folders of the adapters that LLaMA-Factory's keys name, one or several."""
    named = config.get("adapter_name_or_path") or []
    names = named.split(",") if isinstance(named, str) else named
    return [Path(name.strip()) for name in names]


def _with_token_types(plugin: Any) -> Any:
    """The template's plugin, with inputs that also state which tokens are the picture's."""

    class WithTokenTypes(type(plugin)):  # type: ignore[misc]
        def get_mm_inputs(self, *, batch_ids: Any, processor: Any, **media: Any) -> dict[str, Any]:
            inputs = super().get_mm_inputs(batch_ids=batch_ids, processor=processor, **media)
            inputs["mm_token_type_ids"] = processor.create_mm_token_type_ids(batch_ids)
            return dict(inputs)

    return WithTokenTypes(**{field.name: getattr(plugin, field.name) for field in fields(plugin)})
