"""The learning rate over training."""

from __future__ import annotations

from matplotlib.figure import Figure

from charrnn.config.schema import TrainingConfig
from charrnn.plots.figures import BLUE, count_steps, new_figure
from charrnn.training.schedules import learning_rate

POINTS = 1000
FEW = 25  # steps, which are dots as well
MOST_STEPS = 5000  # drawn one by one: no screen has more dots in a row


def draw_schedule(config: TrainingConfig, title: str, steps: int | None = None) -> Figure:
    """The rate of each step over ``steps`` steps (None: ``max_steps``, where there is no other limit).

    Where the number of steps is not known beforehand (a limit of time or epochs), the axis is the share of training
    that is done, and warm-up, which counts steps, is left out.
    """
    if steps is None and config.max_time is None and config.epochs is None:
        steps = config.max_steps
    figure, (axis,) = new_figure(1)
    if steps is None:
        shares = [i / POINTS for i in range(POINTS + 1)]
        rates = [learning_rate(config, config.warmup_steps, share) for share in shares]
        axis.plot([100 * share for share in shares], rates, color=BLUE)
        left_out = f" (without the first {config.warmup_steps} steps' warm-up)" if config.warmup_steps else ""
        axis.set_xlabel(f"training done, %{left_out}")
    else:
        drawn = _some_steps(steps, config.warmup_steps)
        rates = [learning_rate(config, step, step / steps) for step in drawn]
        axis.plot(drawn, rates, color=BLUE, marker="." if steps <= FEW else "")
        axis.set_xlabel("step")
        count_steps(axis)
    axis.set_ylabel("learning rate")
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
    axis.set_title(title, parse_math=False)
    return figure


def _some_steps(steps: int, warmup_steps: int) -> list[int]:
    """All, or as many as a picture shows, with the last of the warm-up."""
    if steps <= MOST_STEPS:
        return list(range(steps))
    return sorted({i * (steps - 1) // MOST_STEPS for i in range(MOST_STEPS + 1)} | {min(warmup_steps, steps - 1)})
