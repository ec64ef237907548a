"""What the doctor says: one sentence, the number behind it, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """An answer of one rule.

    ``name`` is its identifier, ``title`` the finding in a sentence; ``measured`` and ``threshold`` have the numbers and
    where the threshold comes from; ``meaning`` explains; ``command`` would confirm or fix it. A finding that is no
    ``problem`` has neither meaning nor command.
    """

    name: str
    problem: bool
    title: str
    measured: str
    threshold: str
    meaning: str = ""
    command: str = ""


def problem(name: str, title: str, measured: str, threshold: str, meaning: str, command: str) -> Finding:
    """A finding that is one."""
    return Finding(name, True, title, measured, threshold, meaning, command)


def healthy(name: str, title: str, measured: str, threshold: str) -> Finding:
    """A finding that is no problem."""
    return Finding(name, False, title, measured, threshold)


def by_sign(nats: float, more: str = "more", less: str = "less", digits: str = ".2f") -> str:
    """A difference of losses in words: ``0.10 nats more``, or ``less`` where it is negative."""
    return f"{abs(nats):{digits}} nats {less if nats < 0 else more}"
