"""A trained model from a checkpoint, ready to evaluate or to sample from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charrnn.config.schema import Config
from charrnn.errors import CheckpointError
from charrnn.model.charrnn import CharRNN
from charrnn.runs.checkpoint import State, read_checkpoint
from charrnn.runs.directory import find_checkpoint
from charrnn.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class SavedModel:
    """What a checkpoint says about a model; ``corpus`` and ``baselines`` are of its training text."""

    path: Path
    model: CharRNN
    vocabulary: Vocabulary
    config: Config
    corpus: dict[str, Any]
    baselines: dict[str, float]
    steps: int


def load_model(path: Path, device: torch.device) -> SavedModel:
    """The model in a checkpoint file or run folder, in evaluation mode.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    file = find_checkpoint(path)
    state = read_checkpoint(file)
    with understanding(file):
        config = saved_config(state)
        vocabulary = Vocabulary.from_dict(state["vocabulary"])
        model = CharRNN(len(vocabulary), config.model)
        model.load_state_dict(state["trainer"]["model"])
        steps = state["trainer"]["steps"]
        corpus, baselines = state["corpus"], state["baselines"]
    return SavedModel(file, model.to(device).eval(), vocabulary, config, corpus, baselines, steps)


@contextmanager
def understanding(file: Path) -> Iterator[None]:
    """Whatever does not fit while the parts of a whole, undamaged checkpoint are put to use is one error.

    Raises:
        CheckpointError: a part is missing, or of another shape or version.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise CheckpointError(
            f"{file}: not a checkpoint that this version of charrnn can use ({cause}); use the version that wrote it"
        ) from error


def saved_config(state: State) -> Config:
    """The config kept in a checkpoint."""
    return Config.model_validate(state["config"])
