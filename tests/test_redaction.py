"""What is cut out of records: secrets in every encoding, at every place, and nothing else."""

from __future__ import annotations

import base64
import html
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rollout_strategies import EXAMPLES, rollouts

from openreward_gym.errors import ConfigurationError
from openreward_gym.redaction import RecordRedactor
from openreward_gym.store import Failure, RolloutStore
from openreward_gym.types import AssistantMessage, Message, Rollout, Sampled, TextBlock, ToolCall, UserMessage
from openreward_gym.types.rollout import line_of

ENCODINGS: dict[str, Any] = {
    "whole": lambda text: text,
    "inside": lambda text: f"a{text}b",
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[1:-1],
    "URL": lambda text: quote(text, safe=""),
    "URL path": lambda text: quote(text),
    "form": lambda text: quote_plus(text),
    "small percent": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "all percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a login": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "base64 of a header": lambda text: base64.b64encode(f"token {text}!".encode()).decode(),
    "base64 of URLs": lambda text: base64.urlsafe_b64encode(f"xy{text}".encode()).decode().rstrip("="),
    "HTML": html.escape,
}
secrets = st.text(st.sampled_from('abcXYZ019+/="\\é-_ &'), min_size=8, max_size=20).filter(
    lambda t: t.strip() == t and len(set(t)) > 5
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all texts of free data and of blocks in a record."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [found for place, item in enumerate(value) for found in leaves(item, (*path, place))]
    named = {
        "schema",
        "id",
        "run",
        "status",
        "role",
        "ended",
        "origin",
        "type",
        "data",
        "sha256",
        "started_at",
        "ended_at",
        "mimeType",
    }
    return [path] if isinstance(value, str) and path[-1] not in named else []


def put(value: Any, path: tuple[Any, ...], text: str) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = text


# Making a failing record smaller takes minutes.
@settings(
    max_examples=EXAMPLES * 2,
    suppress_health_check=[HealthCheck.too_slow],
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(rollout=rollouts, secret=secrets, encoding=st.sampled_from(sorted(ENCODINGS)), data=st.data())
def test_a_secret_is_in_no_file_of_the_run(
    tmp_path_factory: pytest.TempPathFactory, rollout: Rollout, secret: str, encoding: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    record = rollout.to_dict()
    encoded = ENCODINGS[encoding](secret)
    places = leaves(record)
    record["metadata"] = {**(record.get("metadata") or {}), "note": "x"}
    put(record, data.draw(st.sampled_from([*places, ("metadata", "note")])), f"it is {encoded}")
    os.environ["REDACTED_TOKEN"] = secret
    try:
        with RolloutStore(folder, redactor=RecordRedactor(["REDACTED_TOKEN"])) as store:
            store.append(Rollout.from_dict(record))
        (written,) = store
        assert (written.redacted or {}).get("REDACTED_TOKEN", 0) >= 1
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.jsonl")]
        forms = {encoded, json.dumps(encoded)[1:-1], json.dumps(encoded, ensure_ascii=False)[1:-1]}
        assert not [form for form in forms for text in texts if form in text]
        assert not [message for message in written.messages if message.sampled is not None and message.sampled.token_ids]
    finally:
        del os.environ["REDACTED_TOKEN"]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rollout=rollouts)
def test_without_a_secret_a_record_is_byte_for_byte_the_same(monkeypatch: pytest.MonkeyPatch, rollout: Rollout) -> None:
    monkeypatch.setenv("REDACTED_TOKEN", "never-in-a-record-0123456789")
    redactor = RecordRedactor(["REDACTED_TOKEN"], [r"\bnever-\w+-matched\b"])
    record = rollout.to_dict()
    assert line_of(redactor.record(record)) == line_of(record) == rollout.to_line()
    assert redactor.rollout(rollout) is rollout


@settings(max_examples=EXAMPLES, deadline=None)
@given(rollout=rollouts, pattern=st.sampled_from([r"\w+", r"[a-z]{4}", r"\d", ".", r"\S+", "[^x]"]))
def test_whatever_a_pattern_matches_the_record_can_be_read(rollout: Rollout, pattern: str) -> None:
    redacted = RecordRedactor(patterns=[pattern]).rollout(rollout)
    assert Rollout.from_line(redacted.to_line()).to_line() == redacted.to_line()
    assert (redacted.id, redacted.group, redacted.status, len(redacted.messages)) == (
        rollout.id,
        rollout.group,
        rollout.status,
        len(rollout.messages),
    )


def test_a_turn_of_the_policy_that_changed_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOR_PIN", "83746512")
    sampled = Sampled(token_ids=(1, 2), logprobs=(-0.5, -0.25), prompt_token_ids=(3,), model="m")
    call = ToolCall("open", {"pin": 83746512, "door": "north"}, "c1", content='{"pin": 83746512, "door": "north"}')
    rollout = Rollout(
        status="completed",
        messages=[
            UserMessage("The PIN is 83746512.", origin="given"),
            AssistantMessage((TextBlock("I open it."), call), origin="policy", sampled=sampled),
            AssistantMessage("Done.", origin="policy", sampled=sampled),
        ],
    )
    redacted = RecordRedactor(["DOOR_PIN"]).rollout(rollout)
    assert redacted.redacted == {"DOOR_PIN": 3}
    first, second, third = redacted.messages
    assert first.text == "The PIN is [redacted DOOR_PIN]."
    assert [message.weight for message in redacted.messages] == [None, 0.0, None]
    (cut,) = second.tool_calls
    assert cut.arguments == {"pin": "[redacted DOOR_PIN]", "door": "north"} == json.loads(cut.content or "")
    # The tokens of the later turn were sampled from a prompt that spells the PIN.
    assert [(message.sampled.token_ids, message.sampled.prompt_token_ids) for message in (second, third) if message.sampled] == [
        (None, None),
        (None, None),
    ]
    assert third.sampled is not None
    assert third.sampled.model == "m"
    assert RecordRedactor(["DOOR_PIN"]).rollout(redacted) is redacted


def test_a_failure_is_cut_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADER_TOKEN", "gr-5Tq9Xw3Zn7")
    failure = Failure("environment", "tool_failed", message="no access with gr-5Tq9Xw3Zn7", extra={"traceback": "gr-5Tq9Xw3Zn7"})
    with RolloutStore(tmp_path, redactor=RecordRedactor(["GRADER_TOKEN"])) as store:
        store.append_failure(failure)
    (written,) = store.failures()
    assert written.message == "no access with [redacted GRADER_TOKEN]"
    assert written.extra == {"traceback": "[redacted GRADER_TOKEN]", "redacted": {"GRADER_TOKEN": 2}}


def test_a_key_of_several_lines_is_cut_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["-----BEGIN KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQ", "EFAASCBKcwggSjAgEAAoIBAQC7"]
    monkeypatch.setenv("DEPLOY_KEY", "\n".join(lines) + "\n")
    redactor = RecordRedactor(["DEPLOY_KEY"])
    assert redactor.text("> " + "\n> ".join(lines)) == "> " + "\n> ".join(["[redacted DEPLOY_KEY]"] * 3)
    assert redactor.text(f"a {os.environ['DEPLOY_KEY'].strip()} z") == "a [redacted DEPLOY_KEY] z"


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "not set"), ("", "not set"), ("  \n", "not set"), ("abc", "fewer than 4"), (" abc\n", "fewer than 4")],
)
def test_a_variable_that_holds_no_secret_is_refused(value: str | None, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRONG_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("WRONG_TOKEN", value)
    with pytest.raises(ConfigurationError, match=f"WRONG_TOKEN.*{says}"):
        RecordRedactor(["WRONG_TOKEN"])


def test_a_secret_in_the_place_of_a_name_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="never give the secret itself") as refused:
        RecordRedactor(["sk-5Tq9Xw3Zn7/ab"])
    assert "5Tq9" not in str(refused.value)


