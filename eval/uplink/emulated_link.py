"""A link with a rate, a buffer, a round trip and loss that the kernel's own TCP runs over.

    with EmulatedLink([50e3], round_trip=0.1, loss=0.02) as link:
        server = subprocess.Popen(link.at_receiver("python3", "-m", "http.server"))
        subprocess.run(link.at_node("curl", f"http://{RECEIVER}:8000/"), check=True)

Two network namespaces of an unprivileged user, a TUN device in each, and between them a process
that forwards IP packets (`eval.uplink.router`). Time 0 of the rates is `link.zero` on the clock of
`time.monotonic`, which all processes of a machine share.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from eval.uplink.link import DEEP_BUFFER, LinkSettings
from eval.uplink.trace import Rates

NODE = "10.77.0.1"
RECEIVER = "10.77.0.2"

REPOSITORY = Path(__file__).parents[2]

ENDING = 20
"""Seconds that the router may take to end."""


class EmulatedLink:
    """The link while the `with` block runs. The way back has no bottleneck and no loss.

    Raises:
        OSError: the namespaces could not be made; the message says why.
    """

    def __init__(
        self,
        rates: Rates,
        round_trip: float = 0.0,
        *,
        buffer: int = DEEP_BUFFER,
        loss: float = 0.0,
        seed: int = 0,
    ):
        self.settings = LinkSettings(list(rates), round_trip, buffer, loss, seed)
        self.zero = 0.0

    def __enter__(self) -> "EmulatedLink":
        command = ["unshare", "-Urmn", sys.executable, "-m", "eval.uplink.router"]
        self._router = subprocess.Popen(
            [*command, json.dumps(asdict(self.settings))],
            stdin=subprocess.PIPE,  # the router ends when it is closed, however this process ends
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        assert self._router.stdout is not None
        line = self._router.stdout.readline()
        if not line:
            _, why = self._router.communicate()
            raise OSError(f"no emulated link: {why.strip()[-500:]}")
        told = json.loads(line)
        self.zero = told["zero"]
        self._node, self._receiver = told["node"], told["receiver"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._router.communicate(timeout=ENDING)

    def at_node(self, *command: str) -> list[str]:
        """The command line that runs a command at the node's end, address `NODE`."""
        return self._inside(self._node, command)

    def at_receiver(self, *command: str) -> list[str]:
        """The command line that runs a command at the receiver's end, address `RECEIVER`."""
        return self._inside(self._receiver, command)

    def _inside(self, namespace: str, command: tuple[str, ...]) -> list[str]:
        user = f"--user=/proc/{self._router.pid}/ns/user"
        return ["nsenter", user, "--preserve-credentials", f"--net={namespace}", *command]


def not_permitted() -> str | None:
    """Why this machine cannot emulate a link; None when it can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        with EmulatedLink([1e6]):
            return None
    except OSError as error:
        return str(error)
