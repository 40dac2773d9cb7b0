"""A small S3 server: objects in memory, and the few calls that a store of files needs."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

TIME = "2026-01-01T00:00:00.000Z"


class ObjectStore:
    """A server of objects by "bucket/key". It refuses the next `refusals` PUT requests."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refusals = 0
        self.puts = 0

    def __enter__(self) -> ObjectStore:
        held = self

        class Bound(Handler):
            store = held

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    store: ObjectStore
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/")

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "aws-chunked" or "STREAMING" in self.headers.get("x-amz-content-sha256", ""):
            data = _unchunked(data)
        self.store.puts += 1
        if self.store.refusals:
            self.store.refusals -= 1
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
            return
        self.store.objects[self.key] = data
        self.answer(200, ETag=_tag(data))

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in query:
            self.answer(200, self._listing(self.key, query), Content_Type="application/xml")
        elif self.key in self.store.objects:
            data = self.store.objects[self.key]
            self.answer(200, data, ETag=_tag(data), Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.store.objects.pop(self.key, None)
        self.answer(204)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, b"<DeleteResult></DeleteResult>")

    def _listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        entries, folders = [], set()
        for name, data in sorted(self.store.objects.items()):
            key = name.removeprefix(f"{bucket}/")
            if not name.startswith(f"{bucket}/{prefix}"):
                continue
            suffix = key[len(prefix) :]
            if delimiter and delimiter in suffix:
                folders.add(prefix + suffix.split(delimiter)[0] + delimiter)
            else:
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><LastModified>{TIME}</LastModified>"
                    f"<ETag>{_tag(data)}</ETag><StorageClass>STANDARD</StorageClass></Contents>"
                )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        counted = f"<KeyCount>{len(entries) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>1000</MaxKeys>{counted}"
        return f"<?xml version='1.0'?><ListBucketResult>{head}{''.join(entries)}{common}</ListBucketResult>".encode()


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _unchunked(data: bytes) -> bytes:
    """Return the payload of an aws-chunked body: `size;...\\r\\n` before each chunk, and an empty one at the end."""
    payload = b""
    while data:
        head, _, data = data.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if size == 0:
            break
        payload, data = payload + data[:size], data[size + 2 :]
    return payload
