"""``charrnn inspect``: a network as it reads a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import (
    checkpoint_option,
    device_option,
    on_unknown_option,
    output_option,
    refuse_other_settings,
    set_option,
)
from charrnn.cli._terminal import StudyBar, format_loss, say, warn

if TYPE_CHECKING:
    from charrnn.studies.inspection import Inspection
    from charrnn.studies.tracking import Tracked
    from charrnn.text.vocabulary import OnUnknown

SURPRISES = 5


@click.command(short_help="What a network expects, and what its units follow.")
@checkpoint_option
@click.option("--text", metavar="PATH", help="Read this text; default: the validation part of the model's own.")
@click.option(
    "--length",
    type=click.IntRange(2, 200_000),
    default=20_000,
    show_default=True,
    help="Characters, or bytes where the model reads bytes, to read from the beginning.",
)
@click.option("--unit", "units", multiple=True, metavar="LAYER:UNIT", help="Show this unit too; both count from 1.")
@on_unknown_option("the text")
@set_option("How --text is read: corpus.encoding=latin-1 (also corpus.glob).")
@device_option
@output_option("The page; default: NAME-inspect.html here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(
    checkpoint: Path,
    text: str | None,
    length: int,
    units: tuple[str, ...],
    on_unknown: OnUnknown,
    assignments: tuple[str, ...],
    device: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """What a network expects of a text, and which of its units follow quotes, brackets, lines, indentation.

    Writes a page with the text coloured by surprise and by the state of a unit.

    \b
    Examples:
      charrnn inspect --checkpoint runs/shakespeare
      charrnn inspect --checkpoint runs/python --text mine.py --unit 1:17 -o mine.html
    """
    refuse_other_settings(assignments, ("corpus.encoding", "corpus.glob"), text, "--text")
    tune_openmp()
    from charrnn.cli._interrupts import Interrupts
    from charrnn.plots.inspect import draw_inspection
    from charrnn.plots.page import refuse_page, save_page
    from charrnn.runs.export import default_name
    from charrnn.runs.saved import load_model
    from charrnn.studies.inspection import inspect_model, parse_unit
    from charrnn.studies.inspection_page import inspection_page
    from charrnn.text.places import Places
    from charrnn.training.precision import choose_device

    saved = load_model(checkpoint, choose_device(device or "auto"))
    asked = [parse_unit(unit, saved.config.model.num_layers, saved.config.model.hidden_size) for unit in units]
    path = output or Path(f"{default_name(saved.path)}-inspect.html")
    refuse_page(path)
    with Interrupts() as interrupts, StudyBar(interrupts) as bar:
        places = Places.from_environment()
        inspection = inspect_model(saved, places, text, length, assignments, on_unknown, bar.advanced)
    for note in inspection.notes:
        warn(note)
    save_page(draw_inspection(inspection_page(inspection, asked)), path)
    click.echo(json.dumps(inspection.to_dict()) if as_json else "\n".join(_lines(inspection)))
    say(f"Page: {path}")


def _lines(inspection: Inspection) -> Iterator[str]:
    from charrnn.studies.inspection_page import per_symbol, surprise_words
    from charrnn.studies.tracking import CONFIDENCE, SHIFTS

    count = len(inspection.characters)
    bits = f"{format_loss(inspection.mean_bits)} bits {per_symbol(inspection)}"
    yield f"{inspection.text_name}: {count:,} characters, {bits}"
    yield ""
    yield "Units by correlation: ranked on the first half of the text, confirmed or not by the second;"
    yield f"chance: what the best unit stays below in {CONFIDENCE:.0%} of {SHIFTS} shifts of the property."
    yield f"{'property':15}{'unit':>8}{'ranked':>9}{'chance':>8}{'second half':>13}{'chance':>8}{'AUC':>7}"
    for found in inspection.tracked:
        yield from _ranking(inspection, found)
    yield ""
    yield "Most surprising:"
    for place in inspection.surprises(SURPRISES):
        one = surprise_words(inspection, place)
        yield f"{one.bits:6.1f} bits  {one.before}[{one.character}]{one.after}  expected {one.expected}"


def _ranking(inspection: Inspection, found: Tracked) -> Iterator[str]:
    from charrnn.studies.inspection_page import absent

    if not found.is_present:
        yield absent(found)
    for place, one in enumerate(found.best):
        name = found.what.name if place == 0 else ""
        yield (
            f"{name:15}{inspection.unit_name(one.unit):>8}{one.ranked:>+9.2f}{found.chance_ranked:>8.2f}"
            f"{one.held_out:>+13.2f}{found.chance_held_out:>8.2f}"
            f"{'' if one.auc is None else format(one.auc, '7.3f'):>7}{'' if found.holds(one) else '  not confirmed'}"
        )
