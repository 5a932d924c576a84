"""Finds an event by its id: in the database, or else on the topic `events`."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer

from streamproc.errors import ExplainError, StoreError
from streamproc.kafka.reading import bounds, partitions, records
from streamproc.records import SeverityEvent
from streamproc.settings import Settings
from streamproc.store import connect, must_exist

#: A broker that restarts is back within a minute.
_SILENCE_S = 60.0

_log = structlog.get_logger(__name__)
_decode = msgspec.json.Decoder(SeverityEvent).decode


class Found(NamedTuple):
    """An event, and where it was found."""

    event: SeverityEvent
    where: str


async def find(settings: Settings, consumer: AIOKafkaConsumer, event_id: str) -> Found:
    """The event with this id; raises ExplainError if there is none."""
    event, missing = await _stored(settings, event_id)
    if event is not None:
        return Found(event, "the database")
    found = await _on_topic(settings, consumer, event_id)
    if found is None:
        raise ExplainError(
            f"no event {event_id}: {missing}, and the topic {settings.topic('events')} does not have it (any more). "
            "Ids are in ml_events.event_id, in alert_notifications and in each event on the topic"
        )
    return found


async def _stored(settings: Settings, event_id: str) -> tuple[SeverityEvent | None, str]:
    """The database's event, or why there is none; a database that is away need not be asked."""
    store = connect(settings, process="explain", migrates=False)  # who only looks changes nothing
    try:
        must_exist(settings)
        await store.open()
        return await store.event(event_id), "the database does not have it"
    except StoreError as error:
        _log.warning("database not asked, looking on the topic", reason=str(error))
        return None, f"the database cannot be asked ({error})"
    finally:
        await store.close()


async def _on_topic(settings: Settings, consumer: AIOKafkaConsumer, event_id: str) -> Found | None:
    """The topic's event; all of it is read, for its keys are sensors."""
    places = await partitions(consumer, settings.topic("events"))
    wanted = event_id.encode()
    async for found in records(consumer, await bounds(consumer, places) if places else {}, _SILENCE_S):
        for place, some in found.items():
            for record in some:
                if wanted not in (record.value or b""):
                    continue
                event = _event(record.value)
                if event is not None and event.event_id == event_id:
                    return Found(event, f"{place.topic}, partition {place.partition}, offset {record.offset}")
    return None


def _event(value: bytes) -> SeverityEvent | None:
    """What a record is; others may have written what is none."""
    try:
        return _decode(value)
    except msgspec.MsgspecError:
        return None
