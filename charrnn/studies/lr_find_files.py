"""What ``charrnn lr-find`` leaves behind: all points as JSON, the picture, and on request a config with the rate."""

from __future__ import annotations

import json
from pathlib import Path

from charrnn.config.schema import Config
from charrnn.errors import UsageError
from charrnn.plots.figures import save_figure
from charrnn.plots.lr_find import draw_lr_find
from charrnn.runs.directory import new_folder
from charrnn.runs.files import write_atomically
from charrnn.studies.lr_find import Finding


def keep_finding(finding: Finding, config: Config, name: str, config_text: str | None) -> Path:
    """Write ``lr-find.json``, ``.png`` and ``.svg`` into a new folder ``NAME-lr-find`` of ``run.out``; the folder.

    ``config_text``, if there is one, becomes ``NAME.yaml`` in it.

    Raises:
        UsageError: it cannot be written.
    """
    folder = new_folder(Path(config.run.out), f"{name}-lr-find")
    content = {"name": name, "config": config.model_dump(mode="json"), **finding.to_dict()}
    try:
        write_atomically(folder / "lr-find.json", json.dumps(content, allow_nan=False).encode() + b"\n")
        if config_text is not None:
            write_atomically(folder / f"{name}.yaml", config_text.encode())
    except OSError as error:
        raise UsageError(f"{folder}: cannot write: {error.strerror}; choose another folder with --out") from error
    title = f"{name}: {config.model.shape}, {config.training.optimizer}"
    figure = draw_lr_find(content, title, config.training.grad_clip)
    for suffix in (".png", ".svg"):
        save_figure(figure, folder / f"lr-find{suffix}")
    return folder
