"""A local Hub: answers the requests of huggingface_hub for one repository from a folder."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from answering import Answers


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serve(
    folder: Path, repo_id: str, kind: str = "models", token: str | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as a repository.

    Args:
        folder (`Path`): Files of the repository.
        repo_id (`str`): Name of the repository.
        kind (`str`, *optional*, defaults to `"models"`): `"models"` or `"datasets"`.
        token (`str`, *optional*): The repository is private: requests must have this token.

    Yields:
        `tuple[str, list[str]]`: the address, for `HF_ENDPOINT`, and the names of the files downloaded so far.
    """
    downloaded: list[str] = []
    files_url = repo_id if kind == "models" else f"{kind}/{repo_id}"
    api_url = f"api/{kind}/{repo_id}"

    class Handler(Answers, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
                return
            path = self.path.split("?")[0].strip("/")
            if path.startswith(f"{files_url}/resolve/"):
                self.send_file(path)
            elif path.startswith(f"{api_url}/tree/"):
                self.send_json([{"type": "file", "path": name, "size": size, "oid": COMMIT} for name, size in files()])
            elif path in (api_url, f"{api_url}/revision/main") or path.endswith(COMMIT):
                siblings = [{"rfilename": name} for name, _ in files()]
                self.send_json({"id": repo_id, "modelId": repo_id, "sha": COMMIT, "siblings": siblings})
            else:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            path = self.path.split("?")[0].strip("/")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if path == "api/repos/create":
                self.send_json({"url": f"http://{self.headers['Host']}/{repo_id}"})
            elif path == "api/validate-yaml":
                self.send_json({"errors": [], "warnings": []})
            elif path == f"{api_url}/preupload/main":
                names = [file["path"] for file in json.loads(body)["files"]]
                self.send_json(
                    {
                        "files": [
                            {"path": n, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for n in names
                        ]
                    }
                )
            elif path == f"{api_url}/commit/main":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        target = folder / line["value"]["path"]
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(base64.b64decode(line["value"]["content"]))
                self.send_json(
                    {"commitUrl": f"http://{self.headers['Host']}/{repo_id}/commit/{COMMIT}", "commitOid": COMMIT}
                )
            else:
                self.answer(404, b"", {})

        def send_file(self, path: str) -> None:
            name = path.split("/resolve/")[1].split("/", 1)[1]
            if not (folder / name).is_file():
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            content = (folder / name).read_bytes()
            if self.command == "GET":
                downloaded.append(name)
            tag = hashlib.sha1(content).hexdigest()
            self.answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'})

    def files() -> list[tuple[str, int]]:
        return [
            (path.relative_to(folder).as_posix(), path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", downloaded
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def set_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let huggingface_hub use a local Hub in this process; it has read `HF_ENDPOINT` when it was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
