"""The library: list and check."""

from __future__ import annotations

import click

from dse.cli.root import cli, print_json
from dse.errors import Fault, InputError


@cli.command(name="list")
@click.argument(
    "what",
    type=click.Choice(
        ["models", "hardware", "precisions", "runtimes", "speculations", "objectives", "axes", "sweeps", "plans"]
    ),
)
@click.option("--json", "as_json", is_flag=True)
def list_(what: str, as_json: bool) -> None:
    """What a sweep may name."""
    from dse.run.library import library

    rows = library(what)
    if as_json:
        print_json(rows)
    else:
        from dse.report.listing import print_rows

        print_rows(what, rows)


@cli.command()
@click.argument("files", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check sweeps, plans, hardware files and model configs without running anything."""
    from dse.run.library import check_file

    faults: list[Fault] = []
    for file in files:
        try:
            click.echo(f"{file}: {check_file(file)}")
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
