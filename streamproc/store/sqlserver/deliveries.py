"""Deliveries of notifications in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from typing import Any

from streamproc.store.deliveries import (
    AT_ONCE,
    ERROR_CHARACTERS,
    FIRST_LOOK_MS,
    GONE,
    Attempt,
    Claim,
    Message,
    Plan,
    Policy,
    Undelivered,
    Waiting,
    enrolled,
    found_of,
    grouped,
    look_of,
    looked,
    loose_of,
    message_of,
    undelivered_of,
    waiting_of,
)
from streamproc.store.sqlserver.times import ms_of, time_of

#: One process at a time plans; its transaction is done in a fraction of a second.
TURN = ("streamproc-notify", 5_000, "another process plans what is to be told")
_LOOK = "SELECT after_id, seen_id, seen_at FROM dbo.notification_channels WHERE channel = ?"
_NEWEST = "SELECT COALESCE(MAX(id), 0) FROM dbo.alert_notifications"
#: The last number before the first notification of this time or later.
_BEGIN = "SELECT MIN(id) - 1 FROM dbo.alert_notifications WHERE created_at >= ?"
# The sensor's notification before each, by the index on sensor and time; then what became of that on this channel. One that
# goes on with another sensor's event (`records.Notification`) comes after that sensor's.
_NEW = (
    "SELECT n.notification_id, n.severity, n.created_at, s.uuid, d.uuid, COALESCE(s.site, d.site),"
    " p.notification_id, p.severity, b.status"
    " FROM (SELECT TOP (?) w.id, w.notification_id, w.severity, w.created_at, w.sensor_id,"
    " (SELECT TOP (1) o.id FROM dbo.alert_notifications o WHERE o.sensor_id = COALESCE("
    "(SELECT TOP (1) f.sensor_id FROM dbo.alert_notifications f"
    " WHERE f.event_id = SUBSTRING(w.notification_id, 33, 32) AND f.source = N'ml_event'), w.sensor_id)"
    " AND o.source = N'ml_event'"
    " AND (o.created_at < w.created_at OR (o.created_at = w.created_at AND o.id < w.id))"
    " ORDER BY o.created_at DESC, o.id DESC) AS before_id"
    " FROM dbo.alert_notifications w WHERE w.id > ? AND w.source = N'ml_event'"
    " AND NOT EXISTS (SELECT 1 FROM dbo.notification_deliveries x"
    " WHERE x.notification_id = w.notification_id AND x.channel = ?)"
    " ORDER BY w.id) n"
    " LEFT JOIN dbo.sensors s ON s.id = n.sensor_id LEFT JOIN dbo.devices d ON d.id = s.device_id"
    " LEFT JOIN dbo.alert_notifications p ON p.id = n.before_id"
    " LEFT JOIN dbo.notification_deliveries b ON b.notification_id = p.notification_id AND b.channel = ?"
    " ORDER BY n.created_at, n.id"
)
_LOOSE = (
    "SELECT r.id, r.notification_id, r.scope, r.created_at, n.created_at, r.follows, f.thread_id"
    " FROM dbo.notification_deliveries r JOIN dbo.alert_notifications n ON n.notification_id = r.notification_id"
    " LEFT JOIN dbo.notification_deliveries f ON f.notification_id = r.follows AND f.channel = r.channel"
    " WHERE r.status = N'pending' AND r.channel = ? AND r.message_id IS NULL"
)
_ENROLL = (
    "INSERT INTO dbo.notification_deliveries"
    " (notification_id, channel, scope, status, follows, last_error, created_at, due_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_GROUP = "UPDATE dbo.notification_deliveries SET message_id = ?, thread_id = ? WHERE id = ?"
_MOVE_LOOK = (
    "UPDATE dbo.notification_channels SET after_id = ?, seen_id = ?, seen_at = ? WHERE channel = ?;"
    " SELECT @@ROWCOUNT"
)
_BEGIN_LOOK = (
    "INSERT INTO dbo.notification_channels (after_id, seen_id, seen_at, channel) VALUES (?, ?, ?, ?)"
)
_DUE = (
    "SELECT TOP (1) message_id FROM dbo.notification_deliveries WHERE status = N'pending' AND channel = ?"
    " AND due_at <= ? AND message_id IS NOT NULL AND (lease_until IS NULL OR lease_until <= ?)"
    " AND message_id <> ? ORDER BY due_at, id"
)
# A reminder that something later of its alarm has overtaken; what tells an alarm first on a channel follows on nothing.
_ROWS = (
    "SELECT r.scope, r.thread_id, r.attempts, CASE WHEN r.claimed_by IS NULL THEN 0 ELSE 1 END, r.created_at,"
    " CASE WHEN r.notification_id LIKE N'reminder-%' AND r.follows IS NOT NULL"
    " AND EXISTS (SELECT 1 FROM dbo.alert_notifications o"
    " JOIN dbo.notification_deliveries x ON x.notification_id = o.notification_id AND x.channel = r.channel"
    " WHERE o.sensor_id = n.sensor_id AND o.source = N'ml_event' AND x.status IN (N'pending', N'sent')"
    " AND (o.created_at > n.created_at OR (o.created_at = n.created_at AND o.id > n.id))) THEN 1 ELSE 0 END,"
    " n.notification_id, n.event_id, s.uuid, NULLIF(s.name, N''), d.uuid, NULLIF(d.name, N''),"
    " COALESCE(s.site, d.site), n.severity, n.title, COALESCE(n.message, N''), n.created_at"
    " FROM dbo.notification_deliveries r"
    " JOIN dbo.alert_notifications n ON n.notification_id = r.notification_id"
    " LEFT JOIN dbo.sensors s ON s.id = n.sensor_id LEFT JOIN dbo.devices d ON d.id = s.device_id"
    " WHERE r.status = N'pending' AND r.channel = ? AND r.message_id = ? ORDER BY n.created_at, r.id"
)
_DROP = (
    "UPDATE dbo.notification_deliveries SET status = N'skipped', last_error = ?"
    " WHERE status = N'pending' AND channel = ? AND message_id = ?"
)
_CLAIM = (
    "UPDATE dbo.notification_deliveries SET claimed_by = ?, lease_until = ?"
    " WHERE status = N'pending' AND channel = ? AND message_id = ? AND (lease_until IS NULL OR lease_until <= ?);"
    " SELECT @@ROWCOUNT"
)
_SETTLE = (
    "UPDATE dbo.notification_deliveries SET status = ?, due_at = ?, last_error = ?,"
    " sent_at = CAST(? AS DATETIME2(6)), attempts = attempts + 1, claimed_by = NULL, lease_until = NULL"
    " WHERE status = N'pending' AND channel = ? AND message_id = ? AND claimed_by = ?; SELECT @@ROWCOUNT"
)
_DELIVERED = (
    "UPDATE dbo.alert_notifications SET delivered_at = ? WHERE delivered_at IS NULL AND notification_id IN"
    " (SELECT notification_id FROM dbo.notification_deliveries WHERE status = N'sent' AND channel = ? AND message_id = ?)"
)
_WAITING = (
    "SELECT COUNT(*), MIN(n.created_at) FROM dbo.notification_deliveries r"
    " JOIN dbo.alert_notifications n ON n.notification_id = r.notification_id"
    " WHERE r.status = N'pending' AND r.channel = ?"
)
#: Of each reason; those of one message are one.
_UNDELIVERED = (
    "SELECT r.channel, COALESCE(r.last_error, N''), COUNT(DISTINCT r.message_id), COUNT(*), MIN(n.created_at),"
    " MAX(n.created_at) FROM dbo.notification_deliveries r"
    " JOIN dbo.alert_notifications n ON n.notification_id = r.notification_id"
    " WHERE r.status = N'failed' AND n.created_at >= ? GROUP BY r.channel, r.last_error"
    " ORDER BY r.channel, MAX(n.created_at) DESC"
)
_AGAIN = (
    "UPDATE dbo.notification_deliveries SET status = N'pending', created_at = ?, due_at = ?"
    " WHERE status = N'failed' AND channel = ? AND message_id IN (SELECT x.message_id FROM dbo.notification_deliveries x"
    " JOIN dbo.alert_notifications n ON n.notification_id = x.notification_id"
    " WHERE x.status = N'failed' AND x.channel = ? AND n.created_at >= ?); SELECT @@ROWCOUNT"
)


async def plan(cursor: Any, policy: Policy, now: int) -> Plan:
    """What is to be written now; nothing is."""
    look = look_of(await _row(cursor, _LOOK, policy.channel), ms_of)
    (newest,) = await _row(cursor, _NEWEST)
    begins_after = newest
    if look is None:
        (first,) = await _row(cursor, _BEGIN, time_of(now - FIRST_LOOK_MS))
        begins_after = newest if first is None else first
    after = begins_after if look is None else look.after_id
    await cursor.execute(_NEW, AT_ONCE, after, policy.channel, policy.channel)
    found = found_of(await cursor.fetchall(), ms_of)
    await cursor.execute(_LOOSE, policy.channel)
    loose = loose_of(await cursor.fetchall(), ms_of)
    return Plan(
        enrolled(found, policy, now),
        grouped(loose, policy, now),
        looked(look, newest, begins_after, len(found), now),
    )


async def carry_out(cursor: Any, made: Plan, channel: str, now: int) -> None:
    """Write what `plan` has found in the same transaction."""
    stamp = time_of(now)
    for row in made.enroll:
        await cursor.execute(
            _ENROLL,
            *(row.notification_id, channel, row.scope, row.status, row.follows, row.reason),
            stamp,
            stamp,
        )
    for group in made.groups:
        for number, thread in group.rows:
            await cursor.execute(_GROUP, group.message_id, thread, number)
    if made.look is not None:
        after_id, seen_id, seen_at = made.look
        values = (after_id, seen_id, time_of(seen_at), channel)
        if not (await _row(cursor, _MOVE_LOOK, *values))[0]:
            await cursor.execute(_BEGIN_LOOK, *values)


async def claim(cursor: Any, channel: str, claim: Claim) -> Message | None:
    """Hold the message that is due first."""
    now = time_of(claim.now)
    due = await _row(cursor, _DUE, channel, now, now, claim.besides)
    if due is None:
        return None
    (message_id,) = due
    await cursor.execute(_ROWS, channel, message_id)
    rows = await cursor.fetchall()
    if not rows:
        await cursor.execute(_DROP, GONE, channel, message_id)
        return None
    if not (await _row(cursor, _CLAIM, claim.by, time_of(claim.until), channel, message_id, now))[0]:
        return None
    return message_of(message_id, channel, rows, ms_of)


async def settle(cursor: Any, message: Message, by: str, attempt: Attempt) -> bool:
    """Write down how an attempt ended, unless somebody else holds the message."""
    sent_at = time_of(attempt.at) if attempt.status == "sent" else None
    place = (message.channel, message.message_id)
    error = attempt.error and attempt.error[:ERROR_CHARACTERS]
    (settled,) = await _row(
        cursor, _SETTLE, attempt.status, time_of(attempt.due_at), error, sent_at, *place, by
    )
    if settled and sent_at:
        await cursor.execute(_DELIVERED, sent_at, *place)
    return bool(settled)


async def waiting(cursor: Any, channel: str) -> Waiting:
    """What still waits to be sent."""
    return waiting_of(await _row(cursor, _WAITING, channel), ms_of)


async def undelivered(cursor: Any, since: int) -> list[Undelivered]:
    """What was given up of changes from a time on."""
    await cursor.execute(_UNDELIVERED, time_of(since))
    return undelivered_of(await cursor.fetchall(), ms_of)


async def send_again(cursor: Any, channel: str, since: int, now: int) -> int:
    """Have sent again what was given up, whole messages under their identities."""
    stamp = time_of(now)
    count: int = (await _row(cursor, _AGAIN, stamp, stamp, channel, channel, time_of(since)))[0]
    return count


async def _row(cursor: Any, query: str, *values: object) -> Any:
    await cursor.execute(query, *values)
    return await cursor.fetchone()
