"""What a text is made of, before any training."""

from __future__ import annotations

from typing import Any

from charrnn.text.baselines import baselines
from charrnn.text.corpus import Corpus
from charrnn.text.encoded import EncodedText, count_ids, occurrences, unseen_in_training

MOST_FREQUENT = 12


def corpus_stats(corpus: Corpus, text: EncodedText) -> dict[str, Any]:
    """Sizes, files, vocabulary, splits and entropies of a text, as plain values (entropies in nats per character)."""
    vocabulary = text.vocabulary
    counts = count_ids(text.ids, len(vocabulary))
    order = counts.argsort(kind="stable")[::-1][:MOST_FREQUENT]
    unseen = unseen_in_training(text)
    return {
        "name": text.name,
        "files": [part.name for part in corpus.parts],
        "bytes": text.num_bytes,
        "characters": len(text),
        "sha256": text.sha256,
        "vocabulary": vocabulary.kind,
        "vocabulary_size": len(vocabulary),
        "most_frequent": {vocabulary.symbol_name(i): int(counts[i]) for i in order.tolist() if counts[i]},
        "splits": {name: end - start for name, (start, end) in text.spans.items()},
        "unseen_in_training": {vocabulary.symbol_name(i): n for i, n in unseen.items()},
        "carriage_returns": occurrences(text, "\r"),
        "baselines": baselines(text.ids, len(vocabulary)),
        "notes": list(text.notes),
    }
