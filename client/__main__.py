"""The command `hubbub`, also `python -m client`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    # Little that is imported becomes garbage, and to look for it takes 5 ms of `hubbub send` and 15
    # of the chat. `client.cli` ends this when all is imported.
    gc.disable()
    try:
        from client.cli import run  # Inside, because Ctrl+C may come while it is imported.

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
