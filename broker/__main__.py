"""`hubbub-broker`, also `python -m broker`: serve until q, Ctrl+C or SIGTERM.

With a sub-command (`broker.maintenance.commands`) it looks after a log instead.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from broker import config, key_command, supervisor
from broker.logs import JSON, TEXT
from broker.maintenance import commands as maintenance
from common.errors import HubbubError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a broker; return 0 when it was told to stop, 1 when it could not serve."""
    words = sys.argv[1:] if argv is None else argv
    log_format = TEXT
    try:
        if words and words[0] == key_command.NAME:
            return key_command.main(words[1:], print)
        if words and words[0] in maintenance.SUBCOMMANDS:
            return maintenance.main(words)
        settings = config.load(words)
        log_format = settings.log_format
        return supervisor.run(
            settings, lambda line: print(line, flush=True), lambda: config.load(words)
        )
    except HubbubError as error:
        if log_format == JSON:
            logging.getLogger("broker").critical("%s", error)
        else:
            print(f"hubbub-broker: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
