"""keep_hf as a Hugging Face Space: on ZeroGPU, on a GPU of its own, or on a CPU.

python spaces/app.py        # the same at home, which `keep-hf demo` also opens
"""

import os
from collections.abc import Callable

import gradio as gr
import spaces  # before torch: on ZeroGPU it takes the place of CUDA until a GPU is lent
import torch

from keep_hf import KeepPipeline
from keep_hf.page import PAGE, Limits
from keep_hf.page import build_demo as build_page


LIMITS = Limits()


def on_gpu(function: Callable, duration: Callable[..., int]) -> Callable:
    return spaces.GPU(duration=duration)(function)


def build_demo(pipe: KeepPipeline) -> gr.Blocks:
    """The page; off ZeroGPU the borrowing of a GPU does nothing."""
    return build_page(pipe, limits=LIMITS, on_gpu=on_gpu)


# The Space's settings may name another model of the Hub.
pipe = KeepPipeline.from_pretrained(os.environ.get("KEEP_HF_MODEL", "keep-tiny"))
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
demo = build_demo(pipe)

if __name__ == "__main__":
    demo.launch(max_file_size=f"{LIMITS.megabytes}mb", **PAGE)
