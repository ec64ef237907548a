"""``charrnn swarm --search``: Optuna chooses the combinations, one after the other, from how those before them did.

The seeds are the same for every combination. What is minimised is the median final validation loss of a combination's
bees; a bee that diverged or failed counts as ``CAP`` times the loss of a uniform guess, and so does whatever is worse:
an infinite loss would tell Optuna nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import platform
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from charrnn.config.schema import Config
from charrnn.errors import CheckpointError, ConfigError, CorpusUnavailable, DataError
from charrnn.studies.swarm.colony import (
    Colony,
    Source,
    base_of_plan,
    on_its_text,
    refuse_other_texts,
    with_text,
)
from charrnn.studies.swarm.command import training_command, with_data
from charrnn.studies.swarm.hive import Hive, Plan
from charrnn.studies.swarm.memory import Memory, without_password
from charrnn.studies.swarm.plan import Swarm, make_swarms
from charrnn.studies.swarm.results import Results
from charrnn.studies.swarm.space import Group, Range, corners
from charrnn.studies.swarm.texts import Library, Parcel
from charrnn.text.places import Places
from charrnn.training.load import usable_cores

CAP = 2.0  # times ln(symbols)
MOST_CORNERS = 200  # combinations that are looked at for one that can be trained
JOURNAL = "search.log"
RESULTS = "search.json"


@dataclass(frozen=True)
class Search:
    """What is searched, and how. ``scout`` is a combination that can be trained, with its text; ``digests`` tell the
    text that it was begun with."""

    base: Config
    groups: list[Group]
    seeds: int
    trials: int
    prune: bool
    storage: str | None
    command: list[str]
    scout: tuple[Swarm, Parcel]
    texts: Library
    digests: list[str]

    @property
    def plan(self) -> Plan:
        """What a hive's folder keeps of it; how it is arranged is not known yet."""
        return {
            "config": self.base.model_dump(mode="json"),
            "axes": [[{name: _as_plain(values) for name, values in group.items()}] for group in self.groups],
            "seeds": self.seeds,
            "texts": self.digests,
            "threads": None,
            "together": None,
            "search": {"prune": self.prune, "storage": self.storage and without_password(self.storage)},
            "trials": self.trials,
            "command": self.command,
        }

    @property
    def name(self) -> str:
        """Equal for searches that may share a storage, wherever their texts lie and their results go."""
        plan = self.plan
        settings = {key: value for key, value in plan["config"].items() if key not in ("run", "corpus")}
        corpus = {key: value for key, value in plan["config"]["corpus"].items() if key != "source"}
        same = [settings, corpus, plan["axes"], plan["seeds"], plan["texts"], self.prune]
        return f"charrnn-{hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]}"

    @property
    def colony(self) -> Colony:
        """Bees like those to come, as many as keep this machine busy: what its use is measured with."""
        return Colony(self.base, [], [self.scout], list(range(self.seeds * len(usable_cores()))))

    @property
    def text(self) -> str:
        """What its text is called, or one of those that are varied."""
        sources = next((group["corpus.source"] for group in self.groups if "corpus.source" in group), None)
        others = len(sources) - 1 if isinstance(sources, list) else 0
        return self.scout[1].text.name + (f" and {others} more" if others else "")

    def with_seeds(self, count: int) -> Search:
        """The same with so many seeds."""
        return replace(self, seeds=count)

    def memory(self, hive: Hive) -> Memory:
        """Its storage.

        Raises:
            UsageError: this cannot be used.
        """
        storage = self.storage or str(hive.path / JOURNAL)
        owner = f"{platform.node()}:{hive.path.absolute()}"
        return Memory(storage, self.name, self.base.training.seed, owner, self.prune)

    def swarm(self, point: list[dict[str, Any]]) -> tuple[Swarm, Parcel]:
        """The combination of a point, with its text.

        Raises:
            ConfigError: it is no config that can be trained.
            DataError: its text cannot be used, or is too short.
        """
        return with_text(make_swarms(self.base, [point])[0], self.texts)


def _as_plain(values: list[Any] | Range) -> Any:
    return asdict(values) if isinstance(values, Range) else values


def make_search(
    base: Config,
    groups: list[Group],
    seeds: int,
    trials: int,
    prune: bool,
    storage: str | None,
    command: list[str],
    places: Places,
    begun: list[str] | None = None,
) -> Search:
    """Check that there is something to try; nothing is written but the cache of encoded texts.

    Args:
        begun: the ``digests`` of a search that goes on. Of several texts one may be gone then: that fails its own
            combinations, each with its reason.

    Raises:
        ConfigError, DataError: no combination can be trained; what is wrong with the first.
    """
    varied = [name for group in groups for name in group]
    texts = Library(places, begun is not None, varied)
    scout = _scout(base, groups, texts, begun is not None)
    digests = [scout[1].text.sha256]
    if begun is not None and texts.lost and "corpus.source" in varied:
        digests = begun
    base = on_its_text(base, varied, texts)
    return Search(base, groups, seeds, trials, prune, storage, command, scout, texts, digests)


