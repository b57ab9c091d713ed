"""Measure the speed and memory of a pipeline on this machine: from file to file, with the time of every stage.

The video is synthetic, so nothing is downloaded, and the time does not depend on the values of the weights.  Peak
memory is that of a process, so every measurement runs in a process of its own ([`measure_in_process`]).

`benchmarks/roofline.py` in the repository compares the networks with the limits of the machine.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from torch import nn

from .allocator import keep_freed_memory
from .downloads.checkpoints import is_checkpoint
from .drawn_people import draw_video
from .models.fast_paths import warn_if_slow
from .models.flow.gmflow import GMFlow
from .models.kalman import KalmanGainNetwork
from .models.vq import KeepVQModel
from .pipeline import KeepPipeline
from .video.reader import VideoReader
from .video.writer import VideoWriter


DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Name of a pipeline of the published size with random weights.
PUBLISHED_SIZE = "published-size"
FRAME_RATE = 25  # of the synthetic video, in frames per second
# Frames that are restored before the measurement: kernels are selected and memory is allocated.
WARM_UP_FRAMES = 4

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Args:
        model (`str`): Built-in name, folder, Hub id, file of a published checkpoint, or `"published-size"`.
        device (`str`): As torch names it.
        dtype (`str`): `"fp32"`, `"tf32"` (float32 with the tensor cores of a GPU), `"bf16"` or `"fp16"`.
        num_people (`int`): People in the video.
        aligned (`bool`): Whether the frames are aligned face crops; if not, faces are detected and pasted back.
        num_frames (`int`): Length of the video.
    """

    model: str
    device: str
    dtype: str
    num_people: int
    aligned: bool
    num_frames: int


@dataclass(frozen=True)
class Speed:
    """Speed and memory of a setup.

    Args:
        setup ([`Setup`]): What was measured.
        people_found (`int`): Number of people that were tracked.
        frames_per_second (`float`): Over the whole run, from file to file.
        milliseconds (`dict[str, float]`): Per frame and stage; `total` is the whole run. `decode` and `encode` run in
            parallel with the other stages and are measured separately.
        peak_memory_bytes (`dict[str, int]`): Of the process (`host`) and, on a GPU, of the device (`device`).
    """

    setup: Setup
    people_found: int
    frames_per_second: float
    milliseconds: dict[str, float]
    peak_memory_bytes: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """All values as plain numbers and text, for JSON."""
        values = asdict(self)
        return values.pop("setup") | values


def load_pipeline(setup: Setup) -> KeepPipeline:
    """Load the pipeline of a setup on its device."""
    dtype = DTYPES[setup.dtype]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setup.dtype == "tf32"
    if setup.device == "cpu":
        keep_freed_memory()
    disable_progress_bar()
    if setup.model == PUBLISHED_SIZE or is_checkpoint(setup.model):
        # Published checkpoints contain no detector, and nothing is to be downloaded.
        detector = KeepPipeline.from_pretrained("keep-tiny", dtype=dtype).detector
        if setup.model == PUBLISHED_SIZE:
            vq, kalman, flow = KeepVQModel(), KalmanGainNetwork(), GMFlow()
            for network in (vq, kalman, flow):
                # ModelMixin.to would warn about modules to keep in float32; there are none.
                nn.Module.to(network, dtype).eval()
            pipe = KeepPipeline(vq=vq, kalman=kalman, flow=flow, detector=detector)
        else:
            pipe = KeepPipeline.from_single_file(setup.model, detector=detector, dtype=dtype)
    else:
        pipe = KeepPipeline.from_pretrained(setup.model, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(setup.device)


def measure_in_process(measure: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def measure_video(setup: Setup) -> Speed:
    """Restore a synthetic video from file to file."""
    pipe = load_pipeline(setup)
    size = pipe.vq.config.sample_size
    # The position of the face in an aligned crop does not change the time.
    width, height = (size, size) if setup.aligned else (640, 480)
    frames = list(draw_video(setup.num_people, setup.num_frames, width, height, FRAME_RATE))
    seconds = {"decode": 0.0, "encode": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        _write(source, frames[:WARM_UP_FRAMES])
        pipe.restore_video(source, target, aligned=setup.aligned)

        with _timed(seconds, "encode"):
            _write(source, frames)
        with _timed(seconds, "decode"), VideoReader(source) as reader:
            for _ in reader:
                pass
        report = pipe.restore_video(source, target, aligned=setup.aligned)
    seconds |= report["seconds"]
    return Speed(
        setup=setup,
        people_found=len(report["tracks"]),
        frames_per_second=len(frames) / seconds["total"],
        milliseconds={stage: 1000 * value / len(frames) for stage, value in seconds.items()},
        peak_memory_bytes=report["peak_memory_bytes"],
    )


def _write(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width=width, height=height, frame_rate=Fraction(FRAME_RATE)) as writer:
        for frame in frames:
            writer.write(frame)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def run_benchmarks(model: str, device: str, dtypes: list[str], people: list[int], num_frames: int) -> dict[str, Any]:
    """Measure videos of aligned crops and of whole frames, and print a table row after each measurement.

    Args:
        model (`str`): Built-in name, folder, Hub id, file of a published checkpoint, or `"published-size"`.
        device (`str`): As torch names it.
        dtypes (`list[str]`): Types to measure, see [`Setup`].
        people (`list[int]`): Numbers of people in the videos of whole frames, each at least 1.
        num_frames (`int`): Length of the videos, at least 1.

    Returns:
        `dict[str, Any]`: For JSON. `machine`, see [`describe_machine`]; `videos`, a list of [`Speed.to_dict`].

    Raises:
        ValueError: If a number of people or the number of frames is less than 1.
    """
    if min(people) < 1 or num_frames < 1:
        raise ValueError(f"A benchmark needs at least 1 person and 1 frame, got {people} people, {num_frames} frames.")
    machine = describe_machine(device)
    print_machine(machine)
    print(f"\n{'video':12}{'dtype':7}{'found':>6}{'fps':>8}{'peak GiB':>10}   ms per frame", flush=True)
    videos = []
    for dtype in dtypes:
        warn_if_slow(DTYPES[dtype], torch.device(device))
        for aligned, number in [(True, 1), *((False, number) for number in people)]:
            speed = measure_in_process(measure_video, Setup(model, device, dtype, number, aligned, num_frames))
            videos.append(speed.to_dict())
            name = "aligned" if aligned else f"{number} people" if number > 1 else "1 person"
            memory = ", ".join(f"{value / 2**30:.2f}" for value in speed.peak_memory_bytes.values())
            stages = ", ".join(f"{stage} {value:.1f}" for stage, value in speed.milliseconds.items())
            found, fps = speed.people_found, speed.frames_per_second
            print(f"{name:12}{dtype:7}{found:6}{fps:8.2f}{memory:>10}   {stages}", flush=True)
    return {"machine": machine, "videos": videos}


def describe_machine(device: str) -> dict[str, str | int]:
    """The properties of this machine that a measurement depends on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def print_machine(machine: dict[str, str | int]) -> None:
    """Print the properties of a machine in one line."""
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
