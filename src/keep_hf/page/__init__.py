"""The web page, for a Space (`spaces/app.py`) and for one's own machine (`keep-hf demo`). Needs gradio."""

from .app import build_demo
from .jobs.clients import ClientLimits
from .limits import Limits


__all__ = ["ClientLimits", "Limits", "build_demo"]
