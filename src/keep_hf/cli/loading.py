"""Loading of models as the arguments of a command describe them."""

import argparse
import sys

import torch
from diffusers.utils.logging import CRITICAL, disable_progress_bar, set_verbosity
from huggingface_hub.utils import disable_progress_bars

from ..allocator import keep_freed_memory
from ..downloads.checkpoints import is_checkpoint
from ..faces.yunet import YuNet
from ..models.fast_paths import warn_if_slow
from ..pipeline import KeepPipeline


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def selected_device(args: argparse.Namespace) -> torch.device:
    """The device of `--device`; without it CUDA if there is one, otherwise the CPU."""
    return args.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_pipeline(args: argparse.Namespace) -> KeepPipeline:
    """Load the pipeline of `--model`, `--detector` and `--dtype`, on the CPU."""
    if not sys.stderr.isatty():
        disable_progress_bar()
        disable_progress_bars()
    set_verbosity(CRITICAL)  # every problem of a file that matters is raised, too
    device, dtype = selected_device(args), DTYPES[args.dtype]
    warn_if_slow(dtype, device)
    if device.type == "cpu":
        keep_freed_memory()
    load = KeepPipeline.from_single_file if is_checkpoint(args.model) else KeepPipeline.from_pretrained
    pipe = load(args.model, dtype=dtype, cache_dir=args.cache_dir)
    if args.detector:
        pipe.register_modules(detector=YuNet.from_pretrained(args.detector, cache_dir=args.cache_dir))
    return pipe
