"""Secrets in texts: every form and every part of them is hidden, before anything is cut, and nothing else is changed."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_answers import ENCODINGS, repeated, secrets

from openreward_gym.errors import ConfigurationError, ProtocolError, ServerError
from openreward_gym.hiding import (
    LONGEST_MESSAGE,
    Redactor,
    Secret,
    excerpt,
    proxy_secrets,
    read_secret,
    secrets_of_url,
    with_evidence,
)

KEY = "sk-live-6Vt4Hq9Bz2Wm8Xc3"


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_form_is_hidden_at_every_place(encoding: str) -> None:
    redact = Redactor([Secret(KEY)])
    text = ENCODINGS[encoding](KEY)
    for place in range(4):
        hidden = redact(f"{'.' * place}{text} and {text}")
        assert hidden.count("[secret]") == 2
        assert len(hidden) < 50


@given(data=st.data())
def test_no_part_is_left(data: st.DataObject) -> None:
    secret = data.draw(secrets)
    hidden = Redactor([Secret(secret)]).quote(data.draw(repeated(secret)), data.draw(st.sampled_from([80, 200, 1000])))
    assert not [secret[place : place + 10] for place in range(len(secret) - 9) if secret[place : place + 10] in hidden]


@given(text=st.text(max_size=60))
def test_other_text_is_not_changed(text: str) -> None:
    assert Redactor([Secret(KEY), Secret("pw12")])(text) == text
    assert Redactor([])(text) == text


def test_names_of_the_package_are_not_hidden() -> None:
    redact = Redactor([Secret("openreward-gym-1234567"), Secret("http://127.0.0.1:9")])
    assert redact("set OPENREWARD_API_KEY, run openreward-gym") == "set OPENREWARD_API_KEY, run openreward-gym"
    assert redact("for openreward-gym-1234567!") == "for [secret]!"


def test_short_secrets_are_hidden_whole() -> None:
    assert Redactor([Secret("pw12")])("pw12, PW12, cHcxMg==, 70773132, pw1") == "[secret], [secret], [secret]g==, [secret], pw1"
    assert Redactor([Secret("abc")])("abc") == "abc"


def test_it_is_hidden_before_it_is_cut() -> None:
    redact = Redactor([Secret(KEY)])
    for before in range(170, 210):
        shown = redact.quote("." * before + " " + KEY, 200)
        assert "sk-l" not in shown
        assert len(shown) <= 201
    assert redact.quote(b"\xff" + KEY.encode()) == "\ufffd[secret]"


def test_an_error_is_cleaned() -> None:
    try:
        try:
            raise ValueError(KEY)
        except ValueError as cause:
            raise ServerError(f"no {KEY}" + "." * 3 * LONGEST_MESSAGE, detail=KEY, status=400) from cause
    except ServerError as error:
        caught = error
    caught.add_note(KEY)
    cleaned = Redactor([Secret(KEY)]).clean(caught)
    assert cleaned is caught
    assert (cleaned.detail, cleaned.status) == ("[secret]", 400)
    assert cleaned.__cause__ is None
    assert cleaned.__context__ is None
    assert cleaned.__traceback__ is None
    assert len(str(cleaned)) == LONGEST_MESSAGE + 1
    assert KEY.encode() not in pickle.dumps(cleaned)
    assert not hasattr(cleaned, "__notes__")


def test_evidence_is_shown_cut_and_then_dropped() -> None:
    error = with_evidence(ProtocolError("sent "), f"{'x' * 195} {KEY}", ", which is wrong")
    assert str(error).endswith("…, which is wrong")
    Redactor([Secret(KEY)]).clean(error)
    assert str(error) == f"sent {'x' * 195} [sec…, which is wrong"
    assert vars(error) == {}
    assert excerpt("a\n b", 10) == "a b"


def test_the_secrets_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://127.0.0.1", "http://h/p?u=a@b", "", "http://[", "no url", "http://@h"):
        assert all("a" in secret.reveal() for secret in secrets_of_url(url))
    texts = {secret.reveal() for secret in secrets_of_url("http://me:p%40ss:word@h:99999/x")}
    assert texts == {"p%40ss:word", "p@ss:word", "bWU6cEBzczp3b3Jk"}
    assert {secret.reveal() for secret in secrets_of_url("http://token1@h")} == {"token1", "dG9rZW4xOg=="}
    monkeypatch.setenv("https_proxy", "http://me:proxyword@h:1")
    assert "proxyword" in {secret.reveal() for secret in proxy_secrets()}


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x00b".replace("\x00", "\x01"), "\u00e9abc", "abcd\n"])
def test_a_secret_that_no_header_carries(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(ConfigurationError, match="SOME_KEY has a line end") as caught:
        read_secret("SOME_KEY")
    assert value not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_key_may_end_with_a_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " abcd\n")
    secret = read_secret("SOME_KEY", strip=True)
    assert secret is not None
    assert secret.reveal() == "abcd"
    monkeypatch.setenv("SOME_KEY", "  ")
    assert read_secret("SOME_KEY", strip=True) is read_secret("NEVER_SET") is None


def test_a_long_text_takes_time_in_proportion() -> None:
    redact = Redactor([Secret(KEY)])
    for unit in ("\\", "%41", "&amp;", "sk-live", "\\u0041"):
        began = time.perf_counter()
        redact(unit * 5_000)
        assert time.perf_counter() - began < 5
