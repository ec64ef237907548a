"""A trained model from a checkpoint or an exported folder, ready to evaluate or to sample from."""

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
from charrnn.runs.hub import WEIGHTS, is_hub_folder, read_hub_folder
from charrnn.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class SavedModel:
    """What a checkpoint says about a model; ``corpus`` and ``baselines`` are of its training text.

    ``val_loss``, nats per character, is that of just these weights: known where they are a run's best ones.
    """

    path: Path
    model: CharRNN
    vocabulary: Vocabulary
    config: Config
    corpus: dict[str, Any]
    baselines: dict[str, float]
    steps: int
    val_loss: float | None


def load_model(path: Path, device: torch.device) -> SavedModel:
    """The model in a checkpoint file, a run folder or a folder that was exported, in evaluation mode.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    file, state = _read(path)
    with understanding(file):
        config = saved_config(state)
        vocabulary = Vocabulary.from_dict(state["vocabulary"])
        model = CharRNN(len(vocabulary), config.model)
        model.load_state_dict(state["trainer"]["model"])
        steps = state["trainer"]["steps"]
        corpus, baselines = state["corpus"], state["baselines"]
        score = state["score"]
        best = score["best_val_loss"] if score["best_step"] == steps else None
        val_loss = None if best is None else float(best)
    return SavedModel(file, model.to(device).eval(), vocabulary, config, corpus, baselines, steps, val_loss)


def _read(path: Path) -> tuple[Path, State]:
    """The file of the weights, and the state that it and its neighbours hold."""
    if is_hub_folder(path):
        return path / WEIGHTS, read_hub_folder(path)
    file = find_checkpoint(path)
    return file, read_checkpoint(file)


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
