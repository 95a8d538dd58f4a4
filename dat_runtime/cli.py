"""`dat-runtime demo | plan | verify | edge | receive | install | rollback | status`: the field from
the command line."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dat_runtime import __version__
from dat_runtime.cloud.settings import Settings, add_options
from dat_runtime.errors import ConfigError, DatError, forget_output, reports_errors

if TYPE_CHECKING:
    from dat_runtime.cascade import Routing


_POSIX = ("fcntl", "resource", "termios")
"""Modules of the standard library that Windows does not have."""


class OutputError(DatError):
    """What was to be printed cannot be."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run = {
        "demo": _demo,
        "plan": _plan,
        "verify": _verify,
        "edge": _edge,
        "receive": _receive,
        "install": _install,
        "rollback": _rollback,
        "status": _status,
    }
    try:
        code = run[args.command](args)
        print(end="", flush=True)  # does nothing where stdout is closed
    except ModuleNotFoundError as error:
        if error.name not in _POSIX:
            raise
        raise ConfigError(
            f"{args.command} needs Linux or another POSIX system (Python's {error.name}); "
            "demo, plan and verify do not"
        ) from None
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        forget_output()
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        forget_output()
        raise OutputError(f"the output cannot be written ({error.strerror})") from None
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("dat-runtime", description=__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"dat-runtime {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser(
        "demo", help="show one frame's way from the gate to the plan", allow_abbrev=False
    )
    demo.add_argument("--bundle", type=Path, help="run this bundle's gate (default: recorded)")
    demo.add_argument("--frame", type=Path, help="a JPEG or PNG (needs --bundle)")
    demo.add_argument("--answer", type=Path, help="a file that holds the MLLM's answer")
    demo.add_argument("--endpoint", help="ask an OpenAI-compatible server, http://host:port/v1")
    demo.add_argument("--model", help="the model's name at the endpoint")
    demo.add_argument("--bandwidth", type=float, help="bytes per second (default: 200e3 and 20e3)")
    demo.add_argument(
        "--out", type=Path, help="save boxed.jpg, roi.jpg, alert.json, and event.json for plan"
    )

    plan = commands.add_parser(
        "plan", help="print what to send from a batch of events, in order", allow_abbrev=False
    )
    plan.add_argument("events", type=Path, help="a file of JSON lines, one waiting event each")
    plan.add_argument("--bandwidth", type=float, required=True, help="bytes per second")
    plan.add_argument(
        "--interval", type=float, default=1.0, help="seconds to plan for (default: 1)"
    )
    plan.add_argument(
        "--visual-deadline", type=float, default=1.5, help="D_vis, seconds (default: 1.5)"
    )
    plan.add_argument(
        "--now",
        type=float,
        help="seconds on captured_at's clock: a visual's age then counts (default: not)",
    )
    plan.add_argument(
        "--policy", default="dat", help="dat (Algorithm 1, the default), dat_plus or dat_live"
    )

    verify = commands.add_parser(
        "verify", help="check a bundle and print what it holds", allow_abbrev=False
    )
    verify.add_argument("bundle", type=Path)

    edge = commands.add_parser("edge", help="the node: run, check, status", allow_abbrev=False)
    actions = edge.add_subparsers(dest="action", required=True)
    for name, words in _EDGE.items():
        action = actions.add_parser(name, help=words, description=words, allow_abbrev=False)
        action.add_argument("node", type=Path, help="the node's settings, node.yaml")
    _add_receive(commands.add_parser("receive", help=_RECEIVE, allow_abbrev=False))
    _add_updates(commands)
    return parser


