"""What the curves of runs show, in words and numbers: for readers who do not see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from charrnn.config.wording import counted, symbol
from charrnn.runs.metrics import Row
from charrnn.runs.run import Run


def describe_curves(run: Run) -> str:
    """The curves of one run. Losses in nats per character, or byte."""
    logs = run.history.logs
    told = [_training(run), _validation(run), *_gradients(run)]
    if rates := _values(logs, "lr"):
        told.append(f"Learning rate: {rates[0]:.2g} at first, {max(rates):.2g} at most, {rates[-1]:.2g} at the end.")
    if (speed := run.history.chars_per_sec) is not None:
        told.append(f"Speed: {speed:,.0f} {_symbol(run)}s per second (median).")
    return " ".join([*(one for one in told if one), *_events(run)])


def describe_several(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The losses of several runs, a line for each."""
    told = [
        f"{name}: {' '.join([*filter(None, (_training(run), _validation(run))), *_events(run)])}"
        for name, run in zip(names, runs, strict=True)
    ]
    return "\n".join(told)


def describe_parameters(run: Run) -> str:
    """The parameters as the last log line that looked at them has them."""
    last = run.history.observed[-1]
    told = [f"At step {last['step']:,}:"]
    for key, title in (("grad_norm", "gradient norm"), ("update_ratio", "update ratio")):
        known = {name: seen[key] for name, seen in last["tensors"].items() if seen.get(key) is not None}
        if known:
            low, high = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
            told.append(f"{title} from {known[low]:.2g} ({low}) to {known[high]:.2g} ({high});")
    told.append("the update ratio is the size of one step against that of the parameter.")
    return " ".join(told)


def _training(run: Run) -> str:
    logs = run.history.logs
    return f"{_course('Training loss', run, logs, 'train_loss')}." if logs else ""


def _validation(run: Run) -> str:
    rows = run.history.evaluations
    if not rows:
        return "No validation loss yet."
    best = run.best
    assert best is not None
    told = _course("Validation loss", run, rows, "val_loss")
    return f"{told}; lowest {best['val_loss']:.4g} at step {best['step']:,}."


def _course(name: str, run: Run, rows: Sequence[Row], key: str) -> str:
    first, last = rows[0], rows[-1]
    start = f"{name}: {first[key]:.4g} nats per {_symbol(run)} at step {first['step']:,}"
    return start if first is last else f"{start}, {last[key]:.4g} at step {last['step']:,}"


def _symbol(run: Run) -> str:
    return symbol([run.config.corpus.vocabulary])


def _gradients(run: Run) -> Iterator[str]:
    norms = _values(run.history.logs, "grad_norm")
    if norms:
        yield f"Gradient norm, means between {min(norms):.2g} and {max(norms):.2g}."
    limit = run.config.training.grad_clip
    share = _clipped_share(run.history.logs)
    if share is not None and limit is not None:
        yield f"Clipped at {limit:g}: {f'{share:.1%} of the steps' if share else 'no step'}."


def _clipped_share(logs: Sequence[Row]) -> float | None:
    """Of all steps; each line stands for those since the line before. None where no line tells."""
    steps = [row["step"] for row in logs]
    known = [
        (float(row["clipped"]), step - before)
        for row, step, before in zip(logs, steps, [0, *steps], strict=False)
        if isinstance(row.get("clipped"), int | float)
    ]
    total = sum(count for _, count in known)
    return sum(share * count for share, count in known) / total if total else None


def _events(run: Run) -> Iterator[str]:
    if rollbacks := len(run.rollbacks):
        yield f"{counted(rollbacks, 'rollback')}."
    if run.diverged:
        yield f"Diverged at step {run.metrics[-1]['step']:,}."


def _values(rows: Sequence[Row], key: str) -> list[float]:
    """The numbers of a column, as far as they are there."""
    return [float(row[key]) for row in rows if isinstance(row.get(key), int | float)]
