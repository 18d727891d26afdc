"""Plans: which hardware, how many, at what cost."""

from __future__ import annotations

import click

from dse.cli.root import cli, print_json


@cli.command()
@click.argument("plan")
@click.option("--out", default="results", show_default=True, help="Folder the plan's own folder is made in.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the plan; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def plan(plan: str, out: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Choose hardware for PLAN.yaml: a demand, latencies and a budget.

    Prints the recommendation, what else could be had, what binds and when growth outruns it; writes plan.json and
    report.html. Exits with 1 where nothing will do, 2 where the plan is at fault.
    """
    from dse.run.plan import plan as answer
    from dse.run.plan import write_plan

    found = answer(plan, settings)
    folder = write_plan(found, out)
    if as_json:
        print_json(found.answer)
    else:
        from dse.report.plan import print_plan

        print_plan(found.answer, folder)
    if not found.feasible:
        raise click.exceptions.Exit(1)