def _add_updates(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parsers = {}
    for name, words in _UPDATES.items():
        parsers[name] = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        parsers[name].add_argument("node", type=Path, help="the node's settings, node.yaml")
    install = parsers["install"]
    install.add_argument(
        "--from",
        dest="source",
        metavar="URL|FOLDER",
        help="a repository, or a bundle's folder (default: updates.url of node.yaml)",
    )
    install.add_argument(
        "--unsigned",
        action="store_true",
        help="take a bundle's folder although node.yaml names a root of trust",
    )
    install.add_argument("--unblock", metavar="VERSION", help="try again one that failed before")
    parsers["status"].add_argument("--json", action="store_true", help="as one JSON object")


_UPDATES = {
    "install": "bring the newest bundle that fits, try it and switch to it; 3 when it is refused",
    "rollback": "return to the previous bundle; the current one stays blocked",
    "status": "say which bundle is at work and how the node is; exit status 1 when it is not well",
}


_RECEIVE = "the receiver: keep what nodes send, show it to operators"


def _add_receive(receive: argparse.ArgumentParser) -> None:
    receive.description = _RECEIVE
    add_options(receive)


_EDGE = {
    "run": "run a node until it is stopped",
    "check": "say what is wrong with a node's settings, without starting it",
    "status": "ask a running node how it is; exit status 1 when it is not well",
}


def _plan(args: argparse.Namespace) -> int:
    from dat_runtime.batch import read_batch
    from dat_runtime.schedule import plan

    events = read_batch(args.events)
    try:
        transmissions = plan(
            events,
            args.bandwidth,
            interval=args.interval,
            visual_deadline=args.visual_deadline,
            now=args.now,
            policy=args.policy,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    # JSON can say every character in ASCII, for an output that holds no more.
    only_ascii = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") != "utf8"
    for t in transmissions:
        unit = {"event_id": t.event_id, "kind": t.kind, "size": t.size, "done_at": t.done_at}
        # Whatever a terminal might obey in an id is written as JSON's escape too.
        print(json.dumps(unit, ensure_ascii=only_ascii or not t.event_id.isprintable()))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from dat_runtime.edge.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    gate, adapter = bundle.detector.settings, bundle.adapter
    versions = ", ".join(f"{name} {number}" for name, number in bundle.manifest.versions.items())
    print(f"bundle    {args.bundle}: complete, every file as its manifest states")
    if bundle.not_fit is not None:
        print(f"          NOT FIT FOR USE: {bundle.not_fit}")
    print(f"gate      {' and '.join(gate.names)}, {gate.imgsz} px, {gate.model} loads")
    print(f"routing   {_routing_words(gate.routing)}; boxes from {gate.keep:g}")
    print(
        f"adapter   LoRA rank {adapter.rank}, {adapter.tensors} tensors, "
        f"{adapter.parameters:,} parameters, {' and '.join(adapter.dtypes)}, all finite"
    )
    print(f"base      {adapter.base}, revision {adapter.revision}")
    print(f"versions  {versions}; images up to {bundle.max_pixels:,} pixels")
    for name, size in bundle.sizes.items():
        print(f"  {size / 1000:10.1f} kB  {name}")
    return 0


def _routing_words(routing: "Routing") -> str:
    low, high = routing.band
    quantity = "score" if routing.calibration is None else "probability"
    words = f"the MLLM is asked from {quantity} {low:.3g} on"
    if high is not None:
        words += f", and from {high:.3g} on the gate answers itself"
    if routing.budget is not None:
        words += f"; fitted for a load of {routing.budget.load:.0%}"
    return words


def _edge(args: argparse.Namespace) -> int:
    if args.action == "run":
        from dat_runtime.edge.run import run

        return run(args.node)
    if args.action == "check":
        from dat_runtime.edge.checkup import check

        return check(args.node)
    from dat_runtime.edge.status import status

    return status(args.node)


def _receive(args: argparse.Namespace) -> int:
    try:
        from dat_runtime.cloud.serve import receive
    except ImportError as error:
        if error.name in _POSIX:
            raise
        raise ConfigError(
            f"the receiver needs packages ({error.name}): pip install 'dat-runtime[receiver]'"
        ) from None
    return receive(
        listen=args.listen,
        store=args.store,
        tokens=args.tokens,
        workers=args.workers,
        data=args.data,
        also=Settings.of(args),
    )


def _install(args: argparse.Namespace) -> int:
    from dat_runtime.edge.updates.updating import install

    return install(args.node, args.source, unsigned=args.unsigned, unblock=args.unblock)


def _rollback(args: argparse.Namespace) -> int:
    from dat_runtime.edge.updates.updating import rollback

    return rollback(args.node)


def _status(args: argparse.Namespace) -> int:
    from dat_runtime.edge.status import versions_status

    return versions_status(args.node, as_json=args.json)


def _demo(args: argparse.Namespace) -> int:
    from dat_runtime.demo.screen import Choices, show

    if args.frame and not args.bundle:
        raise ConfigError("--frame needs --bundle: the recorded detections fit one frame only")
    if args.answer and args.endpoint:
        raise ConfigError("--answer and --endpoint exclude each other: give one of them")
    if bool(args.endpoint) != bool(args.model):
        raise ConfigError("--endpoint and --model belong together")
    choices = Choices(
        bundle=args.bundle,
        frame=args.frame,
        answer=args.answer,
        endpoint=args.endpoint,
        model=args.model,
        api_key=os.environ.get("OPENAI_API_KEY"),
        out=args.out,
    )
    if args.bandwidth is not None:
        choices = replace(choices, bandwidths=(args.bandwidth,))
    for line in show(choices):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
