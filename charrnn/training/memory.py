"""How much memory a training needs, by arithmetic: before anything is allocated."""

from __future__ import annotations

import math
import os

from charrnn.config.schema import Config, ModelConfig, TrainingConfig
from charrnn.errors import UsageError
from charrnn.model.weights import GATES, shapes

BYTES = 4  # of a float32


def count_parameters(vocab_size: int, config: ModelConfig) -> int:
    """Trainable numbers of a model, without making it."""
    return sum(math.prod(shape) for shape in shapes(vocab_size, config).values())


def parameter_bytes(vocab_size: int, config: Config) -> int:
    """Weights, gradients and what the optimizer keeps."""
    numbers = 2 + _kept(config.training)
    return BYTES * numbers * count_parameters(vocab_size, config.model)


def _kept(config: TrainingConfig) -> int:
    """Numbers that the optimizer keeps for a parameter: Adam's two averages, or the momentum."""
    return int(config.momentum > 0) if config.optimizer == "sgd" else 2


def window_bytes(vocab_size: int, config: Config) -> int:
    """What one window leaves for the backward pass, at least: gates and states of every layer, and the logits."""
    model, training = config.model, config.training
    per_character = model.num_layers * model.hidden_size * (GATES[model.cell] + 1) + 2 * vocab_size
    return BYTES * training.batch_size * training.seq_len * per_character


def refuse_what_cannot_fit(vocab_size: int, config: Config) -> None:
    """Stop before the system does.

    Raises:
        UsageError: the training needs more memory than this machine has.
    """
    parameters, window = parameter_bytes(vocab_size, config), window_bytes(vocab_size, config)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if parameters + window > there:
        largest = "training.batch_size or training.seq_len" if window > parameters else "model.hidden_size"
        raise UsageError(
            f"the training needs at least {(parameters + window) / 1e9:,.0f} GB ({parameters / 1e9:,.1f} for "
            f"{count_parameters(vocab_size, config.model):,} weights with gradients and optimizer, {window / 1e9:,.1f} "
            f"for a window), this machine has {there / 1e9:,.0f} GB; lower {largest}"
        )
