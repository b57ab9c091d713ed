"""The web page: the same on a Space (`spaces/app.py`) and at home (`keep-hf demo`).  Needs gradio."""

from .app import PAGE, build_demo
from .limits import Limits


__all__ = ["PAGE", "Limits", "build_demo"]
