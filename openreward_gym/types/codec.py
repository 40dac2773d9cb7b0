"""Read dataclasses from JSON objects, checked, and write them back.

The field types of a dataclass say what its JSON may be. Fields that the class does not name are kept in its `extra` field
and written again, so that a record of a newer minor version passes through unharmed. Fields at their default are not
written. Hand-made rather than pydantic: the same frozen classes flow through the environments, and unknown fields have to
survive. Appending a rollout takes half the time that it took with pydantic models, reading one about a tenth more
(`benchmarks/store.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_SHOWN = 80
"""The most characters of a value, and of each key, in a message."""

Reader: TypeAlias = Callable[[Any], Any]
"""Checks a JSON value and returns the field's value; raises `FieldError`."""

Writer: TypeAlias = Callable[[Any], Any]
"""Returns a field's value as JSON."""


class FieldError(ValueError):
    """A JSON value that a field does not take.

    Attributes:
        path: Keys and list positions from the outermost object to the value.
        problem: The rule that the value breaks ("must be a string").
        value: The value.
    """

    def __init__(self, problem: str, value: Any, *path: str | int) -> None:
        super().__init__(problem)
        self.path: tuple[str | int, ...] = path
        self.problem = problem
        self.value = value

    def inside(self, key: str | int) -> FieldError:
        """Return the error as seen from the object or list that holds the value under `key`."""
        return FieldError(self.problem, self.value, key, *self.path)

    def __str__(self) -> str:
        path = ".".join(str(key)[:_SHOWN] for key in self.path[:_SHOWN])
        return f"{path}: {self.problem} (it is {shown(self.value)})"


def shown(value: Any) -> str:
    """Return the beginning of a JSON value's Python form, for messages; the value may be of any size and depth."""
    try:
        return repr(value[:_SHOWN] if type(value) is str else value)[:_SHOWN]
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    except ValueError:
        return f"{type(value).__name__} with more digits than Python writes"


def json_field(key: str, **options: Any) -> Any:
    """Declare a dataclass field that has another name, `key`, in JSON."""
    return dataclasses.field(metadata={"key": key}, **options)


class Codec:
    """The JSON form of one dataclass.

    Args:
        cls: The dataclass. Its `extra` field, if it has one, keeps unknown keys.

    Attributes:
        tag: The key and value that tell the class from others (a block's `type`); None for a class without one.
        schemas: Each key's type annotation, and whether the key is required.
        read: Returns the object that a JSON value describes; raises `FieldError`.
    """

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls
        self.tag: tuple[str, str] | None = None
        hints = get_type_hints(cls)
        # Key -> name, what is taken without a further look (a type or a set of texts), reader (None: every JSON value is taken).
        self._readers: dict[str, tuple[str, type | None, frozenset[str] | None, Reader | None]] = {}
        self._writers: list[tuple[str, str, Any, Writer | None]] = []
        self.schemas: dict[str, tuple[Any, bool]] = {}
        self._factories: list[tuple[str, Callable[[], Any]]] = []
        self._keeps_extra = False
        for field in dataclasses.fields(cls):
            if field.name == "extra":
                self._keeps_extra = True
                continue
            if not field.init:
                # The `type` of a block: written first.
                self.tag = (field.name, str(field.default))
                choices = frozenset({self.tag[1]})
                self._readers[field.name] = (field.name, str, choices, functools.partial(_read_choice, choices))
                continue
            key = field.metadata.get("key", field.name)
            annotation = hints[field.name]
            reader = reader_of(annotation)
            self._readers[key] = (field.name, *_fast_check(annotation), reader)
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            self._writers.append((field.name, key, default, writer_of(annotation)))
            self.schemas[key] = (annotation, required)
            if field.default_factory is not dataclasses.MISSING:
                self._factories.append((field.name, field.default_factory))
        self._after = getattr(cls, "__post_init__", None)
        self.read: Reader = self._reader()

    def class_for(self, values: dict[str, Any]) -> type[Any]:
        """Return the class of the object that has these fields."""
        return self.cls

    def _reader(self) -> Reader:
        """Return `read` as a closure: records have very many small objects, and attribute look-ups would be half of the time."""
        entry_of, cls, factories, after = self._readers.get, self.cls, self._factories, self._after
        class_for = None if type(self).class_for is Codec.class_for else self.class_for
        keeps_extra, is_frozen = self._keeps_extra, cls.__dataclass_params__.frozen
        required = [(key, name) for key, (name, *_) in self._readers.items() if self.schemas.get(key, (None, False))[1]]
        new, set_field = object.__new__, object.__setattr__

        def read(data: Any) -> Any:
            if type(data) is not dict:
                raise FieldError("must be an object", data)
            values: dict[str, Any] = {}
            extra: dict[str, Any] = {}
            for key, value in data.items():
                entry = entry_of(key)
                if entry is None:
                    extra[key] = value
                    continue
                name, exact, choices, reader = entry
                if reader is None or (type(value) is exact and (choices is None or value in choices)):
                    values[name] = value
                else:
                    try:
                        values[name] = reader(value)
                    except FieldError as error:
                        raise error.inside(key) from None
            for key, name in required:
                if name not in values:
                    raise FieldError("is missing", None, key)
            if keeps_extra:
                values["extra"] = extra
            if not is_frozen:
                return cls(**values)
            # As the constructor does it, but fields at their default stay with the class: fewer attributes to set.
            for name, factory in factories:
                if name not in values:
                    values[name] = factory()
            made = new(cls if class_for is None else class_for(values))
            set_field(made, "__dict__", values)
            if after is not None:
                after(made)
            return made

        return read

    def write(self, value: Any) -> dict[str, Any]:
        """Return `value` as a JSON object, without the fields that are at their default."""
        data: dict[str, Any] = {} if self.tag is None else {self.tag[0]: self.tag[1]}
        for name, key, default, writer in self._writers:
            item = getattr(value, name)
            if item is default or (item == default and type(item) is type(default)):
                continue
            data[key] = item if writer is None else writer(item)
        if self._keeps_extra and value.extra:
            for key, item in value.extra.items():
                data.setdefault(key, item)
        return data


