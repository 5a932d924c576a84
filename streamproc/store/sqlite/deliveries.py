"""Deliveries of notifications in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3

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
from streamproc.store.stamps import ms_of, stamp_of

_LOOK = "SELECT after_id, seen_id, seen_at FROM notification_channels WHERE channel = ?"
_NEWEST = "SELECT COALESCE(MAX(id), 0) FROM alert_notifications"
#: The last number before the first notification of this time or later.
_BEGIN = "SELECT MIN(id) - 1 FROM alert_notifications WHERE created_at >= ?"
# The sensor's notification before each, by the index on sensor and time; then what became of that on this channel. One that
# goes on with another sensor's event (`records.Notification`) comes after that sensor's.
_NEW = (
    "SELECT n.notification_id, n.severity, n.created_at, s.uuid, d.uuid, COALESCE(s.site, d.site),"
    " p.notification_id, p.severity, b.status"
    " FROM (SELECT w.*, (SELECT o.id FROM alert_notifications o WHERE o.sensor_id = COALESCE("
    "(SELECT f.sensor_id FROM alert_notifications f WHERE f.source_event_id = SUBSTR(w.notification_id, 33)"
    " AND f.source = 'ml_event' LIMIT 1), w.sensor_id)"
    " AND o.source = 'ml_event'"
    " AND (o.created_at < w.created_at OR o.created_at = w.created_at AND o.id < w.id)"
    " ORDER BY o.created_at DESC, o.id DESC LIMIT 1) AS before_id"
    " FROM alert_notifications w WHERE w.id > ?1 AND w.source = 'ml_event'"
    " AND NOT EXISTS (SELECT 1 FROM notification_deliveries x"
    " WHERE x.notification_id = w.notification_id AND x.channel = ?2)"
    " ORDER BY w.id LIMIT ?3) n"
    " LEFT JOIN sensors s ON s.id = n.sensor_id LEFT JOIN devices d ON d.id = s.device_id"
    " LEFT JOIN alert_notifications p ON p.id = n.before_id"
    " LEFT JOIN notification_deliveries b ON b.notification_id = p.notification_id AND b.channel = ?2"
    " ORDER BY n.created_at, n.id"
)
_LOOSE = (
    "SELECT r.id, r.notification_id, r.scope, r.created_at, n.created_at, r.follows, f.thread_id"
    " FROM notification_deliveries r JOIN alert_notifications n ON n.notification_id = r.notification_id"
    " LEFT JOIN notification_deliveries f ON f.notification_id = r.follows AND f.channel = r.channel"
    " WHERE r.status = 'pending' AND r.channel = ? AND r.message_id IS NULL"
)
_ENROLL = (
    "INSERT INTO notification_deliveries"
    " (notification_id, channel, scope, status, follows, last_error, created_at, due_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_GROUP = "UPDATE notification_deliveries SET message_id = ?, thread_id = ? WHERE id = ?"
_SAVE_LOOK = (
    "INSERT INTO notification_channels (channel, after_id, seen_id, seen_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (channel) DO UPDATE"
    " SET after_id = excluded.after_id, seen_id = excluded.seen_id, seen_at = excluded.seen_at"
)
_DUE = (
    "SELECT message_id FROM notification_deliveries WHERE status = 'pending' AND channel = ? AND due_at <= ?"
    " AND message_id IS NOT NULL AND (lease_until IS NULL OR lease_until <= ?) AND message_id <> ?"
    " ORDER BY due_at, id LIMIT 1"
)
# A reminder that something later of its alarm has overtaken; what tells an alarm first on a channel follows on nothing.
_ROWS = (
    "SELECT r.scope, r.thread_id, r.attempts, r.claimed_by IS NOT NULL, r.created_at,"
    " r.notification_id LIKE 'reminder-%' AND r.follows IS NOT NULL AND EXISTS (SELECT 1 FROM alert_notifications o"
    " JOIN notification_deliveries x ON x.notification_id = o.notification_id AND x.channel = r.channel"
    " WHERE o.sensor_id = n.sensor_id AND o.source = 'ml_event' AND x.status IN ('pending', 'sent')"
    " AND (o.created_at > n.created_at OR o.created_at = n.created_at AND o.id > n.id)),"
    " n.notification_id, n.source_event_id,"
    " s.uuid, s.name, d.uuid, d.name, COALESCE(s.site, d.site), n.severity, n.title, n.message, n.created_at"
    " FROM notification_deliveries r JOIN alert_notifications n ON n.notification_id = r.notification_id"
    " LEFT JOIN sensors s ON s.id = n.sensor_id LEFT JOIN devices d ON d.id = s.device_id"
    " WHERE r.status = 'pending' AND r.channel = ? AND r.message_id = ? ORDER BY n.created_at, r.id"
)
_DROP = (
    "UPDATE notification_deliveries SET status = 'skipped', last_error = ?"
    " WHERE status = 'pending' AND channel = ? AND message_id = ?"
)
_CLAIM = (
    "UPDATE notification_deliveries SET claimed_by = ?, lease_until = ?"
    " WHERE status = 'pending' AND channel = ? AND message_id = ? AND (lease_until IS NULL OR lease_until <= ?)"
)
_SETTLE = (
    "UPDATE notification_deliveries SET status = ?, due_at = ?, last_error = ?, sent_at = ?,"
    " attempts = attempts + 1, claimed_by = NULL, lease_until = NULL"
    " WHERE status = 'pending' AND channel = ? AND message_id = ? AND claimed_by = ?"
)
_DELIVERED = (
    "UPDATE alert_notifications SET delivered_at = ? WHERE delivered_at IS NULL AND notification_id IN"
    " (SELECT notification_id FROM notification_deliveries WHERE status = 'sent' AND channel = ? AND message_id = ?)"
)
_WAITING = (
    "SELECT COUNT(*), MIN(n.created_at) FROM notification_deliveries r"
    " JOIN alert_notifications n ON n.notification_id = r.notification_id"
    " WHERE r.status = 'pending' AND r.channel = ?"
)
#: Of each reason; those of one message are one.
_UNDELIVERED = (
    "SELECT r.channel, COALESCE(r.last_error, ''), COUNT(DISTINCT r.message_id), COUNT(*), MIN(n.created_at),"
    " MAX(n.created_at) FROM notification_deliveries r JOIN alert_notifications n ON n.notification_id = r.notification_id"
    " WHERE r.status = 'failed' AND n.created_at >= ? GROUP BY r.channel, r.last_error"
    " ORDER BY r.channel, MAX(n.created_at) DESC"
)
_AGAIN = (
    "UPDATE notification_deliveries SET status = 'pending', created_at = ?, due_at = ?"
    " WHERE status = 'failed' AND channel = ? AND message_id IN (SELECT x.message_id FROM notification_deliveries x"
    " JOIN alert_notifications n ON n.notification_id = x.notification_id"
    " WHERE x.status = 'failed' AND x.channel = ? AND n.created_at >= ?)"
)


def plan(connection: sqlite3.Connection, policy: Policy, now: int) -> Plan:
    """What is to be written now; nothing is."""
    look = look_of(connection.execute(_LOOK, (policy.channel,)).fetchone(), ms_of)
    (newest,) = connection.execute(_NEWEST).fetchone()
    begins_after = newest
    if look is None:
        (first,) = connection.execute(_BEGIN, (stamp_of(now - FIRST_LOOK_MS),)).fetchone()
        begins_after = newest if first is None else first
    after = begins_after if look is None else look.after_id
    found = found_of(connection.execute(_NEW, (after, policy.channel, AT_ONCE)), ms_of)
    loose = loose_of(connection.execute(_LOOSE, (policy.channel,)), ms_of)
    return Plan(
        enrolled(found, policy, now),
        grouped(loose, policy, now),
        looked(look, newest, begins_after, len(found), now),
    )


def carry_out(connection: sqlite3.Connection, made: Plan, channel: str, now: int) -> None:
    """Write what `plan` has found in the same transaction."""
    stamp = stamp_of(now)
    connection.executemany(
        _ENROLL,
        [
            (row.notification_id, channel, row.scope, row.status, row.follows, row.reason, stamp, stamp)
            for row in made.enroll
        ],
    )
    connection.executemany(
        _GROUP,
        [(group.message_id, thread, number) for group in made.groups for number, thread in group.rows],
    )
    if made.look is not None:
        after_id, seen_id, seen_at = made.look
        connection.execute(_SAVE_LOOK, (channel, after_id, seen_id, stamp_of(seen_at)))


def is_due(connection: sqlite3.Connection, channel: str, claim: Claim) -> bool:
    """Whether there is a message to claim."""
    now = stamp_of(claim.now)
    return connection.execute(_DUE, (channel, now, now, claim.besides)).fetchone() is not None


def claim(connection: sqlite3.Connection, channel: str, claim: Claim) -> Message | None:
    """Hold the message that is due first."""
    now = stamp_of(claim.now)
    due = connection.execute(_DUE, (channel, now, now, claim.besides)).fetchone()
    if due is None:
        return None
    (message_id,) = due
    rows = connection.execute(_ROWS, (channel, message_id)).fetchall()
    if not rows:
        connection.execute(_DROP, (GONE, channel, message_id))
        return None
    if not connection.execute(_CLAIM, (claim.by, stamp_of(claim.until), channel, message_id, now)).rowcount:
        return None
    return message_of(message_id, channel, rows, ms_of)


def settle(connection: sqlite3.Connection, message: Message, by: str, attempt: Attempt) -> bool:
    """Write down how an attempt ended, unless somebody else holds the message."""
    sent_at = stamp_of(attempt.at) if attempt.status == "sent" else None
    place = (message.channel, message.message_id)
    error = attempt.error and attempt.error[:ERROR_CHARACTERS]
    settled = connection.execute(
        _SETTLE, (attempt.status, stamp_of(attempt.due_at), error, sent_at, *place, by)
    ).rowcount
    if settled and sent_at:
        connection.execute(_DELIVERED, (sent_at, *place))
    return bool(settled)


def waiting(connection: sqlite3.Connection, channel: str) -> Waiting:
    """What still waits to be sent."""
    return waiting_of(connection.execute(_WAITING, (channel,)).fetchone(), ms_of)


def undelivered(connection: sqlite3.Connection, since: int) -> list[Undelivered]:
    """What was given up of changes from a time on."""
    return undelivered_of(connection.execute(_UNDELIVERED, (stamp_of(since),)), ms_of)


def send_again(connection: sqlite3.Connection, channel: str, since: int, now: int) -> int:
    """Have sent again what was given up, whole messages under their identities."""
    stamp = stamp_of(now)
    return connection.execute(_AGAIN, (stamp, stamp, channel, channel, stamp_of(since))).rowcount
