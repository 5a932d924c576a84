"""The supervisor with real, small child processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamproc.dev.place import claim_port, hold
from streamproc.dev.process import LOG_LIMIT_BYTES, Process, set_aside, tail
from streamproc.dev.screen import Screen
from streamproc.dev.supervisor import (
    LONGEST_PAUSE_S,
    Child,
    Ended,
    Notice,
    Restarted,
    Running,
    Supervisor,
    back_off,
    reason,
)
from streamproc.errors import BrokerError, SettingsError
from tests.slowness import in_time

#: They start programs, or wait: seconds in all.
pytestmark = pytest.mark.live

#: Any single step here takes milliseconds; a machine under load gets this much.
SOON_S = 20.0
#: Tells `_until_up` through a named pipe.
UP = "import os; open(os.environ['UP'], 'wb').close()\n"
SLEEPER = f"import signal\n{UP}signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{UP}while True: signal.pause()"


async def _start(code: str, log: Path) -> Running:
    up = log.with_name("up")
    if not up.exists():
        os.mkfifo(up)
    return await Process.start((sys.executable, "-c", code), os.environ | {"UP": str(up)}, log)


def _child(name: str, code: str, directory: Path, *, base: bool = False) -> Child:
    log = directory / f"{name}.log"
    return Child(name, partial(_start, code, log), log, base)


class Told:
    """Notices, and a way to wait for one."""

    def __init__(self) -> None:
        self.notices: asyncio.Queue[Notice] = asyncio.Queue()

    async def next(self) -> Notice:
        """The next notice."""
        return await asyncio.wait_for(self.notices.get(), SOON_S)


@asynccontextmanager
async def _supervised() -> AsyncIterator[tuple[Supervisor, Told]]:
    told = Told()
    supervisor = Supervisor(told.notices.put_nowait)
    try:
        yield supervisor, told
    finally:
        supervisor.kill()
        await supervisor.stop(1)


async def _until_up(directory: Path) -> None:
    """Wait until a child that was started in `directory` has opened the pipe there: it has set itself up."""
    await asyncio.wait_for(asyncio.to_thread((directory / "up").read_bytes), SOON_S)


async def _until_gone(pid: int) -> None:
    """Wait until process `pid`, of whomever it is the child, has ended."""
    ended = asyncio.Event()
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(handle, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), SOON_S)
        finally:
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)


def _runs(pid: int) -> bool:
    """Whether the process runs; a zombie, which its new parent has not yet buried, does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@given(st.integers(1, 10_000))
def test_pauses_grow_up_to_a_bound(ends: int) -> None:
    """A child that ends again waits for as long or longer, never for more than the bound."""
    assert 0 < back_off(ends) <= back_off(ends + 1) <= LONGEST_PAUSE_S
    assert back_off(1) < 1
    assert back_off(10) == LONGEST_PAUSE_S


