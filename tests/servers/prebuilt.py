"""An environment server with prebuilt answers, so that a benchmark measures the client.

`python tests/servers/prebuilt.py PORT`. It implements the part of the protocol that an episode needs, for any number of sessions.
All tasks are equal. A call of any tool returns 200 bytes of text; one of the terminal tool, `answer`, also ends the episode with
reward 1.0. `POST /v1/rollouts` stands in for the platform and accepts everything.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

TASKS = 1_000_000
TEXT = "0123456789" * 20


def plain(body: Any) -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


def stream(*events: tuple[str, Any]) -> bytes:
    chunks = []
    for event, data in events:
        text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
        chunk = f"event: {event}\r\ndata: {text}\r\n\r\n".encode()
        chunks.append(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(chunks) + b"0\r\n\r\n"


def output(reward: float | None, finished: bool) -> bytes:
    block = {"text": TEXT, "detail": None, "type": "text"}
    result = {"blocks": [block], "metadata": None, "reward": reward, "finished": finished}
    return stream(("task_id", "8696d420fef541ac97e55f21912d39db"), ("end", {"ok": True, "output": result}))


TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
PROMPT = [{"text": "What is 6 times 7?", "detail": None, "type": "text"}]
STEP, LAST = output(None, False), output(1.0, True)
ANSWERS = {
    b"health": plain({"status": "ok"}),
    b"list_environments": plain(["prebuilt"]),
    b"splits": plain([{"name": "train", "type": "train"}]),
    b"num_tasks": plain({"num_tasks": TASKS}),
    b"task": plain({"task": {"question": "6 times 7"}, "env_name": "prebuilt"}),
    b"prompt": plain(PROMPT),
    b"messages": plain([{"role": "user", "blocks": PROMPT, "detail": None}]),
    b"task_tools": plain(
        {
            "tools": [TOOL],
            "terminal_tool": {"name": "answer", "arg": "message", "description": "Ends it."},
            "supports_score_group": False,
            "message_block_types": ["text", "image"],
        }
    ),
    b"tools": plain({"tools": [TOOL]}),
    b"create": plain({"sid": "x"}),
    b"ping": plain({"status": "ok"}),
    b"delete": plain({"sid": "x"}),
    b"delete_session": plain({"sid": "x"}),
    b"rollouts": plain({"status": "ok"}),
}
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"


class Answers(asyncio.Protocol):
    """A connection."""

    sessions = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end]
            place = head.lower().find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            body, self._held = self._held[end + 4 : end + 4 + length], self._held[end + 4 + length :]
            name = head[: head.find(b" HTTP/")].rsplit(b"/", 1)[1]
            self._transport.write(self._answer(name, body))

    def _answer(self, name: bytes, body: bytes) -> bytes:
        if name == b"call":
            return LAST if b'"answer"' in body else STEP
        if name == b"create_session":
            Answers.sessions += 1
            return stream(("task_id", f"session-{Answers.sessions}"), ("end", ""))
        return ANSWERS.get(name, NOT_FOUND)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
