"""`openreserve completion`."""

import click
from click.shell_completion import get_completion_class

from openreserve_client.cli.command_error import CommandError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Load it in the shell's start-up file, such as ~/.bashrc:

        eval "$(openreserve completion bash)"
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None, "click supports every shell of the argument"
    shell_completion = completion_class(
        context.find_root().command, {}, "openreserve", "_OPENRESERVE_COMPLETE"
    )
    try:
        click.echo(shell_completion.source())
    except RuntimeError as error:  # the bash is too old
        raise CommandError(f"shell_unsupported: {error}", 2) from error
