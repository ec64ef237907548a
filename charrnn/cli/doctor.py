"""``charrnn doctor``: why a network does not learn, with numbers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._complete import runs_in
from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import (
    as_words,
    config_option,
    data_option,
    device_option,
    output_option,
    overrides,
    set_option,
)
from charrnn.cli._terminal import StudyBar, say
from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.config.schema import Config
    from charrnn.studies.doctor.examination import Examination
    from charrnn.studies.doctor.probes.reading import Reading
    from charrnn.studies.doctor.questions import Answer

QUESTIONS = ("clipping", "seq-len", "random-length", "momentum", "precision", "reset")
SHOWN_BACK = (1, 2, 4, 8, 16, 32, 64, 128)


@click.command(short_help="Why does it not learn? With numbers.")
@click.argument("run", required=False, type=click.Path(path_type=Path), metavar="[RUN]", shell_complete=runs_in)
@config_option("Examine a set-up by training it briefly.")
@click.option("--ask", "question", type=click.Choice(QUESTIONS), help="A paired experiment on one question.")
@data_option("With --config: train on this file or folder (corpus.source)")
@click.option("--seed", type=int, help="With --config: the first seed (training.seed).")
@device_option
@set_option()
@output_option("Draw the gradient through time into it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    run: Path | None,
    config_name: str | None,
    question: str | None,
    output: Path | None,
    as_json: bool,
    assignments: tuple[str, ...],
    **options: Any,
) -> int:
    """Say why a network does not learn: what is wrong, the number that shows it, and what to do.

    RUN is a run folder, also of a run still in training; it is only read. The exit code is 1 where there are problems.

    \b
    Examples:
      charrnn doctor runs/shakespeare
      charrnn doctor --config my.yaml
      charrnn doctor --config my.yaml --ask clipping
    """
    tune_openmp()
    if (run is None) == (config_name is None):
        raise UsageError(
            "give a run folder ('charrnn train' prints where it is), or --config NAME (RUN/config.yaml is one, too); "
            "not both"
        )
    if run is not None and (assignments or any(value is not None for value in options.values())):
        raise UsageError(f"{run}: a run is examined as it is; leave out --set and the like, or give --config instead")
    if output is not None and question is not None:
        raise UsageError("-o draws an examination, and --ask makes none; give one of the two")
    if question is not None:
        answers, unit = _ask(question, run, config_name, assignments, options)
        click.echo(json.dumps([_plain(answer) for answer in answers]) if as_json else _answers(answers, question, unit))
        return 0
    if output is not None:
        from charrnn.plots.figures import refuse_picture

        refuse_picture(output)
    examination = _examine(run, config_name, assignments, options)
    click.echo(json.dumps(examination.to_dict()) if as_json else describe(examination))
    if output is not None:
        _draw(examination, output, str(run or config_name))
    return 1 if examination.problems else 0


def _config(name: str, assignments: tuple[str, ...], options: dict[str, Any]) -> Config:
    from charrnn.config.library import find_config
    from charrnn.config.loader import load_config

    return load_config(find_config(name), assignments, overrides(**options))


def _named(config_name: str, assignments: tuple[str, ...], options: dict[str, Any]) -> str:
    """The config as another command has to name it to mean the same."""
    return shlex.join([config_name, *as_words({**options, "set": list(assignments)})])


def _examine(
    run: Path | None, config_name: str | None, assignments: tuple[str, ...], options: dict[str, Any]
) -> Examination:
    config = None if config_name is None else _config(config_name, assignments, options)

    from charrnn.cli._interrupts import Interrupts
    from charrnn.studies.doctor.examination import examine_config, examine_folder
    from charrnn.text.places import Places

    places = Places.from_environment()
    with Interrupts() as interrupts, StudyBar(interrupts) as bar:
        if config is not None:
            return examine_config(config, _named(str(config_name), assignments, options), places, bar.advanced)
        assert run is not None
        return examine_folder(run, places, bar.advanced)


def _ask(
    question: str, run: Path | None, config_name: str | None, assignments: tuple[str, ...], options: dict[str, Any]
) -> tuple[list[Answer], str]:
    """The answers, and what their losses are per."""
    config = None if config_name is None else _config(config_name, assignments, options)

    from charrnn.cli._interrupts import Interrupts
    from charrnn.config.wording import symbol
    from charrnn.runs.directory import RunFolder
    from charrnn.runs.history import read_history
    from charrnn.studies.doctor.examination import open_run, seconds_per_step
    from charrnn.studies.doctor.questions import ask
    from charrnn.studies.doctor.trials import Lab
    from charrnn.text.places import Places
    from charrnn.training.session import new_session

    places = Places.from_environment()
    if config is not None:
        session, history = new_session(config, places), read_history([])
    else:
        assert run is not None
        session, history = open_run(RunFolder.open(run), places)
    with Interrupts() as interrupts, StudyBar(interrupts) as bar:
        answers = ask(question, Lab.of(session, seconds_per_step(session, history)), bar.advanced)
    return answers, symbol([session.config.corpus.vocabulary])


def describe(examination: Examination) -> str:
    """The examination as a page of text."""
    lines = [examination.subject, ""]
    if not examination.problems:
        lines.append("No problem found.")
    for number, finding in enumerate(examination.problems, start=1):
        lines += [
            f"{number}. {finding.title}",
            f"   Measured:   {finding.measured}",
            f"   Threshold:  {finding.threshold}",
            f"   Meaning:    {finding.meaning}",
            f"   Try:        {finding.command}",
            "",
        ]
    lines += ["", "Healthy:"] if not examination.problems else ["Healthy:"]
    lines += [f"  + {finding.title}\n      {finding.measured}" for finding in examination.healthy]
    profile = examination.profile.relative
    shown = [k for k in SHOWN_BACK if k < len(profile)]
    lines += [
        "",
        "Gradient through time, relative to the loss itself:",
        f"  {examination.unit + 's back':16}" + "".join(f"{k:>9}" for k in shown),
        "  gradient        " + "".join(f"{profile[k]:>9.1e}" for k in shown),
        "",
        f"Loss on {'unseen text' if examination.is_unseen else 'the training text (validation: too short for this)'} "
        f"by the {examination.unit}s read before, from a cold start and from a carried state:",
        *_by_place(examination.reading, examination.unit),
    ]
    return "\n".join(lines)


def _by_place(reading: Reading, unit: str) -> list[str]:
    """A table, as far as the pieces that were read go."""
    shown = [k for k in SHOWN_BACK if k < len(reading.cold)]
    return [
        f"  {unit + 's':16}" + "".join(f"{k:>9}" for k in shown),
        *(
            f"  {name:16}" + "".join(f"{_around(curve, k):>9.3g}" for k in shown)
            for name, curve in (("cold", reading.cold), ("carried", reading.carried))
        ),
    ]


def _around(curve: list[float], place: int) -> float:
    """The mean of a noisy curve from a place to half as far again."""
    piece = curve[place : place + place // 2 + 1]
    return sum(piece) / len(piece)


def _draw(examination: Examination, path: Path, name: str) -> None:
    from charrnn.plots.figures import save_figure
    from charrnn.plots.through_time import draw_through_time

    profile = examination.profile
    title = f"{name}: how far back it learns"
    save_figure(draw_through_time(profile.hidden, profile.cell, examination.seq_len, examination.unit, title), path)
    say(f"Picture: {path}")


def _plain(answer: Answer) -> dict[str, Any]:
    from dataclasses import asdict

    from charrnn.runs.metrics import without_nan

    plain: dict[str, Any] = without_nan(asdict(answer))
    return plain


def _answers(answers: list[Answer], name: str, unit: str) -> str:
    from charrnn.studies.doctor.questions import QUESTIONS, SEEDS

    question = QUESTIONS[name]
    scored = "from a cold state" if question.cold else "from a carried state"
    pairs = f"{SEEDS} pairs of trainings of {answers[0].steps:,} steps with equal seeds"
    lines = [f"{question.text} {pairs}, validation loss {scored}."]
    for answer in answers:
        for label, losses in ((answer.against, answer.losses_against), (answer.label, answer.losses)):
            shown = "  ".join("diverged" if loss == float("inf") else f"{loss:.3f}" for loss in losses)
            lines.append(f"  {label:24} {shown}")
        interval = f"{answer.effect:+.3f} nats per {unit}, 95 % within {answer.low:+.3f} to {answer.high:+.3f}"
        effect = "" if answer.effect != answer.effect else f"{interval}: "
        lines.append(f"  {answer.label} instead of {answer.against}: {effect}{answer.verdict}")
    return "\n".join(lines)
