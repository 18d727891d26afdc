"""The command line: reads arguments, calls the library, prints. Everything it can do, Python can do."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import click

from dse import __version__
from dse.errors import DseError, InputError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

NEW_OBJECTS = 200_000
"""New containers after which Python looks for unreachable cycles. At its 700 it looks 160 times through the classes
and rows of a small sweep, which live to its end; arrays are freed as their counts fall."""


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="dse")
def cli() -> None:
    """Design-space exploration for LLM inference.

    Write a YAML sweep over models, precisions, batch sizes, parallel layouts and hardware; get the Pareto
    frontiers of throughput, latency, memory and cost, and why each point is where it is.
    """


KEPT = "; finished parts are kept, the same command goes on from there"
"""What a sweep says that was interrupted."""


def main() -> None:
    """Entry point: errors of the user are plain lines, never a traceback; Ctrl-C leaves with 130."""
    gc.set_threshold(NEW_OBJECTS)
    # Pydantic would look through the metadata of every package installed for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = run()
    gc.freeze()  # or Python would look for cycles once more among all that ends with the process
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """The command line as a function: the exit code, with everything said on stdout and stderr."""
    try:
        code = cli.main(arguments, prog_name="dse", standalone_mode=False)
        if sys.stdout is not None:  # None: closed by the caller (`>&-`)
            sys.stdout.flush()
    except DseError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return InputError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail(f"interrupted{KEPT if _resumes(arguments) else ''}", 130)
    except (BrokenPipeError, SystemExit):
        # The reader (head, less) has gone, for which click and rich leave with 1; nobody is left to tell.
        return _unheard(0)
    except OSError as error:
        return _unheard(_fail(f"the output cannot be written: {error.strerror or error}", 1))
    except MemoryError:
        return _fail("out of memory; a smaller sweep, or --executor ray on a larger machine, may do", 1)
    return code if isinstance(code, int) else 0


def _resumes(arguments: list[str] | None) -> bool:
    """Whether the command leaves parts that it would go on from."""
    return "sweep" in (sys.argv[1:] if arguments is None else arguments)[:1]


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _unheard(code: int) -> int:
    """What stdout still holds goes nowhere: Python would try to write it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def print_json(value: Any) -> None:
    """Print plain values as JSON; NaN and infinities become null."""
    from dse.plain import json_bytes

    click.echo(json_bytes(value, pretty=True).decode(), nl=False)
