"""How one replica is spread over devices."""

from __future__ import annotations

from typing import NamedTuple


class Layout(NamedTuple):
    """Degrees of tensor, pipeline, data (attention) and expert parallelism.

    Devices of a replica = tp x pp x dp; expert parallelism reuses those ranks and divides tp x dp.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    """0 leaves it to the model: 1 where there are no experts or dp is 1, else tp x dp."""

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.tp * self.pp * self.dp
