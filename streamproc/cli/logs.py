"""Logs to standard error, or a file: for people on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

#: A line of a library, or one marked `sampled`, comes at most once in so long: a broker that is away made 40 a second.
REPEAT_S = 10.0
#: Kinds of lines remembered; far more than a process has, unless a library puts a changing text into its format.
KINDS = 1_000
#: aiokafka's line of a bootstrap server that it cannot connect to.
_UNREACHED = 'Unable connect to "%s:%s": %s'


class Repeats(logging.Filter):
    """Lets a library's line through once in REPEAT_S; the next one has in `repeated` how many were left out before it.

    A line is the same as another if it has the same logger, level and text before its values are filled in. Of streamproc's
    own lines only those marked `sampled` are thinned out, by event and partition: they come once a chunk.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        own = record.msg if isinstance(record.msg, dict) else None
        if own is not None and not own.get("sampled"):
            return True
        what = str(record.msg) if own is None else (own.get("event"), own.get("partition"))
        kind = (record.name, record.levelno, what)
        last, repeated = self._seen.get(kind, (float("-inf"), 0))
        if record.created - last < REPEAT_S:
            self._seen[kind] = (last, repeated + 1)
            return False
        if len(self._seen) >= KINDS:
            self._seen.clear()
        self._seen[kind] = (record.created, 0)
        if repeated:
            if own is None:
                record.repeated = repeated
            else:
                own["repeated"] = repeated
        return True


class Places(logging.Filter):
    """Gives a library's line about partitions the fields that streamproc's own lines have: topic and partition."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; every line is to be written."""
        arguments = record.args.values() if isinstance(record.args, dict) else record.args or ()
        places = [place for argument in arguments for place in _places(argument)]
        if len(places) == 1:
            record.topic, record.partition = places[0]
        elif places:
            record.partitions = sorted({f"{topic}/{partition}" for topic, partition in places})
        return True


def _places(argument: Any) -> Iterable[tuple[str, int]]:
    """The topics and partitions in an argument of a line: aiokafka's TopicPartition or Faust's TP, or several."""
    found = list(argument) if isinstance(argument, (dict, set, frozenset, list)) else [argument]
    for one in found:
        topic, partition = getattr(one, "topic", None), getattr(one, "partition", None)
        if isinstance(topic, str) and isinstance(partition, int):
            yield topic, partition


def configure(level: str, file: Path | None = None) -> None:
    """Send records of at least `level`, structlog's and the standard library's, the same way, or to `file`.

    The file's directory need not be there until the first record is. Where lines are JSON, so is what Python would print of
    an error that nobody caught.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.FileHandler(file, delay=True) if file else logging.StreamHandler(sys.stderr)
    pretty = file is None and sys.stderr.isatty()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(pretty)],
        )
    )
    handler.addFilter(Repeats())
    handler.addFilter(Places())
    # A line for which the disk has no room is lost; Python would print a traceback for it, of `dev` onto the screen.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It tells its every step at info.
    logging.getLogger("aiokafka").setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(capture=True)
    if not pretty:
        sys.excepthook = _uncaught if file is None else partial(_ended, file)
        threading.excepthook = lambda args: _uncaught(
            args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
        )


def leave_connecting_out() -> None:
    """Have the Kafka client not tell of brokers that it cannot reach at the start: a command's own error says more of it."""
    logging.getLogger("aiokafka").addFilter(lambda record: record.msg != _UNREACHED)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("streamproc").critical("ended by an error", exc_info=(kind, error, trace))


def _ended(file: Path, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _uncaught(kind, error, trace)
    sys.stderr.write(f"streamproc: ended by an error, which {file} has whole: {kind.__name__}: {error}\n")


def _renderers(pretty: bool) -> list[structlog.typing.Processor]:
    if pretty:
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
