"""What an evaluation looks at: the loss on the validation text, and what the network writes."""

from __future__ import annotations

from collections.abc import Callable

from charrnn.errors import CharRNNError
from charrnn.sampling.sampler import sample_text
from charrnn.training.evaluation import evaluate
from charrnn.training.session import Session


def validation_loss(session: Session, carried: bool, should_stop: Callable[[], object]) -> float | None:
    """Nats per character, of a state that is ``carried`` or cold; None if ``should_stop`` became true."""
    result = evaluate(
        session.trainer.model,
        session.text.ids,
        session.text.spans["val"],
        session.trainer.precision,
        carried=carried,
        max_characters=session.config.run.eval_characters,
        should_stop=should_stop,
    )
    return None if result is None else result.nats_per_char


def sample_of(session: Session) -> str | None:
    """What the network writes after so many steps, the same whenever it is asked; None if its logits are not finite."""
    config = session.config.sampling.model_copy(update={"length": session.config.run.sample_length})
    try:
        return sample_text(session.trainer.model, session.text.vocabulary, config, seed=session.trainer.steps)
    except CharRNNError:
        return None
