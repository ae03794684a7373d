"""Redis: what its pub/sub and its streams share.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.dialect import Unexpected
from bench.servers import process
from bench.servers.base import Server
from bench.servers.fixed import AnsweredVoice
from bench.target import Target

REFUSAL: Final = re.compile(rb"-[^\r\n]*\r\n")


def command(*words: str) -> bytes:
    """Return a command as client libraries write it."""
    return b"*%d\r\n" % len(words) + b"".join(bulk(word) for word in words)


def command_head(*words: str, text_bytes: int) -> bytes:
    """Return a command up to its last word, a text, after which only CR LF is missing."""
    head = b"*%d\r\n" % (len(words) + 1) + b"".join(bulk(word) for word in words)
    return head + b"$%d\r\n" % text_bytes


def bulk(word: str) -> bytes:
    """Return a word as RESP's bulk string."""
    data = word.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


class RedisVoice(AnsweredVoice):
    """Sends commands and counts their answers, each of which says that one text was taken."""

    def settle(self, match: re.Match[bytes]) -> int:
        """Check that the answer is no error."""
        if match[0].startswith(b"-"):
            raise Unexpected(f"the server said {match[0]!r}")
        return 1


@contextmanager
def serving(
    server: Server, folder: Path, text_bytes: int, settings: dict[str, str]
) -> Iterator[Target]:
    """Run redis-server as it ships but for these settings."""
    program, port = process.program("redis-server"), process.free_port()
    target = process.local_target(
        server,
        [port],
        text_bytes,
        version=process.version(program, "--version"),
        settings=[f"{name} {value or '(none)'}" for name, value in settings.items()],
    )
    place = {"bind": process.HOST, "port": str(port), "dir": str(folder)}
    flags = [word for name, value in (place | settings).items() for word in (f"--{name}", value)]
    with process.serving(server, [program, *flags], folder, target) as served:
        yield served
