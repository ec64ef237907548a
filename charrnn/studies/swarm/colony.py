"""What a hive is to train: combinations with their texts, and the seeds that fly in all of them."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from charrnn.config.loader import build_config
from charrnn.config.schema import Config
from charrnn.config.settings import LARGEST_NUMBER, Settings
from charrnn.errors import CorpusUnavailable, DataError, UsageError
from charrnn.studies.swarm.bee import Task
from charrnn.studies.swarm.hive import Hive, Plan
from charrnn.studies.swarm.plan import MOST_BEES, Swarm, bee_name, grid, make_swarms, observed_often
from charrnn.studies.swarm.texts import Library, Parcel, open_parcel
from charrnn.text.baselines import refuse_monotony
from charrnn.text.corpus import find_corpus, settled
from charrnn.text.encoded import shortness
from charrnn.text.places import Places
from charrnn.text.streams import Streams
from charrnn.training.optimizers import much_decay

Source = str | list[str]  # as corpus.source has it
Point = dict[str, Any]  # the settings of one place on an axis of the grid


@dataclass(frozen=True)
class Colony:
    """All that is to be trained: swarms with their texts, the seeds of each, what the axes vary."""

    base: Config
    axes: list[list[Point]]
    swarms: list[tuple[Swarm, Parcel]]
    seeds: list[int]

    @property
    def groups(self) -> list[list[str]]:
        """The names of the settings along each axis."""
        return [list(axis[0]) for axis in self.axes]

    @property
    def notes(self) -> list[str]:
        """What to know of texts and settings before it begins, each thing once."""
        texts = [parcel.text for _, parcel in self.swarms]
        of_texts = [note for text in texts for note in (*text.notes, *shortness(text))]
        return list(dict.fromkeys([*of_texts, *much_decay(self.base.training)]))

    @property
    def text(self) -> str:
        """What its text is called, or the first of several."""
        first, *others = {parcel.text.sha256: parcel.text.name for _, parcel in self.swarms}.values()
        return f"{first} and {len(others)} more" if others else first

    @property
    def labels(self) -> dict[str, str]:
        """What people call each swarm, by name."""
        return {swarm.name: ", ".join(swarm.labels) or swarm.name for swarm, _ in self.swarms}

    def with_seeds(self, count: int) -> Colony:
        """The same with so many seeds."""
        return replace(self, seeds=_seeds(self.base, count))

    @property
    def plan(self) -> Plan:
        """What a hive's folder keeps of it; how it is arranged is not known yet."""
        return {
            "config": self.base.model_dump(mode="json"),
            "axes": self.axes,
            "seeds": len(self.seeds),
            "texts": list(dict.fromkeys(parcel.text.sha256 for _, parcel in self.swarms)),
            "threads": None,
            "together": None,
        }

    def tasks(self, hive: Hive, threads: int) -> list[tuple[Task, Parcel]]:
        """Every bee and its text: one of each swarm, then the next of each, so that medians come early."""
        return [(task_of(hive, swarm, seed, threads), parcel) for seed in self.seeds for swarm, parcel in self.swarms]


def task_of(hive: Hive, swarm: Swarm, seed: int, threads: int) -> Task:
    """The bee of this seed, with the config of its own folder."""
    config = swarm.bee_config(seed)
    run = config.run.model_copy(update={"out": str(hive.path / swarm.name), "name": bee_name(seed)})
    training = config.training.model_copy(update={"threads": threads})
    return Task(swarm.name, config.model_copy(update={"run": run, "training": training}))


def make_colony(base: Config, axes: list[list[Point]], seeds: int, places: Places, begun: bool = False) -> Colony:
    """Check every combination and read its text, ``begun`` as in ``Library``; nothing is written but the cache of
    encoded texts.

    Raises:
        ConfigError: combinations that are no configs.
        DataError: a text that cannot be used, or is too short for a combination.
        UsageError: the bees are too many.
    """
    swarms = make_swarms(base, grid(axes))
    if len(swarms) * seeds > MOST_BEES:
        raise UsageError(f"--seeds {seeds:,}: {len(swarms) * seeds:,} bees in all; {MOST_BEES:,} at most")
    varied = [name for axis in axes for name in axis[0]]
    texts = Library(places, begun, varied)
    ready = [with_text(swarm, texts) for swarm in swarms]
    return Colony(on_its_text(base, varied, texts), axes, ready, _seeds(base, seeds))


