"""Limits of uploads, checked before the first byte is accepted."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..jobs.service import JobService


UPLOAD_PATHS = ("/gradio_api/upload", "/upload")
FRAME_BYTES = 100_000  # of a request besides its files


class UploadGuard:
    """Middleware that rejects uploads that exceed a limit: all files of a request count, and all requests of a client.

    Args:
        app (`ASGIApp`): The application.
        service ([`JobService`]): It knows the limits.
    """

    def __init__(self, app: ASGIApp, service: JobService) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with an error."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith(UPLOAD_PATHS):
            error = self._check(scope)
            if error is not None:
                await error(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> PlainTextResponse | None:
        length = dict(scope["headers"]).get(b"content-length")
        if length is None:
            return PlainTextResponse("The size of an upload must be known: send Content-Length.", 411)
        client = scope["client"][0] if scope["client"] else ""
        num_bytes, megabytes = int(length), self.service.limits.megabytes
        if num_bytes > megabytes * 1e6 + FRAME_BYTES:
            message = f"{num_bytes / 1e6:.0f} MB are too large for one upload: the limit is {megabytes} MB."
            return PlainTextResponse(message, 413)
        try:
            self.service.take_upload(client, num_bytes)
        except ValueError as error:
            return PlainTextResponse(str(error), 413)
        return None
