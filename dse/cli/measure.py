"""Measurements: probe a machine, fit its kernels, validate predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dse.cli.root import cli, print_json

if TYPE_CHECKING:
    from dse.calibrate.benchmarks import Deployment


@cli.command()
@click.option("--out", required=True, metavar="FILE.yaml", help="The hardware file to write; its stem is the name.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="What serves the model: the processors themselves, or the first GPU (needs PyTorch).",
)
@click.option("--disk", "disk_folder", metavar="DIR", help="Folder whose disk is measured  [default: that of FILE]")
@click.option("--disk-gb", type=float, default=4.0, show_default=True, help="Written there at most; 0: no disk.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="About how long to measure.")
@click.option("--base", metavar="NAME", help="Chip whose power, prices and unmeasured links are taken over.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def probe(out: str, **options: Any) -> None:
    """Measure this machine's ceilings into a hardware file.

    Memory bandwidth, matrix multiplication by dtype, disk; with --device cuda also the GPU's memory, its link to
    the host and, of several, their all-reduce. Use the file by its path: --hardware ./FILE.yaml --fidelity ideal.
    """
    from dse.calibrate.probe import probe as measure
    from dse.report.listing import print_rows

    found = measure(out, **options, say=lambda text: click.echo(text, err=True))
    print_rows("measured", found.rows())
    for note in found.hardware.notes.splitlines():
        click.echo(f"- {note}")
    click.echo(f"wrote {found.path}")


@cli.command()
@click.argument("measured")
@click.option("--out", metavar="CSV", help="Write every row with its prediction, evidence, status and reason.")
@click.option("--json", "as_json", is_flag=True, help="Print the errors per source and metric as JSON.")
@click.option("--html", metavar="FILE", help="Write a page: predicted against measured, tables of errors.")
@click.option(
    "--fidelity",
    type=click.Choice(["ideal", "datasheet", "calibrated"]),
    default="calibrated",
    show_default=True,
)
@click.option("--runtime", metavar="R", help="One engine for all rows  [default: the one each row's framework names]")
@click.option(
    "--leave-out",
    type=click.Choice(["model", "accelerator"]),
    help="Fit the engines anew without the rows of each model or accelerator before predicting these.",
)
@click.option("--fit", metavar="YAML", help="Fit the engines to all rows and write them as a runtimes file.")
@click.option("--bands", metavar="YAML", help="Measure the error bands of results and write them as error_bands.yaml.")
@click.option(
    "--accuracy", metavar="JSON", help="Only measure how accurate predictions of rows not fitted are; print a table."
)
@click.option("--hardware", metavar="H", help="Of a benchmark's JSON: what it ran on.")
@click.option("--model", metavar="M", help="Of a benchmark's JSON  [default: its model_id]")
@click.option("--precision", metavar="P", default="bf16", show_default=True, help="Of a benchmark's JSON.")
@click.option("--kv-cache", metavar="TYPE", default="", help="Of a benchmark's JSON  [default: what the engine takes]")
@click.option("--tp", type=click.IntRange(1), default=1, show_default=True, help="Of a benchmark's JSON.")
@click.option("--pp", type=click.IntRange(1), default=1, show_default=True, help="Of a benchmark's JSON.")
@click.option("--dp", type=click.IntRange(1), default=1, show_default=True, help="Of a benchmark's JSON: attention-dp.")
@click.option("--ep", type=click.IntRange(0), default=0, help="Of a benchmark's JSON.")
def validate(
    measured: str,
    out: str | None,
    as_json: bool,
    html: str | None,
    fidelity: str,
    runtime: str | None,
    leave_out: str | None,
    fit: str | None,
    bands: str | None,
    accuracy: str | None,
    **ran: Any,
) -> None:
    """Predict every row of MEASURED and say how far off the predictions are, per source and metric.

    MEASURED is a CSV file in the schema of published measurements, or the JSON that vLLM's (--save-result) or SGLang's
    (--output-file) serving benchmark writes; that does not say what it ran on, so state it: --hardware H --tp N ...
    """
    from dse.calibrate.validate import as_json as errors
    from dse.calibrate.validate import validate as validated
    from dse.run.store import writing

    deployment = _deployment(measured, runtime, ran)
    if accuracy is not None:
        _accuracy(measured, fidelity, Path(accuracy))
        return
    found = validated(measured, fidelity, runtime, leave_out, deployment)
    if out is not None:
        with writing(Path(out)):
            Path(out).write_text(found.csv(), encoding="utf-8")
    if html is not None:
        from dse.report.validation import write_validation

        with writing(Path(html)):
            write_validation(found.page(Path(measured).name), Path(html))
    if fit is not None:
        from dse.calibrate.runtimes_file import write_own, write_runtimes
        from dse.calibrate.validate import fits

        write = write_runtimes if deployment is None else write_own
        with writing(Path(fit)):
            engines = fits(found.rows, found.cases, fidelity, anew=deployment is None)
            write(engines, fidelity, Path(measured).name, Path(fit))
    if bands is not None:
        from dse.calibrate.bands import measure_bands, write_bands

        with writing(Path(bands)):
            write_bands(Path(bands), Path(measured).name, measure_bands(measured))
    if as_json:
        print_json(errors(found.summary()))
    else:
        from dse.report.listing import print_validation

        print_validation(found.summary())
    for file in filter(None, (out, html, fit, bands)):
        click.echo(f"wrote {file}", err=as_json)


@cli.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--hardware", metavar="H", required=True, help="Name or path of the chip that was timed.")
@click.option("--out", metavar="FILE.yaml", help="The file to write  [default: your own ./hardware/H.yaml or ./H.yaml]")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--framework", "prefer", multiple=True, metavar="[CLASS=]NAME", help="Whose  [default: the fastest]")
@click.option("--without", multiple=True, metavar="CLASS", help="A class not to fit (collective ...); repeatable.")
@click.option("--source", default="", help="Where the timings come from, for the file.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def calibrate(
    data: tuple[str, ...], hardware: str, out: str | None, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Fit a chip's efficiencies to timings of its kernels and write them into a hardware file of your own.

    DATA: Parquet, CSV or folders of them (columns: hardware/README.md). Prints errors on shapes that were held out,
    with default efficiencies and with the fitted ones, and the rows that cannot be true. The file is a copy of the
    library's with the block `calibration`, and found before it; in a file of your own only that block is replaced.
    """
    from dse.calibrate.calibrate import calibrate as fit
    from dse.calibrate.calibrate import own_file
    from dse.report.listing import print_rows

    found = fit(data, hardware, out=None if dry_run else out or own_file(hardware), **options)
    if as_json:
        print_json(found.plain())
        return
    print_rows("fitted", found.rows())
    click.echo("\n".join(found.remarks()))


def _accuracy(measured: str, fidelity: str, path: Path) -> None:
    """Write the figures and print the table of them."""
    from dse.calibrate.accuracy import measure, table
    from dse.plain import json_bytes
    from dse.run.store import writing

    found = measure(measured, fidelity)
    with writing(path):
        path.write_bytes(json_bytes(found, pretty=True))
    for line in table(found):
        click.echo(line)
    click.echo(f"wrote {path}", err=True)


def _deployment(measured: str, runtime: str | None, ran: dict[str, Any]) -> Deployment | None:
    """What a benchmark's file does not say; None where the file says all itself."""
    from dse.calibrate.benchmarks import Deployment, is_benchmark
    from dse.errors import Fault, InputError

    context = click.get_current_context()
    stated = [name for name in ran if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if not is_benchmark(measured):
        if stated:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in stated)
            raise InputError(Fault(f"not a benchmark's JSON, which alone needs {options}", file=measured))
        return None
    if ran["hardware"] is None:
        raise InputError(Fault("a benchmark does not say what it ran on: state it (--hardware)", file=measured))
    return Deployment(**{**ran, "model": ran["model"] or "", "runtime": runtime or ""})
