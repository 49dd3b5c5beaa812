"""A small Hub on 127.0.0.1: the calls that huggingface_hub makes to create, read and commit, kept in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER = "hf_writes", "hf_reads"
"""Tokens: one may write to the namespace `me`, the other to none."""
LFS = (".safetensors", ".model")


@dataclass
class Repository:
    """Files by commit, and the commit of each branch."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    messages: list[str] = field(default_factory=list)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Files of a branch or commit."""
        return self.commits[self.branches.get(revision, revision)]


class Hub:
    """State of the server.

    Attributes:
        repositories: by ORGANISATION/NAME.
        calls: method and path of every request.
        fails: status of a request by a part of its path, to inject errors.
        large: contents of large files by SHA-256, uploaded before the commit.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.calls: list[str] = []
        self.fails: dict[str, int] = {}
        self.large: dict[str, bytes] = {}
        self.url = ""


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Serve a Hub until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *arguments: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.state.calls.append(f"{self.command} {path}")
        for part, status in self.state.fails.items():
            if part in path:
                return self._send(status, {"error": f"injected {status}"})
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not path.startswith("/lfs/") and token not in (WRITER, READER):
            return self._send(401, {"error": "Invalid credentials"})
        if path == "/api/whoami-v2":
            return self._send(200, {"name": "me", "type": "user", "orgs": [], "auth": {}})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body), token)
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.state.large[match[1]] = body
            return self._send(200, {})
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(*match.groups())
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(.+))?", path):
            return self._model(*match.groups(), body, token, parse_qs(address.query))
        return self._send(404, {"error": f"no such call: {path}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _create(self, wanted: dict[str, Any], token: str) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if token != WRITER or wanted["organization"] != "me":
            return self._send(403, {"error": "You don't have the rights to create a model here"})
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.state.repositories.setdefault(name, Repository(private))
        return self._send(200, {"url": f"{self.state.url}/{name}", "name": name})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.state.url}/lfs/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.state.repositories[name]
        commit = repository.branches.get(revision, revision)
        content = repository.commits[commit][file]
        tag = hashlib.sha256(content).hexdigest()
        self._send(200, content, ETag=f'"{tag}"', X_Repo_Commit=commit)

    def _model(
        self, name: str, call: str | None, rest: str | None, body: bytes, token: str, query: dict[str, Any]
    ) -> None:
        repository = self.state.repositories.get(name)
        if repository is None:
            return self._send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        revision = rest or "main"
        if revision not in {*repository.branches, *repository.commits}:
            return self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        if call in (None, "revision"):
            files = [{"rfilename": file} for file in repository.files(revision)]
            sha = repository.branches.get(revision, revision)
            return self._send(200, {"id": name, "sha": sha, "private": repository.private, "siblings": files})
        if call == "tree":
            listed = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in repository.files(revision).items()
            ]
            return self._send(200, listed)
        if call == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._send(200, {"files": files})
        assert call == "commit"
        return self._commit(repository, name, revision, body, token, "create_pr" in query)

    def _commit(
        self, repository: Repository, name: str, revision: str, body: bytes, token: str, request: bool
    ) -> None:
        if token != WRITER and not request:
            return self._send(403, {"error": "This token has no write access"})
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        before = repository.branches[revision]
        if header.get("parentCommit") not in (None, before):
            return self._send(412, {"error": "A commit has happened since"})
        files = dict(repository.commits[before])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.large[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        commit = hashlib.sha1(f"{len(repository.commits)}{name}".encode()).hexdigest()
        repository.commits[commit] = files
        repository.messages.append(header["summary"])
        answer = {"commitUrl": f"{self.state.url}/{name}/commit/{commit}", "commitOid": commit}
        branch = f"refs/pr/{len(repository.branches)}" if request else revision
        repository.branches[branch] = commit
        if request:
            answer["pullRequestUrl"] = f"{self.state.url}/{name}/discussions/{branch.rpartition('/')[2]}"
        return self._send(200, answer)
