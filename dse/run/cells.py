"""Columns of complete rows before they are written: arrays, or few values and which of them each row has.

A row of Python objects costs some 10 us to make and as much to write; of a sweep that keeps all points there are
millions, so that their columns go to Arrow as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Coded:
    """Few values, and which of them each row has."""

    values: Sequence[Any]
    index: NDArray[np.intp]

    @classmethod
    def same(cls, value: Any, size: int) -> Coded:
        """One value in every row."""
        return cls([value], np.zeros(size, dtype=np.intp))

    def tolist(self) -> list[Any]:
        """A value per row."""
        return [self.values[i] for i in self.index.tolist()]


@dataclass(frozen=True)
class Counted:
    """Whole numbers, NaN where there is none."""

    numbers: NDArray[np.float64]

    def tolist(self) -> list[int | None]:
        """A value per row."""
        return [None if value != value else int(value) for value in self.numbers.tolist()]


Cells = Sequence[Any] | NDArray[Any] | Coded | Counted
"""A column: Python objects, numbers of NumPy, or one of the above."""


def listed(columns: Mapping[str, Cells]) -> dict[str, list[Any]]:
    """Columns as Python objects."""
    return {name: list(cells) if isinstance(cells, Sequence) else cells.tolist() for name, cells in columns.items()}
