"""`keep-hf demo`: open the web page on this machine."""

import argparse
from importlib.util import find_spec

from .loading import load_pipeline, selected_device


def run(args: argparse.Namespace) -> None:
    """Serve the page until the process is interrupted."""
    if find_spec("gradio") is None:
        raise ValueError("The page needs gradio: pip install 'gradio>=6,<7'.")
    from ..page import Limits, build_demo  # needs gradio

    demo = build_demo(load_pipeline(args).to(selected_device(args)), limits=Limits(seconds=args.max_seconds))
    try:
        demo.launch(server_name=args.host, server_port=args.port)
    finally:
        demo.close()
