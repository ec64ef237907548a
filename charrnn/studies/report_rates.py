"""The search for a learning rate that belongs to a run: what ``charrnn lr-find`` left beside it.

It lies beside the run in ``NAME-lr-find`` or ``NAME-lr-find-2``, ``-3`` ...: the one with the highest number counts,
which is the last that was made. ``NAME`` is that of the run's folder; where there is no such folder, its name without
the number that a second run of a name gets (``shakespeare-2``: ``shakespeare``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from charrnn.config.settings import flat, shown
from charrnn.errors import CheckpointError
from charrnn.plots.lr_find import draw_lr_find
from charrnn.plots.report import Rates
from charrnn.runs.run import Run, read_json
from charrnn.studies.compared import differing

# What a search looks for, or what its short trainings replace: no difference to be told.
ITS_OWN = {"training.lr", "training.seed", "training.max_time", "training.max_steps", "training.epochs"}
MOST_NAMED = 3  # settings


def read_rates(run: Run) -> Rates | None:
    """The search of a run; None if there is none. A damaged one is a sentence that says so."""
    folder = _folder(run.path.resolve())
    if folder is None:
        return None
    try:
        found = read_json(folder / "lr-find.json")
        words = " ".join([_answer(found), _rate_of(run), *_other_settings(run, found)])
        return Rates(folder.name, words, draw_lr_find(found, "", run.config.training.grad_clip))
    except CheckpointError as error:
        return Rates(folder.name, str(error))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Rates(folder.name, f"{folder / 'lr-find.json'} is not what charrnn lr-find writes: {error!r}.")


def _folder(run: Path) -> Path | None:
    for name in dict.fromkeys((run.name, re.sub(r"-\d+$", "", run.name))):
        pattern = re.compile(rf"{re.escape(name)}-lr-find(?:-(\d+))?")
        found = {
            int(match[1] or 1): path.parent
            for path in run.parent.glob("*/lr-find.json")
            if (match := pattern.fullmatch(path.parent.name))
        }
        if found:
            return found[max(found)]
    return None


def _answer(found: dict[str, Any]) -> str:
    if found["lr"] is None:
        return f"No rate was found: {found['problem']}."
    basis, wanted = found["proven"], found["wanted"]
    if basis is None:
        return f"Recommended: {found['lr']:.2g}, from sweeps alone, without short trainings to prove it."
    answer = f"The best rate of the short trainings is {basis['best']:.2g}, after {basis['steps']:,} steps."
    if wanted is None:
        return f"{answer} Recommended: {found['lr']:.2g}."
    span = f"within {wanted['lowest']:.2g} to {wanted['highest']:.2g}, for {wanted['steps']:,} steps"
    return f"{answer} Recommended: {found['lr']:.2g}, {span}."


def _rate_of(run: Run) -> str:
    return f"This run has {run.config.training.lr:g}."


def _other_settings(run: Run, found: dict[str, Any]) -> list[str]:
    """How the search was made differently, where that is known."""
    settings = flat(found["config"])
    both = {name: value for name, value in run.settings.items() if name in settings}
    changed = differing([both, {name: settings[name] for name in both}])
    told = [
        f"{name} {shown(its)} instead of {shown(value)}"
        for name, (value, its) in changed.items()
        if name not in ITS_OWN and not name.startswith("run.")
    ]
    named = "; ".join(told[:MOST_NAMED]) + ("; ..." if len(told) > MOST_NAMED else "")
    return [f"The search was made with other settings: {named}."] if told else []
