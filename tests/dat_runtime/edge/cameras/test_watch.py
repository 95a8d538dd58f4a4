"""Cameras for real: their processes read rendered files, folders and streams on loopback."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from dat_runtime.draw import encode_jpeg, encode_png
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts
from tests.dat_runtime.edge.cameras import streams
from tests.dat_runtime.edge.cameras.streams import number_of, picture, render

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="cameras need POSIX")

Children = Callable[[], list[int]]

BOUND = 30.0
"""Seconds that no test comes near, on however busy a machine."""


@contextlib.contextmanager
def running(
    *settings: CameraSettings, counts: Counts | None = None, silence: float = 10.0
) -> Iterator[Cameras]:
    cameras = Cameras(settings, counts or Counts(), silence=silence)
    cameras.start()
    try:
        yield cameras
    finally:
        cameras.stop()


def camera(source: object, fps: float = 25, name: str = "c", loop: bool = False) -> CameraSettings:
    return CameraSettings(name, str(source), fps, loop)


def until(condition: Callable[[], object], cameras: Cameras) -> list[CameraFrame]:
    """The frames that come until a condition holds."""
    frames = []
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, cameras.states()
        if frame := cameras.next(0.05):
            frames.append(frame)
    return frames


def all_of(cameras: Cameras) -> list[CameraFrame]:
    return until(lambda: cameras.finished, cameras)


def total(counts: Counts, name: str, **labels: str) -> int:
    """The sum over all labels that are not given."""
    found = 0
    for (counter, pairs), number in counts.snapshot().items():
        if counter == name and labels.items() <= dict(pairs).items():
            found += number
    return found


def folder_of(folder: Path, pictures: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    return folder


# Files and folders


def test_a_file_is_shown_in_its_own_time_and_thinned_out(tmp_path: Path) -> None:
    counts = Counts()
    with running(camera(render(tmp_path / "a.mp4", 50), fps=5), counts=counts) as cameras:
        frames = all_of(cameras)
        assert cameras.states() == {"c": "ended"}
    assert [number_of(frame.image) for frame in frames] == list(range(0, 50, 5))
    assert all(frame.image.shape == (96, 160, 3) for frame in frames)
    taken = [frame.taken for frame in frames]
    assert taken[-1] - taken[0] == pytest.approx(9 / 5, abs=0.3)
    assert total(counts, "frames_taken") == 10
    assert total(counts, "frames_replaced") == total(counts, "frames_dropped") == 0


def test_a_frame_says_when_it_was_taken_by_both_clocks(tmp_path: Path) -> None:
    began = time.time(), time.monotonic()
    with running(camera(render(tmp_path / "a.mp4", 3))) as cameras:
        frames = all_of(cameras)
    ended = time.time(), time.monotonic()
    for frame in frames:
        assert began[0] <= frame.captured_at <= ended[0]
        assert began[1] <= frame.taken <= ended[1]


def test_a_file_starts_again_when_it_is_to(tmp_path: Path) -> None:
    with running(camera(render(tmp_path / "a.mp4", 5), loop=True)) as cameras:
        numbers: list[int] = []
        deadline = time.monotonic() + BOUND
        while len(numbers) < 12 and time.monotonic() < deadline:
            if frame := cameras.next(1):
                numbers.append(number_of(frame.image))
        assert not cameras.finished
    assert set(numbers) == set(range(5))
    assert numbers.count(0) >= 2


def test_a_folder_is_shown_by_name_and_what_is_damaged_is_counted(tmp_path: Path) -> None:
    good = encode_jpeg(picture(20, 640, 384))
    sharp = encode_jpeg(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    dim = np.full((40, 40, 3), 1000, np.uint16)
    folder = folder_of(
        tmp_path / "shots",
        {
            "01.jpg": good,
            "02.jpg": b"",
            "03.jpg": b"<html>not found</html>",
            "04.jpg": sharp[: len(sharp) * 3 // 10] + b"\xff\xd9",
            "05.PNG": encode_png(picture(30)),
            "06.png": encode_png(np.zeros((5900, 5900, 3), np.uint8)),
            "07.jpg": encode_jpeg(np.zeros((100, 2200, 3), np.uint8)),
            "08.png": encode_png(np.zeros((30, 1, 3), np.uint8)),
            "10.txt": b"no picture by its name",
        },
    )
    import cv2

    cv2.imwrite(str(folder / "09.png"), dim)
    os.mkfifo(folder / "00.jpg")  # reading it would wait for ever
    (folder / "11.jpg").mkdir()
    counts = Counts()
    with running(camera(folder, fps=20), counts=counts) as cameras:
        frames = all_of(cameras)
    shapes = [frame.image.shape[:2] for frame in frames]
    assert shapes == [(384, 640), (96, 160), (100, 2200), (30, 1), (40, 40)]
    assert frames[-1].image.mean() == 1000 >> 2
    assert total(counts, "frames_rescaled") == 1
    for reason in ("empty", "not a picture", "damaged", "too large"):
        assert counts.of("frames_dropped", camera="c", reason=reason) == 1, reason


def test_folders_need_no_video_library(tmp_path: Path) -> None:
    from dat_runtime.edge.cameras import pictures

    program = f"import sys, {pictures.__name__}; print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_what_is_not_there_is_told_and_may_come_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with running(camera(path)) as cameras:
        until(lambda: cameras.states()["c"] == "down: not found", cameras)
        render(tmp_path / "b.mp4", 5).rename(path)
        assert len(all_of(cameras)) == 5


def test_a_webcam_that_is_not_plugged_in_is_told() -> None:
    with running(camera("/dev/video977")) as cameras:
        until(lambda: cameras.states()["c"] == "down: not found", cameras)


@pytest.mark.parametrize(
    ("content", "state"), [(b"no video" * 999, "down: not a video"), (b"", "down: not a video")]
)
def test_a_file_that_is_no_video_is_told(tmp_path: Path, content: bytes, state: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with running(camera(path)) as cameras:
        until(lambda: cameras.states()["c"].startswith("down"), cameras)
        assert cameras.states()["c"] == state


def test_damaged_packets_are_counted_and_survived(tmp_path: Path) -> None:
    content = bytearray(render(tmp_path / "a.ts", 50, gop=5).read_bytes())
    for at in np.random.default_rng(1).integers(3_000, len(content), 30):
        content[at] ^= 0xFF
    path = tmp_path / "bad.ts"
    path.write_bytes(content)
    counts = Counts()
    with running(camera(path), counts=counts) as cameras:
        frames = all_of(cameras)
    assert len(frames) > 10
    assert counts.of("frames_dropped", camera="c", reason="damaged") > 0
    assert total(counts, "camera_restarts") == 0


# Turns


def test_cameras_take_turns_and_give_their_newest(tmp_path: Path) -> None:
    pictures = {f"{n:03}.png": encode_png(picture(n % 50)) for n in range(50)}
    folder = folder_of(tmp_path / "shots", pictures)
    names = "abcd"
    counts = Counts()
    settings = [camera(folder, fps=50, name=name, loop=True) for name in names]
    with running(*settings, counts=counts) as cameras:
        until(lambda: all(s == "live" for s in cameras.states().values()), cameras)
        order, ages = [], []
        for _ in range(20):
            time.sleep(0.05)  # a gate slower than its cameras
            frame = cameras.next(5)
            assert frame is not None
            order.append(frame.camera)
            ages.append(time.monotonic() - frame.taken)
    turns = Counter(order)
    assert max(turns.values()) - min(turns[name] for name in names) <= 3, order
    # A queue of all frames would be seconds behind by now.
    assert sorted(ages)[len(ages) // 2] < 0.5
    assert total(counts, "frames_replaced") > 20


def test_a_camera_that_is_never_read_gives_its_newest_frame_at_last(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "shots", {f"{n:03}.png": encode_png(picture(n)) for n in range(40)}
    )
    counts = Counts()
    with running(camera(folder, fps=40), counts=counts) as cameras:
        time.sleep(0.1)
        deadline = time.monotonic() + BOUND
        while total(counts, "frames_replaced") < 30 and time.monotonic() < deadline:
            time.sleep(0.05)
        frames = all_of(cameras)
    assert number_of(frames[-1].image) == 39
    assert len(frames) + total(counts, "frames_replaced") == 40


# Streams


def test_an_rtsp_camera_with_a_password_that_nobody_sees(children: Children) -> None:
    handler = streams.rtsp(25, "admin", "pass-word")
    counts = Counts()
    with (
        streams.serving(handler) as port,
        running(camera(f"rtsp://admin:pass-word@127.0.0.1:{port}/1", 10), counts=counts) as cameras,
    ):
        deadline = time.monotonic() + BOUND
        frames: list[CameraFrame] = []
        while len(frames) < 5 and time.monotonic() < deadline:
            if frame := cameras.next(0.5):
                frames.append(frame)
        told = repr(cameras.states()) + repr(counts.snapshot())
        (child,) = children()
        process = Path("/proc") / str(child)
        seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert len(frames) == 5
    assert "pass-word" not in told
    assert b"pass-word" not in seen
    assert b"cameras.child" in seen


def test_a_wrong_password_is_told_without_it() -> None:
    with (
        streams.serving(streams.rtsp(25, "admin", "right")) as port,
        running(camera(f"rtsp://admin:wrong-one@127.0.0.1:{port}/1")) as cameras,
    ):
        until(lambda: cameras.states()["c"].startswith("down"), cameras)
        assert cameras.states() == {"c": "down: user or password refused, or no permission"}


def test_a_camera_that_sends_motion_jpeg(tmp_path: Path) -> None:
    handler = streams.motion_jpeg(lambda n: encode_jpeg(picture(n % 40)), fps=25)
    with (
        streams.serving(handler) as port,
        running(camera(f"http://127.0.0.1:{port}/video", 25)) as cameras,
    ):
        until(lambda: cameras.states()["c"] == "live", cameras)
        assert cameras.next(5) is not None


def test_of_motion_jpeg_only_what_is_wanted_is_decoded() -> None:
    sent = 0

    def broken_but_for_the_first(number: int) -> bytes:
        nonlocal sent
        sent = number
        content = encode_jpeg(picture(number % 40))
        return content if number < 40 else content[:300] + b"\xff\xd9"

    counts = Counts()
    with (
        streams.serving(streams.motion_jpeg(broken_but_for_the_first, fps=50)) as port,
        running(camera(f"http://127.0.0.1:{port}/video", 2), counts=counts) as cameras,
    ):
        until(lambda: total(counts, "frames_dropped", reason="damaged") >= 2, cameras)
        assert total(counts, "frames_dropped") <= max(4, (sent - 40) // 5)


def test_a_stream_that_is_open_and_silent_is_dead(tmp_path: Path) -> None:
    counts = Counts()
    with (
        streams.serving(streams.silent) as port,
        running(camera(f"http://127.0.0.1:{port}/"), counts=counts, silence=0.3) as cameras,
    ):
        until(lambda: total(counts, "camera_restarts") >= 2, cameras)
        assert cameras.states()["c"] in ("down: silent", "starting")
        assert total(counts, "camera_restarts", reason="silent") >= 2


def test_a_stream_that_falls_silent_is_dead_and_comes_back(tmp_path: Path) -> None:
    content = render(tmp_path / "a.ts", 25).read_bytes()
    counts = Counts()
    with (
        streams.serving(streams.http(content, 0.3, then_silent=True)) as port,
        running(camera(f"http://127.0.0.1:{port}/"), counts=counts, silence=0.6) as cameras,
    ):
        frames = until(lambda: total(counts, "camera_restarts", reason="silent") >= 1, cameras)
        until(lambda: cameras.states()["c"] == "live", cameras)
        assert frames


def test_a_flapping_stream_is_read_again_each_time(tmp_path: Path) -> None:
    content = render(tmp_path / "a.ts", 25).read_bytes()
    counts = Counts()
    with (
        streams.serving(streams.http(content, 0.3)) as port,
        running(camera(f"http://127.0.0.1:{port}/"), counts=counts) as cameras,
    ):
        frames = until(lambda: total(counts, "camera_restarts", reason="broke off") >= 2, cameras)
        assert len(frames) >= 2


def test_garbage_is_dead_too() -> None:
    counts = Counts()
    with (
        streams.serving(streams.garbage) as port,
        running(camera(f"http://127.0.0.1:{port}/"), counts=counts, silence=1.0) as cameras,
    ):
        assert until(lambda: total(counts, "camera_restarts") >= 2, cameras) == []


def test_what_nobody_serves_is_told_and_comes_back(tmp_path: Path) -> None:
    content = render(tmp_path / "a.ts", 50).read_bytes()
    with streams.serving(streams.silent) as port:
        pass
    with running(camera(f"http://127.0.0.1:{port}/")) as cameras:
        until(lambda: cameras.states()["c"] == "down: cannot be reached", cameras)
        with streams.serving(streams.http(content, 2.0), port):
            until(lambda: cameras.states()["c"] == "live", cameras)


# Processes


def test_a_process_that_hangs_is_killed_and_another_reads_on(
    tmp_path: Path, children: Children
) -> None:
    path = render(tmp_path / "a.mp4", 50)
    counts = Counts()
    with running(camera(path, loop=True), counts=counts, silence=0.5) as cameras:
        until(lambda: cameras.states()["c"] == "live", cameras)
        (hung,) = children()
        os.kill(hung, signal.SIGSTOP)
        until(lambda: total(counts, "camera_restarts", reason="silent") == 1, cameras)
        until(lambda: cameras.states()["c"] == "live", cameras)
        (another,) = children()
        assert another != hung


def test_a_process_that_dies_is_replaced(tmp_path: Path, children: Children) -> None:
    path = render(tmp_path / "a.mp4", 50)
    counts = Counts()
    with running(camera(path, loop=True), counts=counts) as cameras:
        until(lambda: cameras.states()["c"] == "live", cameras)
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        until(lambda: total(counts, "camera_restarts", reason="its process died") == 1, cameras)
        until(lambda: cameras.states()["c"] == "live", cameras)


def test_one_that_hangs_takes_no_turn_from_the_others(tmp_path: Path, children: Children) -> None:
    path = render(tmp_path / "a.mp4", 50)
    settings = [camera(path, 25, name, loop=True) for name in "abc"]
    with running(*settings) as cameras:
        until(lambda: all(s == "live" for s in cameras.states().values()), cameras)
        hung = children()[:2]
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        seen: Counter[str] = Counter()
        deadline = time.monotonic() + BOUND
        while max(seen.values(), default=0) < 30 and time.monotonic() < deadline:
            if frame := cameras.next(1.0):
                seen[frame.camera] += 1
        assert max(seen.values()) >= 30
        assert set(cameras.states().values()) == {"live"}, "none was silent for long enough"


def test_stopping_leaves_no_process_no_descriptor_and_no_thread(
    tmp_path: Path, children: Children
) -> None:
    path = render(tmp_path / "a.mp4", 50)
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with running(*(camera(path, 25, name, loop=True) for name in "ab")) as cameras:
        until(lambda: all(s == "live" for s in cameras.states().values()), cameras)
        os.kill(children()[0], signal.SIGSTOP)
        began = time.monotonic()
        cameras.stop()
        assert time.monotonic() - began < 5
        assert children() == []
        assert cameras.next(5) is None
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads


def test_many_restarts_leave_no_descriptor_and_no_process_behind(children: Children) -> None:
    counts = Counts()
    with streams.serving(streams.silent) as port:
        pass  # nobody listens there any more: each try fails at once
    settings = [camera(f"http://127.0.0.1:{port}/", name=name) for name in "abcd"]
    with running(*settings, counts=counts) as cameras:
        until(lambda: total(counts, "camera_restarts") >= 4, cameras)
        early = len(os.listdir("/proc/self/fd"))
        until(lambda: total(counts, "camera_restarts") >= 9, cameras)
        assert len(os.listdir("/proc/self/fd")) <= early + len(settings)
        assert len(children()) <= len(settings)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's promise is Linux's")
def test_the_processes_end_with_the_node_even_when_it_is_killed(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", 50)
    program = f"""
