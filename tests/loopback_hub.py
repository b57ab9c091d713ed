"""A local Hub with any number of repositories, which takes commits and keeps every revision.

`hub_server.serve` answers for one folder as it is now; this one is for programs that write.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote

import datasets
import fsspec
import pytest
from huggingface_hub import constants

from answering import Answers
from hub_server import set_endpoint


Tree = dict[str, bytes]


@dataclass
class Repository:
    """The commits of a repository, oldest first, each with all its files."""

    private: bool = False
    commits: list[tuple[str, Tree]] = field(default_factory=lambda: [(_sha("empty"), {})])

    @property
    def files(self) -> Tree:
        return self.commits[-1][1]

    def commit(self, changes: Tree) -> str:
        files = self.files | changes
        sha = _sha(f"{len(self.commits)} {self.commits[-1][0]} {sorted(files)}")
        self.commits.append((sha, files))
        return sha

    def find(self, revision: str) -> tuple[str, Tree] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class LoopbackHub:
    """The repositories, by "datasets/owner/name" or "models/owner/name"; `refuse` may fail an upload of a file.

    The next `num_busy` commits are refused, as while another one is in progress.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    downloaded: list[tuple[str, int]] = field(default_factory=list)
    refuse: Callable[[str], bool] = lambda path: False
    num_busy: int = 0

    def create(self, name: str, files: Tree) -> Repository:
        repository = self.repositories[name] = Repository()
        repository.commit(files)
        return repository


@contextlib.contextmanager
def run_hub() -> Iterator[LoopbackHub]:
    """Start a Hub without repositories."""
    hub = LoopbackHub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub, cache: object) -> None:
    """Let huggingface_hub, datasets and fsspec of this process use a local Hub, with a cache of their own."""
    set_endpoint(monkeypatch, hub.endpoint)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)  # for child processes
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        datasets.config, "HUB_DATASETS_URL", hub.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}"
    )
    fsspec.get_filesystem_class("hf").clear_instance_cache()


class Handler(Answers, BaseHTTPRequestHandler):
    """Answers the requests of huggingface_hub."""

    hub: LoopbackHub

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0].strip("/"))
        if "/resolve/" in path:
            self.send_file(path)
            return
        name, _, rest = self.split_api(path)
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        kind, _, revision = rest.partition("/")
        revision, _, folder = revision.partition("/")
        found = repository.find(revision or "main")
        if found is None:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            self.send_json(list_tree(found[1], folder, "recursive=true" in self.path.lower()))
        else:
            siblings = [{"rfilename": file} for file in found[1]]
            self.send_json(
                {"id": name.split("/", 1)[1], "sha": found[0], "siblings": siblings, "private": repository.private}
            )

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        path = unquote(self.path.split("?")[0].strip("/"))
        body = self.read_body()
        if path == "api/repos/create":
            self.create(json.loads(body))
        elif path == "api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            self.send_json(
                {"transfer": "basic", "objects": [self.accept(each) for each in json.loads(body)["objects"]]}
            )
        else:
            name, repository, rest = self.split_api(path)
            if repository is None:
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif rest.startswith("preupload"):
                modes = [
                    {"path": file["path"], "uploadMode": upload_mode(file["path"]), "shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
                self.send_json({"files": modes})
            elif rest.startswith("paths-info"):
                found = repository.find(rest.split("/")[1])
                wanted = [value for key, value in parse_qsl(body.decode()) if key == "paths"]
                self.send_json(
                    [] if found is None else [each for each in describe(found[1]) if each["path"] in wanted]
                )
            else:
                self.take_commit(name, repository, [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        self.hub.objects[self.path.rsplit("/", 1)[1]] = self.read_body()
        self.answer(200, b"", {})

    def create(self, request: dict) -> None:
        name = f"{request.get('type', 'model')}s/{request.get('organization') or 'me'}/{request['name']}"
        is_new = name not in self.hub.repositories
        if is_new:
            is_private = "private" in (request.get("visibility"), *(key for key in request if request[key] is True))
            self.hub.repositories[name] = Repository(private=is_private)
        url = f"{self.hub.endpoint}/{name.removeprefix('models/')}"
        self.answer(200 if is_new else 409, json.dumps({"url": url}).encode(), {"Content-Type": "application/json"})

    def accept(self, each: dict) -> dict:
        if each["oid"] in self.hub.objects:
            return each
        return each | {"actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{each['oid']}"}}}

    def take_commit(self, name: str, repository: Repository, lines: list[dict]) -> None:
        if self.hub.num_busy:
            self.hub.num_busy -= 1
            self.answer(409, b'{"error": "Another commit is in progress."}', {"Content-Type": "application/json"})
            return
        parent = next(line["value"].get("parentCommit") for line in lines if line["key"] == "header")
        if parent not in (None, repository.commits[-1][0]):
            self.answer(412, b'{"error": "A commit has happened since."}', {"Content-Type": "application/json"})
            return
        changes: Tree = {}
        for value in (line["value"] for line in lines if line["key"] in ("file", "lfsFile")):
            if self.hub.refuse(value["path"]):
                self.answer(403, b'{"error": "The storage is full."}', {"Content-Type": "application/json"})
                return
            is_object = "oid" in value
            content = self.hub.objects[value["oid"]] if is_object else base64.b64decode(value["content"])
            changes[value["path"]] = content
        sha = repository.commit(changes)
        self.send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def send_file(self, path: str) -> None:
        place, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self.hub.repositories.get(place if place.startswith("datasets/") else f"models/{place}")
        found = repository.find(revision) if repository else None
        if found is None:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound" if repository else "RepoNotFound"})
            return
        sha, files = found
        if file not in files:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        content = files[file]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        status, size = 200, len(content)
        if requested := self.headers.get("Range"):
            first, _, last = requested.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) if last else size - 1, size - 1)
            content, status = content[start : end + 1], 206
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        if self.command == "GET":
            self.hub.downloaded.append((f"{place}/{file}", len(content)))
        self.answer(status, content, headers)

    def split_api(self, path: str) -> tuple[str, Repository | None, str]:
        """The repository of "api/datasets/owner/name/rest", and the rest."""
        _, *parts = path.split("/")
        name = "/".join(parts[:3])
        return name, self.hub.repositories.get(name), "/".join(parts[3:])

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def upload_mode(path: str) -> str:
    return "lfs" if path.endswith((".mp4", ".parquet", ".tar", ".zip")) else "regular"


def describe(files: Tree) -> list[dict]:
    """The files and folders of a tree, as the Hub lists them."""
    folders = {parent for file in files for parent in parents(file)}
    return [
        *({"type": "directory", "path": folder, "oid": _sha(folder), "size": 0} for folder in sorted(folders)),
        *(
            {"type": "file", "path": file, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
            for file, content in sorted(files.items())
        ),
    ]


def list_tree(files: Tree, folder: str, recursive: bool) -> list[dict]:
    prefix = f"{folder}/" if folder else ""
    inside = [each for each in describe(files) if each["path"].startswith(prefix)]
    return [each for each in inside if recursive or "/" not in each["path"][len(prefix) :]]


def parents(file: str) -> list[str]:
    parts = file.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _sha(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()
