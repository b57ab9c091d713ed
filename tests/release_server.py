"""A local server for release files: ranges, redirects, and answers that break off."""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ReleaseServer:
    """What is served, and how.

    Attributes:
        address (`str`): Where it listens.
        files (`dict[str, bytes]`): Contents by path.
        redirects (`dict[str, str]`): Addresses by path.
        breaks (`int`): How many of the next answers break off after `bytes_before_break`.
        is_gone_after (`int`, *optional*): After how many requests the files are missing.
        knows_ranges (`bool`): Whether parts of files are sent.
        requests (`list`): Path and header `Range` of every request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    breaks: int = 0
    bytes_before_break: int = 0
    is_gone_after: int | None = None
    knows_ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextlib.contextmanager
def serve_releases() -> Iterator[ReleaseServer]:
    """Start a server, and stop it at the end."""
    state = ReleaseServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requested = self.headers["Range"]
            state.requests.append((self.path, requested))
            if self.path in state.redirects:
                self.answer(302, b"", {"Location": state.redirects[self.path]})
            elif self.path not in state.files or len(state.requests) > (state.is_gone_after or math.inf):
                self.answer(404, b"not here")
            elif requested is None or not state.knows_ranges:
                self.answer(200, state.files[self.path])
            else:
                content = state.files[self.path]
                start = int(requested.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                else:
                    place = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.answer(206, content[start:], {"Content-Range": place})

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if status < 300 and state.breaks > 0:
                state.breaks -= 1
                content = content[: state.bytes_before_break]
                self.close_connection = True
            with contextlib.suppress(ConnectionError):  # a client may stop reading
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
