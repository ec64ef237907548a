"""charrnn: train character-level recurrent networks, and see why they do or do not learn.

    import charrnn

    run = charrnn.train("shakespeare", settings={"training.max_time": "60s"})
    model = charrnn.load(run)
    print(model.sample("ROMEO:", length=300, temperature=0.7))

``charrnn.train``, ``resume``, ``load`` and what they return are documented in ``charrnn/api.py``. The public names are
loaded when first used: importing ``charrnn`` is instant, torch comes with what needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.api import TrainedModel, load, resume, train
    from charrnn.config.loader import load_config
    from charrnn.config.schema import Config
    from charrnn.errors import CharRNNError
    from charrnn.model.charrnn import CharRNN
    from charrnn.runs.metrics import read_metrics
    from charrnn.runs.run import Run, read_run
    from charrnn.runs.saved import SavedModel, load_model
    from charrnn.sampling.sampler import generate
    from charrnn.text.vocabulary import Vocabulary
    from charrnn.training.evaluation import evaluate
    from charrnn.training.trainer import Trainer

_HOMES = {
    "CharRNN": "charrnn.model.charrnn",
    "CharRNNError": "charrnn.errors",
    "Config": "charrnn.config.schema",
    "Run": "charrnn.runs.run",
    "SavedModel": "charrnn.runs.saved",
    "TrainedModel": "charrnn.api",
    "Trainer": "charrnn.training.trainer",
    "Vocabulary": "charrnn.text.vocabulary",
    "evaluate": "charrnn.training.evaluation",
    "generate": "charrnn.sampling.sampler",
    "load": "charrnn.api",
    "load_config": "charrnn.config.loader",
    "load_model": "charrnn.runs.saved",
    "read_metrics": "charrnn.runs.metrics",
    "read_run": "charrnn.runs.run",
    "resume": "charrnn.api",
    "train": "charrnn.api",
}

__all__ = [
    "CharRNN",
    "CharRNNError",
    "Config",
    "Run",
    "SavedModel",
    "TrainedModel",
    "Trainer",
    "Vocabulary",
    "evaluate",
    "generate",
    "load",
    "load_config",
    "load_model",
    "read_metrics",
    "read_run",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
