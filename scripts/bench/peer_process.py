"""What peers.py runs in a process of its own, in its copy of a peer's checkout, with the peer's code on the path.

    python peer_process.py nanogpt TEXT FIRST            score out-shakespeare-char/ckpt.pt
    python peer_process.py char-rnn.pytorch TEXT FIRST   score train.pt
    python peer_process.py old-torch train.py ...        run a script with torch's old answer to ``tensor[0]``

A score is one JSON line: ``nats_per_char`` over the ``characters`` TEXT[FIRST:], and the model's ``parameters``. As in
``charrnn eval``, every character is scored once, the first too, and the text before FIRST may be read but not scored.

The loss of every scored character is returned, [N]. Shapes: B windows, T window, V symbols, N characters.
"""

from __future__ import annotations

import importlib
import json
import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

CHARACTERS_AT_ONCE = 1000  # the first thousand are the warm-up, as in charrnn.training.evaluation
WINDOWS_AT_ONCE = 64


def main() -> None:
    sys.path.insert(0, str(Path.cwd()))
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "old-torch":
        answer_as_old_torch()
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        return
    text, first = Path(arguments[0]).read_text(encoding="utf-8"), int(arguments[1])
    with torch.inference_mode():
        model, losses = {"nanogpt": nanogpt, "char-rnn.pytorch": char_rnn_pytorch}[mode](text, first)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    nats = losses.double().mean().item()
    print(json.dumps({"nats_per_char": nats, "characters": len(losses), "parameters": parameters}))


def nanogpt(text: str, first: int) -> tuple[nn.Module, Tensor]:
    """Half-overlapping windows, of which the second half is scored: each character has half a window before it."""
    peer = importlib.import_module("model")
    saved = torch.load("out-shakespeare-char/ckpt.pt", map_location="cpu")
    model = peer.GPT(peer.GPTConfig(**saved["model_args"]))
    model.load_state_dict({name.removeprefix("_orig_mod."): one for name, one in saved["model"].items()})  # if compiled
    model.eval()
    numbers = pickle.loads(Path("data/shakespeare_char/meta.pkl").read_bytes())["stoi"]  # peers.py wrote it
    size = saved["model_args"]["block_size"]
    ids = torch.tensor([numbers[symbol] for symbol in text] + [0] * size)  # the last window may be too long
    losses = []
    for starts in torch.arange(first - size // 2 - 1, len(text) - size // 2 - 1, size // 2).split(WINDOWS_AT_ONCE):
        positions = starts[:, None] + torch.arange(size)  # [B, T]
        logits = model(ids[positions], ids[positions + 1])[0]  # [B, T, V]
        scored = (positions + 1)[:, size // 2 :]
        found = cross_entropy(logits[:, size // 2 :].flatten(0, 1), ids[scored].flatten(), reduction="none")
        losses.append(found[scored.flatten() < len(text)])
    return model, torch.cat(losses)


def char_rnn_pytorch(text: str, first: int) -> tuple[nn.Module, Tensor]:
    """One stream whose state is carried through, after a warm-up on the text before."""
    model: Any = torch.load("train.pt", weights_only=False)  # a pickle of its class, made in this run
    model.eval()
    symbols = importlib.import_module("helpers").char_tensor(text)  # [N]
    hidden, losses = model.init_hidden(1), []
    for start in range(first - 1 - CHARACTERS_AT_ONCE, len(text) - 1, CHARACTERS_AT_ONCE):
        inputs = symbols[start : min(start + CHARACTERS_AT_ONCE, len(text) - 1)]
        # its forward() takes a single step; these are the same layers over many
        output, hidden = model.rnn(model.encoder(inputs)[:, None], hidden)
        if start >= first - 1:
            targets = symbols[start + 1 : start + 1 + len(inputs)]
            losses.append(cross_entropy(model.decoder(output[:, 0]), targets, reduction="none"))
    return model, torch.cat(losses)


def answer_as_old_torch() -> None:
    """Let ``[0]`` of a tensor without dimensions be its value, as until torch 0.4: ``loss.data[0]`` was the idiom."""
    index = Tensor.__getitem__

    def old_index(tensor: Tensor, key: Any) -> Tensor:
        return tensor if tensor.dim() == 0 and isinstance(key, int) else index(tensor, key)

    Tensor.__getitem__ = old_index  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
