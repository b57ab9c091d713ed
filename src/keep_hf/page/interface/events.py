"""How the events of the page are connected, and the id of the session in the address of the page."""

from typing import Any


# Handlers are private, so the API has the two endpoints only. They run at once: the queue is that of the service.
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# The handlers check what the browser sends. gradio would raise an error where the part is that of a longer video, as
# after a reload, or when a click comes before the answer to another video.
AS_SENT: dict[str, Any] = AT_ONCE | {"preprocess": False}

READ_SESSION = "() => new URL(location).searchParams.get('session') ?? ''"
WRITE_SESSION = """(session) => { const url = new URL(location);
  if (session && url.searchParams.get("session") !== session) {
    url.searchParams.set("session", session); history.replaceState(history.state, "", url); } }"""
