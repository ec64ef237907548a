"""Runs as a page to keep or to send: what came of them, what the doctor says, curves, samples, settings, machine.

Whoever makes the page says in words what is known; here it is put in order, and the figures are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from charrnn.errors import CheckpointError
from charrnn.plots.curves import draw_parameters, draw_runs
from charrnn.plots.inspect import visible
from charrnn.plots.page import inline_figure, render
from charrnn.plots.report_captions import describe_curves, describe_parameters, describe_several
from charrnn.plots.through_time import draw_through_time
from charrnn.runs.run import Run

MOST_NAMED = 3  # runs, in the title


@dataclass(frozen=True)
class Checked:
    """What one rule of the doctor says; what is healthy has neither ``meaning`` nor ``command``."""

    title: str
    measured: str
    threshold: str
    meaning: str = ""
    command: str = ""


@dataclass(frozen=True)
class ThroughTime:
    """Gradient norms by ``unit``s back (see ``draw_through_time``), and what they show in words."""

    hidden: list[float]
    cell: list[float] | None
    seq_len: int
    unit: str
    words: str


@dataclass(frozen=True)
class Examined:
    """The doctor's visit: ``problems``, the one to mend first in front."""

    problems: Sequence[Checked]
    healthy: Sequence[Checked]
    through_time: ThroughTime


@dataclass(frozen=True)
class Rates:
    """A search for the learning rate: where it is kept, what it says, its picture; None where it cannot be drawn."""

    folder: str
    words: str
    figure: Figure | None = None


@dataclass(frozen=True)
class Sample:
    """What the network wrote at a step; ``shown`` at once, or only on demand."""

    head: str
    text: str
    shown: bool


@dataclass(frozen=True)
class Setting:
    """A setting by dotted name that is not as in the shipped config: the run's value, and that one's."""

    name: str
    value: str
    shipped: str


@dataclass(frozen=True)
class Chapter:
    """One run in words. ``examined`` is the doctor's visit, or a sentence that says why there was none; ``base`` the
    shipped config that ``changed`` compares with; ``reasons`` say why settings were chosen; ``config`` is YAML."""

    name: str
    run: Run
    state: str
    numbers: Sequence[tuple[str, str]]
    verdict: str
    examined: Examined | str
    samples: Sequence[Sample]
    rates: Rates | None
    base: str | None
    changed: Sequence[Setting]
    reasons: Sequence[str]
    config: str
    environment: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ReportPage:
    """Everything the page shows: its runs, which of several is the best (None where that cannot be said), settings in
    which they differ (name, and a value for each run), why their losses cannot be compared, how the page was made."""

    chapters: Sequence[Chapter]
    verdict: str | None
    differing: Sequence[tuple[str, Sequence[str]]]
    warnings: Sequence[str]
    made: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Figures:
    """The figures of a chapter as HTML, or sentences in their place."""

    curves: Markup | str
    parameters: Markup | None
    through_time: Markup | None
    rates: Markup | None


def draw_report(page: ReportPage) -> str:
    """The page as HTML."""
    several = len(page.chapters) > 1
    return render(
        "report.html.j2",
        page=page,
        title=readable(_title([chapter.name for chapter in page.chapters])),
        together=_together(page.chapters) if several else None,
        figures=[_figures(chapter, f"run-{number}") for number, chapter in enumerate(page.chapters, start=1)],
        readable=readable,
    )


def _title(names: Sequence[str]) -> str:
    """The names of a few runs, or how many there are."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} runs"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def readable(text: str) -> str:
    """Foreign text in which nothing steers the page, such as its direction of writing; line ends and tabs stay."""
    return "".join(one if one in "\n\t" else visible(one, " ") for one in text)


def _together(chapters: Sequence[Chapter]) -> Markup | str:
    """The curves of all runs over each other."""
    runs, names = [one.run for one in chapters], [one.name for one in chapters]
    try:
        figure = draw_runs(runs, names)
    except CheckpointError:
        return "None of the runs has a log line yet."
    return inline_figure(
        figure, "together", "Curves of all runs over their steps", readable(describe_several(runs, names))
    )


def _figures(chapter: Chapter, identifier: str) -> _Figures:
    examined, rates = chapter.examined, chapter.rates
    return _Figures(
        _curves(chapter, identifier),
        _parameters(chapter, identifier),
        None if isinstance(examined, str) else _through_time(chapter.name, examined.through_time, identifier),
        None
        if rates is None or rates.figure is None
        else inline_figure(
            rates.figure, f"{identifier}-rates", "Loss against the learning rate", readable(rates.words)
        ),
    )


def _curves(chapter: Chapter, identifier: str) -> Markup | str:
    try:
        figure = draw_runs([chapter.run], [chapter.name])
    except CheckpointError:
        return "There is no log line yet, so there are no curves."
    name = readable(f"Curves of {chapter.name} over its steps")
    return inline_figure(figure, f"{identifier}-curves", name, describe_curves(chapter.run))


def _parameters(chapter: Chapter, identifier: str) -> Markup | None:
    try:
        figure = draw_parameters(chapter.run)
    except CheckpointError:
        return None
    name = "Gradient norm and update ratio of each parameter over the steps"
    return inline_figure(figure, f"{identifier}-parameters", name, describe_parameters(chapter.run))


def _through_time(name: str, found: ThroughTime, identifier: str) -> Markup:
    figure = draw_through_time(found.hidden, found.cell, found.seq_len, found.unit, "")
    return inline_figure(figure, f"{identifier}-time", readable(f"How far back {name} learns"), found.words)
