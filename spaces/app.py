"""keep_hf as a Hugging Face Space: on ZeroGPU, on a dedicated GPU, or on a CPU.

python app.py        # the same page on your own machine, like `keep-hf demo`
"""

import os
from collections.abc import Callable

import spaces  # before torch: on ZeroGPU it replaces CUDA until a GPU is assigned
import torch

from keep_hf import KeepPipeline
from keep_hf.page import Limits
from keep_hf.page import build_demo as build_page
from keep_hf.page.app import Demo


# Variables in the settings of the Space.
MODEL = os.environ.get("KEEP_HF_MODEL", "keep-small")
LIMITS = Limits(seconds=float(os.environ.get("KEEP_HF_MAX_SECONDS", "60")))


def on_gpu(function: Callable, duration: Callable[..., int]) -> Callable:
    return spaces.GPU(duration=duration)(function)


def build_demo(pipe: KeepPipeline) -> Demo:
    """Build the page; `on_gpu` has no effect outside ZeroGPU, except that the work is divided into slices."""
    return build_page(pipe, limits=LIMITS, on_gpu=on_gpu)


pipe = KeepPipeline.from_pretrained(MODEL)
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
demo = build_demo(pipe)

if __name__ == "__main__":
    try:
        demo.launch()
    finally:
        demo.close()
