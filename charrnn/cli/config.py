"""``charrnn config``: the configs that come with charrnn, and checks of your own."""

from __future__ import annotations

import json

import click

from charrnn.cli._complete import configs
from charrnn.cli._options import set_option


@click.group()
def config() -> None:
    """List, show and check configs.

    \b
    Examples:
      charrnn config show shakespeare.yaml > my.yaml
      charrnn config check my.yaml
    """


@config.command()
def ls() -> None:
    """The configs that come with charrnn.

    Example: charrnn config ls
    """
    from charrnn.config.library import shipped_configs

    for path in shipped_configs():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        click.echo(f"{path.name:22} {first.removeprefix('#').strip()}")


@config.command()
@click.argument("name", shell_complete=configs)
def show(name: str) -> None:
    """Print a config with its comments.

    Example: charrnn config show shakespeare.yaml > my.yaml
    """
    from charrnn.config.library import find_config
    from charrnn.config.settings import read_config_text

    click.echo(read_config_text(find_config(name)), nl=False)


@config.command()
@click.argument("file", shell_complete=configs)
@set_option()
def check(file: str, assignments: tuple[str, ...]) -> None:
    """Check a config and print it with every default filled in.

    Example: charrnn config check my.yaml --set training.lr=1e-3
    """
    from charrnn.config.library import find_config
    from charrnn.config.loader import dump_config, load_config

    click.echo(dump_config(load_config(find_config(file), assignments)), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of configs, for editors.

    Shipped configs name the file charrnn.schema.json: beside your own copy of one, make it so.

    \b
    Example:
      charrnn config schema > charrnn.schema.json
    """
    from charrnn.config.schema import Config

    click.echo(json.dumps(Config.model_json_schema(), indent=2))
