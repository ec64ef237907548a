"""A trainer spread over several processes: each has its rows of the batch, and all take the same step.

The loss, the gradient and its norm are those of the whole batch, and so are checkpoints: a run may go on with another
number of ranks. Window lengths and state resets are drawn for the whole batch on each rank, from equal generators;
dropout draws from each rank's own.

On rank 0 the trainer is used as any other; what it does, the others do because rank 0 says so (``follow``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, DataError, UsageError
from charrnn.text.encoded import EncodedText, load_text
from charrnn.text.places import Places
from charrnn.text.vocabulary import Vocabulary
from charrnn.training.memory import refuse_what_cannot_fit
from charrnn.training.observation import Observation
from charrnn.training.process import prepare_process
from charrnn.training.ranks import Order, Ranks
from charrnn.training.trainer import StepStats, Trainer


class RankTrainer(Trainer):
    """One rank's part of a trainer; made by ``make_trainer`` or ``follow``.

    Raises:
        DataError, UsageError: as ``Trainer``; the batch cannot be split evenly.
    """

    def __init__(self, text: EncodedText, config: Config, ranks: Ranks) -> None:
        rows = ranks.rows(config.training.batch_size)
        _take_device(config.training.device, ranks)
        super().__init__(text.train_ids, len(text.vocabulary), config.model, config.training, rows)
        self._ranks = ranks
        self._seed_dropout()

    def connect(self) -> None:
        """From now on average gradients over all ranks; every one of them must call this."""
        with self._ranks.together():
            self._network = self._ranks.parallel(self.model)

    def step(self, lr: float, observe: bool = False) -> StepStats:
        """As ``Trainer.step``, with the statistics of the whole batch."""
        ranks = self._ranks
        ranks.say(Order.STEP, lr, observe)
        with ranks.together():
            stats = super().step(lr, observe)
            observation = stats.observation and _of_all(stats.observation, ranks)
            return replace(
                stats,
                loss=ranks.mean(stats.loss),
                characters=stats.characters * ranks.size,
                observation=observation,
            )

    @property
    def is_finite(self) -> bool:
        """As ``Trainer.is_finite``, with the states of all ranks."""
        self._ranks.say(Order.CHECK)
        with self._ranks.together():
            bad = torch.tensor(float(not super().is_finite))
            return not self._ranks.largest(bad)

    def state_dict(self) -> dict[str, Any]:
        """As ``Trainer.state_dict``: that of a single process with the same batch, and the other ranks' generators."""
        self._ranks.say(Order.SAVE)
        with self._ranks.together():
            state = super().state_dict()
            own = {name: one for name, one in state["generators"].items() if name != "windows"}
            hidden = {name: one.cpu() for name, one in state["hidden"].items()}
            parts = self._ranks.gather((hidden, own))
        state["hidden"] = {name: torch.cat([part[name] for part, _ in parts], dim=1) for name in hidden}
        state["generators"]["ranks"] = {str(rank): one for rank, (_, one) in enumerate(parts) if rank}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Trainer.load_state_dict``, on all ranks, whatever number of them saved the state."""
        if self._ranks.leads:
            super().load_state_dict(state)  # what does not fit is found out before the others hear of it
        self._ranks.say(Order.LOAD)
        with self._ranks.together():
            state = self._ranks.share(state)
            problems = self._ranks.gather(None if self._ranks.leads else self._load_part(state))
        if any(problems):
            raise ValueError(*filter(None, problems))

    def _load_part(self, state: dict[str, Any]) -> str | None:
        """Take this rank's part of a state; what is wrong with that, if anything is."""
        try:
            generators = state["generators"]
            own = generators.get("ranks", {}).get(str(self._ranks.rank))
            super().load_state_dict({**state, "generators": {**generators, **(own or {})}})
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            return f"rank {self._ranks.rank}: {error}"
        if own is None:
            self._seed_dropout()
        return None

    def _seed_dropout(self) -> None:
        """A seed for a rank that has no saved generator: of its own, also where ranks come and go. Rank 0 draws on as a
        single process would."""
        if self._ranks.rank:
            sources = np.random.SeedSequence([self.config.seed, self._ranks.rank, self.steps])
            torch.manual_seed(int(sources.generate_state(1)[0]))


def _take_device(requested: str, ranks: Ranks) -> None:
    """A device for each rank of a machine.

    Raises:
        UsageError: one for all was asked for, or there are too few.
    """
    if requested.startswith("cuda:"):
        raise UsageError(f"--device {requested}: each process takes a device of its own; use --device cuda, or cpu")
    if requested == "cuda" or (requested == "auto" and torch.cuda.is_available()):
        if ranks.local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"--device {requested}: more processes than the {torch.cuda.device_count()} CUDA devices of this "
                "machine; start fewer, or use --device cpu"
            )
        torch.cuda.set_device(ranks.local_rank)


