"""A bare libzmq proxy: `... proxy_server PORT`; XSUB binds PORT, XPUB the next one.

libzmq's options are as they come, its high-water marks of 1,000 messages too.
"""

from __future__ import annotations

import sys

import zmq


def serve(host: str, port: int) -> None:
    """Pass on messages for ever."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.XSUB) as talkers, context.socket(zmq.XPUB) as members:
        talkers.bind(f"tcp://{host}:{port}")
        members.bind(f"tcp://{host}:{port + 1}")
        zmq.proxy(talkers, members)


if __name__ == "__main__":
    serve("127.0.0.1", int(sys.argv[1]))