def _seeds(base: Config, count: int) -> list[int]:
    first = base.training.seed
    if first + count > LARGEST_NUMBER:
        raise UsageError(f"--seed {first}: {count:,} seeds from it on would go beyond the largest; give a smaller one")
    return list(range(first, first + count))


def colony_of_plan(hive: Hive, seeds: int, places: Places, source: Source | None = None) -> Colony:
    """The colony that a hive was planned for, with ``seeds`` seeds if these are more, and its text where ``source``
    says that it is by now.

    Raises:
        CheckpointError: the plan cannot be read.
        UsageError: its texts cannot be put elsewhere, since they are varied.
        ConfigError, DataError: what it says cannot be trained (any more), or its text has changed.
    """
    plan = hive.plan
    base, seeds = base_of_plan(hive, places, source), max(seeds, plan["seeds"])
    colony = make_colony(base, plan["axes"], seeds, places, begun=True)
    refuse_other_texts(hive, colony.plan, source)
    moved = {} if source is None else {"config": colony.plan["config"]}
    hive.write_plan({**plan, **moved, "seeds": len(colony.seeds)})
    return colony


def base_of_plan(hive: Hive, places: Places, source: Source | None) -> Config:
    """The config that the combinations of a hive change, with its text at ``source``, if that is given.

    Raises:
        CheckpointError, ConfigError: the plan cannot be read.
        UsageError: its texts cannot be put elsewhere, since they are varied.
        DataError: the text is not there (any more).
    """
    plan = hive.plan
    base = build_config(Settings(plan["config"], name=str(hive.plan_file)))
    if "corpus.source" in {name for axis in plan["axes"] for point in axis for name in point}:
        if source is not None:
            raise UsageError(f"{hive.path}: its texts are what it varies; leave out --data, and put them back instead")
        return base
    if source is not None:
        return base.model_copy(update={"corpus": base.corpus.model_copy(update={"source": source})})
    try:
        find_corpus(base.corpus.model_copy(update={"fallback": None}), places)
    except DataError as error:
        elsewhere = "or" if isinstance(error, CorpusUnavailable) else "where the hive's text was moved,"
        resume = f"charrnn swarm --resume {shlex.quote(str(hive.path))}"
        raise type(error)(f"{error}; {elsewhere} go on with {resume} --data PATH") from error
    return base


def refuse_other_texts(hive: Hive, plan: Plan, source: Source | None) -> None:
    """Raises DataError where a hive would go on with other texts than it was begun with, by their SHA-256."""
    if plan["texts"] == hive.plan["texts"]:
        return
    if source is None:
        raise DataError(f"{hive.path}: the text has changed since it began; start a new one with --config")
    raise DataError(
        f"--data {source}: is not the text that {hive.path} began with (by its SHA-256); give that one, or start a new "
        "hive with --config"
    )


def with_text(swarm: Swarm, texts: Library) -> tuple[Swarm, Parcel]:
    """A swarm with the text that it reads, and log lines to suit.

    Raises:
        DataError: the text cannot be used, or is too short.
    """
    config = swarm.config
    parcel = texts.read(config.corpus)
    refuse_monotony(parcel.text.name, parcel.entropies)
    training = config.training
    try:
        streams = Streams(open_parcel(parcel).train_ids, training.batch_size, training.seq_len)
    except DataError as error:
        raise DataError(f"{', '.join(swarm.labels) or parcel.text.name}: {error}") from error
    config = observed_often(config, streams.length, len(parcel.text.vocabulary), swarm.settings)
    return Swarm(swarm.name, swarm.labels, swarm.settings, config), parcel


def on_its_text(base: Config, varied: Collection[str], texts: Library) -> Config:
    """The base with the full path of its text, so that the plan means the same from any folder. Where texts are among
    what is ``varied``, nobody reads its own, which may be missing."""
    try:
        source = texts.read(base.corpus).text.source
    except DataError:
        if "corpus.source" in varied:
            return base
        raise
    return base.model_copy(update={"corpus": settled(base.corpus, source)})