def _scout(base: Config, groups: list[Group], texts: Library, begun: bool) -> tuple[Swarm, Parcel]:
    problem: ConfigError | DataError | None = None
    for point in itertools.islice(itertools.product(*map(corners, groups)), MOST_CORNERS):
        try:
            swarm = make_swarms(base, [point])[0]
            if not texts.has_lost(swarm.config.corpus):  # or it would be looked for at every corner
                return with_text(swarm, texts)
        except (ConfigError, DataError) as error:
            if isinstance(error, CorpusUnavailable) and not begun:
                raise
            problem = problem or error
    assert problem is not None
    raise problem


class _Kept(BaseModel):
    prune: bool
    storage: str | None


def _is_group(group: Group) -> Group:
    ranges = [values for values in group.values() if isinstance(values, Range)]
    lengths = {len(values) for values in group.values() if not isinstance(values, Range)}
    right = len(group) == 1 if ranges else len(lengths) == 1 and 0 not in lengths
    if not right or not all(one.low < one.high and (one.low > 0 or not one.log) for one in ranges):
        raise ValueError("is not what --vary gives")
    return group


class _Form(BaseModel):
    """What the plan of a search has besides that of any hive; a hive's folder may come from anywhere."""

    axes: list[tuple[Annotated[dict[str, list[Any] | Range], AfterValidator(_is_group)]]] = Field(min_length=1)
    search: _Kept
    trials: int = Field(ge=1, le=100_000)
    command: list[str]


def search_of_plan(
    hive: Hive,
    seeds: int | None,
    trials: int | None,
    storage: str | None,
    places: Places,
    source: Source | None = None,
) -> Search:
    """The search that a hive was planned for, perhaps with other numbers than before, or its text at another place.

    Raises:
        CheckpointError: the plan cannot be read.
        ConfigError, DataError: what it says cannot be trained (any more), or its text has changed.
    """
    plan = hive.plan
    try:
        form = _Form.model_validate(plan)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise CheckpointError(f"{hive.plan_file}: not the plan of a search: {wrong}; start a new one") from error
    groups: list[Group] = [dict(group) for (group,) in form.axes]
    base, command = base_of_plan(hive, places, source), form.command
    if source is not None:
        command = with_data(command, source)
    storage = storage or form.search.storage
    seeds, trials = max(seeds or 1, plan["seeds"]), trials or form.trials
    search = make_search(base, groups, seeds, trials, form.search.prune, storage, command, places, plan["texts"])
    refuse_other_texts(hive, search.plan, source)
    moved = {} if source is None else {"config": search.plan["config"], "command": command}
    hive.write_plan({**plan, **moved, "seeds": search.seeds, "trials": search.trials})
    return search


def results_of_search(search: Search, memory: Memory, hive: Hive) -> Results:
    """The content of ``search.json``: what was tried, by every machine that shares the storage; kept in the hive.

    ``settings`` has one entry per group: its names, and the ends of a range with ``log``, or its choices as labels.
    ``trials`` has one entry per combination (see ``Memory.rows``), in the order they were begun, ``best`` the number of
    the best one, null if none finished successfully or their losses do not compare; ``train`` the command that trains
    with its settings.
    """
    from charrnn.plots.hive import are_comparable
    from charrnn.plots.search import fate  # brings matplotlib, which no worker needs

    rows = memory.rows()
    _, parcel = search.scout
    varied = {name: values for group in search.groups for name, values in group.items()}
    ended = [row for row in rows if fate(row) == "complete"] if are_comparable(varied) else []
    best = min(ended, key=lambda row: float(row["median"]), default=None)
    results = {
        "name": hive.path.name,
        "text": search.text,
        "vocabularies": varied.get("corpus.vocabulary", [search.base.corpus.vocabulary]),
        "uniform": math.log(len(parcel.text.vocabulary)),
        "unigram": parcel.entropies["unigram"],
        "seeds": [search.base.training.seed + number for number in range(search.seeds)],
        "wanted": search.trials,
        "settings": [_setting(group) for group in search.groups],
        "trials": rows,
        "best": None if best is None else best["number"],
        "train": None if best is None else training_command(search.command, best["settings"]),
    }
    hive.write_results(results, hive.path / RESULTS)
    return results


def _setting(group: Group) -> dict[str, Any]:
    names = list(group)
    for values in group.values():
        if isinstance(values, Range):
            return {"names": names, "low": values.low, "high": values.high, "log": values.log, "choices": None}
    choices = [list(point.values()) for point in corners(group)]
    return {"names": names, "low": None, "high": None, "log": False, "choices": choices}
