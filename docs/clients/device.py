"""A device in MicroPython that posts readings with plain sockets and HTTP/1.0, and sends each again until it is taken.

It runs in CPython as well: `python device.py 127.0.0.1 8001 [KEY]`.
"""

import json
import socket
import sys
import time


def post(host, port, packet, key=None):
    """Post a packet; gives status, seconds to wait and body of the answer; status 0 where there is none."""
    body = json.dumps(packet).encode()
    head = "POST /ingest/packets HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\n" % host
    if key:
        head += "X-API-Key: %s\r\n" % key
    head += "Content-Length: %d\r\n\r\n" % len(body)
    s = socket.socket()
    try:
        s.settimeout(30)  # the gateway answers within 10 s, with Kafka or without
        s.connect(socket.getaddrinfo(host, port)[0][-1])
        s.sendall(head.encode() + body)
        answer = b""
        while True:
            part = s.recv(512)
            if not part:
                break
            answer += part
        lines, _, body = answer.partition(b"\r\n\r\n")
        status, wait = int(lines.split()[1]), 1
        for line in lines.split(b"\r\n"):
            if line.lower().startswith(b"retry-after:"):
                wait = int(line.split(b":")[1])
        return status, wait, body
    except (OSError, IndexError, ValueError):
        return 0, 1, b""
    finally:
        s.close()


def send(host, port, packet, key=None):
    """Post a packet until it is taken; a packet_id (or a ts) has it count once, however often it is sent."""
    while True:
        status, wait, body = post(host, port, packet, key)
        if status in (202, 207):  # 207: all but the readings that the answer names
            return json.loads(body)
        if 400 <= status < 500 and status not in (408, 429):
            raise ValueError(body.decode())  # it would be refused again: the answer says why
        time.sleep(wait)


if __name__ == "__main__":
    packet = {
        "device_uuid": "device-in-python",
        "packet_id": "boot-%d/1" % time.time(),  # a device that has no clock counts its starts instead
        "readings": [{"sensor_uuid": "device-in-python-1", "value": 23.5}],
    }
    print(json.dumps(send(sys.argv[1], int(sys.argv[2]), packet, *sys.argv[3:4])))
