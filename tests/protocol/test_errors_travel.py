"""Errors cross process borders with all they say."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from openreward_gym import errors
from openreward_gym.errors import (
    CallTimeoutError,
    OpenRewardGymError,
    OutcomeUnknownError,
    ServerError,
    TransportError,
    TransportTimeoutError,
)

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_is_made_from_a_message_and_pickles(kind: type[OpenRewardGymError]) -> None:
    for error in (kind("what happened"), kind("what happened", status=502, detail="d", delivery="delivered")):
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is kind
            assert str(other) == "what happened"
            assert vars(other) == vars(error)


def fails() -> None:
    raise ServerError("no", status=503, retry_after_s=2.0)


def test_an_error_crosses_processes() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(ServerError) as caught:
        pool.submit(fails).result()
    assert (str(caught.value), caught.value.status, caught.value.retry_after_s) == ("no", 503, 2.0)


def test_a_calls_timeout_is_both_things() -> None:
    error = CallTimeoutError("late")
    assert isinstance(error, OutcomeUnknownError)
    assert isinstance(error, TransportTimeoutError)
    assert isinstance(error, TransportError)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, ConnectionError)
