"""A stand-in for the HuggingFace Hub on loopback: repositories of files in memory, as much of the API as a push needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """`repositories`: by name, `private` and `files`; `commits`: how many there were."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.commits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request.get('organization') or 'me'}/{request['name']}"
            repository = {"private": request.get("private") or request.get("visibility") == "private", "files": {}}
            self.server.repositories.setdefault(name, repository)
            self._answer({"url": f"{self.server.url}/datasets/{name}", "name": name, "id": "1"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer({"files": modes, "commitOid": "0" * 40})
        elif "/commit/" in path:
            files = self._files(path)
            for line in body.splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif operation["key"] == "deletedFile":
                    del files[value["path"]]
            self.server.commits += 1
            name = "/".join(path.split("/")[3:5])
            url = f"{self.server.url}/datasets/{name}/commit/{'1' * 40}"
            self._answer({"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})
        else:
            self._answer({"error": path}, 404)

    def _files(self, path: str) -> dict[str, bytes]:
        files: dict[str, bytes] = self.server.repositories["/".join(path.split("/")[3:5])]["files"]
        return files

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "/resolve/" in path:
            name, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
            if name not in self.server.repositories:
                self._answer(b"", 404, {"X-Error-Code": "RepoNotFound"})
                return
            content = self.server.repositories[name]["files"].get(rest.partition("/")[2])
            if content is None:
                self._answer(b"", 404, {"X-Error-Code": "EntryNotFound"})
                return
            etag = hashlib.sha1(content).hexdigest()
            self._answer(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": "1" * 40})
        elif "/tree/" in path:
            files = self._files(path)
            self._answer(
                [{"type": "file", "path": name, "size": len(content), "oid": "2" * 40} for name, content in files.items()]
            )
        else:
            self._answer({"id": "x", "sha": "1" * 40, "siblings": []})


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
