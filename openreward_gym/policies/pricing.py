"""What a model call costs: tokens times a table that the user can replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openreward_gym.errors import ConfigurationError
from openreward_gym.types import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. `cached_input` None: cached tokens cost what others do."""

    input: float
    output: float
    cached_input: float | None = None


PRICES: Mapping[str, Price] = {
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "claude-sonnet-4": Price(3.0, 15.0, 0.3),
    "claude-opus-4": Price(15.0, 75.0, 1.5),
    "gemini-2.5-flash": Price(0.3, 2.5),
    "gemini-2.5-pro": Price(1.25, 10.0),
}
"""List prices as they were in 2025, without discounts and surcharges. They change, and nothing here follows them: what counts are
the providers' own pages (platform.openai.com/docs/pricing, docs.claude.com, ai.google.dev/gemini-api/docs/pricing). Pass
`prices={...}` with yours, of these models and of others."""


def read_prices(given: Mapping[str, Any] | None) -> dict[str, Price]:
    """The table with the user's entries: `{"model": {"input": 1.0, "output": 2.0, "cached_input": 0.1}}` or `Price`s.

    Raises:
        ConfigurationError: An entry is no price.
    """
    found = dict(PRICES)
    for model, price in (given or {}).items():
        try:
            found[model] = price if isinstance(price, Price) else Price(**{name: float(value) for name, value in price.items()})
        except (TypeError, ValueError, AttributeError):
            raise ConfigurationError(
                f"prices[{model!r}] must be {{'input': ..., 'output': ...}} in US dollars per million tokens, not {price!r}"
            ) from None
    return found


def cost_usd(prices: Mapping[str, Price], model: str, usage: Usage | None) -> float | None:
    """The price of a call; None where the model's price or the tokens are not known. A dated name has its family's price."""
    price = prices.get(model) or next((prices[m] for m in sorted(prices, key=len, reverse=True) if _is_dated(model, m)), None)
    if price is None or usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = usage.cached_tokens or 0
    cached_price = price.input if price.cached_input is None else price.cached_input
    return ((usage.input_tokens - cached) * price.input + cached * cached_price + usage.output_tokens * price.output) / 1e6


def _is_dated(model: str, family: str) -> bool:
    return model.startswith(f"{family}-2") or model == f"{family}-latest"
