"""Where parts are computed: in this process, or on Ray. Both hand back tallies, never points.

An executor computes `work(index)` for each index, in any order, and calls `done(index, result)` in this
process. A test runs the same contract over all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dse.errors import CannotRun, Fault, InputError
from dse.run.ray_address import check_address, reach

Done = Callable[[int, Any], None]


NAMES = ("auto", "local", "ray")


class Executor(Protocol):
    """Computes tasks and hands back their results."""

    name: str

    def run(self, work: Callable[[int], Any], indices: Sequence[int], done: Done) -> None:
        """Call `done(index, work(index))` for every index."""
        ...


class Local:
    """One task after the other in this process."""

    name = "local"

    def run(self, work: Callable[[int], Any], indices: Sequence[int], done: Done) -> None:
        """Call `done(index, work(index))` for every index, in order."""
        for index in indices:
            done(index, work(index))


class OnRay:
    """Tasks on a Ray cluster: the one at `address`, or one started on this machine."""

    name = "ray"

    def __init__(self, address: str | None = None, cpus: int | None = None) -> None:
        if address is not None:
            check_address(address)
        self.address = address
        self.cpus = cpus

    def run(self, work: Callable[[int], Any], indices: Sequence[int], done: Done) -> None:
        """Call `done(index, work(index))` for every index, as they finish; a lost worker's task runs again.

        Raises:
            CannotRun: Ray is not installed, no cluster can be reached, or workers die again and again.
        """
        try:
            import ray
        except ImportError:
            raise CannotRun("the ray executor needs the package 'ray'; install it or use --executor local") from None
        started = not ray.is_initialized()
        if started:
            self._start(ray)
        try:
            self._submit(ray, work, indices, done)
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        # No usage report leaves the machine, and workers need not talk on the terminal.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is not None:
            reach(self.address)
            options["address"] = self.address
        else:
            # "local" never joins a cluster that happens to run here; fronts need little room.
            options |= {"address": "local", "include_dashboard": False, "object_store_memory": STORE_BYTES}
            options["num_cpus"] = self.cpus or os.cpu_count()
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, SystemExit) as error:
            # It leaves with a number where something answers that is no cluster.
            said = "what answers there is no cluster of Ray" if isinstance(error, SystemExit) else error
            where = self.address or "a cluster on this machine"
            raise CannotRun(f"Ray cannot reach {where}: {said}") from None

    def _submit(self, ray: Any, work: Callable[[int], Any], indices: Sequence[int], done: Done) -> None:
        remote = ray.remote(max_retries=RETRIES)(_call)
        shared = ray.put(work)
        # Twice the cores in flight keeps every worker busy and bounds what waits in memory.
        limit = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(reversed(indices))
        flying: dict[Any, int] = {}
        # After an error the few tasks in flight are left to themselves: they end with the Ray that was started
        # here, or run out in the caller's. `ray.cancel` on a task that is just finishing aborts this process
        # ("Tried to complete task that was not pending", Ray 2.60, once in fifty runs).
        while waiting or flying:
            while waiting and len(flying) < limit:
                index = waiting.pop()
                flying[remote.remote(shared, index)] = index
            (ready, *_), _ = ray.wait(list(flying), num_returns=1)
            index = flying.pop(ready)
            done(index, _result(ray, ready))


def _result(ray: Any, task: Any) -> Any:
    """The result of a task, or the error as the worker raised it."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        reason = str(error).splitlines()[0]
        raise CannotRun(f"a Ray worker was lost {RETRIES + 1} times on one task: {reason}") from None


def _call(work: Callable[[int], Any], index: int) -> Any:
    return work(index)


RETRIES = 3
"""How often the task of a lost worker runs again."""

STORE_BYTES = 200_000_000
"""Shared memory of a Ray started here."""

RATE = 3e6
"""Points per second and core a sweep is estimated at, to choose where to run."""

RAY_PAYS_AFTER = 20.0
"""Seconds of work in this process beyond which starting Ray (about 3 s, and 0.6 GB) is worth it."""


def choose(wanted: str | Executor, points: int, address: str | None = None) -> tuple[Executor, str]:
    """The executor that is wanted, and why it is this one.

    Args:
        wanted: an executor, `local`, `ray`, or `auto`: Ray for long sweeps on several cores, or by address.
        points: size of the sweep.
        address: of a Ray cluster.

    Raises:
        InputError: an address for the local executor, one that can be none, or a name that means no executor.
    """
    if not isinstance(wanted, str):
        return wanted, "given"
    if wanted not in NAMES:
        raise InputError(Fault(f"expected one of {', '.join(NAMES)}, got {wanted!r}", "executor"))
    if wanted == "local" and address is not None:
        raise InputError(Fault("the local executor has no address; leave it out, or take ray", "ray-address"))
    if wanted != "auto":
        return (OnRay(address) if wanted == "ray" else Local()), "asked for"
    if address is not None:
        return OnRay(address), "a Ray address is given"
    cores, seconds = os.cpu_count() or 1, points / RATE
    if cores > 1 and seconds > RAY_PAYS_AFTER:
        return OnRay(), f"about {seconds:,.0f} s on one core, {cores} cores here"
    return Local(), f"about {seconds:,.1f} s on one core" if seconds >= 0.1 else "done in an instant"