def codec_of(cls: type[Any]) -> Codec:
    """Return the codec of a dataclass; a class with another JSON form makes its own in `__codec__`."""
    hashable: Any = cls  # mypy takes a class whose objects are not hashable for one of them
    return _codec_of(hashable)


@functools.cache
def _codec_of(cls: Any) -> Codec:
    special: Callable[[], Codec] | None = getattr(cls, "__codec__", None)
    return Codec(cls) if special is None else special()


def read_as(cls: type[T], data: Any) -> T:
    """Return `data` as an object of `cls`.

    Raises:
        FieldError: A field has a value that it does not take.
    """
    value: T = codec_of(cls).read(data)
    return value


def write(value: Any) -> dict[str, Any]:
    """Return a dataclass object as a JSON object."""
    return codec_of(type(value)).write(value)


def reader_of(annotation: Any) -> Reader | None:
    """Return the reader of a type annotation; None for one that takes every JSON value."""
    if annotation is Any:
        return None
    custom = getattr(annotation, "__json_reader__", None)
    if custom is not None:
        reader: Reader = custom
        return reader
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin is Literal:
        return functools.partial(_read_choice, frozenset(arguments))
    if origin in (list, tuple, Sequence):
        return _sequence_reader(origin, arguments[0])
    if origin in (dict, Mapping):
        return _mapping_reader(arguments[1])
    if dataclasses.is_dataclass(annotation):
        # A class may hold itself (a tool result holds blocks): its codec is looked up when it is first needed.
        cls: Any = annotation
        return _Lazy(cls)
    raise TypeError(f"no JSON reader for {annotation!r}")


class _Lazy:
    """The reader of a dataclass, found at its first use."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self._read: Reader | None = None

    def __call__(self, value: Any) -> Any:
        if self._read is None:
            self._read = codec_of(self._cls).read
        return self._read(value)


def _fast_check(annotation: Any) -> tuple[type | None, frozenset[str] | None]:
    """Return the type, and the choices, of values that the annotation takes as they are; (None, None) if more is to check."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType):
        return _fast_check(kinds[0]) if len(kinds) == 1 else (None, None)
    if get_origin(annotation) is Literal:
        return str, frozenset(kinds)
    if annotation in (str, int, float, bool):
        return annotation, None
    return (dict, None) if get_origin(annotation) in (dict, Mapping) and get_args(annotation)[1] is Any else (None, None)


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise FieldError("must be a string", value)
    return value


