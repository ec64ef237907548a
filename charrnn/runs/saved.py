"""A trained model from a checkpoint or an exported folder, ready to evaluate or to sample from; also without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.config.schema import Config
from charrnn.errors import CheckpointError
from charrnn.model.weights import Weights, aligned
from charrnn.runs.checkpoint import Parser, State, as_arrays, as_tensors, read_checkpoint
from charrnn.runs.directory import find_checkpoint
from charrnn.runs.hub import WEIGHTS, is_hub_folder, read_hub_folder
from charrnn.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from charrnn.model.charrnn import CharRNN


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a checkpoint says about its network; ``corpus`` and ``baselines`` are of its training text.

    ``val_loss``, nats per character, is that of just these weights: known where they are a run's best ones.
    """

    path: Path
    vocabulary: Vocabulary
    config: Config
    corpus: dict[str, Any]
    baselines: dict[str, float]
    steps: int
    val_loss: float | None


@dataclass(frozen=True, kw_only=True)
class SavedModel(Saved):
    """The same, and the network."""

    model: CharRNN


@dataclass(frozen=True, kw_only=True)
class SavedWeights(Saved):
    """The same, and its weights, which are enough to sample from."""

    weights: Weights


def load_model(path: str | Path, device: torch.device) -> SavedModel:
    """The model in a checkpoint file, a run folder or a folder that was exported, in evaluation mode.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from charrnn.model.charrnn import CharRNN

    file, state = _read(Path(path), as_tensors)
    with understanding(file):
        saved = _saved(file, state)
        model = CharRNN(len(saved.vocabulary), saved.config.model)
        model.load_state_dict(state["trainer"]["model"])
    return SavedModel(**vars(saved), model=model.to(device).eval())


def load_weights(path: Path) -> SavedWeights:
    """As ``load_model``, for sampling without torch: half of a second instead of two.

    Raises:
        CheckpointError: there are none, or they are damaged.
        UnknownToNumpy: they are bfloat16, say.
    """
    file, state = _read(path, as_arrays)
    with understanding(file):
        saved = _saved(file, state)
        arrays = {name: aligned(array) for name, array in state["trainer"]["model"].items()}
        return SavedWeights(**vars(saved), weights=Weights(len(saved.vocabulary), saved.config.model, arrays))


def _saved(file: Path, state: State) -> Saved:
    steps, score = state["trainer"]["steps"], state["score"]
    best = score["best_val_loss"] if score["best_step"] == steps else None
    return Saved(
        path=file,
        vocabulary=Vocabulary.from_dict(state["vocabulary"]),
        config=saved_config(state),
        corpus=state["corpus"],
        baselines=state["baselines"],
        steps=steps,
        val_loss=None if best is None else float(best),
    )


def _read(path: Path, parse: Parser) -> tuple[Path, State]:
    """The file of the weights, and the state that it and its neighbours hold."""
    if is_hub_folder(path):
        return path / WEIGHTS, read_hub_folder(path, parse)
    file = find_checkpoint(path)
    return file, read_checkpoint(file, parse=parse)


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
