"""The retry rule, as a table and as properties: no call that may have run is sent again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openreward_gym.errors import ConfigurationError
from openreward_gym.options import RetryLimits
from openreward_gym.protocol.retry import PROXY_STATUSES, AttemptFailure, Effect, RetryDecision, decide_retry

LIMITS = RetryLimits()

REFUSED = AttemptFailure("not_sent")
BROKEN = AttemptFailure("possibly_delivered")
STARTING = AttemptFailure("delivered", status=503, starting=True, retry_after_s=2.0)

TABLE = [
    # what failed                                          effect           attempt elapsed  move
    (REFUSED, Effect.ONCE, 1, 0.0, "retry"),
    (REFUSED, Effect.ONCE, 4, 0.0, "fail"),
    (REFUSED, Effect.NONE, 1, 0.0, "retry"),
    (AttemptFailure("not_sent", permanent=True), Effect.NONE, 1, 0.0, "fail"),
    (BROKEN, Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (BROKEN, Effect.NONE, 1, 0.0, "retry"),
    (BROKEN, Effect.NONE, 4, 0.0, "fail"),
    (BROKEN, Effect.PLATFORM, 1, 0.0, "retry"),
    (AttemptFailure("delivered", status=429), Effect.ONCE, 1, 0.0, "retry"),
    (AttemptFailure("delivered", status=429), Effect.ONCE, 4, 0.0, "fail"),
    (AttemptFailure("delivered", status=502), Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (AttemptFailure("delivered", status=503), Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (AttemptFailure("delivered", status=504), Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (AttemptFailure("delivered", status=502), Effect.NONE, 1, 0.0, "retry"),
    (AttemptFailure("delivered", status=500), Effect.ONCE, 1, 0.0, "fail"),
    (AttemptFailure("delivered", status=500), Effect.NONE, 1, 0.0, "fail"),
    (AttemptFailure("delivered", status=500), Effect.PLATFORM, 1, 0.0, "retry"),
    (AttemptFailure("delivered", status=400), Effect.PLATFORM, 1, 0.0, "fail"),
    (AttemptFailure("delivered", status=404), Effect.NONE, 1, 0.0, "fail"),
    (STARTING, Effect.ONCE, 1, 0.0, "retry"),
    (STARTING, Effect.ONCE, 250, 599.0, "retry"),
    (STARTING, Effect.ONCE, 251, 600.0, "fail"),
    (AttemptFailure("possibly_delivered", task_id_seen=True), Effect.ONCE, 1, 0.0, "resume"),
    (AttemptFailure("possibly_delivered", task_id_seen=True), Effect.ONCE, 99, 59.0, "resume"),
    (AttemptFailure("possibly_delivered", task_id_seen=True), Effect.ONCE, 2, 60.0, "outcome_unknown"),
    (AttemptFailure("not_sent", task_id_seen=True), Effect.ONCE, 1, 1.0, "resume"),
    (AttemptFailure("not_sent", task_id_seen=True, permanent=True), Effect.ONCE, 1, 1.0, "outcome_unknown"),
    (AttemptFailure("delivered", status=503, task_id_seen=True), Effect.ONCE, 1, 0.0, "resume"),
    (AttemptFailure("delivered", status=503, starting=True, task_id_seen=True), Effect.ONCE, 9, 599.0, "resume"),
    (AttemptFailure("delivered", status=500, task_id_seen=True), Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (AttemptFailure("delivered", task_id_seen=True, task_forgotten=True), Effect.ONCE, 1, 0.0, "outcome_unknown"),
    (AttemptFailure("delivered", session_gone=True), Effect.ONCE, 1, 0.0, "session_lost"),
    (AttemptFailure("delivered", session_gone=True, task_id_seen=True), Effect.ONCE, 1, 0.0, "session_lost"),
]

failures = st.builds(
    AttemptFailure,
    delivery=st.sampled_from(["not_sent", "possibly_delivered", "delivered"]),
    status=st.none() | st.sampled_from([400, 401, 404, 410, 422, 429, 500, 501, 502, 503, 504, 520]),
    starting=st.booleans(),
    retry_after_s=st.none() | st.floats(allow_nan=False),
    task_id_seen=st.booleans(),
    task_forgotten=st.booleans(),
    session_gone=st.booleans(),
    permanent=st.booleans(),
)
attempts = st.integers(1, 10_000)
seconds = st.floats(0, 10_000)


@pytest.mark.parametrize(("failure", "effect", "attempt", "elapsed_s", "action"), TABLE)
def test_the_table(failure: AttemptFailure, effect: Effect, attempt: int, elapsed_s: float, action: str) -> None:
    assert decide_retry(effect, failure, attempt=attempt, elapsed_s=elapsed_s, limits=LIMITS).action == action


@given(failure=failures, attempt=attempts, elapsed_s=seconds)
def test_what_may_have_run_is_never_sent_from_the_start(failure: AttemptFailure, attempt: int, elapsed_s: float) -> None:
    decision = decide_retry(Effect.ONCE, failure, attempt=attempt, elapsed_s=elapsed_s, limits=LIMITS)
    if decision.action == "retry":
        assert not failure.may_have_run
        assert failure.starting or failure.status == 429 or (failure.delivery == "not_sent" and failure.status is None)
    if decision.action == "resume":
        assert failure.task_id_seen


@given(failure=failures, effect=st.sampled_from(Effect), attempt=attempts, elapsed_s=seconds)
def test_every_wait_is_bounded_and_every_effort_ends(
    failure: AttemptFailure, effect: Effect, attempt: int, elapsed_s: float
) -> None:
    decision = decide_retry(effect, failure, attempt=attempt, elapsed_s=elapsed_s, limits=LIMITS)
    assert 0 <= decision.wait_s <= LIMITS.longest_wait_s
    if decision.action in ("retry", "resume"):
        assert attempt < LIMITS.attempts or elapsed_s < max(LIMITS.starting_s, LIMITS.resume_s)


@given(failure=failures, effect=st.sampled_from(Effect), attempt=attempts, elapsed_s=seconds)
def test_what_the_session_servers_say_for_good_is_not_asked_again(
    failure: AttemptFailure, effect: Effect, attempt: int, elapsed_s: float
) -> None:
    decision = decide_retry(effect, failure, attempt=attempt, elapsed_s=elapsed_s, limits=LIMITS)
    if (
        failure.status is not None
        and failure.status not in PROXY_STATUSES
        and not failure.starting
        and effect is not Effect.PLATFORM
    ):
        assert decision.action in ("fail", "outcome_unknown", "session_lost")


@pytest.mark.parametrize(("retry_after_s", "waited"), [(None, 0.25), (0.0, 0.0), (2.0, 2.0), (3600.0, 10.0), (-1.0, 0.0)])
def test_a_servers_wish_is_honoured_within_reason(retry_after_s: float | None, waited: float) -> None:
    failure = AttemptFailure("delivered", status=429, retry_after_s=retry_after_s)
    assert decide_retry(Effect.NONE, failure, attempt=1, elapsed_s=0.0, limits=LIMITS) == RetryDecision("retry", waited)


def test_waits_double_up_to_the_longest() -> None:
    waits = [
        decide_retry(Effect.NONE, STARTING.__class__("delivered", 503, True), attempt=n, elapsed_s=0, limits=LIMITS).wait_s
        for n in range(1, 9)
    ]
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_ride_out_comes_from_the_environment() -> None:
    assert RetryLimits.from_environ({}).starting_s == 600.0
    assert RetryLimits.from_environ({"OPENREWARD_STARTING_RIDE_OUT_S": "30"}).starting_s == 30.0
    for wrong in ("soon", "-1", "nan", "inf"):
        with pytest.raises(ConfigurationError, match="OPENREWARD_STARTING_RIDE_OUT_S"):
            RetryLimits.from_environ({"OPENREWARD_STARTING_RIDE_OUT_S": wrong})
