"""LLaMA-Factory's OpenAI-compatible server, with the positions of pictures corrected.

    python -m eval.serve configs/endpoints/serve.yaml --port 8000

With Transformers 5.6, LLaMA-Factory 0.9.5 does not pass to Qwen2.5-VL at inference which tokens
belong to the picture, so `llamafactory-cli api` answers with wrong boxes. This is the same server
with that one input added (`eval.answers.server`). vLLM does not have this fault: use it to serve a
7B at speed. With --codec it also finishes for weak nodes: /v1/codes/completions takes their code
units (`eval.answers.codes`), which vLLM cannot.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import reports_errors
from eval.answers.server import application, read_config


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.serve", __doc__)
    parser.add_argument("config", type=Path, help="LLaMA-Factory's keys, YAML")
    parser.add_argument("--codec", type=Path, help="of train.offload: finish codes of weak nodes")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    args = parser.parse_args(argv)
    config = read_config(args.config)
    import uvicorn

    print(f"[serve] http://{args.host}:{args.port}/v1, once the model is loaded", flush=True)
    served = application(config, args.codec)
    uvicorn.run(served, host=args.host, port=args.port, log_level="warning")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
