"""``charrnn corpus``: the texts that can be trained on."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from charrnn.cli._complete import corpora, corpus_names
from charrnn.cli._options import set_option
from charrnn.cli._terminal import format_bytes, say, warn


@click.group()
def corpus() -> None:
    """List, fetch and measure texts.

    \b
    Examples:
      charrnn corpus ls
      charrnn corpus stats my.txt
    """


@corpus.command()
def ls() -> None:
    """The corpora known by name.

    Example: charrnn corpus ls
    """
    from charrnn.text.named import NAMED

    for name, known in NAMED.items():
        click.echo(f"{name:12} {known.description}")


@corpus.command(short_help="Find a named corpus, and print where it is.")
@click.argument("name", shell_complete=corpus_names)
def fetch(name: str) -> None:
    """Find a named corpus, downloading it once where needed, and print where it is.

    Example: charrnn corpus fetch shakespeare
    """
    from charrnn.errors import UsageError
    from charrnn.text.named import NAMED
    from charrnn.text.places import Places

    if name not in NAMED:
        raise UsageError(f"{name}: no corpus of this name; there are {', '.join(NAMED)}")
    parts = NAMED[name].find(Places.from_environment())
    click.echo(parts[0].name if len(parts) == 1 else f"{len(parts)} files, the first {parts[0].name}")


@corpus.command(short_help="Size, characters, splits and n-gram entropies.")
@click.argument("source", shell_complete=corpora)
@set_option("How the text is read: corpus.encoding=latin-1 (also corpus.glob, corpus.vocabulary, ...).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(source: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Size, characters, splits and n-gram entropies of a corpus by name or path.

    Example: charrnn corpus stats my.txt --set corpus.encoding=latin-1
    """
    from charrnn.config.loader import load_config
    from charrnn.config.schema import CorpusConfig
    from charrnn.config.settings import NamedOverride
    from charrnn.errors import UsageError
    from charrnn.text.corpus import find_corpus
    from charrnn.text.encoded import encode_corpus
    from charrnn.text.places import Places
    from charrnn.text.stats import corpus_stats

    known = [f"corpus.{name}" for name in CorpusConfig.model_fields if name != "source"]
    for one in assignments:
        key = one.partition("=")[0].strip()
        if key == "corpus.source" or not key.startswith("corpus."):  # another misspelt one gets the nearest name below
            raise UsageError(f"--set {one}: give {', '.join(known)} only: how the text is read")
    given = NamedOverride(("corpus", "source"), source, f"SOURCE {source!r}")
    config = load_config(None, ["training.epochs=1", *assignments], [given]).corpus
    places = Places.from_environment()
    found = find_corpus(config, places)
    values = corpus_stats(found, encode_corpus(found, config, places))
    click.echo(json.dumps(values) if as_json else _table(values))
    for note in values["notes"]:
        warn(note)
    if values["carriage_returns"]:
        say(f"note: {values['carriage_returns']:,} carriage returns (CR) are kept as characters of the text")


def _table(values: dict[str, Any]) -> str:
    files, of_bytes = values["files"], values["vocabulary"] == "bytes"
    units = ("nats/byte", "bits") if of_bytes else ("nats/char", "bpc")
    lines = [
        f"name          {values['name']}",
        f"files         {len(files)}, joined in this order: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}",
        f"size          {format_bytes(values['bytes'])} ({values['bytes']:,} bytes)"
        + ("" if of_bytes else f", {values['characters']:,} characters"),
        f"sha256        {values['sha256']}",
        f"vocabulary    {values['vocabulary_size']} {values['vocabulary']}",
        "most frequent " + ", ".join(f"{name} {count:,}" for name, count in values["most_frequent"].items()),
        "splits        " + ", ".join(f"{name} {count:,}" for name, count in values["splits"].items()),
    ]
    if values["unseen_in_training"]:
        unseen = list(values["unseen_in_training"].items())
        shown = ", ".join(f"{name} {count}" for name, count in unseen[:8])
        lines.append(f"not in train  {len(unseen)} symbols: {shown}{' ...' if len(unseen) > 8 else ''}")
    for name, nats in values["baselines"].items():
        lines.append(f"{name:13} {nats:.4f} {units[0]} ({nats / math.log(2):.4f} {units[1]})")
    return "\n".join(lines)
