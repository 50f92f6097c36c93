"""`openreserve completion`."""

import click
from click.shell_completion import get_completion_class

from openreserve.cli.told import CommandError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands and options.

    Put it where the shell reads it when it starts, such as ~/.bashrc:

        eval "$(openreserve completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that the argument allows"
    found = kind(context.find_root().command, {}, "openreserve", "_OPENRESERVE_COMPLETE")
    try:
        click.echo(found.source())
    except RuntimeError as wrong:  # a bash that is too old
        raise CommandError(f"shell_unsupported: {wrong}", 2) from wrong
