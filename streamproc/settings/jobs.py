"""Scheduled jobs: when they run, and how long stored data is kept."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

OFF = "off"
FOREVER = "forever"
DAY_MS = 86_400_000
#: Five fields, as in cron: a sixth, for seconds, would be one that no table of cron jobs knows.
_FIELDS = 5


class JobsSettings(BaseSettings):
    """Scheduled jobs: when they run, and how long stored data is kept."""

    jobs_timezone: str = Field(
        "UTC",
        alias="STREAMPROC_JOBS_TIMEZONE",
        description="Time zone of the schedules of `streamproc jobs`, such as `America/Bogota`.",
    )
    cleanup_schedule: str = Field(
        "0 4 * * 0",
        alias="STREAMPROC_CLEANUP_SCHEDULE",
        description="When the job `cleanup` deletes old rows ([jobs](docs/jobs.md)), as in cron: minute, hour, day, month,"
        " weekday; Sunday at 4. `off`: only by `streamproc jobs run cleanup`.",
    )
    retention_readings: str = Field(
        FOREVER,
        alias="STREAMPROC_RETENTION_READINGS",
        description="How long the job `cleanup` keeps readings: days such as `365d`, or `forever`.",
    )
    retention_windows: str = Field(
        FOREVER, alias="STREAMPROC_RETENTION_WINDOWS", description="The same for windows."
    )
    retention_predictions: str = Field(
        "90d", alias="STREAMPROC_RETENTION_PREDICTIONS", description="The same for predictions."
    )
    retention_events: str = Field(
        "30d",
        alias="STREAMPROC_RETENTION_EVENTS",
        description="The same for events; active ones, and each sensor's last, stay.",
    )
    retention_notifications: str = Field(
        "30d",
        alias="STREAMPROC_RETENTION_NOTIFICATIONS",
        description="The same for notifications; those of active events stay.",
    )
    retention_alerts: str = Field(
        FOREVER,
        alias="STREAMPROC_RETENTION_ALERTS",
        description="The same for resolved alerts on SQL Server.",
    )
    retention_audit: str = Field(
        FOREVER,
        alias="STREAMPROC_RETENTION_AUDIT",
        description="The same for the audit of the registry; each entry's last line stays.",
    )
    retention_trials: str = Field(
        FOREVER,
        alias="STREAMPROC_RETENTION_TRIALS",
        description="The same for the results of trials, counted from a trial's last row.",
    )
    jobs_host: str = Field(
        "127.0.0.1",
        alias="STREAMPROC_JOBS_HOST",
        description="Address of the metrics and health of `streamproc jobs`.",
    )
    jobs_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="STREAMPROC_JOBS_PORT",
        description="Port of the metrics and health of `streamproc jobs`; 0 turns it off.",
    )

    @field_validator("jobs_timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, OSError, ValueError):  # not known, a folder, or no name at all
            raise ValueError(f"no time zone {name!r}; names are as Europe/Madrid, or UTC") from None
        return name

    @field_validator("cleanup_schedule")
    @classmethod
    def _schedule_comes_round(cls, text: str) -> str:
        words = text.split()
        if words == [OFF]:
            return OFF
        if len(words) != _FIELDS:
            raise ValueError(f"{text!r} is not five fields, as 0 4 * * 0: minute, hour, day, month, weekday")
        try:
            next(CronSim(" ".join(words), datetime(2024, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"{text!r}: {error}") from None
        except StopIteration:
            raise ValueError(f"{text!r} never comes") from None
        return " ".join(words)

    @field_validator(
        "retention_readings",
        "retention_windows",
        "retention_predictions",
        "retention_events",
        "retention_notifications",
        "retention_alerts",
        "retention_audit",
        "retention_trials",
    )
    @classmethod
    def _retention_is_days(cls, text: str) -> str:
        # At most five digits: 273 years.
        if text != FOREVER and not re.fullmatch(r"[1-9][0-9]{0,4}d", text, re.ASCII):
            raise ValueError(f"{text!r} is neither days, as 30d, nor {FOREVER}")
        return text

    @property
    def retentions_ms(self) -> dict[str, int | None]:
        """How long what is stored is kept, by what the store calls it; None: for ever."""
        texts = {
            "notifications": self.retention_notifications,
            "alerts": self.retention_alerts,
            "events": self.retention_events,
            "predictions": self.retention_predictions,
            "windows": self.retention_windows,
            "readings": self.retention_readings,
            "audit": self.retention_audit,
            "trial_events": self.retention_trials,
        }
        return {table: None if text == FOREVER else int(text[:-1]) * DAY_MS for table, text in texts.items()}
