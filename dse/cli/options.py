"""Options that several commands take, stated once: what a point is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def together(*options: Decorator[Any]) -> Decorator[Any]:
    """Several options as one decorator, in the order of the help."""

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


layout = together(
    click.option("--precision", metavar="P", help="A name, or {weights: int4, ...}  [default: the model's, else bf16]"),
    click.option("--tp", type=int, default=1, show_default=True),
    click.option("--pp", type=int, default=1, show_default=True),
    click.option("--dp", type=int, default=1, show_default=True),
    click.option("--ep", default="auto", show_default=True, help="A number, or auto."),
)
"""Number formats, and the devices of a replica."""

lengths = together(
    click.option("--input", "input_", type=int, default=1024, show_default=True, help="Prompt tokens."),
    click.option("--output", type=int, default=256, show_default=True, help="Generated tokens."),
)

overlap = click.option(
    "--overlap", type=click.Choice(["serial", "pairwise", "full"]), default="pairwise", show_default=True
)
memory_utilization = click.option(
    "--memory-utilization", type=float, metavar="SHARE", help="Of an accelerator's memory  [default: 0.9]"
)
memory = together(
    memory_utilization,
    click.option("--host-utilization", type=float, metavar="SHARE", help="Of host memory and disk  [default: 0.9]"),
    click.option("--max-prefill-tokens", metavar="N", help="Of a prompt pass, or unlimited  [default: 8192]"),
)
"""What an engine may use of the memory, and how much of the prompts it computes at once."""

runtime = click.option("--runtime", default="ideal", show_default=True)
dequantization = click.option(
    "--dequantization", default="fused", show_default=True, help="fused, or bytes moved per element."
)

kernels = together(
    click.option("--attention", default="fused", show_default=True, help="fused or unfused."),
    click.option("--kv-budget", default="none", show_default=True, help="Tokens the cache keeps per sequence."),
    click.option("--weight-sparsity", default="none", show_default=True, help="2:4, or the share of zeros."),
)
"""Techniques of one pass."""

requests = together(
    click.option("--prefix-hit", default="none", show_default=True, help="Share of the prompt cached, or {tokens: N}."),
    click.option("--sampling", default="none", show_default=True, help="{n: answers} or {beams: N}."),
    click.option("--speculation", default="none", show_default=True, help="A name, or {draft: MODEL, gamma: 4, ...}."),
)
"""Techniques that change what is computed of a request."""

fidelity = click.option(
    "--fidelity",
    type=click.Choice(["ideal", "datasheet", "calibrated"]),
    default="calibrated",
    show_default=True,
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
