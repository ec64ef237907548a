"""``charrnn report``: everything known of runs as one page."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from charrnn.cli._complete import runs_in
from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import output_option
from charrnn.cli._terminal import StudyBar, say


@click.command(short_help="Runs as one page, to keep or to send.")
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...", shell_complete=runs_in
)
@output_option("The page.", default="report.html")
@click.option("--no-doctor", is_flag=True, help="Leave out the doctor's examination, about 20 s for each run.")
def report(runs: tuple[Path, ...], output: Path, no_doctor: bool) -> None:
    """Write a page about runs: curves, samples, the doctor's findings, settings, machine.

    RUN is a run folder, also of a run still in training; it is only read. The page is one file that loads nothing: it
    can be read offline, and sent.

    \b
    Examples:
      charrnn report runs/shakespeare
      charrnn report runs/shakespeare runs/shakespeare-2 -o both.html
    """
    tune_openmp()
    from charrnn.cli._interrupts import Interrupts
    from charrnn.plots.page import refuse_page, save_page
    from charrnn.plots.report import draw_report
    from charrnn.studies.report import report as collect
    from charrnn.text.places import Places

    refuse_page(output)
    command = shlex.join(["charrnn", *sys.argv[1:]])
    places = None if no_doctor else Places.from_environment()
    with Interrupts() as interrupts, StudyBar(interrupts) as bar:
        page = collect(runs, command, datetime.now(UTC), places, bar.advanced)
    save_page(draw_report(page), output)
    say(f"Page: {output}")
