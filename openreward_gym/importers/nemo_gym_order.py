"""The order of the fields of a line's items, so that items that are made again from messages are the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openreward_gym.jsonio import Json, dumps

_MARK = "openreward_gym"


def order_of(items: Json, made: Sequence[Json]) -> Json:
    """Return what stands for items of a line that are made again: the order of their fields. None if they would differ.

    Args:
        items: The items of the line.
        made: The items as they are made from the messages.

    Example:
        >>> order = order_of([{"role": "user", "content": "Hi"}], [{"content": "Hi", "role": "user"}])
        >>> in_order([{"content": "Hello", "role": "user"}], order)
        [{'role': 'user', 'content': 'Hello'}]
    """
    if items != made:
        return None
    shapes: dict[bytes, tuple[int, Json]] = {}
    places = []
    for item in items:
        shape = _shape_of(item)
        places.append(shapes.setdefault(dumps(shape), (len(shapes), shape))[0])
    order = {_MARK: {"shapes": [shape for _, shape in shapes.values()], "items": places}}
    # Equal numbers may be other text: 1 and 1.0.
    return order if dumps(in_order(made, order)) == dumps(items) else None


def is_order(value: Json) -> bool:
    """Return whether a value stands for items."""
    own = value.get(_MARK) if isinstance(value, Mapping) else None
    return isinstance(own, Mapping) and isinstance(own.get("shapes"), list) and isinstance(own.get("items"), list)


def in_order(items: Sequence[Json], order: Json) -> list[Json]:
    """Return items with their fields in an order; items that came later have their own."""
    shapes, places = order[_MARK]["shapes"], order[_MARK]["items"]
    known = [shapes[place] if isinstance(place, int) and 0 <= place < len(shapes) else None for place in places]
    return [_ordered(item, shape) for item, shape in zip(items, [*known, *[None] * len(items)], strict=False)]


def _shape_of(value: Json) -> Json:
    """Return the fields of the objects in a value, in their order; None for a value without objects."""
    if isinstance(value, Mapping):
        return {name: _shape_of(item) for name, item in value.items()}
    shapes = [_shape_of(item) for item in value] if isinstance(value, list) else []
    return shapes if any(shape is not None for shape in shapes) else None


def _ordered(value: Json, shape: Json) -> Json:
    if isinstance(value, Mapping) and isinstance(shape, Mapping):
        names = [*(name for name in shape if name in value), *(name for name in value if name not in shape)]
        return {name: _ordered(value[name], shape.get(name)) for name in names}
    if isinstance(value, list) and isinstance(shape, list):
        return [_ordered(item, own) for item, own in zip(value, [*shape, *[None] * len(value)], strict=False)]
    return value