import time
from pathlib import Path
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts
cameras = Cameras([CameraSettings(n, {str(path)!r}, 25, True) for n in "ab"], Counts())
cameras.start()
while set(cameras.states().values()) != {{"live"}}:
    cameras.next(0.1)
print(*(p.read_text() for p in Path("/proc/self/task").glob("*/children")), flush=True)
time.sleep(60)
"""
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert node.stdout is not None
        pids = [int(pid) for pid in node.stdout.readline().split()]
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGSTOP)  # it could not notice by itself
    finally:
        node.kill()
        node.communicate()
    deadline = time.monotonic() + BOUND
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """Dead ones may wait for whoever inherits them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_watch_that_breaks_is_not_silent(tmp_path: Path) -> None:
    broken = camera(tmp_path / "a.mp4")
    object.__setattr__(broken, "source", object())  # nothing that can be told to a process
    cameras = Cameras([broken], Counts())
    hook = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        cameras.start()
        with pytest.raises(RuntimeError, match="not watched any more"):
            cameras.next(BOUND)
    finally:
        cameras.stop()
        threading.excepthook = hook


def test_two_cameras_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name"):
        Cameras([camera("a.mp4"), camera("b.mp4")], Counts())


def test_cameras_that_were_never_started_can_be_stopped() -> None:
    cameras = Cameras([camera("a.mp4")], Counts())
    cameras.stop()
    assert cameras.next(5) is None
