"""The process between the two ends of an emulated link; `eval.uplink.emulated_link` starts it.

It runs in a user namespace of its own, makes a network namespace for each end with a TUN device in
it, prints where they are, and forwards packets until its standard input is closed.
"""

import ctypes
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time

from eval.uplink.emulated_link import NODE, RECEIVER
from eval.uplink.link import Bottleneck, LinkSettings

DEVICE = "link0"
MTU = 1_500
MOST_BYTES = 65_536

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


def main() -> int:
    settings = LinkSettings(**json.loads(sys.argv[1]))
    node = _end(NODE)
    node_namespace = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
    receiver, receiver_namespace = _other_end()
    zero = time.monotonic()
    told = {"zero": zero, "node": node_namespace, "receiver": receiver_namespace}
    print(json.dumps(told), flush=True)
    _forward(settings, node, receiver, zero)
    return 0


def _end(address: str) -> int:
    """A TUN device with this address in the namespace of the calling thread."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(device, TUNSETIFF, request)
    for arguments in (
        "link set lo up",
        f"link set {DEVICE} addrgenmode none",  # IPv6 would send packets of its own
        f"link set {DEVICE} mtu {MTU} txqueuelen 10000 up",
        f"address add {address}/24 dev {DEVICE}",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)
    return device


def _other_end() -> tuple[int, str]:
    """The receiver's device, and its namespace: that of a thread which lives as long as we do."""
    made: list[tuple[int, str]] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    def live() -> None:
        try:
            # Of this thread alone: the others keep the node's namespace.
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare failed")
            namespace = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
            made.append((_end(RECEIVER), namespace))
        except BaseException as error:
            failed.append(error)
        ready.set()
        threading.Event().wait()

    threading.Thread(target=live, daemon=True).start()
    ready.wait()
    if failed:
        raise failed[0]
    return made[0]


def _forward(settings: LinkSettings, node: int, receiver: int, zero: float) -> None:
    """Forward packets both ways until standard input is closed."""
    bottleneck = Bottleneck(settings)
    under_way: list[tuple[float, int, int, bytes]] = []  # a heap: when, tie-breaker, whereto, what
    count = 0
    while True:
        wait = None if not under_way else max(0.0, under_way[0][0] - (time.monotonic() - zero))
        readable, _, _ = select.select([node, receiver, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        now = time.monotonic() - zero
        for device in readable:
            to = receiver if device == node else node
            for packet in _packets(device):
                at: float | None = now + settings.round_trip / 2
                if to == receiver:
                    at = bottleneck.arrival(now, len(packet))
                if at is not None:
                    count += 1
                    heapq.heappush(under_way, (at, count, to, packet))
        now = time.monotonic() - zero
        while under_way and under_way[0][0] <= now:
            _, _, to, packet = heapq.heappop(under_way)
            os.write(to, packet)


def _packets(device: int) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(os.read(device, MOST_BYTES))
        except BlockingIOError:
            return packets


if __name__ == "__main__":
    raise SystemExit(main())
