"""A server so cheap that the client is the bottleneck: prebuilt answers, one write per answer, no framework. A separate process.

It serves one environment, `echo`. Each call returns the same result, in an event stream with the chunks of the reference server.
It checks nothing and runs nothing. Its argument is the size of the results; it prints its port.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

CUT = 4096
BACKLOG = 4096


def prebuilt(payload: int) -> dict[bytes, bytes]:
    """Return the answers by the last segment of the path; the result of a call has `payload` characters."""
    blocks = [{"type": "text", "text": "x" * payload, "detail": None}]
    output = {"ok": True, "output": {"blocks": blocks, "metadata": None, "reward": 1.0, "finished": False}}
    tools = [{"name": "echo", "description": "", "input_schema": None}]
    splits = [{"name": "train", "type": "train"}]
    session = "6b1c1e0c-7a55-4d4e-9d1c-4a1f3f0b7a11"
    plain = {
        b"create": {"sid": session},
        b"prompt": [{"type": "text", "text": "What is said?", "detail": None}],
        b"messages": [{"role": "user", "blocks": [{"type": "text", "text": "What is said?", "detail": None}], "detail": None}],
        b"task_tools": {"tools": tools, "terminal_tool": None},
        b"tools": {"tools": tools},
        b"splits": splits,
        b"num_tasks": {"num_tasks": 1000},
        b"task": {"task": {"number": 0}},
        b"delete": {"sid": session},
        b"delete_session": {"sid": session},
        b"ping": {"status": "ok"},
        b"health": {"status": "ok"},
        b"version": {"version": "0.1.167"},
        b"list_environments": ["echo"],
    }
    answers = {path: _answer(json.dumps(value).encode()) for path, value in plain.items()}
    text = json.dumps(output)
    pieces = [text[start : start + CUT] for start in range(0, len(text), CUT)]
    events = [("task_id", "8c0a"), *[("chunk", piece) for piece in pieces[:-1]], ("end", pieces[-1])]
    answers[b"call"] = _stream(events)
    answers[b"create_session"] = _stream([("task_id", session), ("end", "")])
    return answers


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _stream(events: list[tuple[str, str]]) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    parts = [f"event: {kind}\r\ndata: {data}\r\n\r\n".encode() for kind, data in events]
    return head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


class Cheap(asyncio.Protocol):
    answers: dict[bytes, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        data = self.rest + data if self.rest else data
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                break
            at = data.find(b"ontent-", 0, end)
            while at >= 0 and data[at + 7 : at + 13].lower() != b"length":
                at = data.find(b"ontent-", at + 7, end)
            if at >= 0:
                end += int(data[at + 14 : data.index(b"\r", at)])
            if len(data) < end:
                break
            self.reply(data[data.index(b" ") + 1 : data.index(b" HTTP")])
            data = data[end:]
        self.rest = data

    def reply(self, path: bytes) -> None:
        room, _, last = path.rpartition(b"/")
        answer = self.answers.get(last, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        if not room and last in (b"call", b"prompt", b"messages", b"task_tools", b"tools", b"splits"):
            # The reference server redirects to its default environment in this way.
            answer = b"HTTP/1.1 308 Permanent Redirect\r\nlocation: /echo/%b\r\ncontent-length: 0\r\n\r\n" % last
        self.transport.write(answer)  # type: ignore[attr-defined]


async def main(payload: int) -> None:
    Cheap.answers = prebuilt(payload)
    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    server = await asyncio.get_running_loop().create_server(Cheap, sock=listening, backlog=BACKLOG)
    print(listening.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run  # type: ignore[assignment]
    try:
        run(main(int(sys.argv[1])))
    except KeyboardInterrupt:
        pass
