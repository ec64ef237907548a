"""What a report says of runs: read from their folders, examined by the doctor, put in words.

Whatever cannot be had becomes a sentence: a run without a checkpoint, or whose text is gone, has a report all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from charrnn.config.loader import dump_config
from charrnn.config.settings import shown
from charrnn.errors import CharRNNError, Interrupted
from charrnn.plots.report import Chapter, Checked, Examined, ReportPage, Sample, Setting, ThroughTime
from charrnn.runs.run import Run, read_run, refuse_twice
from charrnn.studies import Advanced
from charrnn.studies.compare import incomparable
from charrnn.studies.compared import differing, read_side
from charrnn.studies.doctor.examination import examine_folder
from charrnn.studies.doctor.finding import Finding
from charrnn.studies.listing import difference, shipped_settings
from charrnn.studies.report_rates import read_rates
from charrnn.studies.report_words import environment_words, numbers, reach_words, verdict, verdict_on_all
from charrnn.text.places import Places

LEFT_OUT = "The doctor was not asked (--no-doctor)."
SHOWN_SAMPLES = 4


def report(
    paths: Sequence[Path],
    command: str,
    made: datetime,
    places: Places | None,
    advanced: Advanced = lambda stage, share: None,
) -> ReportPage:
    """The page of these runs; ``command`` and ``made`` stand in it as how and when. Without ``places``, where texts
    are, the doctor is not asked. ``advanced`` is told of the examinations, 0 to 1.

    Raises:
        UsageError: a run is named twice.
        CheckpointError, ConfigError: a run cannot be read.
        Interrupted: whatever ``advanced`` raises.
    """
    refuse_twice(paths)
    runs = [read_run(path) for path in paths]
    names = _names(paths)
    chapters = [
        _chapter(run, runs, name, _examined(run.path, places, _piece(advanced, name, number, len(runs))))
        for number, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    settings = differing([run.settings for run in runs])
    warnings = list(_warnings(paths))
    return ReportPage(
        chapters,
        None if warnings else verdict_on_all(runs, names),
        [(setting, [shown(value) for value in values]) for setting, values in settings.items()],
        warnings,
        [("command", command), ("made", f"{made:%Y-%m-%d %H:%M %Z}".strip()), ("charrnn", version("charrnn"))],
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names; where two are the same, whole paths."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _warnings(paths: Sequence[Path]) -> Iterator[str]:
    """Why losses do not compare with those of the first run."""
    first, *others = [read_side(path) for path in paths]
    for other in others:
        for reason in incomparable(first, other):
            yield f"{other.path}: {reason}: the losses do not compare."


def _piece(advanced: Advanced, name: str, number: int, count: int) -> Advanced:
    """Tells of one examination as a piece of all."""

    def told(stage: str, share: float) -> None:
        advanced(f"{name}: {stage}", (number + share) / count)

    return told


def _examined(path: Path, places: Places | None, advanced: Advanced) -> Examined | str:
    if places is None:
        return LEFT_OUT
    try:
        found = examine_folder(path, places, advanced)
    except Interrupted:
        raise
    except CharRNNError as error:
        return f"The doctor could not examine this run: {error}"
    profile = found.profile
    return Examined(
        [_checked(finding) for finding in found.problems],
        [_checked(finding) for finding in found.healthy],
        ThroughTime(
            profile.hidden, profile.cell, found.seq_len, found.unit, reach_words(profile, found.seq_len, found.unit)
        ),
    )


def _checked(finding: Finding) -> Checked:
    return Checked(finding.title, finding.measured, finding.threshold, finding.meaning, finding.command)


def _chapter(run: Run, runs: Sequence[Run], name: str, examined: Examined | str) -> Chapter:
    base, changed = difference(run)
    usual = shipped_settings()[base] if base else {}
    return Chapter(
        name=name,
        run=run,
        state=run.state,
        numbers=numbers(run, runs),
        verdict=verdict(run),
        examined=examined,
        samples=_samples(run),
        rates=read_rates(run),
        base=base,
        changed=[Setting(one, shown(value), shown(usual.get(one))) for one, value in changed.items()],
        reasons=[str(reason) for reason in run.environment.get("chosen", [])],
        config=dump_config(run.config),
        environment=environment_words(run.environment),
    )


def _samples(run: Run) -> list[Sample]:
    """All samples, of which the first, the last and some between them are to be shown."""
    losses = {row["step"]: row["val_loss"] for row in run.history.evaluations}
    last = len(run.samples) - 1
    chosen = {round(last * place / (SHOWN_SAMPLES - 1)) for place in range(SHOWN_SAMPLES)}
    return [
        Sample(
            f"Step {step:,}" + (f", validation loss {losses[step]:.4g}" if step in losses else ""),
            text.strip("\n"),
            place in chosen,
        )
        for place, (step, text) in enumerate(run.samples)
    ]
