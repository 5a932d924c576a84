"""The errors of streamproc.

    StreamprocError
    ├── SettingsError          a setting is wrong, unknown or missing; lists all faults at once
    ├── TopicsError            topics.yaml is wrong, or the broker's topics do not match it
    ├── BrokerError            the embedded broker could not be set up or started
    ├── GatewayError           the gateway cannot listen on its address
    ├── KafkaUnavailable       Kafka did not take or acknowledge records in time    (retriable)
    │   ├── KafkaRefused       it is there, but does not let this client in
    │   └── PartlyAcknowledged but some of them (in streamproc.gateway.publisher)
    ├── CheckpointError        a checkpoint cannot be read: damaged, or of another version
    ├── StoreError             the database refused or failed
    │   ├── StoreUnavailable   away, locked or full: try again later       (retriable)
    │   ├── RowsRefused        at least one row breaks a rule of the database
    │   └── StaleOwner         another sink has moved the partition's offset on
    ├── DeadLetterError        a dead letter cannot be found, read or sent again
    ├── RegistryError          an entry of the registry is wrong
    │   ├── UnknownEntry       it is not in the registry
    │   ├── StaleEntry         it has another version by now
    │   └── EntryNotSent       it is in the database, but not on the topic yet    (retriable)
    ├── ReplayError            a replay cannot be done as it is asked for
    ├── ExplainError           an event cannot be found or recomputed
    └── SeriesError            a file given to `detect` is not a series

Bad *input* is not an error but a value: `streamproc.core.codec.Rejected`.
"""

from __future__ import annotations

from typing import ClassVar


def why(error: Exception) -> str:
    """What an error says, without the file that the system names behind it: who tells of it names that.

    >>> why(FileNotFoundError(2, "No such file or directory", "a.yaml")), why(ValueError("no mapping"))
    ('No such file or directory', 'no mapping')
    """
    return (isinstance(error, OSError) and error.strerror) or str(error)


class StreamprocError(Exception):
    """Base of all errors raised on purpose; `retriable` tells whether the same call may succeed later."""

    retriable: ClassVar[bool] = False


class SettingsError(StreamprocError):
    """One or more settings are wrong; the text names each of them."""


class TopicsError(StreamprocError):
    """topics.yaml is wrong, or the broker's topics do not match it."""


class BrokerError(StreamprocError):
    """The embedded broker could not be set up or started."""


class GatewayError(StreamprocError):
    """The gateway cannot listen on its address."""


class KafkaUnavailable(StreamprocError):  # noqa: N818  # named for what it is
    """Kafka did not take or acknowledge records in time; they may be stored none the less."""

    retriable = True


class KafkaRefused(KafkaUnavailable):
    """Kafka is there, but not for this client: its login, certificate, protocol or rights are wrong."""

    retriable = False


class CheckpointError(StreamprocError):
    """A checkpoint is damaged or of a version that this program does not read."""


class StoreError(StreamprocError):
    """The database refused or failed."""


class StoreUnavailable(StoreError):  # noqa: N818  # named for what it is
    """The database is away, locked or full; nothing was written, and the same call may succeed later.

    `code` is a short name of the cause, one of few.
    """

    retriable = True

    def __init__(self, reason: str, code: str = "other") -> None:
        super().__init__(reason)
        self.code = code


class RowsRefused(StoreError):  # noqa: N818
    """The database refuses at least one row of the batch; nothing of the batch was written.

    `sensors` holds the keys that it does not know, where that is the reason.
    """

    def __init__(self, reason: str, sensors: frozenset[str] = frozenset()) -> None:
        super().__init__(reason)
        self.sensors = sensors


class StaleOwner(StoreError):  # noqa: N818
    """The stored offset is not the one that this batch starts from: another sink owns the partition now."""


class DeadLetterError(StreamprocError):
    """A dead letter cannot be found, read or sent again."""


class RegistryError(StreamprocError):
    """An entry of the registry is wrong."""


class UnknownEntry(RegistryError):  # noqa: N818  # named for what it is
    """The registry has no such sensor, device or key."""


class StaleEntry(RegistryError):  # noqa: N818
    """The entry has another version by now than the one that was to be changed."""


class EntryNotSent(RegistryError):  # noqa: N818
    """The change is in the database, but not on the topic; the same edit again sends it, and so does a sink in a while."""

    retriable = True


class ReplayError(StreamprocError):
    """A replay cannot be done as it is asked for; the text says what can be done."""


class ExplainError(StreamprocError):
    """An event cannot be found, or not recomputed here; the text says what can be done."""


class SeriesError(StreamprocError):
    """A file is not a `timestamp,value` series."""
