"""The command line. One file per command, each: parse, one library call, print. Only this package knows click.

Nothing here imports torch at the top: ``charrnn --help`` answers at once.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import click

from charrnn.cli._ranks import is_first, leave
from charrnn.cli._terminal import debugging, printable, show_error
from charrnn.cli.compare import compare
from charrnn.cli.completion import completion
from charrnn.cli.config import config
from charrnn.cli.corpus import corpus
from charrnn.cli.doctor import doctor
from charrnn.cli.eval import evaluate
from charrnn.cli.export import export
from charrnn.cli.inspect import inspect
from charrnn.cli.lr_find import lr_find
from charrnn.cli.plot import plot
from charrnn.cli.report import report
from charrnn.cli.runs import runs
from charrnn.cli.sample import sample
from charrnn.cli.swarm import swarm
from charrnn.cli.train import train
from charrnn.errors import CharRNNError

MAKERS = ("train", "swarm")


class _Commands(click.Group):
    """Commands in the order in which one comes to need them, and an end without fuss where nobody reads on."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Click's own answer is exit code 1; whoever read our output has just had enough of it. Not so where
            # something was to be made: it is not whole, and a command after "&&" must not begin.
            # Nobody is there for what is still buffered either.
            for output in (1, 2):
                if _nobody_reads(output):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
            sys.exit(128 + signal.SIGPIPE if ctx.invoked_subcommand in MAKERS else 0)


def _nobody_reads(output: int) -> bool:
    """Whether an output is a pipe that has lost its reader."""
    asked = select.poll()
    asked.register(output, 0)
    return any(events & select.POLLERR for _, events in asked.poll(0))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.version_option(package_name="charrnn")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Train character-level recurrent networks, and see why they do or do not learn.

    \b
    Start with:
      charrnn train --config quickstart.yaml
      charrnn sample --checkpoint runs/quickstart
    """
    context.obj = {"debug": debug}
    if os.environ.get("NO_COLOR"):
        context.color = False
    if context.invoked_subcommand != "train" and not is_first():
        context.exit(0)  # only a training is for several processes; rank 0 does the rest alone


COMMANDS = (
    *(train, sample, evaluate, lr_find, doctor, swarm),
    *(compare, inspect, plot, report, runs, export, corpus, config, completion),
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> NoReturn:
    """The entry point: runs a command and turns every error into a message and an exit code."""
    _open_what_is_closed()
    try:
        code = _run()
    except click.ClickException as error:
        if is_first():
            _with_advice(error).show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except SystemExit as end:
        code = end.code
    except CharRNNError as error:
        code = show_error(error)
    except OSError as error:
        code = show_error(CharRNNError(f"{error.filename or 'input or output'}: {error.strerror or error}"))
    except Exception as error:
        code = _show_crash(error)
    leave(code if isinstance(code, int) else 0)


def _open_what_is_closed() -> None:
    """Programs without a terminal may begin without stdin, stdout or stderr: then these are empty, or go nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Takes the number that is free: a file that is opened later must not have it.
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the program runs


def _with_advice(error: click.ClickException) -> click.ClickException:
    """``charrnn train my.txt`` is what one tries first: which options say what the word is."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or "unexpected extra argument" not in error.message:
        return error
    names = {name for option in context.command.params for name in option.opts}
    known = [name for name in ("--data", "--config", "--resume", "--checkpoint") if name in names]
    advice = f"; say with an option what it is: {', '.join(known)}" if known else ""
    return click.UsageError(error.message + advice, context)


def _run() -> Any:
    """The command that was asked for. Of several processes rank 0 alone answers, also where click does (--help)."""
    with ExitStack() as stack:
        if not is_first():
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        return cli.main(standalone_mode=False)


def _show_crash(error: Exception) -> int:
    """What nobody foresaw: still one line, and how to learn more."""
    if debugging():
        traceback.print_exception(error)
    cause = printable(" ".join(str(error).split())[:300])
    click.echo(f"internal error: {type(error).__name__}: {cause}; run 'charrnn --debug ...' to see where", err=True)
    return 1
