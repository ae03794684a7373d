"""A Flask-SocketIO chat with rooms, as in the second ancestor: `... socketio_app PORT`."""

from __future__ import annotations

import logging
import sys

from flask import Flask
from flask_socketio import (  # type: ignore[import-untyped]
    SocketIO,
    emit,
    join_room,
)


def chat() -> tuple[Flask, SocketIO]:
    """Return the application: people join rooms and send messages to them."""
    app = Flask(__name__)
    # With `async_handlers`, the default, each message gets a thread of its own, and those of one
    # person overtake each other.
    sockets = SocketIO(app, async_mode="threading", async_handlers=False)

    @sockets.on("join")  # type: ignore[untyped-decorator]
    def join(data: dict[str, str]) -> None:
        join_room(data["room"])

    @sockets.on("message")  # type: ignore[untyped-decorator]
    def message(data: dict[str, str]) -> None:
        emit("message", data, to=data["room"])

    return app, sockets


if __name__ == "__main__":
    # A line for each request would only measure the terminal.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application, server = chat()
    server.run(application, host="127.0.0.1", port=int(sys.argv[1]), allow_unsafe_werkzeug=True)
