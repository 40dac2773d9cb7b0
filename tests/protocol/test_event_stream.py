"""The decoder of event streams: whatever is written, however it is cut, is read; whatever is not a stream does no harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sse_starlette import ServerSentEvent

from openreward_gym.errors import ProtocolError
from openreward_gym.protocol import sse
from openreward_gym.protocol.sse import CallStream, EventDecoder
from openreward_gym.protocol.wire import loads

often = settings(max_examples=400, deadline=None)
very_often = settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
tricky = st.text(st.sampled_from(' \u2028\u2029\u0085\x00\x0b\x0c\x1c\x1dé🦊:a{"\\\ufeff\t'), max_size=200)
line_ends = st.sampled_from(["\n", "\r\n", "\r"])
cuts = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def pieces(data: bytes, lengths: list[int]) -> list[bytes]:
    """`data` cut into pieces of these lengths, over and over."""
    cut: list[bytes] = []
    at = turn = 0
    while at < len(data):
        length = lengths[turn % len(lengths)]
        cut.append(data[at : at + length])
        at, turn = at + length, turn + 1
    return cut


def decoded(data: bytes, lengths: list[int]) -> list[tuple[bytes, bytes]]:
    decoder = EventDecoder()
    return [event for piece in pieces(data, lengths) for event in decoder.feed(piece)]


def round_trip(texts: list[str], ends: str, lengths: list[int], width: int) -> None:
    """Written as the reference server does: JSON in chunks of so many characters, cut anywhere; read in any pieces."""
    result = json.dumps({"texts": texts}, ensure_ascii=False)
    parts = [result[start : start + width] for start in range(0, len(result), width)]
    body = "".join(
        [
            f"event: task_id{ends}data: abc{ends}{ends}",
            f": keep-alive{ends}{ends}",
            *[f"event: chunk{ends}data: {part}{ends}{ends}" for part in parts[:-1]],
            f"event: end{ends}data: {parts[-1]}{ends}{ends}",
        ]
    ).encode()
    stream = CallStream()
    for piece in pieces(body, lengths):
        stream.feed(piece)
    assert stream.finished
    assert stream.task_id == "abc"
    assert loads(stream.result()) == {"texts": texts}


results = given(texts=st.lists(st.one_of(anything, tricky), max_size=5), ends=line_ends, lengths=cuts, width=st.integers(1, 50))


@often
@results
@example(texts=[" " * 20], ends="\r\n", lengths=[1], width=4)
def test_a_result_comes_back_however_it_is_cut(texts: list[str], ends: str, lengths: list[int], width: int) -> None:
    round_trip(texts, ends, lengths, width)


@pytest.mark.long
@pytest.mark.timeout(3600)
@very_often
@results
def test_a_hundred_thousand_results_come_back(texts: list[str], ends: str, lengths: list[int], width: int) -> None:
    round_trip(texts, ends, lengths, width)


@often
@given(events=st.lists(st.tuples(st.sampled_from(["chunk", "end", "x"]), st.one_of(anything, tricky)), max_size=6), lengths=cuts)
def test_what_the_reference_server_writes_is_read(events: list[tuple[str, str]], lengths: list[int]) -> None:
    body = b"".join(ServerSentEvent(data, event=event).encode() for event, data in events)
    # The writer splits the data at its line ends, and a line end is a line end: which one it was is not on the wire.
    wanted = [(event.encode(), data.replace("\r\n", "\n").replace("\r", "\n").encode()) for event, data in events]
    assert decoded(body, lengths) == wanted


def no_harm(data: bytes, lengths: list[int]) -> None:
    """Nothing but a ProtocolError is raised, and the cut makes no difference."""
    assert decoded(data, lengths) == decoded(data, [max(len(data), 1)])
    stream = CallStream()
    try:
        for piece in pieces(data, lengths):
            stream.feed(piece)
        loads(stream.result())
    except ProtocolError:
        pass


@often
@given(data=st.binary(max_size=400), lengths=cuts)
def test_any_bytes_do_no_harm(data: bytes, lengths: list[int]) -> None:
    no_harm(data, lengths)


@pytest.mark.long
@pytest.mark.timeout(3600)
@very_often
@given(data=st.binary(max_size=400), lengths=cuts)
def test_a_hundred_thousand_random_bytes_do_no_harm(data: bytes, lengths: list[int]) -> None:
    no_harm(data, lengths)


LINES = [
    b"data",
    b"data:",
    b"data: x",
    b"data:x",
    b"event: end",
    b"event: error",
    b"event: task_id",
    b"event: chunk",
    b": c",
    b"",
]
lines = st.sampled_from([*LINES, b"id: 1"])


@often
@given(parts=st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=30), lengths=cuts)
def test_lines_that_nearly_make_sense_do_no_harm(parts: list[tuple[bytes, bytes]], lengths: list[int]) -> None:
    data = b"".join(line + end for line, end in parts)
    assert decoded(data, lengths) == decoded(data, [max(len(data), 1)])
    stream = CallStream()
    try:
        for piece in pieces(data, lengths):
            if stream.feed(piece):
                break
    except ProtocolError:
        assert b"task_id" in data


whole_events = [
    f"event: {kind}{end}data: {data}{end}{end}".encode()
    for kind in ("task_id", "chunk", "end", "error", "x")
    for data in ("8c0a", " {}", "")
    for end in ("\n", "\r\n")
]
oddities = [
    b"\xef\xbb\xbf",
    b": ping\r\n\r\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"event: end\rdata: 1\r\r",
    b"data: 2\ndata: 3\n\n",
    b"event: chunk\n",
]


def heard(stream: CallStream, given_pieces: list[bytes]) -> object:
    try:
        for piece in given_pieces:
            if stream.feed(piece):
                break
    except ProtocolError as error:
        return str(error)
    return stream.task_ids, stream.finished, stream.error, stream.announced, stream.result()


@often
@given(parts=st.lists(st.sampled_from([*whole_events, *oddities]), max_size=8), lengths=cuts)
@example(parts=[whole_events[0], b"\xef\xbb\xbf", whole_events[6]], lengths=[1000])
@example(parts=[b"event: end\r\ndata: 1\r\n\r", b"\n"], lengths=[24, 1])
def test_whole_events_are_read_as_the_decoder_reads_them(parts: list[bytes], lengths: list[int]) -> None:
    data = b"".join(parts)
    slow = CallStream()
    slow._decoder = EventDecoder()
    assert heard(CallStream(), pieces(data, lengths)) == heard(CallStream(), parts) == heard(slow, pieces(data, lengths))


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: x\n\n", [(b"message", b"x")]),
        (b"data:  x\n\n", [(b"message", b" x")]),
        (b"data:x\n\n", [(b"message", b"x")]),
        (b"data\n\n", [(b"message", b"")]),
        (b"data: a\ndata: b\n\n", [(b"message", b"a\nb")]),
        (b"data: a\rdata: b\r\r", [(b"message", b"a\nb")]),
        (b"event: end\ndata: \n\n", [(b"end", b"")]),
        (b"event: end\n\n", [(b"end", b"")]),
        (b": only a comment\n\n", []),
        (b"id: 7\nretry: 10\nnonsense\n\n", []),
        (b"data: never ended\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", [(b"message", b"x")]),
        ("data: a\u2028b\u0085c\x0bd\n\n".encode(), [(b"message", "a\u2028b\u0085c\x0bd".encode())]),
        (b"data: x: y\n\n", [(b"message", b"x: y")]),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 1000])
def test_lines(data: bytes, events: list[tuple[bytes, bytes]], length: int) -> None:
    assert decoded(data, [length]) == events


def test_a_stream_longer_than_any_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_STREAM_BYTES", 100)
    for piece in (b"x" * 101, b"event: chunk\ndata: x\n\n" * 5):
        with pytest.raises(ProtocolError, match="longer than 100 bytes"):
            CallStream().feed(piece)


@pytest.mark.parametrize("task_id", [b"\xff", b"", b"  "])
def test_a_task_id_that_is_none_is_refused(task_id: bytes) -> None:
    with pytest.raises(ProtocolError, match="task_id"):
        CallStream().feed(b"event: task_id\ndata: " + task_id + b"\n\n")


def test_what_comes_after_the_end_is_not_heard() -> None:
    stream = CallStream()
    body = b"event: task_id\ndata: a\n\nevent: end\ndata: {}\n\n"
    assert stream.feed(body + b"event: error\ndata: late\n\n")
    assert stream.feed(b"event: end\ndata: {}\n\n")
    assert (stream.result(), stream.error) == (b"{}", None)


def test_a_broken_stream_begins_anew_and_keeps_its_task() -> None:
    stream = CallStream()
    stream.feed(b"event: task_id\ndata: a\n\nevent: chunk\ndata: {\n\nevent: chu")
    stream.restart()
    assert not stream.announced
    assert stream.feed(b"event: task_id\ndata: a\n\nevent: chunk\ndata: {\n\nevent: end\ndata: }\n\n")
    assert (stream.result(), stream.task_ids, stream.announced) == (b"{}", ["a"], True)


def test_a_long_line_that_comes_byte_by_byte_is_not_read_over_and_over() -> None:
    stream = CallStream()
    stream.feed(b"event: end\ndata: ")
    for _ in range(200_000):
        stream.feed(b"x")
    assert stream.feed(b"\n\n")
    assert len(stream.result()) == 200_000
