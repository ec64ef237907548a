"""``charrnn train --data`` without a config: the settings that nobody gave are chosen, and it is said why."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

from charrnn.cli._terminal import say
from charrnn.config.library import name_from

if TYPE_CHECKING:
    from charrnn.config.schema import Config
    from charrnn.config.settings import NamedOverride, Settings
    from charrnn.studies.choice import Choice
    from charrnn.text.encoded import EncodedText
    from charrnn.text.places import Places
    from charrnn.training.ranks import Ranks
    from charrnn.training.session import Session


class Request:
    """What was given with ``--data`` and ``--set``, checked before anything is read; ``draft`` has it as a config.

    Raises:
        ConfigError: with every problem found.
    """

    def __init__(self, assignments: Iterable[str], options: Iterable[NamedOverride]) -> None:
        from charrnn.config.loader import overridden
        from charrnn.config.settings import Settings

        self.settings: Settings = overridden(Settings(), assignments, options)
        self.draft = self._draft()

    def _draft(self, **training: float) -> Config:
        """The config as far as it is known: where something will be chosen with the schema's defaults, or with what
        cannot contradict what was given."""
        from charrnn.config.loader import build_config
        from charrnn.config.schema import HIGHEST_LR
        from charrnn.config.settings import filled
        from charrnn.studies.choice import DEFAULT_SECONDS, EMBEDDING, asked_size, ends

        given = self._given()
        if not ends(given):
            training["max_time"] = DEFAULT_SECONDS
        model = {}
        if given.get("model.tie_weights") is True:
            size = asked_size(given)
            model = dict.fromkeys(("hidden_size", "embedding_size"), size if isinstance(size, int) else EMBEDDING)
        # No min_lr is above the highest rate.
        return build_config(filled(self.settings, {"model": model, "training": {"lr": HIGHEST_LR, **training}}))

    def _given(self) -> dict[str, Any]:
        """The settings that were given by dotted name, as they were written."""
        from charrnn.config.settings import flat

        return flat(self.settings.values)

    def _completed(self, choice: Choice, name: str) -> Config:
        """What was given and what was chosen, together."""
        from charrnn.config.loader import build_config
        from charrnn.config.settings import filled

        settings = filled(self.settings, {**choice.values, "run": {"name": name, **choice.values["run"]}})
        model = settings.values["model"]
        if isinstance(model["dropout"], dict):  # given place by place, perhaps
            model["dropout"] = {**choice.values["model"].get("dropout", {}), **model["dropout"]}
        return build_config(settings)

    def session(self, places: Places, measure_threads: bool, ranks: Ranks | None) -> Session:
        """Read the text, measure the processor, choose, say what and why; the arguments as in ``new_session``.

        Raises:
            ConfigError, DataError, UsageError: as for a session with a config.
        """
        from charrnn.text.baselines import baselines
        from charrnn.text.encoded import load_text
        from charrnn.training.session import session_on

        text = load_text(self._draft().corpus, places)
        entropies = baselines(text.ids, len(text.vocabulary))
        choice = self._choice(text, entropies, ranks.size if ranks else 1)
        config = self._completed(choice, name_from(text.name))
        session = session_on(config, text, entropies, measure_threads=measure_threads, ranks=ranks)
        session.origin = {"chosen": choice.reasons, "given": list(self._given())}
        for number, reason in enumerate(choice.reasons):
            say(f"{'Chosen:' if number == 0 else '':8}{reason}")
        return session

    def _choice(self, text: EncodedText, entropies: dict[str, float], processes: int) -> Choice:
        from charrnn.studies.choice import Facts, choose, sizes_to_measure, window_shape
        from charrnn.studies.speeds import measure_speeds

        checked = self._draft().model_dump()
        asked = {name: reduce(getitem, name.split("."), checked) for name in self._given()}
        characters = len(text.train_ids)
        batch_size, seq_len = window_shape(characters, asked, processes)
        config = self._draft(batch_size=batch_size, seq_len=seq_len)
        speeds = measure_speeds(config, text, entropies, sizes_to_measure(asked))
        first, end = text.spans["val"]
        read = min(end - first, config.run.eval_characters)
        return choose(Facts(characters, read, len(text.vocabulary), speeds, processes), asked)
