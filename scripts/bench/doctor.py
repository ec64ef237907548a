"""Is ``charrnn doctor`` right? Every planted fault and every healthy run of ``tests/planted.py``, trained and examined.

    .venv/bin/python scripts/bench/doctor.py --part B [--seeds 3] [--only "lr 0.5" ...] [--results doctor.jsonl]

A fault counts as found if one of the names expected of it is among the first two findings; a healthy run with any
problem at all is a false alarm. Part A is what the doctor was calibrated with, part B is for reporting. Every case is
kept in the results file, one JSON object a line: an interrupted suite goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"  # before torch: one process for each core

from charrnn.errors import DivergedError
from charrnn.runs.metrics import read_metrics
from charrnn.text.places import Places, scratch_places
from charrnn.training.process import prepare_process
from tests.helpers import begin, train
from tests.planted import HEALTHY, PLANTS, Plant

Case = tuple[str, str, int]  # name, part, seed
Row = dict[str, Any]
ALL = {plant.name: plant for plant in (*PLANTS, *HEALTHY)}


def main() -> int:
    """Run what is not in the results file yet, then print the tables."""
    options = arguments()
    cases = wanted(options.part, range(options.seeds), options.only)
    rows = known(options.results)
    missing = [case for case in cases if case not in rows]
    print(f"part {options.part}: {len(cases)} cases, {len(missing)} to do", flush=True)
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(examine, case) for case in missing]):
            row = done.result()
            keep(options.results, row)
            rows[case_of(row)] = row
            print(line(row), flush=True)
    print_tables([rows[case] for case in cases])
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["A", "B"], default="A")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases with one of these in name or expected finding")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (default: 2)")
    parser.add_argument("--results", type=Path, default=Path("doctor.jsonl"))
    return parser.parse_args()


def wanted(part: str, seeds: Iterable[int], only: list[str] | None) -> list[Case]:
    """The cases of a part, seed by seed."""
    names = [
        plant.name
        for plant in ALL.values()
        if part in plant.parts
        and (only is None or any(one in text for one in only for text in (plant.name, *plant.expected)))
    ]
    return [(name, part, seed) for seed in seeds for name in names]


def known(results: Path) -> dict[Case, Row]:
    """What an earlier suite found; a last line that was cut off is left out."""
    return {case_of(row): row for row in read_metrics(results)} if results.exists() else {}


def keep(results: Path, row: Row) -> None:
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def case_of(row: Row) -> Case:
    return row["name"], row["part"], row["seed"]


def examine(case: Case) -> Row:
    """Train one case in a folder of its own, then ask the doctor; the fault is there for both."""
    from charrnn.studies.doctor.examination import examine_folder

    name, part, seed = case
    plant = ALL[name]
    with (
        scratch_places(Places.from_environment()) as places,  # a text made for a plant has no place in the user's cache
        TemporaryDirectory(prefix="charrnn-doctor-") as folder,
        plant.planted(),
    ):
        path, val_loss = trained(plant, part, seed, Path(folder), places)
        examination = examine_folder(path, places)
    row = {"name": name, "part": part, "seed": seed, "val_loss": val_loss}
    problems = [finding.name for finding in examination.problems]
    return row | {"problems": problems, "healthy": [finding.name for finding in examination.healthy]}


def trained(plant: Plant, part: str, seed: int, folder: Path, places: Places) -> tuple[Path, float | None]:
    """The run folder of a case, and the last validation loss if there was any."""
    prepare_process(1)
    session = begin(plant.config(part, seed, folder, places), places)
    assert session.folder is not None
    with suppress(DivergedError):  # what the doctor is asked about
        train(session)
    losses = [row["val_loss"] for row in read_metrics(session.folder.metrics) if "val_loss" in row]
    return session.folder.path, losses[-1] if losses else None


def is_right(row: Row) -> bool:
    """Whether the fault is among the first two findings; for a healthy run, whether there is none."""
    expected = ALL[row["name"]].expected
    return bool(set(expected) & set(row["problems"][:2])) if expected else not row["problems"]


def line(row: Row) -> str:
    """One case in one line: what was expected, what was found."""
    expected = " or ".join(ALL[row["name"]].expected) or "nothing"
    found = row["problems"][:2] if ALL[row["name"]].expected else row["problems"]
    verdict = "ok  " if is_right(row) else "MISS" if ALL[row["name"]].expected else "FALSE"
    loss = "   -  " if row["val_loss"] is None else f"{row['val_loss']:6.3f}"
    return f"{verdict} {row['seed']} {loss}  {row['name']}: {expected} | {', '.join(found) or 'nothing'}"


def print_tables(rows: list[Row]) -> None:
    """A Markdown row for each case, all seeds beside each other, and the totals."""
    for title, with_fault in (("faults", True), ("healthy runs", False)):
        chosen = [row for row in rows if bool(ALL[row["name"]].expected) is with_fault]
        if not chosen:
            continue
        print(f"\n| {title} | expected | found |\n|---|---|---|")
        for name in dict.fromkeys(row["name"] for row in chosen):
            same = [row for row in chosen if row["name"] == name]
            expected = " or ".join(ALL[name].expected) or "nothing"
            print(f"| {name} | {expected} | {'; '.join(cell(row) for row in same)} |")
        right = sum(is_right(row) for row in chosen)
        if with_fault:
            print(f"\nIn the top two: {right} of {len(chosen)} ({100 * right / len(chosen):.1f} %)")
        else:
            wrong = len(chosen) - right
            print(f"\nFalse alarms: {wrong} of {len(chosen)} ({100 * wrong / len(chosen):.1f} %)")


def cell(row: Row) -> str:
    found = row["problems"][:2] if ALL[row["name"]].expected else row["problems"]
    return f"{'' if is_right(row) else '**no** '}{', '.join(found) or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
