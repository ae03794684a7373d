"""Mosquitto: MQTT 3.1.1, a topic per room, at most once (QoS 0).

Source: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.dialect import Conversation, Dialect, Ear, Say, Voice
from bench.servers import process
from bench.servers.fixed import FixedEar, FixedVoice
from bench.servers.reading import expect
from bench.target import Target

_CONNECT: Final = 0x10
_PUBLISH: Final = 0x30  # QoS 0, not retained.
_SUBSCRIBE: Final = 0x82
_PROTOCOL: Final = b"\0\4MQTT\4"
_CLEAN_SESSION: Final = b"\2"
# The server then never ends a silent connection, and needs no PINGREQ.
_NO_KEEPALIVE: Final = b"\0\0"
_PACKET_ID: Final = b"\0\1"
_QOS: Final = b"\0"
_CONNECTED: Final = re.compile(rb"\x20\x02[\0\1]\0")
_NOT_CONNECTED: Final = re.compile(rb"\x20\x02.[^\0]", re.DOTALL)
_SUBSCRIBED: Final = re.compile(rb"\x90\x03\0\x01\0")
_NOT_SUBSCRIBED: Final = re.compile(rb"\x90\x03\0\x01[^\0]")


def packet_head(kind: int, size: int) -> bytes:
    """Return what stands before a packet's `size` bytes (section 2.2.3)."""
    digits = []
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | (128 if size else 0))
        if not size:
            return bytes((kind, *digits))


def packet(kind: int, *parts: bytes) -> bytes:
    """Return a whole packet."""
    body = b"".join(parts)
    return packet_head(kind, len(body)) + body


def string(text: str) -> bytes:
    """Return a string as MQTT writes it."""
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def publish_head(room: str, text_bytes: int) -> bytes:
    """Return a PUBLISH up to its text."""
    topic = string(room)
    return packet_head(_PUBLISH, len(topic) + text_bytes) + topic


def _log_in(client_id: str) -> Conversation[bytes]:
    body = (_PROTOCOL, _CLEAN_SESSION, _NO_KEEPALIVE, string(client_id))
    _, rest = yield from expect([Say(0, packet(_CONNECT, *body))], _CONNECTED, _NOT_CONNECTED)
    return rest


class MqttDialect:
    """MQTT 3.1.1 with QoS 0."""

    channels: tuple[int, ...] = (0,)
    acknowledges = False
    keepalive: tuple[Say, ...] = ()
    is_same_for_all = True
    ping = b""

    def __init__(self, target: Target) -> None:
        self.text_bytes = target.text_bytes

    def join(self, index: int, room: str) -> Conversation[Ear]:
        """Log in and subscribe."""
        yield from _log_in(f"m{index:07x}")
        body = packet(_SUBSCRIBE, _PACKET_ID, string(room), _QOS)
        _, rest = yield from expect([Say(0, body)], _SUBSCRIBED, _NOT_SUBSCRIBED)
        # The server writes the same packet as a talker.
        head = publish_head(room, self.text_bytes)
        return FixedEar(0, head, self.text_bytes, pending=rest)

    def speak(self, index: int, rooms: list[str]) -> Conversation[Voice]:
        """Log in: anybody may publish."""
        yield from _log_in(f"t{index:07x}")
        return FixedVoice(0, [publish_head(room, self.text_bytes) for room in rooms])


class MosquittoServer:
    """Mosquitto with its defaults, for anybody on this machine."""

    name = "mosquitto"
    is_durable = False
    is_peer = True
    has_rooms = True

    @contextmanager
    def start(self, folder: Path, text_bytes: int) -> Iterator[Target]:
        """Start it."""
        program, port = process.program("mosquitto"), process.free_port()
        settings = [f"listener {port} {process.HOST}", "allow_anonymous true"]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "mosquitto.conf"
        file.write_text("".join(f"{line}\n" for line in settings))
        target = process.local_target(
            self,
            [port],
            text_bytes,
            version=process.version(program, "-h"),
            settings=settings,
        )
        with process.serving(self, [program, "-c", str(file)], folder, target) as served:
            yield served

    def dialect(self, target: Target) -> Dialect:
        """Return what it speaks."""
        return MqttDialect(target)


SERVER = MosquittoServer()