def _read_integer(value: Any) -> int:
    if type(value) is not int:
        raise FieldError("must be an integer", value)
    return value


def _read_number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise FieldError("must be a number that a float can hold", value) from None
    # JSON has no NaN and no infinities: they are written as strings.
    if value in ("nan", "inf", "-inf"):
        return float(value)
    raise FieldError("must be a number", value)


def _read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise FieldError("must be true or false", value)
    return value


_SCALARS: Mapping[Any, Reader] = {str: _read_string, int: _read_integer, float: _read_number, bool: _read_boolean}


def _read_choice(choices: frozenset[Any], value: Any) -> Any:
    if type(value) is not str or value not in choices:
        raise FieldError(f"must be one of {', '.join(sorted(map(str, choices)))}", value)
    return value


def _union_reader(arguments: tuple[Any, ...]) -> Reader | None:
    kinds = [argument for argument in arguments if argument is not type(None)]
    if len(kinds) > 1:
        return _alternatives_reader(kinds)
    reader = reader_of(kinds[0])
    if reader is None or type(None) not in arguments:
        return reader

    def read(value: Any) -> Any:
        return None if value is None else reader(value)

    return read


def _alternatives_reader(kinds: list[Any]) -> Reader:
    """Return a reader of "a string or a list" or of dataclasses that a tag tells apart."""
    if kinds[0] is str:
        other = reader_of(kinds[1])
        return lambda value: value if type(value) is str or other is None else other(value)
    by_tag: dict[str, Reader] = {}

    def read(value: Any) -> Any:
        nonlocal by_tag
        if not by_tag:
            # Assigned whole: another thread may read at the same time.
            by_tag = {codec.tag[1] if codec.tag else "": codec.read for codec in map(codec_of, kinds)}
        if type(value) is not dict:
            raise FieldError("must be an object", value)
        tag = value.get("type")
        reader = by_tag.get(tag) if type(tag) is str else None
        return (by_tag[""] if reader is None else reader)(value)

    return read


def _sequence_reader(origin: type[Any], kind: Any) -> Reader:
    reader = reader_of(kind)
    collect: Callable[[Any], Any] = list if origin is list else tuple
    scalar = kind in _SCALARS

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise FieldError("must be a list", value)
        if reader is None or (scalar and set(map(type, value)) <= {kind}):
            return collect(value)
        try:
            return collect([reader(item) for item in value])
        except FieldError:
            for number, item in enumerate(value):  # which item it is matters only now
                try:
                    reader(item)
                except FieldError as error:
                    raise error.inside(number) from None
            raise

    return read


def _mapping_reader(kind: Any) -> Reader:
    reader = reader_of(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise FieldError("must be an object", value)
        if reader is None:
            return value
        items = {}
        for key, item in value.items():
            try:
                items[key] = reader(item)
            except FieldError as error:
                raise error.inside(key) from None
        return items

    return read


def writer_of(annotation: Any) -> Writer | None:
    """Return the writer of a type annotation; None where the value is JSON as it stands."""
    custom = getattr(annotation, "__json_writer__", None)
    if custom is not None:
        writer: Writer = custom
        return writer
    if annotation is float:
        return _write_number
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        if len(kinds) > 1:
            return _write_string_or_list if kinds[0] is str else write
        inner = writer_of(kinds[0])
        return inner if inner is None else functools.partial(_write_unless_none, inner)
    if origin in (list, tuple, Sequence):
        inner = writer_of(arguments[0])
        return list if inner is None else functools.partial(_write_list, inner)
    if origin in (dict, Mapping):
        inner = writer_of(arguments[1])
        return dict if inner is None else functools.partial(_write_mapping, inner)
    if dataclasses.is_dataclass(annotation):
        return write
    return None


def _write_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _write_string_or_list(value: Any) -> Any:
    return value if type(value) is str else [write(item) for item in value]


def _write_unless_none(writer: Writer, value: Any) -> Any:
    return None if value is None else writer(value)


def _write_list(writer: Writer, value: Any) -> list[Any]:
    return [writer(item) for item in value]


def _write_mapping(writer: Writer, value: Any) -> dict[str, Any]:
    return {key: writer(item) for key, item in value.items()}
