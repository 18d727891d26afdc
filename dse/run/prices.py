"""What accelerators cost a plan: rent by the hour, or a purchase spread over years with its power."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dse.cost.economics import IDLE_SHARE
from dse.errors import CannotRun, InputError
from dse.search.fleet import Device
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec
from dse.spec.plan import HOURS_PER_YEAR, PlanFile
from dse.spec.price import Price, quote
from dse.spec.reading import Document


@dataclass(frozen=True)
class PricedDevice:
    """An accelerator with the quote it is counted at."""

    device: Device
    price: Price
    hardware: HardwareSpec | None = None
    """None for a name of a table that the library does not know."""
    energy_usd_per_hour: float = 0.0
    """Power and cooling at full draw, where it is owned: in the device's dollars per hour. Rent includes it."""
    chip: str = ""
    """Its name without the region."""

    def plain(self) -> dict[str, Any]:
        """As the answer shows it."""
        return {
            "hardware": self.device.name,
            "usd_per_device_hour": self.device.usd_per_hour,
            "kind": self.price.kind,
            "usd_purchase": self.device.capital_usd or None,
            "energy_usd_per_device_hour": self.energy_usd_per_hour,
            "provider": self.price.provider,
            "date": self.price.date,
            "source": self.price.source,
        }


def priced(hardware: Sequence[HardwareSpec], file: PlanFile) -> tuple[dict[str, PricedDevice], tuple[str, ...]]:
    """Accelerators with a quote of the kinds wanted, and the names of those without.

    Raises:
        CannotRun: none has any.
    """
    return _split({chip.name: priced_device(chip.name, chip, file) for chip in hardware}, file)


def unlisted(
    names: Iterable[str], file: PlanFile, document: Document
) -> tuple[dict[str, PricedDevice], tuple[str, ...]]:
    """The same for names in a table of throughputs: those of the library have its prices, the others need the plan's.

    Raises:
        CannotRun: none has a price.
    """
    found = {}
    for name in names:
        chip = None
        try:
            chip = load_hardware(name)
        except InputError:
            if name not in file.price.override and name not in file.price.purchase:
                message = f"{name!r} is not in the library; give its price under override"
                raise InputError(document.fault(("price",), message)) from None
        found[name] = priced_device(name, chip, file)
    return _split(found, file)


def _split(found: Mapping[str, PricedDevice | None], file: PlanFile) -> tuple[dict[str, PricedDevice], tuple[str, ...]]:
    there = {name: device for name, device in found.items() if device is not None}
    if not there:
        kinds = " or ".join(file.price.kinds)
        raise CannotRun(f"no candidate has a price of kind {kinds}; choose another price.kind, or give price.override")
    unpriced = tuple(name for name in found if name not in there)
    if file.budget.regions:
        there = {each.device.name: each for device in there.values() for each in _everywhere(device, file)}
    return there, unpriced


def _everywhere(priced: PricedDevice, file: PlanFile) -> Iterator[PricedDevice]:
    """An accelerator in each region that has it."""
    kind, energy = priced.device.kind, priced.energy_usd_per_hour
    for name, region in file.budget.regions.items():
        if region.only and kind not in region.stock:
            continue
        yield replace(
            priced,
            device=replace(
                priced.device,
                name=f"{priced.chip}@{name}",
                # The factor is on what an accelerator costs: its rent, or its purchase. A bought one's energy has a
                # price of its own, which `economics` states.
                usd_per_hour=(priced.device.usd_per_hour - energy) * region.price_factor + energy,
                capital_usd=priced.device.capital_usd * region.price_factor,
                stock=region.stock.get(kind, priced.device.stock),
                site=name,
                counted_as=f"{kind}@{name}",
            ),
        )


def priced_device(name: str, chip: HardwareSpec | None, file: PlanFile) -> PricedDevice | None:
    """An accelerator at the plan's prices; None where there is no quote of the kinds wanted."""
    watts = 0.0
    if chip is not None and chip.tdp_w is not None:
        watts = chip.tdp_w * (1 + file.economics.host_share)
    price, usd_per_hour, energy = _quote(name, chip, watts, file)
    if price is None:
        return None
    limited = [file.budget.power_kw, *(region.power_kw for region in file.budget.regions.values())]
    if any(limit is not None for limit in limited) and not watts:
        return None  # what draws an unknown power cannot stand under a limit on it
    device = Device(
        name,
        usd_per_hour,
        watts,
        price.usd or 0.0,
        chip.box.devices if file.whole_boxes and chip is not None else 1,
        file.budget.stock.get(counted_as(name, chip)),
        counted_as=counted_as(name, chip),
    )
    return PricedDevice(device, price, chip, energy, name)


def _quote(name: str, chip: HardwareSpec | None, watts: float, file: PlanFile) -> tuple[Price | None, float, float]:
    """The quote, what a device costs by the hour, and how much of that is energy."""
    override = _stated(file.price.override, name, chip)
    if override is not None:
        price = quote((), "assumed", override)
        assert price is not None
        assert price.usd_per_hour is not None
        return price, price.usd_per_hour, 0.0
    for kind in file.price.kinds:
        if kind != "purchase":
            price = chip.price(kind) if chip is not None else None
            if price is not None and price.usd_per_hour is not None:
                return price, price.usd_per_hour, 0.0
        elif (price := purchase(name, chip, file)) is not None:
            assert price.usd is not None
            energy = watts / 1000 * file.economics.pue * file.economics.usd_per_kwh
            return price, price.usd / (file.economics.amortisation_years * HOURS_PER_YEAR) + energy, energy
    return None, 0.0, 0.0


def purchase(name: str, chip: HardwareSpec | None, file: PlanFile) -> Price | None:
    """The user's purchase price, else the library's latest."""
    stated = _stated(file.price.purchase, name, chip)
    if stated is not None:
        return Price(kind="purchase", usd=stated, provider="user", source="set by the user")
    quotes = [price for price in (chip.prices if chip is not None else ()) if price.kind == "purchase"]
    return max(quotes, key=lambda price: (price.month, -(price.usd or 0.0)), default=None)


def counted_as(name: str, chip: HardwareSpec | None) -> str:
    """The name of an accelerator's stock: that of the chip where a box of it has a file of its own."""
    return (chip.box_of if chip is not None else None) or name


def _stated(prices: Mapping[str, float], name: str, chip: HardwareSpec | None) -> float | None:
    """The user's own price of an accelerator, or of the chip that is in its box."""
    return prices.get(name, prices.get(counted_as(name, chip)))


def idle_watts(device: PricedDevice, host_share: float) -> float:
    """Drawn by one accelerator that waits, its share of the host included; 0 where the power is not known."""
    chip = device.hardware
    if chip is None or chip.power is None:
        return 0.0
    return (chip.power.idle_w or IDLE_SHARE * chip.power.tdp_w) + host_share * chip.power.tdp_w
