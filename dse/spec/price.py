"""What an accelerator costs: quotes by kind and date."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dse.spec.shape import Strict

PriceKind = Literal[
    "on-demand", "neocloud", "reserved", "spot", "rental-3y",
    "tco-hyperscaler", "tco-neocloud", "purchase", "assumed",
]  # fmt: skip
PRICE_KINDS: tuple[str, ...] = get_args(PriceKind)

Dollars = Annotated[float, Field(gt=0)]

_DATE = re.compile(r"(\d{4})(?:-Q([1-4])|-(\d{2})(?:-(\d{2}))?)?")


def _date(value: str) -> str:
    if value and not _DATE.fullmatch(value):
        raise ValueError(f"expected a date such as 2025-03-01, 2025-03, 2025-Q1 or 2025, got {value!r}")
    return value


Date = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    AfterValidator(_date),
]


class Price(Strict):
    """One quote, per accelerator."""

    kind: PriceKind
    """Terms: kinds differ up to tenfold for one chip."""
    usd_per_hour: Dollars | None = None
    """Dollars per accelerator and hour; absent for a purchase."""
    usd: Dollars | None = None
    """Dollars per accelerator, for a purchase."""
    provider: str = ""
    """Who asks this price."""
    date: Date = ""
    """When: 2025-03-01, 2025-03, 2025-Q1 or 2025."""
    source: str = ""
    """Where the quote stands; `recalled` flags it."""

    @model_validator(mode="after")
    def _has_its_amount(self) -> Price:
        wanted = "usd" if self.kind == "purchase" else "usd_per_hour"
        if getattr(self, wanted) is None:
            raise ValueError(f"a price of kind {self.kind} needs '{wanted}'")
        return self

    @property
    def month(self) -> tuple[int, int]:
        """Year and month of the quote's end of validity as written; an undated quote is the oldest."""
        if not (match := _DATE.fullmatch(self.date)):
            return 0, 0
        year, quarter, month = match[1], match[2], match[3]
        return int(year), int(month) if month else 3 * int(quarter) if quarter else 0


def quote(prices: Iterable[Price], kind: str, override: float | None = None) -> Price | None:
    """The latest hourly price of a kind, of equal dates the cheapest, or None.

    Args:
        prices: all quotes for one accelerator.
        kind: one of `PRICE_KINDS`; `purchase` is no hourly price and gives None.
        override: dollars per accelerator and hour that the user sets instead.
    """
    if override is not None:
        return Price(kind="assumed", usd_per_hour=override, provider="user", source="set by the user")
    quotes = [price for price in prices if price.kind == kind and price.usd_per_hour is not None]
    return min(quotes, key=_newest_cheapest, default=None)


def _newest_cheapest(price: Price) -> tuple[int, int, float]:
    year, month = price.month
    return -year, -month, price.usd_per_hour or 0.0
