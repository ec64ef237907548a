"""Which device, and in which precision: decided once, said aloud."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import nn

from charrnn.config.schema import ModelConfig
from charrnn.errors import UsageError

WIDE_ENOUGH = 128  # units from which bf16 was measured to be faster with AVX-512 BF16: 1.15 times there, 1.5 at 512


@dataclass(frozen=True)
class Precision:
    """``fp32``, or ``bf16`` by autocast with float32 parameters; ``reason`` is for the user."""

    kind: Literal["fp32", "bf16"]
    reason: str
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context that the forward pass runs in."""
        if self.kind == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, torch.bfloat16)


def choose_device(requested: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise UsageError(f"--device {requested}: no such device; use --device cpu, or auto, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {requested}: not supported; use --device cpu, or auto, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        advice = "use --device cpu (to go on with a run from there: and --inexact)"
        raise UsageError(f"--device {requested}: torch sees {count} CUDA devices; {advice}")
    return device


def bf16_extension() -> str | None:
    """What multiplies bf16 matrices several times as fast as fp32 ones in this processor (AMX) or twice as fast; None
    where nothing does."""
    for extension, name in (("amx_tile", "AMX"), ("avx512_bf16", "AVX-512 BF16")):
        supported = getattr(torch.cpu, f"_is_{extension}_supported", None)
        if supported and supported():
            return name
    return None


@cache
def has_bf16_lstm() -> bool:
    """Whether this processor can compute an LSTM in bfloat16: oneDNN, which does it for torch, wants AVX-512."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def choose_precision(requested: str, model: ModelConfig, device: torch.device) -> Precision:
    """The precision to train in; ``auto`` takes bf16 exactly where it was measured to be faster.

    That is LSTMs on a CPU, for which oneDNN has a bf16 path: with AMX, 3 to 3.5 times as fast with the same loss; with
    AVX-512 BF16 those that are not narrow. GRUs and plain RNNs have none.

    Raises:
        UsageError: this device cannot do what was asked for.
    """
    if requested != "auto":
        obstacle = _why_no_bf16(model, device) if requested == "bf16" else None
        if obstacle:
            raise UsageError(f"training.precision bf16: {obstacle}; use --set training.precision=fp32, or auto")
        kind: Literal["fp32", "bf16"] = "bf16" if requested == "bf16" else "fp32"
        return Precision(kind, "as asked", device.type)
    if device.type != "cpu":
        return Precision("fp32", "auto: bf16 is chosen on CPUs only", device.type)
    if model.cell != "lstm":
        return Precision("fp32", "auto: only LSTMs have a fast bf16 path on a CPU", device.type)
    extension = bf16_extension()
    if extension is None:
        reason = "auto: this CPU has neither AMX nor AVX-512 BF16, which bf16 needs to be fast"
        return Precision("fp32", reason, device.type)
    if extension != "AMX" and model.hidden_size < WIDE_ENOUGH:
        return Precision("fp32", f"auto: without AMX bf16 is faster from {WIDE_ENOUGH} units on", device.type)
    return Precision("bf16", f"auto: an LSTM on a CPU with {extension}", device.type)


def precision_to_evaluate_in(requested: str, model: ModelConfig, device: torch.device) -> Precision:
    """As ``choose_precision``; fp32 where a network comes from a processor that could do more than this one."""
    if requested == "bf16" and (obstacle := _why_no_bf16(model, device)):
        return Precision("fp32", obstacle, device.type)
    return choose_precision(requested, model, device)


def _why_no_bf16(model: ModelConfig, device: torch.device) -> str | None:
    """What keeps such a network from being computed in bfloat16 there; None if nothing does."""
    if device.type != "cpu":
        # torch, aten/src/ATen/cudnn/AutocastRNN.cpp: whatever type is asked for. It would want its loss scaled.
        return "on a GPU torch's autocast computes recurrent layers in float16 instead"
    if model.cell == "lstm" and not has_bf16_lstm():
        return "this processor cannot compute an LSTM in bfloat16 (it has no AVX-512)"
    return None
