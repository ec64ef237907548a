"""The model card of an exported model: Markdown behind YAML that the Hugging Face hub reads."""

from __future__ import annotations

import json
import math
import shlex
from typing import TYPE_CHECKING, Any

from charrnn.config.settings import dump_yaml

if TYPE_CHECKING:
    from charrnn.runs.saved import SavedModel

CARD = """\
---
{head}# license: yours to choose, as is whether the text that it learned allows it; see the hub's list of identifiers
---

# {name}

A {symbol}-level recurrent network, {shape}, trained with charrnn for {steps:,} steps on the text `{text}`
({characters:,} {symbol}s, SHA-256 `{sha256}`).

{loss}

```sh
charrnn sample --checkpoint {word}    # the folder that holds this file
charrnn eval --checkpoint {word} --data a-text.txt
```

```python
import charrnn

model = charrnn.load({literal})
print(model.sample(length=200))
```

`model.safetensors` holds the weights, `config.json` the network's shape and how it was trained, `vocab.json` each
symbol's id, `generation_config.json` how it is sampled. There is no code in this folder, and none is needed from it.
"""


def model_card(saved: SavedModel, name: str) -> str:
    """The text of README.md; ``name`` is the model's."""
    model, corpus = saved.config.model, saved.corpus
    symbol = "byte" if saved.vocabulary.kind == "bytes" else "character"
    return CARD.format(
        head=dump_yaml(_head(model.cell, corpus, saved.val_loss, name, symbol)),
        name=name,
        word=shlex.quote(name),
        literal=json.dumps(name, ensure_ascii=False),
        symbol=symbol,
        shape=model.shape,
        steps=saved.steps,
        text=corpus["name"],
        characters=corpus["characters"],
        sha256=corpus["sha256"],
        loss=_losses(saved.val_loss, saved.baselines, symbol),
    )


def _losses(loss: float | None, baselines: dict[str, float], symbol: str) -> str:
    entropies = ", ".join(f"{order} {nats:.5g}" for order, nats in baselines.items())
    measured = (
        "It was not evaluated at this step."
        if loss is None
        else f"Validation loss: {loss:.5g} nats per {symbol} ({loss / math.log(2):.5g} bits), state carried along."
    )
    return f"{measured}\nWhat counting gives on this text, nats per {symbol}: {entropies}."


def _head(cell: str, corpus: dict[str, Any], loss: float | None, name: str, symbol: str) -> dict[str, Any]:
    """What the hub reads: https://huggingface.co/docs/hub/model-cards, section on metadata."""
    head: dict[str, Any] = {
        "library_name": "charrnn",
        "pipeline_tag": "text-generation",
        "tags": ["charrnn", f"{symbol}-level", "rnn", cell],
    }
    if loss is not None:
        text = {"name": corpus["name"], "type": corpus["name"], "split": "validation", "revision": corpus["sha256"]}
        metrics = [
            {"type": f"nats_per_{symbol}", "value": float(f"{loss:.5g}")},
            {"type": f"bits_per_{symbol}", "value": float(f"{loss / math.log(2):.5g}")},
        ]
        head["model-index"] = [
            {"name": name, "results": [{"task": {"type": "text-generation"}, "dataset": text, "metrics": metrics}]}
        ]
    return head
