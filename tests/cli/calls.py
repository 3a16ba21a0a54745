"""The command line, called in this process."""

import json

from typer.testing import CliRunner

from skipdit.cli import app


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def said(*arguments):
    """Of a command with --json: what its last line says."""
    return json.loads(call(*arguments, "--json").stdout.splitlines()[-1])
