"""charrnn: train character-level recurrent networks, and see why they do or do not learn.

The public names, loaded when first used: importing ``charrnn`` is instant, torch comes with what needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.config.loader import load_config
    from charrnn.config.schema import Config
    from charrnn.errors import CharRNNError
    from charrnn.model.charrnn import CharRNN
    from charrnn.runs.metrics import read_metrics
    from charrnn.runs.saved import SavedModel, load_model
    from charrnn.sampling.sampler import generate
    from charrnn.text.vocabulary import Vocabulary
    from charrnn.training.evaluation import evaluate
    from charrnn.training.trainer import Trainer

_HOMES = {
    "CharRNN": "charrnn.model.charrnn",
    "CharRNNError": "charrnn.errors",
    "Config": "charrnn.config.schema",
    "SavedModel": "charrnn.runs.saved",
    "Trainer": "charrnn.training.trainer",
    "Vocabulary": "charrnn.text.vocabulary",
    "evaluate": "charrnn.training.evaluation",
    "generate": "charrnn.sampling.sampler",
    "load_config": "charrnn.config.loader",
    "load_model": "charrnn.runs.saved",
    "read_metrics": "charrnn.runs.metrics",
}

__all__ = [
    "CharRNN",
    "CharRNNError",
    "Config",
    "SavedModel",
    "Trainer",
    "Vocabulary",
    "evaluate",
    "generate",
    "load_config",
    "load_model",
    "read_metrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
