"""The faults, done to a site."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from streamproc.core.checkpoint import Head, _seal
from streamproc.engine.checkpoints import read
from streamproc.kafka import clients
from tests.chaos.moments import Moments, Sign, Span, now_ms
from tests.chaos.plan import Fault
from tests.chaos.site import Kept, Site
from tests.live.oracle import PARTITIONS

EVERY = tuple(range(PARTITIONS))


class Faults:
    """Does the plan's faults to a site, and notes from when on results are waited for."""

    def __init__(self, site: Site, elapsed: Callable[[], float]) -> None:
        self.site, self._elapsed = site, elapsed
        self.moments = Moments()
        self._moved = 0

    async def run(self, faults: tuple[Fault, ...]) -> None:
        """Do them in order, each at its time, later by what those before took longer; the load's end is the end."""
        behind = 0.0
        for fault in faults:
            await asyncio.sleep(max(0.0, fault.at_s + behind - self._elapsed()))
            if fault.at_s + behind + fault.lasts_s + self.site.plan.room_s > self.site.plan.seconds:
                return
            self.site.tell(
                f"{self._elapsed():6.1f} s  {fault.kind} ({fault.target % 10}) for {fault.lasts_s:.0f} s"
            )
            await self._noted(fault)
            self.site.tell(f"{self._elapsed():6.1f} s  {fault.kind} is over")
            behind = max(behind, self._elapsed() - fault.at_s - fault.lasts_s)

    async def _noted(self, fault: Fault) -> None:
        """Do it; what becomes of the sink after a fault of the database is measured from its end on."""
        method: Callable[[Fault], Awaitable[None]] = getattr(self, fault.kind.replace("-", "_"))
        began, database = now_ms(), fault.kind.startswith("database")
        self.moments.begun.append((began, fault.kind))
        self.moments.outage = self.moments.outage or database
        try:
            await method(fault)
        finally:
            self.moments.outage = self.moments.outage and not database
            self.moments.spans.append(Span(fault.kind, began, now_ms()))
        if database:
            self.moments.note(fault.kind, Sign.ROW, EVERY)

    def _note(self, kind: str, sign: Sign, kept: Kept) -> None:
        """Note that a process is broken, with the partitions that it has."""
        self.moments.note(kind, sign, tuple(kept.assigned()))

    def _note_all(self, kind: str) -> None:
        for sign in (Sign.RESULT, Sign.ROW, Sign.TAKEN):
            self.moments.note(kind, sign, EVERY)

    def _worker(self, fault: Fault) -> Kept:
        return self.site.workers[fault.target % len(self.site.workers)]

    def _sink(self, fault: Fault) -> Kept:
        return self.site.sinks[fault.target % len(self.site.sinks)]

    # --- processes

    async def kill_worker(self, fault: Fault) -> None:
        """Kill -9."""
        worker = self._worker(fault)
        self._note(fault.kind, Sign.RESULT, worker)
        worker.kill()

    async def kill_worker_twice(self, fault: Fault) -> None:
        """Kill -9, and again amid its restoring; what it had at first is waited for from the second time on."""
        worker = self._worker(fault)
        had = tuple(worker.assigned())
        worker.kill()
        await asyncio.sleep(1 + fault.lasts_s)
        self.moments.note(fault.kind, Sign.RESULT, had)
        worker.kill()

    async def kill_sink(self, fault: Fault) -> None:
        """Kill -9."""
        sink = self._sink(fault)
        self._note(fault.kind, Sign.ROW, sink)
        sink.kill()

    async def kill_gateway(self, fault: Fault) -> None:
        """Kill -9."""
        self.moments.note(fault.kind, Sign.TAKEN, EVERY)
        self.site.gateways[0].kill()

    async def kill_all(self, fault: Fault) -> None:
        """Kill -9 of all but the broker."""
        self._note_all(fault.kind)
        for kept in self.site.kept():
            kept.kill()

    async def stop_worker(self, fault: Fault) -> None:
        """SIGTERM."""
        worker = self._worker(fault)
        self._note(fault.kind, Sign.RESULT, worker)
        await worker.terminate()

    async def stop_sink(self, fault: Fault) -> None:
        """SIGTERM."""
        sink = self._sink(fault)
        self._note(fault.kind, Sign.ROW, sink)
        await sink.terminate()

    async def pause_worker(self, fault: Fault) -> None:
        """Stand still beyond the session, and go on as a stale owner; meanwhile the others take over."""
        worker = self._worker(fault)
        self._note(fault.kind, Sign.RESULT, worker)
        await self._pause(worker, fault)
        self.moments.note(f"{fault.kind}: back", Sign.FLOW, EVERY)

    async def pause_sink(self, fault: Fault) -> None:
        """Stand still beyond the session, and go on as a stale owner; another takes over, if there is one."""
        sink = self._sink(fault)
        others = len(self.site.sinks) > 1
        if others:
            self._note(fault.kind, Sign.ROW, sink)
        await self._pause(sink, fault)
        if not others:
            self._note(f"{fault.kind}: back", Sign.ROW, sink)

    async def _pause(self, kept: Kept, fault: Fault) -> None:
        kept.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        kept.signal(signal.SIGCONT)
        self.moments.turn(fault.kind)

    async def join_worker(self, fault: Fault) -> None:
        """A further worker comes, and goes by SIGTERM or kill -9."""
        self.moments.note(fault.kind, Sign.FLOW, EVERY)
        guest = self.site.keep("worker", len(self.site.guests), guest=True)
        self.site.guests.append(guest)
        await asyncio.sleep(fault.lasts_s)
        guest.hold()
        self.moments.turn(fault.kind)
        how = "stopped" if fault.target % 2 else "killed"
        self._note(f"{fault.kind}: {how}", Sign.RESULT, guest)
        if fault.target % 2:
            await guest.terminate()
        else:
            guest.kill()

    # --- the broker

    async def broker_kill(self, fault: Fault) -> None:
        """Kill -9, and started at once."""
        await self._without_broker(fault.kind, 0)

    async def broker_away(self, fault: Fault) -> None:
        """Kill -9, and started a good while later."""
        await self._without_broker(fault.kind, fault.lasts_s)

    async def _without_broker(self, kind: str, seconds: float) -> None:
        broker = self.site.broker
        assert broker is not None
        broker.kill()
        await broker.wait()
        await asyncio.sleep(seconds)
        await self.site.restart_broker()
        self._note_all(kind)

    async def broker_pause(self, fault: Fault) -> None:
        """The broker stands still, and goes on as if nothing had been."""
        broker = self.site.broker
        assert broker is not None
        os.kill(broker.pid, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        os.kill(broker.pid, signal.SIGCONT)
        self._note_all(fault.kind)

    # --- the checkpoints

    async def bad_checkpoint(self, fault: Fault) -> None:
        """A damaged, cut or wrong-version record on `checkpoints` while no worker runs."""
        for kept in self.site.workers:
            kept.hold()
            kept.kill()
        partition = fault.target % PARTITIONS
        found = await read(self.site.bootstrap, self.site.topic("checkpoints"), {partition: 0})
        latest = {key: versions[-1][1] for key, versions in found[partition].items()}
        key = sorted(latest)[fault.target % len(latest)] if latest else b"0"
        value = latest.get(key, b"garbage")
        variants = (
            (key, b"garbage"),
            (key, value[: len(value) // 2]),
            (key, value[:-1] + bytes([value[-1] ^ 1])),
            (b"head", _other_version(latest[b"head"]) if b"head" in latest else b""),
        )
        producer = clients.producer(self.site.bootstrap, max_request_size=12_000_000)
        await producer.start()
        try:
            name, bad = variants[fault.target // 8 % len(variants)]
            await producer.send_and_wait(self.site.topic("checkpoints"), bad, name, partition=partition)
        finally:
            await producer.stop()
        self.moments.note(fault.kind, Sign.RESULT, (partition,))
        for kept in self.site.workers:
            kept.release()

    # --- the database

    async def database_locked(self, fault: Fault) -> None:
        """Another connection holds the write lock."""
        if not self.site.database.exists():
            return
        other = sqlite3.connect(self.site.database, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(fault.lasts_s)
            other.execute("ROLLBACK")
        finally:
            other.close()

    async def database_full(self, fault: Fault) -> None:
        """No file of the sinks may grow: what a full disk does to a database."""
        wal = self.site.database.with_name(self.site.database.name + "-wal")
        limited = []
        for kept in self.site.sinks:
            if kept.process is not None:
                log = kept.log.stat().st_size + 1_000_000
                limit = max(wal.stat().st_size if wal.exists() else 0, log)
                resource.prlimit(kept.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                limited.append(kept.process.pid)
        await asyncio.sleep(fault.lasts_s)
        for pid in limited:
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except ProcessLookupError:
                continue

    async def database_read_only(self, fault: Fault) -> None:
        """Nobody may write to the file or its folder; the sinks open them anew, for what is open can still be written."""
        folder = self.site.database.parent
        if not folder.exists():
            return
        await _write_protect(folder, on=True)
        try:
            for kept in self.site.sinks:
                kept.kill()
            await asyncio.sleep(fault.lasts_s)
        finally:  # else nobody could remove the folder
            await _write_protect(folder, on=False)

    async def database_moved(self, fault: Fault) -> None:
        """The folder is moved away and back; a database that a sink has made meanwhile is thrown away."""
        folder = self.site.database.parent
        if not folder.exists():
            return
        away = folder.with_name("database-away")
        folder.rename(away)
        await asyncio.sleep(fault.lasts_s)
        while True:
            if folder.exists():
                self._moved += 1
                folder.rename(folder.with_name(f"database-made-{self._moved}"))
            try:
                away.rename(folder)
                break
            except OSError:  # a sink has made it again in between
                continue


def _other_version(sealed: bytes) -> bytes:
    head = msgspec.msgpack.decode(sealed[4:], type=Head)
    return _seal(msgspec.structs.replace(head, format=head.format + 1))


async def _write_protect(folder: Path, *, on: bool) -> None:
    """For root the file's mode means nothing: there it is the attribute `i`, where the file system has it."""
    paths = _inside(folder)
    if os.geteuid() == 0:
        if chattr := shutil.which("chattr"):
            process = await asyncio.create_subprocess_exec(chattr, "+i" if on else "-i", *map(str, paths))
            await process.wait()
        return
    for path in paths:
        path.chmod((0o555 if path.is_dir() else 0o444) if on else (0o755 if path.is_dir() else 0o644))


def _inside(folder: Path) -> list[Path]:
    return [folder, *folder.iterdir()]
