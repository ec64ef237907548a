"""The pictures of a hive, in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from charrnn.plots.animation import animate_swarm
from charrnn.plots.figures import save_figure
from charrnn.plots.heat import draw_heat
from charrnn.plots.swarm import draw_swarm
from charrnn.studies.swarm.hive import Hive
from charrnn.studies.swarm.results import Results


def draw(hive: Hive, results: Results, animate: bool) -> list[Path]:
    """Facet grid and heat map, and if asked for the animation; the paths of those made.

    Raises:
        UsageError: one cannot be written.
    """
    made = []
    for figure, name in ((draw_swarm(results), "swarm"), (draw_heat(results), "heat")):
        for suffix in (".png", ".svg"):
            save_figure(figure, hive.path / f"{name}{suffix}")
        made.append(hive.path / f"{name}.png")
    for suffix in _movies() if animate else ():
        animate_swarm(results, hive.path / f"swarm{suffix}")
        made.append(hive.path / f"swarm{suffix}")
    return made


def _movies() -> list[str]:
    return [".gif", ".mp4"] if shutil.which("ffmpeg") else [".gif"]
