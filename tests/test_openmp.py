"""The spin limit is set where others are at work, and nowhere else."""

from __future__ import annotations

import os

import pytest

from charrnn.cli import _openmp


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openmp, "SAMPLE_SECONDS", 0.0)
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "x")  # so that it is put back afterwards
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("running", "limit"), [(0, None), (1, None), (2, "2000"), (5, "2000")])
def test_by_load(running: int, limit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openmp, "_running", lambda: running)
    _openmp.tune_openmp()
    assert os.environ.get("GOMP_SPINCOUNT") == limit


def test_a_passing_neighbour_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([3, 3, 3, 3, 3, 1, 1, 1, 1, 1])
    monkeypatch.setattr(_openmp, "_running", lambda: next(looks))
    _openmp.tune_openmp()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_the_user_knows_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openmp, "_running", lambda: pytest.fail("looked for what is decided"))
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    _openmp.tune_openmp()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
