"""The picture of ``charrnn lr-find``, from the content of its ``lr-find.json``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from charrnn.config.wording import symbol
from charrnn.plots.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, loss_axis, new_figure, rate_axes

SUGGESTION_COLOURS = {"minimum/10": ORANGE, "steepest": PURPLE, "valley": BLUE}
CLIPPED_OVER = 9  # steps, over which the share of clipped ones is taken


def draw_lr_find(found: dict[str, Any], title: str, grad_clip: float | None) -> Figure:
    """Loss, gradient norm and short trainings against the rate; the last panel only where there were trials."""
    figure, axes = new_figure(3 if found["trials"] else 2)
    plan, wanted = found["plan"], found["wanted"] or {"lowest": math.inf, "highest": 0.0}
    rate_axes(axes, min(plan["min_lr"], wanted["lowest"]), max(plan["max_lr"], wanted["highest"]))
    figure.suptitle(title, parse_math=False)
    _draw_sweep(axes[0], found)
    _draw_gradients(axes[1], found["sweeps"], grad_clip)
    if found["trials"]:
        _draw_trials(axes[2], found)
    return figure


def _unit(found: dict[str, Any]) -> str:
    return f"nats/{symbol([found['config']['corpus']['vocabulary']])}"


def _draw_sweep(axis: Axes, found: dict[str, Any]) -> None:
    band, seeds = found["band"], len(found["sweeps"])
    lrs, median = np.array(band["lrs"]), np.array(band["median"])
    of_all = f"all {seeds} seeds" if seeds > 1 else "the one seed"
    axis.fill_between(lrs, band["low"], band["high"], color=BLUE, alpha=0.2, linewidth=0, label=of_all)
    axis.plot(lrs, median, color=BLUE, label="sweep: smoothed loss, median")
    axis.axhline(found["unigram"], color=GREY, linestyle=":", linewidth=1, label="unigram entropy")
    for name, lr in found["suggestions"].items():
        height = np.interp(np.log(lr), np.log(lrs), median)
        axis.plot(lr, height, "o", color=SUGGESTION_COLOURS[name], markeredgecolor="black", label=f"{name}: {lr:.1e}")
    diverged = [one["lrs"][-1] for one in found["sweeps"] if one["diverged"]]
    if diverged:
        label = f"first of {len(diverged)} diverged: {min(diverged):.1e}"
        axis.axvline(min(diverged), color=RED, linestyle="--", label=label)
    _mark_answer(axis, found)
    axis.set_ylabel(f"training loss, {_unit(found)}")
    axis.legend(fontsize="small", loc="best")


def _mark_answer(axis: Axes, found: dict[str, Any]) -> None:
    wanted = found["wanted"]
    if wanted is not None:
        label = f"range for {wanted['steps']:,} steps"
        axis.axvspan(wanted["lowest"], wanted["highest"], color=GREEN, alpha=0.12, linewidth=0, label=label)
    if found["lr"] is not None:
        axis.axvline(found["lr"], color=GREEN, linewidth=2, label=f"recommended: {found['lr']:.1e}")


def _draw_gradients(axis: Axes, sweeps: list[dict[str, Any]], grad_clip: float | None) -> None:
    """Gradient norms of all sweeps; on an axis of its own the share of clipped steps, over a few of them."""
    for number, one in enumerate(sweeps):
        norms = np.array(one["grad_norms"], dtype=float)
        axis.plot(one["lrs"], norms, color=ORANGE, alpha=0.6, linewidth=1, label="" if number else "each seed")
    drawn = [norm for one in sweeps for norm in one["grad_norms"] if norm is not None]
    loss_axis(axis, drawn if grad_clip is None else [*drawn, grad_clip], log=True)
    axis.set_ylabel("gradient norm before clipping")
    if grad_clip is not None:
        axis.axhline(grad_clip, color=GREY, linestyle=":", label=f"grad_clip {grad_clip:g}")
        longest = max(sweeps, key=lambda one: len(one["lrs"]))
        share = _clipped_share([one["grad_norms"] for one in sweeps], len(longest["lrs"]), grad_clip)
        right = axis.twinx()
        right.spines[["top"]].set_visible(False)
        right.fill_between(longest["lrs"], 100 * share, color=PURPLE, alpha=0.25, linewidth=0)
        right.set_ylim(0, 100)
        right.set_ylabel(f"clipped steps, % of {CLIPPED_OVER} steps\n(shaded)")
    axis.legend(fontsize="small", loc="best")


def _clipped_share(norms: list[list[float]], length: int, grad_clip: float) -> np.ndarray[Any, Any]:
    """Share of clipped steps around each step, over all seeds that got so far, (length,)."""
    table = np.full((len(norms), length), np.nan)
    for row, one in zip(table, norms, strict=True):
        row[: len(one)] = np.array(one, dtype=float) > grad_clip
    half = CLIPPED_OVER // 2
    return np.array([np.nanmean(table[:, max(i - half, 0) : i + half + 1]) for i in range(length)])


def _draw_trials(axis: Axes, found: dict[str, Any]) -> None:
    trials, plan = found["trials"], found["plan"]
    ended = [one for one in trials if one["val_loss"] is not None]
    axis.plot(
        [one["lr"] for one in ended], [one["val_loss"] for one in ended], "o", color=BLUE, alpha=0.6, label="one seed"
    )
    rates = sorted({one["lr"] for one in ended})
    means = [np.mean([one["val_loss"] for one in ended if one["lr"] == lr]) for lr in rates]
    axis.plot(rates, means, color=BLUE, label="mean of the seeds that ended")
    if means:
        limits = axis.get_ylim()
        axis.axhspan(min(means), 1.02 * min(means), color=GREY, alpha=0.2, linewidth=0, label="within 2 % of the best")
        axis.set_ylim(limits)  # the trials decide what is shown, not the span
    for number, one in enumerate(one for one in trials if one["val_loss"] is None):
        axis.plot(
            one["lr"], 0.97, "x", color=RED, transform=axis.get_xaxis_transform(), label="" if number else "diverged"
        )
    if found["proven"] is not None:
        best = found["proven"]["best"]
        axis.axvline(best, color=GREEN, linestyle="--", label=f"best after {plan['trial_steps']} steps: {best:.1e}")
    axis.set_ylabel(f"validation loss after\n{plan['trial_steps']} steps, {_unit(found)}")
    axis.legend(fontsize="small", loc="best")
