"""``charrnn``, and ``python -m charrnn``: how ``torchrun`` starts a module."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line, and run it."""
    try:
        from charrnn.cli import main as command_line
    except KeyboardInterrupt:  # while it loads: it answers to Ctrl-C only afterwards
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
