"""A bot on the client library: answers !time, !roll and !help in one room.

    python examples/bot.py HOST[:PORT] ROOM [--nick NICK]

It stays until Ctrl+C or SIGTERM, and comes back by itself when the broker does. What was asked
while it was away is answered late, and once. It answers nobody's history, and never itself: its
answers begin with a nick, so no two bots can talk each other into an endless loop.
"""

from __future__ import annotations

import argparse
import re
import secrets
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from client.api import Client, Entry, Refused, State, Unreachable, connect

HELP = "!time, !roll 2d6 (dice and sides), !help"
DICE_MAX = 20
SIDES_MAX = 1_000


def answer(text: str, now: datetime, roll: Callable[[int], int]) -> str | None:
    """Return what to say to a text, or None. `roll(sides)` returns 0 to sides - 1."""
    match text.split():
        case ["!help"]:
            return HELP
        case ["!time"]:
            return now.strftime("it is %H:%M UTC")
        case ["!roll"]:
            return answer("!roll 1d6", now, roll)
        case ["!roll", dice]:
            found = re.fullmatch(r"([0-9]{1,4})d([0-9]{1,4})", dice)
            count, sides = (int(found[1]), int(found[2])) if found else (0, 0)
            if not (1 <= count <= DICE_MAX and 2 <= sides <= SIDES_MAX):
                return f"1d2 to {DICE_MAX}d{SIDES_MAX}, please"
            thrown = [roll(sides) + 1 for _ in range(count)]
            return (
                f"{' + '.join(map(str, thrown))} = {sum(thrown)}" if count > 1 else f"{thrown[0]}"
            )
    return None


def serve(client: Client) -> str:
    """Answer until the session is over; return why it is."""
    for event in client.events():
        if isinstance(event, Entry) and event.nick != client.nick:
            said = answer(event.text, datetime.now(UTC), secrets.randbelow)
            if said is not None:
                # Returns once the answer is in the log, also across a restart of the broker.
                client.send(event.room, f"{event.nick}: {said}")
        elif isinstance(event, State) and event.state == "refused":
            return event.detail
    return "the connection was closed"


def main() -> int:
    """Run the bot; return 0 when it was told to stop."""
    parser = argparse.ArgumentParser(description="Answer commands in a room.")
    parser.add_argument("broker", metavar="HOST[:PORT]")
    parser.add_argument("room", metavar="ROOM")
    parser.add_argument("--nick", default="bot")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl+C.
    try:
        with connect(given.broker, nick=given.nick) as client:
            joined = client.join(given.room, history=0)
            print(f"{client.nick} is in #{joined.room}", flush=True)
            reason = serve(client)
    except KeyboardInterrupt:
        return 0
    except (Refused, Unreachable, ValueError) as error:
        reason = str(error)
    print(f"bot: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
