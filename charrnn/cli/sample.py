"""``charrnn sample``: text from a trained network."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charrnn.cli._openmp import tune_openmp
from charrnn.cli._options import checkpoint_option, device_option, on_unknown_option, overrides
from charrnn.errors import CharRNNError, Interrupted, UsageError

if TYPE_CHECKING:
    from charrnn.model.charrnn import CharRNN
    from charrnn.model.weights import Weights
    from charrnn.runs.saved import SavedModel, SavedWeights
    from charrnn.text.vocabulary import OnUnknown

LONGEST_PROMPT = 1000  # characters that are read one by one: torch reads a window at once


@click.command(short_help="Write text with a trained network.")
@checkpoint_option
@click.option("--prompt", metavar="TEXT", help="Text to go on from; - reads it from standard input.")
@click.option("--prompt-file", type=click.Path(path_type=Path), help="Read the prompt from this file.")
@click.option("--length", type=int, help="Characters, or bytes where the model reads bytes, to write.")
@click.option("--temperature", type=float, help="0 is greedy, 1 the model's own distribution.")
@click.option("--top-k", type=int, help="Choose among the K likeliest characters.")
@click.option("--top-p", type=float, help="Choose among the likeliest that add up to P.")
@click.option("--num", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Number of samples.")
@click.option("--stop", metavar="STRING", help="End a sample where this string appears (it is not printed).")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True, help="Same seed, same text.")
@on_unknown_option("the prompt")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sample(
    checkpoint: Path,
    prompt: str | None,
    prompt_file: Path | None,
    num: int,
    stop: str | None,
    seed: int,
    on_unknown: OnUnknown,
    device: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write text with a trained network; characters appear as they are drawn.

    \b
    Examples:
      charrnn sample --checkpoint runs/shakespeare
      charrnn sample --checkpoint runs/shakespeare --prompt "ROMEO:" --temperature 0.7 --num 3
    """
    from charrnn.cli._interrupts import Interrupts
    from charrnn.config.loader import revise_config
    from charrnn.sampling.sampler import generate

    start = _read_prompt(prompt, prompt_file)
    saved, network = _load(checkpoint, device or "auto", num, start)
    config = revise_config(saved.config, options=overrides(**settings)).sampling
    pieces = generate(network, saved.vocabulary, config, prompt=start, num=num, seed=seed, on_unknown=on_unknown)
    with Interrupts() as interrupts:
        polled = _until(pieces, interrupts, saved.path)
        if as_json:
            texts = _collect(polled, num, stop)
            click.echo(json.dumps({"prompt": start, "seed": seed, "samples": texts}))
        else:
            _stream(polled, start, num, stop)
    if interrupts.received is not None:
        raise Interrupted("interrupted", interrupts.received)


def _load(
    checkpoint: Path, device: str, num: int, prompt: str
) -> tuple[SavedWeights, Weights] | tuple[SavedModel, CharRNN]:
    """A network to sample from: where it will do without torch, the import of which takes longer than most samples."""
    from charrnn.runs.checkpoint import UnknownToNumpy
    from charrnn.runs.saved import load_model, load_weights
    from charrnn.sampling.stepper import is_light

    if num == 1 and device in ("auto", "cpu") and len(prompt) <= LONGEST_PROMPT:
        with suppress(UnknownToNumpy):
            light = load_weights(checkpoint)
            if is_light(light.weights):
                return light, light.weights
    tune_openmp()
    from charrnn.training.precision import choose_device

    saved = load_model(checkpoint, choose_device(device))
    return saved, saved.model


def _read_prompt(prompt: str | None, file: Path | None) -> str:
    if prompt is not None and file is not None:
        raise UsageError("give --prompt or --prompt-file, not both")
    try:
        if file is not None and file.is_char_device() and not file.samefile("/dev/stdin"):
            raise UsageError(f"{file}: is a device, which may never end; give a text file")
        raw = file.read_bytes() if file is not None else sys.stdin.buffer.read() if prompt == "-" else None
    except OSError as error:
        raise UsageError(f"{file}: cannot read the prompt: {error.strerror}; give a text file") from error
    if raw is None:
        return prompt or ""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")  # a byte order mark belongs to the file, not to the text
    except UnicodeDecodeError as error:
        name = file or "standard input"
        raise UsageError(f"{name}: the prompt is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _until(pieces: Iterator[list[str]], interrupts: Any, file: Path) -> Iterator[list[str]]:
    """The pieces until somebody asks to stop; an error on the way names the checkpoint ``file``."""
    try:
        for piece in pieces:
            if interrupts():
                return
            yield piece
    except CharRNNError as error:
        raise CharRNNError(f"{file}: {error}") from error


def _stream(pieces: Iterator[list[str]], prompt: str, num: int, stop: str | None) -> None:
    """The first sample as it comes; the others, drawn beside it in the same batch, after it."""
    from charrnn.sampling.stopping import StopAt

    stops = [StopAt(stop) for _ in range(num)]
    waiting = [[prompt] for _ in range(num)]
    shown = _Output()
    if num > 1:
        shown.write(f"--- 1 of {num}\n")
    shown.write(prompt)
    for step in pieces:
        for index, piece in enumerate(step):
            text = stops[index].feed(piece)
            if index == 0:
                shown.write(text)
            else:
                waiting[index].append(text)
        if all(s.done for s in stops):
            break
    shown.write(stops[0].flush())
    shown.end_line()
    for index in range(1, num):
        shown.write(f"--- {index + 1} of {num}\n" + "".join(waiting[index]) + stops[index].flush())
        shown.end_line()


class _Output:
    """Standard output, one flushed piece after another."""

    def __init__(self) -> None:
        self._last = "\n"

    def write(self, text: str) -> None:
        if text:
            click.echo(text.encode("utf-8", "replace"), nl=False)
            self._last = text[-1]

    def end_line(self) -> None:
        """A line break, if there is none: a shell prompt should not stand behind the text."""
        if self._last != "\n":
            self.write("\n")


def _collect(pieces: Iterator[list[str]], num: int, stop: str | None) -> list[str]:
    from charrnn.sampling.stopping import StopAt

    stops = [StopAt(stop) for _ in range(num)]
    texts: list[list[str]] = [[] for _ in range(num)]
    for step in pieces:
        for text, stopper, piece in zip(texts, stops, step, strict=True):
            text.append(stopper.feed(piece))
        if all(s.done for s in stops):
            break
    return ["".join(text) + stopper.flush() for text, stopper in zip(texts, stops, strict=True)]
