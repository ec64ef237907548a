"""``charrnn completion``: the script that lets a shell complete charrnn's commands.

The scripts are like click's, but for values that hold ``=``: no space is put behind ``training.lr=``, and bash, which
takes what stands behind ``=`` for a word of its own, gets only that.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

PROGRAM, VARIABLE = "charrnn", "_CHARRNN_COMPLETE"

BASH = """\
# Put this line into ~/.bashrc:
#   eval "$(charrnn completion bash)"

%(complete_func)s() {
    local IFS=$'\\n' type value
    local response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == *[=/] ]] && compopt -o nospace
                ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

ZSH = """\
#compdef %(prog_name)s
# Put this line into ~/.zshrc, behind compinit:
#   eval "$(charrnn completion zsh)"

%(complete_func)s() {
    local type key descr
    local -a response whole begun
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                if [[ $descr == _ ]]; then
                    key=${key//:/\\\\:}
                else
                    key="$key:$descr"
                fi
                if [[ ${key%%%%:*} == *[=/] ]]; then begun+=("$key"); else whole+=("$key"); fi
                ;;
        esac
    done
    (( $#whole )) && _describe -V charrnn whole -U
    (( $#begun )) && _describe -V charrnn begun -U -S ''
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

FISH = """\
# Do this once:
#   charrnn completion fish > ~/.config/fish/completions/charrnn.fish

function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \\
        COMP_CWORD=(commandline -t | string collect) %(prog_name)s 2>/dev/null)
    for completion in $response
        set -l metadata (string split -m 1 "," -- $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case plain
                echo $metadata[2]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Bash(BashComplete):
    """Words as charrnn will see them, from the line; answers as bash wants them, from its last break in the word on."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        if not words or line[-1:].isspace():
            words.append("")
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        word = self.get_completion_args()[1]
        breaks = [word.rfind(one) for one in "=:" if one in os.environ.get("COMP_BREAKS", "=:")]
        kept = word[: max(breaks, default=-1) + 1]  # what bash leaves as it is
        if word.startswith("--"):
            kept = kept.partition("=")[2]  # click completes the value of --option=value alone
        return f"{item.type},{item.value.removeprefix(kept)}"


class _Zsh(ZshComplete):
    """Click's answers; the script puts no space behind what goes on."""

    source_template = ZSH


class _Fish(FishComplete):
    """Click's answers, in which a value may hold a comma, as a swarm's folder does."""

    source_template = FISH


for kind in (_Bash, _Zsh, _Fish):
    add_completion_class(kind)


@click.command(short_help="Print the script that makes TAB complete.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes TAB complete commands, options, configs, runs and settings in a shell.

    \b
    Examples:
      eval "$(charrnn completion bash)"
      charrnn completion fish > ~/.config/fish/completions/charrnn.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows these three"
    click.echo(found(context.find_root().command, {}, PROGRAM, VARIABLE).source(), nl=False)
