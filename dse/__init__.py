"""Design-space exploration for LLM inference: YAML sweeps, a roofline cost model, Pareto frontiers.

    import dse
    dse.evaluate("llama-3.1-70b", "h100-sxm", precision=["bf16", "fp8"], tp=[2, 4, 8], batch=[1, 16, 64])
    run = dse.run_sweep("sweeps/quickstart.yaml")
    run.frontier()

Names are imported when first used, so that `import dse` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

if TYPE_CHECKING:
    from dse.errors import CannotRun, DseError, InputError
    from dse.run.evaluate import evaluate, explain
    from dse.run.place import place
    from dse.run.plan import PlanResult, load_plan, plan
    from dse.run.simulate import Simulation, simulate
    from dse.run.sweep import Run, load_sweep, run_sweep
    from dse.spec.catalog import load_hardware, load_model, load_precision
    from dse.spec.hardware import HardwareSpec
    from dse.spec.model import ModelSpec
    from dse.spec.precision import Precision

_HOMES = {
    "CannotRun": "dse.errors",
    "DseError": "dse.errors",
    "HardwareSpec": "dse.spec.hardware",
    "InputError": "dse.errors",
    "ModelSpec": "dse.spec.model",
    "PlanResult": "dse.run.plan",
    "Precision": "dse.spec.precision",
    "Run": "dse.run.sweep",
    "Simulation": "dse.run.simulate",
    "evaluate": "dse.run.evaluate",
    "explain": "dse.run.evaluate",
    "load_hardware": "dse.spec.catalog",
    "load_model": "dse.spec.catalog",
    "load_plan": "dse.run.plan",
    "load_precision": "dse.spec.catalog",
    "load_sweep": "dse.run.sweep",
    "place": "dse.run.place",
    "plan": "dse.run.plan",
    "run_sweep": "dse.run.sweep",
}

__all__ = [
    "CannotRun",
    "DseError",
    "HardwareSpec",
    "InputError",
    "ModelSpec",
    "PlanResult",
    "Precision",
    "Run",
    "Simulation",
    "evaluate",
    "explain",
    "load_hardware",
    "load_model",
    "load_plan",
    "load_precision",
    "load_sweep",
    "place",
    "plan",
    "run_sweep",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "simulate"])


class _Package(ModuleType):
    """`dse.simulate` is the function, though the first import from the room of that name would take its place."""

    @property
    def simulate(self) -> Any:
        return import_module("dse.run.simulate").simulate

    @simulate.setter
    def simulate(self, room: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
