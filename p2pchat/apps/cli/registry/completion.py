"""`p2pchat completion`: its help page."""

from __future__ import annotations

from p2pchat.cli.command_table import Command

_PAGE = """\
Usage: p2pchat completion bash|zsh|fish

Print a script with which the shell completes commands, options, files, and whom one can write to.

Examples:
  eval "$(p2pchat completion bash)"    in ~/.bashrc
  eval "$(p2pchat completion zsh)"     in ~/.zshrc, after compinit
  p2pchat completion fish | source     in config.fish

Where p2pchat is only `python -m p2pchat`, make it a command first, above that line; in bash and zsh with

    p2pchat() {{ python -m p2pchat "$@"; }}

and in fish with

    function p2pchat; python -m p2pchat $argv; end
"""

COMMAND = Command(
    name="completion",
    summary="completion for bash, zsh or fish",
    page=_PAGE,
    run="cli.subcommands.completion:run_completion",
    words="shell",
)