def _of_all(part: Observation, ranks: Ranks) -> Observation:
    """What was seen of the whole batch; gradients and weights are those of all ranks already.

    A position is taught if it is on any rank: its share is that of the rank with most of them.
    """
    means = ranks.mean(torch.cat([part.loss_by_position, part.carried_streams[None]]))
    most = ranks.largest(torch.stack([part.taught_positions, part.largest_logit, part.largest_state]))
    return replace(
        part,
        loss_by_position=means[:-1],
        carried_streams=means[-1],
        taught_positions=most[0],
        largest_logit=most[1],
        largest_state=most[2],
    )


@contextmanager
def naming(text: EncodedText) -> Iterator[None]:
    """Put the text's name before what is wrong with it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{text.name}: {error}") from error


def make_trainer(text: EncodedText, config: Config, threads: int | None, ranks: Ranks | None = None) -> Trainer:
    """A trainer on the training part of a text: in this process, or as rank 0 of several, on all of them.

    Raises:
        DataError, UsageError: as ``Trainer`` and ``RankTrainer``, of any rank; or it needs too much memory.
    """
    refuse_what_cannot_fit(len(text.vocabulary), config)
    prepare_process(threads)
    with naming(text):
        if ranks is None:
            alone = Trainer(text.train_ids, len(text.vocabulary), config.model, config.training)
            _refuse_no_validation(text)
            return alone
        trainer = RankTrainer(text, config, ranks)
        _refuse_no_validation(text)
    _have_built(ranks, _job(text, config, threads, trainer))
    trainer.connect()
    return trainer


def _refuse_no_validation(text: EncodedText) -> None:
    first, end = text.spans["val"]
    if end <= max(first, 1):
        raise DataError("the validation part is empty; give more text, or a larger second share of corpus.split")


def _job(text: EncodedText, config: Config, threads: int | None, trainer: Trainer) -> dict[str, Any]:
    """What the other ranks need to make the same trainer; each reads the text on its own machine."""
    decided = {"precision": trainer.precision.kind, "device": trainer.device.type}  # here, for all
    source = {"source": text.source}
    changed = {
        "corpus": config.corpus.model_copy(update=source),
        "training": config.training.model_copy(update=decided),
    }
    return {
        "config": config.model_copy(update=changed).model_dump(mode="json", exclude={"run", "sampling"}),
        "vocabulary": text.vocabulary.to_dict(),
        "corpus": text.describe(),
        "threads": threads,
    }


def _have_built(ranks: Ranks, job: dict[str, Any]) -> None:
    ranks.say(Order.BUILD)
    with ranks.together():
        ranks.share(job)
        problems = ranks.gather(None)
    for problem in filter(None, problems):
        raise UsageError(problem)


def follow(ranks: Ranks, places: Places, received: Callable[[], int]) -> None:
    """Other ranks: do what rank 0 says, to the end; ``received`` is the number of a signal, 0 while there is none."""
    trainer: RankTrainer | None = None
    while (heard := ranks.hear(received()))[0] is not Order.END:
        order, lr, observe = heard
        if order is Order.BUILD:
            trainer = _build(ranks, places)
        elif trainer is not None:
            _carry_out(trainer, order, lr, observe)


def _build(ranks: Ranks, places: Places) -> RankTrainer | None:
    trainer, problem = None, None
    with ranks.together():
        job = ranks.share()
        try:
            trainer = _trainer_for(job, ranks, places)
        except CharRNNError as error:
            problem = f"rank {ranks.rank}: {error}"
        problems = ranks.gather(problem)
    if trainer is None or any(problems):
        return None
    trainer.connect()
    return trainer


def _trainer_for(job: dict[str, Any], ranks: Ranks, places: Places) -> RankTrainer:
    config, vocabulary = Config.model_validate(job["config"]), Vocabulary.from_dict(job["vocabulary"])
    text = load_text(config.corpus, places, vocabulary, job["corpus"])
    prepare_process(job["threads"])
    return RankTrainer(text, config, ranks)


def _carry_out(trainer: RankTrainer, order: Order, lr: float, observe: bool) -> None:
    if order is Order.STEP:
        trainer.step(lr, observe)
    elif order is Order.CHECK:
        _ = trainer.is_finite
    elif order is Order.SAVE:
        trainer.state_dict()
    elif order is Order.LOAD:
        trainer.load_state_dict({})


def ranks_in(state: dict[str, Any]) -> int:
    """How many ranks a trainer's saved state is of."""
    return 1 + len(state["generators"].get("ranks", {}))
