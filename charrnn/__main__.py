"""``python -m charrnn``: how ``torchrun`` starts a module."""

from __future__ import annotations

from charrnn.cli import main

main()
