"""Start the command line, whose imports take a moment in which Ctrl-C may come."""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # `cli.options.INTERRUPTED`, which is not imported yet


def main() -> None:
    """Import the command line and run it."""
    try:
        from fewshot_lite.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Error: Interrupted.\n")
        sys.exit(_INTERRUPTED)
    run()
