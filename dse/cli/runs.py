"""Sweeps and their runs: sweep, report, diff."""

from __future__ import annotations

import os

import click

from dse.cli.root import cli, print_json


@cli.command()
@click.argument("sweep")
@click.option("--out", default="results", show_default=True, help="Folder the run's own folder is made in.")
@click.option("--executor", type=click.Choice(["auto", "local", "ray"]), default="auto", show_default=True)
@click.option("--ray-address", metavar="A", help="A Ray cluster to use instead of this machine.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the sweep; repeatable.")
@click.option("--keep", type=click.Choice(["frontier", "all"]), help="Also write every point (points/*.parquet).")
@click.option(
    "--fidelity", type=click.Choice(["ideal", "datasheet", "calibrated"]), help="One fidelity for all points."
)
@click.option("--fresh", is_flag=True, help="Forget what an earlier run of the same content left.")
@click.option("--dry-run", is_flag=True, help="Check the sweep, print its size and estimate, run nothing.")
def sweep(
    sweep: str,
    out: str,
    executor: str,
    ray_address: str | None,
    settings: tuple[str, ...],
    keep: str | None,
    fidelity: str | None,
    fresh: bool,
    dry_run: bool,
) -> None:
    """Run SWEEP.yaml: score every point, write the frontiers and the report.

    Exits with 1 where no point is feasible, 2 where the sweep is at fault.
    """
    # Nothing here multiplies matrices: threads for it would take a tenth of a small sweep to start, and 10 MB each.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dse.run.sweep import load_sweep, run_sweep

    changes = [
        *settings,
        *(f"{key}={value}" for key, value in (("keep", keep), ("fidelity", fidelity)) if value),
    ]
    found = load_sweep(sweep, changes)
    if dry_run:
        from dse.run.dry_run import plan
        from dse.run.effort import effort
        from dse.run.executors import choose
        from dse.run.score import Engine

        engine = Engine(found)
        for line in plan(engine, choose(executor, effort(engine), ray_address)):
            click.echo(line)
        return
    from dse.report.progress import progress_bar
    from dse.report.summary import print_summary

    with progress_bar() as progress:
        run = run_sweep(
            found,
            out,
            executor=executor,
            ray_address=ray_address,
            fresh=fresh,
            progress=progress,
            say=progress.say,
        )
    print_summary(run.manifest, run.rows(), run.folder)
    if not run.manifest["feasible"]:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("run_dir")
def report(run_dir: str) -> None:
    """Write the report of a finished run again."""
    from dse.run.sweep import rewrite_report

    click.echo(f"wrote {rewrite_report(run_dir)}")


@cli.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--json", "as_json", is_flag=True)
def diff(run_a: str, run_b: str, as_json: bool) -> None:
    """What changed between two runs: inputs, counts, fronts."""
    from dse.run.diff import diff_runs
    from dse.run.folder import Run

    changes = diff_runs(Run.open(run_a), Run.open(run_b))
    if as_json:
        print_json(changes)
    else:
        from dse.report.listing import print_diff

        print_diff(changes)
