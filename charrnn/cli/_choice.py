"""``charrnn train --data`` without a config: the settings that nobody gave are chosen, and it is said why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charrnn.cli._terminal import say

if TYPE_CHECKING:
    from charrnn.config.schema import Config
    from charrnn.config.settings import NamedOverride, Settings
    from charrnn.studies.choice import Choice
    from charrnn.text.encoded import EncodedText
    from charrnn.text.places import Places
    from charrnn.training.ranks import Ranks
    from charrnn.training.session import Session

LONGEST_NAME = 100


class Request:
    """What was given with ``--data`` and ``--set``, checked before anything is read.

    Raises:
        ConfigError: with every problem found.
    """

    def __init__(self, assignments: Iterable[str], options: Iterable[NamedOverride]) -> None:
        from charrnn.config.loader import overridden
        from charrnn.config.settings import Settings

        self.settings: Settings = overridden(Settings(), assignments, options)
        self._draft()

    def _draft(self, **training: int) -> Config:
        """The config as far as it is known: with the schema's defaults where something will be chosen."""
        from charrnn.config.loader import build_config
        from charrnn.config.settings import filled
        from charrnn.studies.choice import DEFAULT_SECONDS, ends

        default_end = {} if ends(self._given()) else {"max_time": DEFAULT_SECONDS}
        return build_config(filled(self.settings, {"training": {**default_end, **training}}))

    def _given(self) -> dict[str, Any]:
        """The settings that were given by dotted name, as they were written."""
        sections = [(name, keys) for name, keys in self.settings.values.items() if isinstance(keys, dict)]
        return {f"{name}.{key}": value for name, keys in sections for key, value in keys.items()}

    def session(self, places: Places, measure_threads: bool, ranks: Ranks | None) -> Session:
        """Read the text, measure the processor, choose, say what and why; the arguments as in ``new_session``.

        Raises:
            ConfigError, DataError, UsageError: as for a session with a config.
        """
        from charrnn.config.loader import build_config
        from charrnn.config.settings import filled
        from charrnn.text.baselines import baselines
        from charrnn.text.corpus import find_corpus
        from charrnn.text.encoded import encode_corpus
        from charrnn.training.session import session_on

        corpus = self._draft().corpus
        text = encode_corpus(find_corpus(corpus, places), corpus, places)
        entropies = baselines(text.ids, len(text.vocabulary))
        choice = self._choice(text, entropies)
        named = {"run": {"name": run_name(text.name), **choice.values["run"]}}
        config = build_config(filled(self.settings, {**choice.values, **named}))
        session = session_on(config, text, entropies, measure_threads=measure_threads, ranks=ranks)
        session.chosen = tuple(choice.reasons)
        for number, reason in enumerate(choice.reasons):
            say(f"{'Chosen:' if number == 0 else '':8}{reason}")
        return session

    def _choice(self, text: EncodedText, entropies: dict[str, float]) -> Choice:
        from charrnn.studies.choice import Facts, choose, sizes_to_measure, window_shape
        from charrnn.studies.speeds import measure_speeds

        checked = self._draft().model_dump()
        asked = {name: checked[name.split(".")[0]][name.split(".")[1]] for name in self._given()}
        characters = len(text.train_ids)
        batch_size, seq_len = window_shape(characters, asked)
        config = self._draft(batch_size=batch_size, seq_len=seq_len)
        speeds = measure_speeds(config, text, entropies, sizes_to_measure(asked))
        first, end = text.spans["val"]
        read = min(end - first, config.run.eval_characters)
        return choose(Facts(characters, read, len(text.vocabulary), speeds), asked)


def run_name(text: str) -> str:
    """A name for the run folder from the name of a text: what ``run.name`` takes.

    ``my text (1).txt`` becomes ``my-text-1``.
    """
    stem = Path(text).stem
    kept = "".join(c if c.isalpha() or c.isdecimal() or c in "_.+" else " " for c in stem)
    return "-".join(kept.split()).lstrip(".+-")[:LONGEST_NAME] or "text"
