"""What customers have in mind, drawn before anything goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

USERS = {"ann": "GB", "sue": "GB", "kim": "KP"}
#: Whose orders are refused, and why.
SUSPENDED, ABROAD, UNKNOWN = "sue", "kim", "nobody"
DECLINED = "tok_declined"
TOKENS = ["tok_ok"] * 6 + ["tok_slow", "tok_reply_lost", DECLINED]


@dataclass(frozen=True)
class Item:
    """What is on a shelf."""

    sku: str
    price_minor: int
    stock: int


@dataclass(frozen=True)
class Plan:
    """One customer's order: who asks for what, when, and how patiently.

    `tries` is how often the customer asks before giving up. `twin` sends it a second time at the
    same moment; `impostor` sends another order under the same id. `cancel_s` after it was placed
    it is cancelled, None: not; who is `impatient` cancels what is not decided at the first answer,
    who has `regrets` what is confirmed.
    """

    order_id: str
    at_s: float
    user_id: str
    lines: tuple[tuple[Item, int], ...]
    token: str
    wait: bool
    tries: int
    twin: bool
    impostor: bool
    cancel_s: float | None
    impatient: bool
    regrets: bool

    @property
    def price_minor(self) -> int:
        return sum(item.price_minor * quantity for item, quantity in self.lines)

    @property
    def impossible(self) -> bool:
        """Whether it must be refused, whatever else happens."""
        return self.user_id in (SUSPENDED, ABROAD, UNKNOWN) or self.token == DECLINED


@dataclass(frozen=True)
class Delivery:
    """More of an item comes in."""

    number: int
    item: Item
    quantity: int
    at_s: float


def draw_deliveries(random: Random, items: list[Item], horizon_s: float) -> list[Delivery]:
    """A few, some of them when everything is long over."""
    return [
        Delivery(
            number=number,
            item=random.choice(items),
            quantity=random.randint(1, 5),
            at_s=random.uniform(0.0, horizon_s * random.choice((1, 1, 5))),
        )
        for number in range(random.choice((0, 2, 6)))
    ]


def draw_items(random: Random) -> list[Item]:
    """A few things, scarce ones among them."""
    stocks = [random.choice((0, 0, 1, 1, 2, 5, 20)) for _ in range(random.randint(1, 4))]
    return [
        Item(f"THING-{number}", random.randint(1, 9999), stock)
        for number, stock in enumerate(stocks)
    ]


def draw_plans(random: Random, items: list[Item], horizon_s: float) -> list[Plan]:
    """A handful of orders to some dozens, within *horizon_s*."""
    soon_s = random.choice((0.1, 1.0, 5.0, 20.0))
    return [
        Plan(
            order_id=f"o-{number}",
            at_s=random.uniform(0.0, horizon_s) if random.random() < 0.8 else 0.0,
            user_id=random.choice(["ann"] * 8 + [SUSPENDED, ABROAD, UNKNOWN]),
            lines=_draw_lines(random, items),
            token=random.choice(TOKENS),
            wait=random.random() < 0.5,
            tries=random.choice((1, 2, 1000, 1000)),
            twin=random.random() < 0.15,
            impostor=random.random() < 0.05,
            cancel_s=random.expovariate(1 / soon_s) if random.random() < 0.4 else None,
            impatient=random.random() < 0.4,
            regrets=random.random() < 0.5,
        )
        for number in range(random.choice((1, 2, 4, 6, 10, 20)))
    ]


def _draw_lines(random: Random, items: list[Item]) -> tuple[tuple[Item, int], ...]:
    chosen = random.sample(items, random.randint(1, min(2, len(items))))
    return tuple((item, random.choice((1, 1, 1, 2, 3))) for item in chosen)
