"""The uplink of a node: a thread that brings to the receiver what the spool holds."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dat_runtime.edge.counts import Counts
from dat_runtime.edge.question import Question
from dat_runtime.edge.spool import Spool, SpoolError
from dat_runtime.edge.uplink.alert_lane import AlertLane
from dat_runtime.edge.uplink.http import HttpSender
from dat_runtime.edge.uplink.lane import Health, Way
from dat_runtime.edge.uplink.outbox import Outbox
from dat_runtime.edge.uplink.sender import Sender, SendError
from dat_runtime.edge.uplink.settings import UplinkSettings, UplinkState
from dat_runtime.edge.uplink.visual_lane import VisualLane
from dat_runtime.errors import ConfigError
from dat_runtime.event import Event
from dat_runtime.planning import path as planning

LEAVE_SECONDS = 15.0
"""A way that has failed for so long is left, where there is another."""

RETURN_SECONDS = 30.0
"""Between two looks at whether a preferred way works again."""

LOOK_SECONDS = 1.0
"""Between two looks at whether a way is to be left."""

EXPIRE_SECONDS = 60.0
"""Between two looks for visuals that are past their time."""

LOAD_AGAIN_SECONDS, CONFIG_AGAIN_SECONDS, FAULT_SECONDS = 2.0, 5.0, 1.0
"""Before another try: a spool that cannot be read, a file of the settings, a defect."""

MAX_STATUS_BYTES = 16_384

log = logging.getLogger(__name__)


class Uplink:
    """Brings alerts and visuals to a receiver, over the first way that works.

    Args:
        settings: the ways, in order of preference; at least one.
        node: the node's name.
        status: what the node says of itself; called in the uplink's thread every ten seconds.

    Raises:
        ConfigError: an address, a token or a certificate cannot be used.
    """

    def __init__(
        self,
        settings: Sequence[UplinkSettings],
        spool: Spool,
        counts: Counts,
        node: str,
        *,
        status: Callable[[], dict[str, Any]] | None = None,
    ):
        if not settings:
            raise ConfigError("an uplink needs a way to a receiver")
        self._settings = tuple(settings)
        self._node = node
        self._spool = spool
        self._counts = counts
        self._status = status
        for one in self._settings:
            sender_of(one, node)  # what is wrong with the settings is said at once
        self._paths = [planning.Path(one.initial_bytes_per_s) for one in self._settings]
        self._healths = [Health() for _ in self._settings]
        self._outbox = Outbox(spool, counts, self._paths[0])
        self._used = 0
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None] | None = None
        self._senders: set[Sender] = set()
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier run left in the spool."""
        self._thread.start()

    def offer(self, event: Event, camera: str) -> None:
        """Send an event that the spool holds; from any thread. After `stop` it waits there."""
        pending, revision = event.pending(), event.alert.revision
        age = max(0.0, time.time() - event.captured_at)

        def add() -> None:
            taken = replace(pending, captured_at=self._loop.time() - age)
            self._outbox.add(taken, camera, revision)

        self._call(add)

    def ask(self, question: Question) -> None:
        """Send a question that the spool holds, once its alert is answered; from any thread."""
        age = max(0.0, time.time() - question.captured_at)

        def add() -> None:
            self._outbox.ask(question, self._loop.time() - age)

        self._call(add)

    @property
    def bytes_ahead(self) -> int:
        """Of alerts and questions that wait for the link or are on it; from any thread."""
        return self._outbox.bytes_ahead

    def _call(self, work: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop has ended
            if self._thread.is_alive():
                raise

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds; what is not acknowledged stays in the spool."""
        if self._thread.ident is None:
            self._loop.close()
            return
        self._call(self._cancel)
        self._thread.join(timeout)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    @property
    def state(self) -> UplinkState:
        """What the uplink knows of itself now; from any thread."""
        used = self._used
        path, health = self._paths[used], self._healths[used]
        return UplinkState(
            url=self._settings[used].url,
            metered=self._settings[used].metered,
            connected=health.connected,
            bytes_per_s=path.rate,
            round_trip_s=path.round_trip or None,
            alerts_waiting=len(self._outbox.alerts),
            visuals_waiting=len(self._outbox.visuals),
            questions_waiting=len(self._outbox.questions),
            last_acknowledged_at=self._outbox.acknowledged_at,
            problem=health.problem,
        )

    # In the uplink's thread

    def _run(self) -> None:
        try:
            self._main = self._loop.create_task(self._always())
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
        finally:
            self._loop.run_until_complete(self._end())
            self._outbox.close()
            self._loop.close()

    async def _end(self) -> None:
        """End what still runs, so that nothing holds a connection."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A sender whose own end was cut short, by the uplink's.
        for sender in tuple(self._senders):
            await sender.close()

    async def _always(self) -> None:
        expiring = asyncio.ensure_future(self._expire())
        try:
            await self._load()
            while True:
                self._used = await self._use(self._used)
        finally:
            expiring.cancel()
            await asyncio.gather(expiring, return_exceptions=True)

    async def _load(self) -> None:
        while True:
            try:
                return await self._outbox.load(self._loop.time(), time.time())
            except SpoolError as error:
                self._healths[self._used].failed(self._loop.time(), str(error))
                await asyncio.sleep(LOAD_AGAIN_SECONDS)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            await self._outbox.expire()

    async def _use(self, index: int) -> int:
        """Send over one way until another is to be used; which."""
        health, path = self._healths[index], self._paths[index]
        health.failing_since = None
        tasks: list[asyncio.Task[None]] = []
        sender: Sender | None = None
        try:
            sender = sender_of(self._settings[index], self._node)
            self._senders.add(sender)
            way = Way(sender, path, self._settings[index].metered, self._outbox, health)
            self._outbox.queue.bandwidth = path
            lanes = AlertLane(way, self._told), VisualLane(way)
            tasks = [asyncio.ensure_future(lane.run()) for lane in lanes]
            return await self._until_left(index, tasks)
        except ConfigError as error:  # a token that was taken away while the node runs
            health.failed(self._loop.time(), str(error))
            await asyncio.sleep(CONFIG_AGAIN_SECONDS)
            return (index + 1) % len(self._settings)
        except Exception as fault:
            # A defect: it must not end the uplink of a node that nobody is near.
            log.exception("the uplink starts anew")
            self._counts.add("uplink_faults", reason=type(fault).__name__)
            health.failed(self._loop.time(), repr(fault))
            await asyncio.sleep(FAULT_SECONDS)
            return index
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if sender is not None:
                await self._close(sender)

    async def _until_left(self, index: int, tasks: "Sequence[asyncio.Task[None]]") -> int:
        health = self._healths[index]
        look_again = self._loop.time() + RETURN_SECONDS
        while True:
            # Where there is no other way, nothing but a defect ends this wait.
            look = LOOK_SECONDS if len(self._settings) > 1 else None
            done, _ = await asyncio.wait(tasks, timeout=look, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # only a defect ends a lane
            now = self._loop.time()
            failing = health.failing_since
            if len(self._settings) > 1 and failing is not None and now - failing > LEAVE_SECONDS:
                return (index + 1) % len(self._settings)
            if index and now >= look_again:
                look_again = now + RETURN_SECONDS
                for preferred in range(index):
                    if await self._works(preferred):
                        return preferred

    async def _works(self, index: int) -> bool:
        """Whether a way that was left works again."""
        try:
            sender = sender_of(self._settings[index], self._node)
        except ConfigError:
            return False
        self._senders.add(sender)
        try:
            await sender.send_status(self._told())
        except (SendError, ConfigError) as error:
            self._healths[index].failed(self._loop.time(), str(error))
            return False
        finally:
            await self._close(sender)
        return True

    async def _close(self, sender: Sender) -> None:
        await sender.close()
        self._senders.discard(sender)

    def _told(self) -> bytes:
        """The node's status as it is sent."""
        told = self._whole_status()
        content = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
        if len(content) > MAX_STATUS_BYTES:
            self._counts.add("statuses_cut")
            content = json.dumps(self._state_told(), separators=(",", ":")).encode()
        return content

    def _whole_status(self) -> Any:
        """What the node says of itself; the uplink alone where it cannot."""
        if self._status is not None:
            try:
                return self._status()
            except Exception:  # whatever it is, no alert is to wait for it
                log.exception("the node's status cannot be told")
                self._counts.add("statuses_failed")
        return self._state_told()

    def _state_told(self) -> dict[str, Any]:
        """What the uplink alone can say of the node."""
        state = self.state
        return {
            "schema": 1,
            "time": time.time(),
            "cameras": {},
            "uplink": {"bytes_per_s": state.bytes_per_s, "round_trip_s": state.round_trip_s},
            "waiting": {"alerts": state.alerts_waiting, "visuals": state.visuals_waiting},
            "dropped": {},
        }


def sender_of(settings: UplinkSettings, node: str) -> Sender:
    """What sends over this way.

    Raises:
        ConfigError: an address, a token or a certificate cannot be used, or a library is missing.
    """
    if settings.url.startswith(("mqtt://", "mqtts://")):
        try:
            from dat_runtime.edge.uplink.mqtt import MqttSender  # an extra of the wheel
        except ImportError:
            raise ConfigError("MQTT needs a package: pip install 'dat-runtime[mqtt]'") from None
        return MqttSender(settings, node)
    return HttpSender(settings, node)
