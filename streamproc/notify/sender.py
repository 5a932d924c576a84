"""The loop of one channel: see what is new, claim what is due, deliver it, and write down how that went."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

import structlog

from streamproc.core.counted import counted
from streamproc.monitor import Check
from streamproc.monitor.standing import Standing
from streamproc.notify import metrics
from streamproc.notify.channels import Accepted, Answer, Channel, Later, Refused
from streamproc.process import epoch_ms
from streamproc.store.deliveries import OVERTAKEN, Attempt, Claim, Deliveries, Message, Policy, Waiting

#: The time between two looks at the database: people do not see the difference, and a look takes a millisecond.
LOOK_S = 1.0
#: The time between two counts of what waits: with 100,000 changes that wait, each takes 0.16 s.
COUNT_S = 5.0
#: The first wait after a failure, doubled after each further one; most receivers are back after a restart of some seconds.
FIRST_PAUSE_S = 1.0
#: The longest wait: how long after the receiver is back a message may still wait.
LAST_PAUSE_S = 60.0
#: After so many failures in a row the message that goes first is left out once: it may be it alone that cannot be told. Of
#: others a receiver that was away hears first as seldom.
OTHERS_TURN = 4
#: A message is held for as long as sending it may take, and this: for writing it down to a database that is away for a
#: moment, and for clocks of several machines that differ. So long the message of a process that was killed waits for another.
MARGIN_S = 20.0
#: A receiver that has taken nothing for so long while there was something is told by `/ready`: shorter is a restart of it.
FAILING_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a receiver may take, how often to query the database, and how much longer than the receiver a claim lasts."""

    timeout_s: float
    look_s: float = LOOK_S
    margin_s: float = MARGIN_S


