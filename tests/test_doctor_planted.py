"""Each fault that the doctor is to recognise, planted once: it is named first or second; healthy runs pass in silence.

The whole suite, over both texts and several seeds, is ``scripts/bench/doctor.py``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from charrnn.errors import DivergedError
from charrnn.studies.doctor.examination import Examination, examine_folder
from charrnn.text.places import Places
from tests.helpers import begin, train
from tests.planted import HEALTHY, PLANTS, Plant

PART, SEED = "A", 1


def one_per_finding() -> list[Plant]:
    """The first plant of each name."""
    first: dict[str, Plant] = {}
    for plant in PLANTS:
        first.setdefault(plant.expected[0], plant)
    return list(first.values())


def visit(plant: Plant, folder: Path, places: Places) -> Examination:
    with plant.planted():
        session = begin(plant.config(PART, SEED, folder, places), places)
        with suppress(DivergedError):
            train(session)
        assert session.folder is not None
        return examine_folder(session.folder.path, places)


def test_every_finding_has_a_plant() -> None:
    names = {plant.expected[0] for plant in PLANTS}
    assert len(names) >= 26
    assert len(PLANTS) >= 60


@pytest.mark.parametrize("plant", one_per_finding(), ids=lambda plant: plant.expected[0])
def test_a_planted_fault_is_named_first_or_second(plant: Plant, tmp_path: Path, places: Places) -> None:
    named = [finding.name for finding in visit(plant, tmp_path, places).problems]
    assert set(plant.expected) & set(named[:2]), named


@pytest.mark.parametrize(
    "plant", [plant for plant in HEALTHY if PART in plant.parts][::5], ids=lambda plant: plant.name
)
def test_nothing_to_say_of_a_healthy_run(plant: Plant, tmp_path: Path, places: Places) -> None:
    if plant.config(PART, SEED, tmp_path, places).corpus.source == "shakespeare":
        pytest.skip("needs tiny Shakespeare")
    assert [finding.name for finding in visit(plant, tmp_path, places).problems] == []