def test_exit_codes_are_told_in_words() -> None:
    """A signal is told by its name, a real-time one by its number."""
    assert reason(3) == "ended with exit code 3"
    assert reason(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert reason(-40) == "was killed by signal 40"


async def test_a_killed_child_runs_again(tmp_path: Path) -> None:
    """After kill -9 the reason is told, then the child runs again under another process id."""
    async with _supervised() as (supervisor, told):
        first = await supervisor.add(_child("one", SLEEPER, tmp_path))
        os.kill(first.pid, signal.SIGKILL)
        ended, restarted = await told.next(), await told.next()
        assert isinstance(ended, Ended)
        assert (ended.name, ended.reason) == ("one", "was killed by SIGKILL")
        assert isinstance(restarted, Restarted)
        assert restarted.pid != first.pid
        assert _runs(restarted.pid)


async def test_the_last_lines_are_those_of_this_life(tmp_path: Path) -> None:
    """The reason shows what the child wrote last, and nothing that an earlier run left in the log."""
    (tmp_path / "one.log").write_text("an old complaint\n")
    code = "import sys; sys.stderr.write('first\\n\\nsecond\\n'); sys.exit(7)"
    async with _supervised() as (supervisor, told):
        await supervisor.add(_child("one", code, tmp_path))
        ended = await told.next()
        assert isinstance(ended, Ended)
        assert ended.reason == "ended with exit code 7"
        assert ended.last_lines == ["first", "second"]


async def test_what_ended_a_stage_is_told_before_how_it_went(tmp_path: Path) -> None:
    """The last lines of a worker that fails are Faust's steps on its way out; the reason stands before them."""
    failed = (
        '{"event": "stage failed", "level": "error", "exception": "' + "line\\n" * 200 + 'StoreError: why"}'
    )
    steps = [f'{{"event": "Stopping {step}...", "level": "info"}}' for step in range(9)]
    code = f"import sys; print(*{[failed, *steps]!r}, sep='\\n', file=sys.stderr); sys.exit(1)"
    async with _supervised() as (supervisor, told):
        await supervisor.add(_child("one", code, tmp_path))
        ended = await told.next()
    assert isinstance(ended, Ended)
    (line,) = ended.last_lines
    assert (line.startswith('{"event": "stage failed"'), line.endswith('StoreError: why"}')) == (True, True)
    assert len(line) < 500


async def test_a_child_that_keeps_ending_waits_longer(tmp_path: Path) -> None:
    """The second end in a row is followed by twice the pause."""
    async with _supervised() as (supervisor, told):
        await supervisor.add(_child("one", "raise SystemExit(1)", tmp_path))
        pauses = [
            notice.pause_s for notice in [await told.next() for _ in range(3)] if isinstance(notice, Ended)
        ]
        assert pauses == [0.5, 1.0]


@pytest.mark.live
async def test_a_start_that_fails_is_an_end(tmp_path: Path) -> None:
    """A child that cannot be started again is tried again, and the reason is told."""
    starts = 0

    async def start() -> Running:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise BrokerError("port 9092 is in use")
        return await _start("raise SystemExit(0)" if starts == 1 else SLEEPER, tmp_path / "one.log")

    async with _supervised() as (supervisor, told):
        await supervisor.add(Child("one", start, tmp_path / "one.log"))
        notices = [await told.next() for _ in range(3)]
        assert [getattr(notice, "reason", "runs") for notice in notices] == [
            "ended with exit code 0",
            "did not start: port 9092 is in use",
            "runs",
        ]


async def test_children_end_side_by_side_and_then_what_they_work_on(tmp_path: Path) -> None:
    """Of two that wait for one another to end, each has been asked to; the broker only once both have ended."""
    order, meeting = tmp_path / "order", tmp_path / "meeting"
    os.mkfifo(meeting)
    code = (
        "import signal, sys\n"
        "def end(*_):\n"
        "    {meet}\n"
        f"    with open({str(order)!r}, 'a') as file: file.write('{{name}} ')\n"
        "    sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, end)\n{UP}"
        "while True: signal.pause()"
    )
    meets = {
        "kafka": "pass",
        "worker": f"open({str(meeting)!r}, 'wb')",
        "gateway": f"open({str(meeting)!r}, 'rb')",
    }
    async with _supervised() as (supervisor, told):
        running = []
        for name, meet in meets.items():
            its = code.format(meet=meet, name=name)
            running.append(await supervisor.add(_child(name, its, tmp_path, base=name == "kafka")))
            await _until_up(tmp_path)
        await supervisor.stop(SOON_S)
        assert [await child.wait() for child in running] == [0, 0, 0]
        first, second, last = order.read_text().split()  # a small local file
        assert ({first, second}, last) == ({"worker", "gateway"}, "kafka")
        assert told.notices.empty()


@pytest.mark.live
async def test_stopping_keeps_its_bound_with_stubborn_children(tmp_path: Path) -> None:
    """Children that ignore SIGTERM are killed, all within the time given."""
    async with _supervised() as (supervisor, _):
        running = []
        for name in ("one", "two", "three"):
            running.append(await supervisor.add(_child(name, STUBBORN, tmp_path)))
            await _until_up(tmp_path)
        clock = asyncio.get_running_loop().time
        began = clock()
        await supervisor.stop(1.5)
        assert in_time(clock() - began, 2.5)
        assert [await child.wait() for child in running] == [-signal.SIGKILL] * 3


async def test_stop_ends_a_pause(tmp_path: Path) -> None:
    """A child that waits to be started again is not started once the supervisor stops."""
    async with _supervised() as (supervisor, told):
        await supervisor.add(_child("one", "raise SystemExit(1)", tmp_path))
        await told.next()
        await asyncio.wait_for(supervisor.stop(1), SOON_S)
        assert told.notices.empty()


async def test_children_do_not_share_the_terminal(tmp_path: Path) -> None:
    """A child leads a session of its own, so the terminal's Ctrl-C is not sent to it."""
    async with _supervised() as (supervisor, _):
        running = await supervisor.add(_child("one", SLEEPER, tmp_path))
        await _until_up(tmp_path)
        assert os.getsid(running.pid) == running.pid != os.getsid(0)


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """When the process that started a child is killed with SIGKILL, the child ends too."""
    parent_code = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom streamproc.dev.process import Process\n"
        "async def main():\n"
        f"    command = (sys.executable, '-c', {SLEEPER!r})\n"
        f"    variables = os.environ | {{'UP': {str(tmp_path / 'up')!r}}}\n"
        f"    child = await Process.start(command, variables, Path({str(tmp_path / 'child.log')!r}))\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())"
    )
    os.mkfifo(tmp_path / "up")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent_code, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), SOON_S))
    await _until_up(tmp_path)
    assert _runs(child)
    parent.kill()
    await parent.wait()
    await _until_gone(child)


