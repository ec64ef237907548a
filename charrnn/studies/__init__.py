"""Experiments made of trainings: what they measure is what the one step does."""

from __future__ import annotations

from collections.abc import Callable

# Told of the work: its stage, and the share of all that is done, 0 to 1. Whatever it raises ends the study.
Advanced = Callable[[str, float], None]