@pytest.mark.parametrize("pattern", ["", "a*", "(", "x|", "^", "(?=a)?", "[", "*"])
def test_a_pattern_that_matches_anything_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="redact_patterns"):
        RecordRedactor(patterns=[pattern])


def test_a_redactor_travels_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAVEL_TOKEN", "tr-5Tq9Xw3Zn7")
    store = RolloutStore("nowhere", redactor=RecordRedactor(["TRAVEL_TOKEN"], [r"ssn-\d+"], texts={"base_url": ["pw-8Rk2Lm4Qx"]}))
    data = pickle.dumps(store)
    assert b"5Tq9Xw" not in data
    assert b"8Rk2Lm" not in data
    redactor = pickle.loads(data)._redactor
    assert redactor.text("tr-5Tq9Xw3Zn7 pw-8Rk2Lm4Qx ssn-12") == "[redacted TRAVEL_TOKEN] [redacted base_url] [redacted pattern]"


def test_a_line_is_searched_without_a_walk_through_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIET_TOKEN", "qt-5Tq9Xw3Zn7")
    redactor = RecordRedactor(["QUIET_TOKEN"])
    monkeypatch.setattr(RecordRedactor, "record", lambda self, record: pytest.fail("the record was walked"))
    rollout = Rollout(status="completed", messages=[Message("user", (TextBlock("Hello."),), origin="given")])
    assert redactor.rollout(rollout) is rollout
