"""LLaMA-Factory's OpenAI-compatible server, on the loopback, seeing pictures where they are.

    python -m eval.serve configs/endpoints/serve.yaml --port 8000

With Transformers 5.6, LLaMA-Factory 0.9.5 does not tell Qwen2.5-VL at inference which tokens are
picture (`mm_token_type_ids`; in training it does), so `llamafactory-cli api` gives the picture the
positions of text, and its boxes are wrong. This is the same server with that one input added.
vLLM is not concerned, and is what serves a 7B at speed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, reports_errors


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    args = parser.parse_args(argv)
    config = read_config(args.config)
    import uvicorn

    print(f"[serve] http://{args.host}:{args.port}/v1, once the model is loaded", flush=True)
    uvicorn.run(application(config), host=args.host, port=args.port, log_level="warning")
    return 0


def read_config(path: Path) -> dict[str, Any]:
    """LLaMA-Factory's keys.

    Raises:
        ConfigError: the file cannot be read, or its template is not Qwen2-VL's.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict) or config.get("template") != "qwen2_vl":
        raise ConfigError(f"{path}: expected LLaMA-Factory's keys, with template: qwen2_vl")
    return config


def application(config: dict[str, Any]) -> Any:
    """LLaMA-Factory's web application of a model."""
    from llamafactory.api.app import create_app
    from llamafactory.chat import ChatModel
    from llamafactory.data.template import TEMPLATES

    template = TEMPLATES["qwen2_vl"]
    template.mm_plugin = _with_token_types(template.mm_plugin)
    return create_app(ChatModel(config))


def _with_token_types(plugin: Any) -> Any:
    """The template's plugin, whose inputs also say which tokens are picture."""

    class WithTokenTypes(type(plugin)):  # type: ignore[misc]
        def get_mm_inputs(self, *, batch_ids: Any, processor: Any, **media: Any) -> dict[str, Any]:
            inputs = super().get_mm_inputs(batch_ids=batch_ids, processor=processor, **media)
            inputs["mm_token_type_ids"] = processor.create_mm_token_type_ids(batch_ids)
            return dict(inputs)

    return WithTokenTypes(**{f.name: getattr(plugin, f.name) for f in fields(plugin)})


if __name__ == "__main__":
    raise SystemExit(main())