class Sender:
    """Sends one channel's messages from the database; several processes may do so for the same channel."""

    def __init__(self, channel: Channel, store: Deliveries, policy: Policy, times: Times) -> None:
        self.channel, self.policy = channel, policy
        self._store, self._times = store, times
        self._by = uuid4().hex
        self._failures = 0
        self._failing_since: float | None = None
        self._reason = ""
        self._paused_until = 0.0
        #: The message that is left out of the next claim.
        self._aside = ""
        self.waiting = Waiting(0, None)
        self._counted_at = float("-inf")
        self.standing = Standing(metrics.RETRIES)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; the message that is on its way then is still seen through."""
        while not stop.is_set():
            await self._round(stop)
            try:
                await asyncio.wait_for(stop.wait(), self._times.look_s)
            except TimeoutError:
                continue

    async def _round(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and await self._planned():
            pass
        while not stop.is_set() and time.monotonic() >= self._paused_until:
            claim = self._claim()
            message = await self.standing.patiently(
                lambda: self._store.claim_message(self.channel.name, claim)  # noqa: B023  # awaited here
            )
            self._aside = ""
            if message is None:
                break
            await self._deliver(message)
        if time.monotonic() - self._counted_at >= COUNT_S:
            self.waiting = await self.standing.patiently(lambda: self._store.waiting(self.channel.name))
            self._counted_at = time.monotonic()

    async def _planned(self) -> bool:
        """Whether something was found, so that there may be more."""
        plan = await self.standing.patiently(lambda: self._store.plan_deliveries(self.policy, epoch_ms()))
        for status, count in Counter(row.status for row in plan.enroll).items():
            metrics.ENROLLED.labels(channel=self.channel.name, status=status).inc(count)
        late = [row.notification_id for row in plan.enroll if row.reason and row.reason.startswith("too old")]
        if late:
            _log.warning(
                "changes are too old to be told", channel=self.channel.name, count=len(late), first=late[0]
            )
        return bool(plan.enroll or plan.groups)

    def _claim(self) -> Claim:
        now = epoch_ms()
        held_ms = round((self._times.timeout_s + self._times.margin_s) * 1000)
        return Claim(self._by, now, now + held_ms, self._aside)

    async def _deliver(self, message: Message) -> None:
        if message.again:
            metrics.AGAIN.labels(channel=self.channel.name).inc()
            _log.warning("message may have been sent before", **self._named(message))
        attempt = self._passed_over(message) if message.overtaken else await self._attempted(message)
        settled = await self.standing.patiently(
            lambda: self._store.settle_message(message, self._by, attempt)
        )
        if not settled:
            _log.warning("message is held by another process by now", **self._named(message))

    def _passed_over(self, message: Message) -> Attempt:
        now = epoch_ms()
        self._tell("skipped", message)
        return Attempt("skipped", now, now, OVERTAKEN)

    async def _attempted(self, message: Message) -> Attempt:
        answer: Answer
        if message.age(epoch_ms(), self.policy.age_ms) > self.policy.age_ms:
            answer = Refused("too old when it could be sent")
        else:
            began = time.monotonic()
            answer = await self._handed_over(message)
            metrics.SECONDS.labels(channel=self.channel.name).observe(time.monotonic() - began)
        return self._judged(message, answer)

    async def _handed_over(self, message: Message) -> Answer:
        try:
            async with asyncio.timeout(self._times.timeout_s):
                return await self.channel.send(message)
        except TimeoutError:
            return Later(f"no answer within {self._times.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001  # one message that cannot be told must not silence the others
            _log.exception("channel failed", **self._named(message))
            return Later(f"failed: {type(error).__name__}")

    def _judged(self, message: Message, answer: Answer) -> Attempt:
        """What is written down of an attempt; counts and logs it."""
        now = epoch_ms()
        if isinstance(answer, Accepted):
            self._failures, self._failing_since = 0, None
            metrics.DELAY.labels(channel=self.channel.name).observe((now - message.newest) / 1000)
            self._tell("sent", message, note=answer.note)
            return Attempt("sent", now, now, answer.note)
        if isinstance(answer, Refused):
            self._tell("failed", message, reason=answer.reason)
            return Attempt("failed", now, now, answer.reason)
        due_at, pause_s = self._later(message, answer, now)
        if message.age(now, self.policy.age_ms) + round(pause_s * 1000) > self.policy.age_ms:
            self._tell("failed", message, reason=answer.reason)
            return Attempt("failed", now, now, f"given up: {answer.reason}")
        self._tell("later", message, reason=answer.reason, in_seconds=round(pause_s, 1))
        return Attempt("pending", now, due_at, answer.reason)

    def _later(self, message: Message, answer: Later, now: int) -> tuple[int, float]:
        """When the message is due again (ms), and how long it waits at least (s).

        The channel waits, by its failures in a row: the next message meets the same. So the message keeps its place, for
        people are not to hear of an alarm after its end; but where others were taken meanwhile, it waits by itself.
        """
        self._failing_since = self._failing_since or time.monotonic()
        self._failures += 1
        self._reason = answer.reason
        least_s = min(answer.after_s or 0.0, self.policy.age_ms / 1000)
        pause_s = max(pause(self._failures), least_s)
        self._paused_until = time.monotonic() + pause_s
        if message.attempts < self._failures:
            self._aside = message.message_id if self._failures % OTHERS_TURN == 0 else ""
            return message.enrolled, pause_s
        own_s = max(pause(message.attempts + 1), least_s)
        return now + round(own_s * 1000), own_s

    def _tell(self, result: str, message: Message, **more: object) -> None:
        metrics.MESSAGES.labels(channel=self.channel.name, result=result).inc()
        more = {name: value for name, value in more.items() if value is not None}
        named = self._named(message)
        if result == "later":
            _log.warning("message not sent, trying again", **named, **more)
        elif result == "failed":
            _log.error("message not sent, given up", **named, **more)
        elif result == "skipped":
            _log.info("reminders not sent: later ones are", **named)
        elif more:
            _log.warning("message not taken for everyone", **named, **more)
        else:
            _log.info("message sent", **named)

    def _named(self, message: Message) -> dict[str, object]:
        return {
            "channel": self.channel.name,
            "message_id": message.message_id,
            "changes": len(message.changes),
            "attempt": message.attempts + 1,
        }

    def check(self) -> Check:
        """Whether the receiver takes what it is given."""
        name = self.channel.name
        failing_s = time.monotonic() - (self._failing_since or time.monotonic())
        if failing_s > FAILING_S:
            return Check(name, False, f"takes nothing for {failing_s:.0f} s: {self._reason}")
        return Check(name, True, f"{counted(self.waiting.changes, 'change')} waiting")


def pause(failures: int) -> float:
    """Seconds to wait after this many failures in a row: doubled up to the longest, less a random part of up to a quarter."""
    longest = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LAST_PAUSE_S)
    return longest * random.uniform(0.75, 1)  # noqa: S311  # keeps several from coming at once
