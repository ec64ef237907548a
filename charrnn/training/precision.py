"""Which device, and in which precision: decided once, said aloud."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

import torch
from torch import Tensor, nn

from charrnn.config.schema import ModelConfig
from charrnn.errors import UsageError

WIDE_ENOUGH = 128  # units from which bf16 was measured to be faster with AVX-512 BF16: 1.15 times there, 1.5 at 512
LARGEST_SCALE = 2.0**14  # of a loss: float16 ends at 2^16

Kind = Literal["fp32", "bf16", "fp16"]
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """``fp32``, or ``bf16`` or ``fp16`` by autocast with float32 parameters; ``reason`` is for the user."""

    kind: Kind
    reason: str
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context that the forward pass runs in."""
        if self.kind == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, TYPES[self.kind])

    def backward(self, loss: Tensor, targets: int, parameters: Iterable[nn.Parameter]) -> None:
        """The gradient of a ``loss``, which is a mean over so many ``targets``.

        In float16 what one of thousands of targets adds to a mean is often too small a number (its smallest is 6e-8).
        So the sum over them is differentiated, and the gradient divided afterwards, by a power of two, which rounds
        nothing. Source: https://arxiv.org/abs/1710.03740, section 3.2.
        """
        if self.kind != "fp16":
            loss.backward()
            return
        scale = min(2.0 ** (targets.bit_length() - 1), LARGEST_SCALE)
        loss.backward(torch.full_like(loss, scale))
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= scale


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
        if obstacle := _why_not(requested, model, device):
            raise UsageError(f"training.precision {requested}: {obstacle}; use --set training.precision=fp32, or auto")
        return Precision(cast(Kind, requested), "as asked", device.type)
    if device.type != "cpu":
        return Precision("fp32", "auto: bf16 is for CPUs, and fp16 only taken where it is asked for", device.type)
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
    if obstacle := _why_not(requested, model, device):
        return Precision("fp32", obstacle, device.type)
    return choose_precision(requested, model, device)


def _why_not(requested: str, model: ModelConfig, device: torch.device) -> str | None:
    """What keeps such a network from being computed in that precision there; None if nothing does."""
    if requested == "fp16" and device.type == "cpu":
        return "float16 is fast on GPUs only"
    if requested == "bf16" and device.type != "cpu":
        # torch, aten/src/ATen/cudnn/AutocastRNN.cpp: whatever type is asked for, and then its loss is not scaled.
        return "on a GPU torch's autocast computes recurrent layers in float16 instead, which is called fp16 here"
    if requested == "bf16" and model.cell == "lstm" and not has_bf16_lstm():
        return "this processor cannot compute an LSTM in bfloat16 (it has no AVX-512)"
    return None
