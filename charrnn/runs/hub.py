"""A trained model as a folder in the layout that the Hugging Face hub expects, and back.

NAME/model.safetensors        the weights by their names in ``CharRNN.state_dict()``, nothing else
     config.json              the network's shape (``model``), and under ``charrnn`` how and on what it was trained
     vocab.json               each symbol's id
     generation_config.json   how to sample
     README.md                the model card

Each fact stands in one file only, so that a file may be edited: sampling, say. What belongs to the machine stays
behind: folders of the texts, the run's folder and note.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError

from charrnn.config.library import is_file
from charrnn.config.schema import SamplingConfig
from charrnn.errors import CheckpointError
from charrnn.runs.card import model_card
from charrnn.runs.checkpoint import Parser, State, as_tensors
from charrnn.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from charrnn.runs.saved import SavedModel  # which reads such folders by this module

WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocab.json"
GENERATION, CARD = "generation_config.json", "README.md"
MODEL_TYPE = "charrnn"
# As the hub's tokenizers write them. Every other symbol is one character, so neither can be mistaken for it.
UNKNOWN = "<unk>"
BYTES = [f"<0x{value:02X}>" for value in range(256)]


def hub_files(saved: SavedModel, name: str) -> dict[str, bytes]:
    """The content of the folder's files, by name; ``name`` is the model's on its card."""
    from safetensors.torch import save

    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in saved.model.state_dict().items()}
    return {
        WEIGHTS: save(weights, {"format": "pt"}),
        **{file: _as_json(values) for file, values in hub_json(saved).items()},
        CARD: model_card(saved, name).encode(),
    }


def hub_json(saved: SavedModel) -> dict[str, dict[str, Any]]:
    """The values of the three JSON files, by name."""
    config = saved.config.model_dump(mode="json")
    training = {
        "corpus": config["corpus"] | {one: _without_folders(config["corpus"][one]) for one in ("source", "fallback")},
        "training": config["training"],
        "text": saved.corpus | {"source": _without_folders(saved.corpus["source"])},
        "baselines": saved.baselines,
        "steps": saved.steps,
        "val_loss": saved.val_loss,
    }
    return {
        CONFIG: {
            "model_type": MODEL_TYPE,
            "architectures": ["CharRNN"],
            "vocab_size": len(saved.vocabulary),
            "model": config["model"],
            "charrnn": training,
        },
        VOCABULARY: vocabulary_ids(saved.vocabulary),
        GENERATION: config["sampling"],
    }


def vocabulary_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Each symbol's id: characters as they are, bytes as ``<0x0A>``, the unknown one as ``<unk>``."""
    unknown = [UNKNOWN] if vocabulary.has_unknown else []
    symbols = BYTES if vocabulary.kind == "bytes" else [*vocabulary.characters, *unknown]
    return {symbol: index for index, symbol in enumerate(symbols)}


def vocabulary_from(ids: dict[str, int]) -> Vocabulary:
    """The inverse of ``vocabulary_ids``; raises ValueError for what is none."""
    symbols = sorted(ids, key=ids.__getitem__)
    if symbols == BYTES:
        vocabulary = Vocabulary("bytes")
    else:
        has_unknown = symbols[-1:] == [UNKNOWN]
        vocabulary = Vocabulary("characters", "".join(sorted(set(symbols) - {UNKNOWN})), has_unknown)
    if vocabulary_ids(vocabulary) != ids:
        raise ValueError(f"{VOCABULARY} does not give characters in their order the ids 0, 1, 2, ...")
    return vocabulary


def is_hub_folder(path: Path) -> bool:
    """Whether somebody has exported a model into this folder."""
    return is_file(path / WEIGHTS) and is_file(path / CONFIG)


def read_hub_folder(path: Path, parse: Parser = as_tensors) -> State:
    """What can be known of the checkpoint that was exported: all but the optimizer and the place in the text.

    Raises:
        CheckpointError: a file is missing, or holds something else.
    """
    try:
        config, ids, sampling = (json.loads((path / name).read_bytes()) for name in (CONFIG, VOCABULARY, GENERATION))
        _check_sampling(path / GENERATION, sampling)
        weights = parse((path / WEIGHTS).read_bytes())
        known = config["charrnn"]
        return {
            "trainer": {"model": weights, "steps": known["steps"]},
            "score": {"best_val_loss": known["val_loss"], "best_step": known["steps"]},
            "config": {key: known[key] for key in ("corpus", "training")}
            | {"model": config["model"], "sampling": sampling},
            "vocabulary": vocabulary_from(ids).to_dict(),
            "corpus": known["text"],
            "baselines": known["baselines"],
        }
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}; export the model again") from error
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise CheckpointError(
            f"{path}: not a model that 'charrnn export' wrote, or damaged ({cause}); export it again"
        ) from error


def _check_sampling(file: Path, values: Any) -> None:
    """Raises CheckpointError for what is no way to sample: this file is there to be edited."""
    try:
        SamplingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = ": ".join(map(str, (*first["loc"], first["msg"])))
        raise CheckpointError(f"{file}: {cause}; correct it, or export the model again") from error


def _as_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=2, allow_nan=False).encode() + b"\n"


def _without_folders(source: str | list[str] | None) -> str | list[str] | None:
    """A named text as it is, files by their names."""
    if source is None:
        return None
    return Path(source).name if isinstance(source, str) else [Path(one).name for one in source]
