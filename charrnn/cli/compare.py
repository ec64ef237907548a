"""``charrnn compare``: runs, or swarms of a hive, against each other."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

import click

from charrnn.cli._complete import swarms_and_runs
from charrnn.cli._options import output_option
from charrnn.cli._table import table
from charrnn.cli._terminal import format_loss, format_seconds, printable, say, warn

if TYPE_CHECKING:
    from charrnn.studies.bootstrap import Interval
    from charrnn.studies.compare import Comparison, Contrast
    from charrnn.studies.compared import Side


@click.command(short_help="Compare runs or swarms.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="A B [...]", shell_complete=swarms_and_runs)
@output_option("Draw the curves into it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every number.")
def compare(paths: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Compare runs, or swarms of a hive, with the first one: settings, losses, and differences in paired seeds.

    A and B are run folders, including runs still in training, or folders with the bees of one combination of settings.
    Losses are nats per character; of swarms the median and, in brackets, the quartiles.

    \b
    Examples:
      charrnn compare runs/shakespeare runs/shakespeare-2
      charrnn compare runs/shakespeare runs/shakespeare-2 -o losses.png
      charrnn compare runs/hive/momentum=0.7 runs/hive/momentum=0.9 --json
    """
    from charrnn.studies.compare import compare as compare_folders

    if output is not None:
        from charrnn.plots.figures import refuse_picture

        refuse_picture(output)
    comparison = compare_folders(paths)
    for warning in comparison.warnings:
        warn(warning)
    click.echo(json.dumps(comparison.to_dict()) if as_json else printable(describe(comparison)))
    if output is not None:
        _draw(comparison, output)


def describe(comparison: Comparison) -> str:
    """The comparison as a page of text."""
    letters = _letters(len(comparison.sides))
    head = [[letter, str(side.path)] for letter, side in zip(letters, comparison.sides, strict=True)]
    unit = _unit(comparison)
    lines = [*_table(head), "", *_settings(comparison, letters), "", *_results(comparison.sides, letters, unit), ""]
    for letter, label, one in zip(letters[1:], comparison.labels[1:], comparison.contrasts, strict=True):
        lines += _contrast(letter, label, comparison.labels[0], one, unit)
    return "\n".join(lines)


def _unit(comparison: Comparison) -> str:
    from charrnn.config.wording import symbol

    return symbol(side.settings["corpus.vocabulary"] for side in comparison.sides)


def _letters(count: int) -> list[str]:
    return [ascii_uppercase[i] if i < len(ascii_uppercase) else str(i + 1) for i in range(count)]


def _table(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Rows of cells, aligned; the first column to the left, the others as told."""
    return table(rows, None, right=range(1, len(rows[0])) if right else ())


def _settings(comparison: Comparison, letters: list[str]) -> list[str]:
    from charrnn.config.settings import shown

    if not comparison.differing:
        return ["No setting differs."]
    rows = [[name, *map(shown, values)] for name, values in comparison.differing.items()]
    return _table([["Settings that differ", *letters], *rows], right=True)


def _results(sides: Sequence[Side], letters: list[str], unit: str) -> list[str]:
    """One row for each side."""
    swarms = any(side.is_swarm for side in sides)
    rows = [["", *(["bees", "diverged"] if swarms else []), "steps", "val loss, final", "val loss, best"]]
    rows[0] += ["training loss", "time"]
    for letter, side in zip(letters, sides, strict=True):
        count, diverged = len(side.trainings), sum(one.diverged for one in side.trainings)
        bees = f"{count} of {count + side.waiting}" if side.waiting else str(count)
        steps, seconds = side.quartiles("steps")[1], side.quartiles("seconds")[1]
        rows.append(
            [
                letter,
                *([bees if side.is_swarm else "-", f"{diverged} ({diverged / count:.0%})"] if swarms else []),
                "-" if steps is None else f"{steps:,.0f}",
                *(_losses(side, name) for name in ("final_val_loss", "best_val_loss", "train_loss")),
                "-" if seconds is None else format_seconds(seconds),
            ]
        )
    return [f"Losses in nats per {unit}" + "; of bees the median (quartiles)" * swarms, *_table(rows, right=True)]


def _losses(side: Side, name: str) -> str:
    low, middle, high = (
        "-" if loss is None else "diverged" if loss == math.inf else format_loss(loss) for loss in side.quartiles(name)
    )
    return middle if low == middle == high else f"{middle} ({low} to {high})"


def _contrast(letter: str, label: str, reference: str, one: Contrast, unit: str) -> list[str]:
    compared = len(one.differences)
    verdict = one.verdict
    if one.mean is not None:
        verdict = f"{_effect(one.mean, one.interval, unit)} ({_pairs(compared)}): {verdict}"
    if one.divergence is not None:
        verdict = f"{one.divergence} (p = {one.p_divergence:.2g}); where neither diverged: {verdict}"
    lines = [f"{letter}: {label} instead of {reference}: {verdict}"]
    if one.pairs > compared:
        lines.append(
            f"   left out of that, since one or both diverged: {one.pairs - compared} of {_pairs(one.pairs)} "
            f"({letter} diverged in {one.diverged}, A in {one.diverged_reference})"
        )
    return lines


def _effect(mean: float, interval: Interval | None, unit: str) -> str:
    """With as many decimals as tell something."""
    scale = abs(mean) if interval is None else interval.high - interval.low
    decimals = max(3, 1 - math.floor(math.log10(scale))) if scale else 3
    within = "" if interval is None else f", 95 % within {interval.low:+.{decimals}f} to {interval.high:+.{decimals}f}"
    return f"{mean:+.{decimals}f} nats per {unit}{within}"


def _pairs(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def _draw(comparison: Comparison, path: Path) -> None:
    from charrnn.plots.compare import draw_curves
    from charrnn.plots.figures import save_figure
    from charrnn.studies.compare import curves

    in_characters = not comparison.differing.keys().isdisjoint({"training.batch_size", "training.seq_len"})
    drawn = curves(comparison.sides, in_characters)
    save_figure(draw_curves(comparison.labels, *drawn, in_characters, _unit(comparison)), path)
    say(f"Picture: {path}")