def test_a_great_log_is_set_aside(tmp_path: Path) -> None:
    """A log beyond the limit is renamed, and what was set aside before is replaced."""
    log, aside = tmp_path / "one.log", tmp_path / "one.log.1"
    aside.write_text("older")
    with log.open("wb") as file:
        file.truncate(LOG_LIMIT_BYTES)
    set_aside(log)
    assert log.exists()
    with log.open("ab") as file:
        file.write(b"x")
    set_aside(log)
    assert not log.exists()
    assert aside.stat().st_size == LOG_LIMIT_BYTES + 1


def test_the_tail_survives_what_logs_do(tmp_path: Path) -> None:
    """A log that is absent, was set aside meanwhile, or is not UTF-8 gives what it can."""
    log = tmp_path / "one.log"
    assert tail(log) == []
    log.write_bytes(b"a\nb\n\n \xff c\n")
    assert tail(log, lines=2) == ["b", " \ufffd c"]
    assert tail(log, since=1_000_000, lines=1) == [" \ufffd c"]


def test_a_held_directory_names_its_holder(tmp_path: Path) -> None:
    """A second holder is told which process holds the directory, and how to choose another."""
    again = hold(tmp_path / "new" / "data")
    with (
        hold(tmp_path / "new" / "data"),
        pytest.raises(SettingsError, match=rf"process {os.getpid()}\).*--data-dir"),
        again,
    ):
        pass
    with hold(tmp_path / "new" / "data"):
        pass


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Where a file is in the way, the error names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="STREAMPROC_DATA_DIR"), hold(tmp_path / "file"):
        pass


async def test_a_taken_port_names_its_setting() -> None:
    """The error says which setting to change; port 0 gives a free one."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SettingsError, match=f"GATEWAY_PORT: cannot listen on 127.0.0.1:{port}"):
            claim_port("127.0.0.1", port, "GATEWAY_PORT")
    assert claim_port("127.0.0.1", 0, "GATEWAY_PORT") > 0


def test_the_screen_says_what_comes_next(tmp_path: Path) -> None:
    """A newcomer saw `ready` and nothing more for half a minute, then two times in a line of which one named no zone."""
    console = Console(width=200)
    with console.capture() as capture:
        Screen(console, tmp_path).ready("console http://localhost:8002/")
    ready, told = capture.get().splitlines()
    assert ready == "ready: console http://localhost:8002/"
    zone = datetime.now().astimezone().tzname()
    assert told == (
        f"changes of severity follow as readings come in, at this machine's time ({zone}); "
        f"logs are in {tmp_path / 'logs'}; Ctrl-C ends all"
    )


@pytest.mark.parametrize(("data_dir", "told"), [("/proc", True), (".", False)])
def test_a_full_disk_is_told(data_dir: str, told: bool) -> None:  # what is expected
    """The broker's own word of it finds no room in its log; /proc has none ever."""
    console = Console(width=200)
    with console.capture() as capture:
        Screen(console, Path(data_dir)).notice(Ended("kafka", reason(1), [], 0.5))
    lines = capture.get().splitlines()
    assert lines[0] == "kafka ended with exit code 1; it starts again in 0.5 s"
    assert (
        lines[1:]
        == ["    the disk of /proc is full: make room, or give another directory with --data-dir"] * told
    )
