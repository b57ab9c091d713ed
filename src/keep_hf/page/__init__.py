"""The web page, for a Space (`spaces/app.py`) and for one's own machine (`keep-hf demo`). Needs gradio."""

from .app import LAUNCH_OPTIONS, build_demo
from .limits import Limits


__all__ = ["LAUNCH_OPTIONS", "Limits", "build_demo"]
