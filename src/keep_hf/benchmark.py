"""How fast a pipeline is on this machine: end to end, by stage, and its networks against the limit of the machine.

The film is drawn, so nothing has to be fetched, and no time depends on what the weights are.  Whoever measures memory
gives each measurement a process of its own (`measure_apart`): the peak is that of the process.

The limit of a network is its roofline: it cannot take less time than its multiplications do at the rate of the fastest
single layer, nor than reading its weights once does at the rate of a copy.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import torch
from diffusers.utils.logging import disable_progress_bar
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .allocator import keep_freed_memory
from .drawn_people import draw_film
from .models.autoencoder import Features
from .models.flow import GMFlow, warp
from .models.kalman import KalmanGainNetwork
from .models.recursion import KalmanRecursion
from .models.vq import KeepVQModel
from .pipeline import KeepPipeline
from .video.pixels import to_tensor
from .video.reader import VideoReader
from .video.writer import VideoWriter


DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# A pipeline of the published size with random weights.
PUBLISHED_SIZE = "published-size"
# Frames per second of the film, and frames that are restored before time counts: kernels are chosen, memory is found.
FRAME_RATE, WARM_UP = 25, 4


@dataclass(frozen=True)
class Setup:
    """What is measured.

    Attributes:
        model (`str`): Built-in name, folder, Hub id, file of a published checkpoint, or `"published-size"`.
        device (`str`): As torch names it.
        dtype (`str`): `"fp32"`, `"tf32"` (float32 with the tensor cores of a GPU), `"bf16"` or `"fp16"`.
        num_people (`int`): In the film.
        aligned (`bool`): The film is one person's aligned crop; otherwise faces are found and pasted back.
        num_frames (`int`): Length of the film.
    """

    model: str
    device: str
    dtype: str
    num_people: int
    aligned: bool
    num_frames: int


def _linear_flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight[0]


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * query[:3].numel() * key[2] * (key[3] + value[3])


# What runs on CPUs and torch's counter does not know.
MORE_FLOPS = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


def load(setup: Setup) -> KeepPipeline:
    """The pipeline of a setup, on its device."""
    dtype = DTYPES[setup.dtype]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setup.dtype == "tf32"
    if setup.device == "cpu":
        keep_freed_memory()
    disable_progress_bar()
    if setup.model == PUBLISHED_SIZE or Path(setup.model).is_file():
        # Published checkpoints have no detector; nothing is to be fetched.
        detector = KeepPipeline.from_pretrained("keep-tiny", dtype=dtype).detector
        if setup.model == PUBLISHED_SIZE:
            components: dict[str, Any] = {"vq": KeepVQModel(), "kalman": KalmanGainNetwork(), "flow": GMFlow()}
            networks = {name: nn.Module.to(network, dtype).eval() for name, network in components.items()}
            pipe = KeepPipeline(**networks, detector=detector)
        else:
            pipe = KeepPipeline.from_single_file(setup.model, detector=detector, dtype=dtype)
    else:
        pipe = KeepPipeline.from_pretrained(setup.model, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(setup.device)


def measure_apart(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of this module in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


# --- end to end ------------------------------------------------------------------------------------------------------


def measure_film(setup: Setup) -> dict[str, Any]:
    """Restore a drawn film from file to file.

    Returns:
        `dict`: `fps`, frames per second over all; `ms`, milliseconds a frame by stage, with `decode` and `encode`,
        which run beside the others, measured alone; `peak_memory_bytes`; and the setup.
    """
    pipe = load(setup)
    size = pipe.vq.config.sample_size
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        # Where the face is in an aligned crop changes no time.
        width, height = (size, size) if setup.aligned else (640, 480)
        frames = list(draw_film(setup.num_people, setup.num_frames, width, height, FRAME_RATE))
        like = {"width": width, "height": height, "frame_rate": Fraction(FRAME_RATE)}
        _write(source, frames, like)
        seconds = {"decode": _seconds(lambda: [None for _ in VideoReader(source)])}
        seconds["encode"] = _seconds(lambda: _write(Path(folder) / "again.mp4", frames, like))

        warm = Path(folder) / "warm.mp4"
        _write(warm, frames[:WARM_UP], like)
        pipe.restore_video(warm, target, aligned=setup.aligned)
        report = pipe.restore_video(source, target, aligned=setup.aligned)
    total = report["seconds"].pop("total")
    per_frame = {name: 1000 * value / len(frames) for name, value in (seconds | report["seconds"]).items()}
    return {
        **vars(setup),
        "found": len(report["tracks"]),
        "fps": len(frames) / total,
        "ms": per_frame | {"all": 1000 * total / len(frames)},
        "peak_memory_bytes": report["peak_memory_bytes"],
    }


def _write(path: Path, frames: list, like: dict[str, Any]) -> None:
    with VideoWriter(path, **like) as writer:
        for frame in frames:
            writer.write(frame)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- the networks against the limit ----------------------------------------------------------------------------------


def measure_networks(setup: Setup) -> dict[str, Any]:
    """Time each part of the networks on as many crops at once as there are people.

    Returns:
        `dict`: `limits`, the rates of the machine; `parts`, for each part milliseconds and GFLOP a frame and person,
        and `reached`, the part of its roofline.
    """
    pipe = load(setup)
    device, dtype = torch.device(setup.device), DTYPES[setup.dtype]
    vq, kalman, flow = pipe.vq, pipe.kalman, pipe.flow
    recursion = KalmanRecursion(vq, kalman, flow)
    size, window = vq.config.sample_size, pipe.config.gain_window
    crops = [cv2.resize(frame, (size, size)) for frame in draw_film(1, 3)]
    people = setup.num_people
    with torch.no_grad():
        clip = to_tensor(crops, device, dtype)[None].expand(people, -1, -1, -1, -1)
        seen = recursion.observe(clip)
        state = recursion.step(clip[:, 0], seen[:, 0], None).state
        latents, quantized = seen.latents[:, 1], vq.lookup(vq.predict_codes(seen.latents[:, 1]).argmax(-1), clip)
        # A frame is seen by two windows.
        windows = seen.latents[:, :1].expand(-1, window, -1, -1, -1)
        parts: dict[str, tuple[Callable[[], Any], nn.Module, float]] = {
            "observe": (lambda: recursion.observe(clip[:, 1:2]), vq.lq_encoder, 1),
            "code transformer": (lambda: vq.predict_codes(latents), vq.code_transformer, 1),
            "decoder": (lambda: vq.decode(quantized, seen[:, 1].features, 1.0, state.features), vq.decoder, 1),
        }
        if flow is not None and kalman is not None:
            back = recursion.flows(clip[:, 1:2], clip[:, 0])[:, 0]

            def predict() -> Features:
                _, features = vq.encode_hq(warp(state.output, back))
                return vq.update_features(seen[:, 1].features, features)

            parts |= {
                # Two frames and a pair of them; in a film each frame goes through the backbone once.
                "flow": (lambda: recursion.flows(clip, None), flow, 2),
                "gains": (lambda: kalman(windows), kalman, window / 2),
                "predict": (predict, vq.hq_encoder, 1),
            }
        limits = measure_limits(device, dtype)
        return {**vars(setup), "limits": limits, "parts": {k: _against(limits, *v, people) for k, v in parts.items()}}


def _against(
    limits: dict[str, float], work: Callable[[], Any], network: Any, frames: float, people: int
) -> dict[str, float]:
    with FlopCounterMode(display=False, custom_mapping=MORE_FLOPS) as counter:
        work()
    weights = sum(parameter.nbytes for parameter in network.parameters())
    gflop = counter.get_total_flops() / 1e9
    milliseconds = 1000 * _best(work, next(network.parameters()).device)
    least = max(gflop / limits["gflop_per_s"], weights / 1e9 / limits["gb_per_s"])
    share = frames * people
    return {"ms": milliseconds / share, "gflop": gflop / share, "reached": 1000 * least / milliseconds}


def measure_limits(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """What the machine attains: `gflop_per_s` of the faster of a convolution and a product, `gb_per_s` of a copy."""
    with torch.no_grad():
        maps = torch.randn(1 if device.type == "cpu" else 8, 256, 64, 64, device=device, dtype=dtype)
        convolution = nn.Conv2d(256, 256, 3, padding=1, device=device, dtype=dtype)
        side = 2048 if device.type == "cpu" else 8192
        square = torch.randn(side, side, device=device, dtype=dtype)
        rates = (
            2 * 9 * 256**2 * maps.numel() / 256 / _best(lambda: convolution(maps), device),
            2 * side**3 / _best(lambda: square @ square, device),
        )
        block = torch.empty(2**28, dtype=torch.uint8, device=device)
        other = torch.empty_like(block)
        copied = 2 * block.nbytes / _best(lambda: other.copy_(block), device)
    return {"gflop_per_s": max(rates) / 1e9, "gb_per_s": copied / 1e9}


def _best(work: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Seconds of the fastest of some runs, after one that does not count."""

    def run() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    run()
    return min(run() for _ in range(repeats))


# --- all of it -------------------------------------------------------------------------------------------------------


def run_benchmarks(model: str, device: str, dtypes: list[str], people: list[int], num_frames: int) -> dict[str, Any]:
    """Measure films, aligned and not, and networks; print tables while it goes.

    Args:
        model, device, num_frames: See [`Setup`].
        dtypes (`list[str]`): All that shall be measured.
        people (`list[int]`): Numbers of people in the films.

    Returns:
        `dict`: `machine`, and the lists `films` and `networks`; see `measure_film` and `measure_networks`.

    Raises:
        ValueError: If there is nobody or no frame.
    """
    if min(people) < 1 or num_frames < 1:
        raise ValueError(f"There must be people and frames; got {people} people and {num_frames} frames.")
    machine = describe_machine(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    films, networks = [], []
    print(f"\n{'film':12}{'dtype':7}{'found':>6}{'fps':>8}{'peak GiB':>10}   ms a frame", flush=True)
    for dtype in dtypes:
        for aligned, number in [(True, 1), *((False, number) for number in people)]:
            film = measure_apart(measure_film, Setup(model, device, dtype, number, aligned, num_frames))
            films.append(film)
            memory = ", ".join(f"{value / 2**30:.2f}" for value in film["peak_memory_bytes"].values())
            stages = ", ".join(f"{name} {value:.1f}" for name, value in film["ms"].items())
            name = "aligned" if aligned else f"{number} people" if number > 1 else "1 person"
            print(f"{name:12}{dtype:7}{film['found']:6}{film['fps']:8.2f}{memory:>10}   {stages}", flush=True)
    print(f"\n{'part':18}{'dtype':7}{'people':>7}{'ms':>9}{'GFLOP':>9}{'GFLOP/s':>9}{'of limit':>9}", flush=True)
    for dtype in dtypes:
        for number in people:
            measured = measure_apart(measure_networks, Setup(model, device, dtype, number, True, num_frames))
            networks.append(measured)
            for name, part in measured["parts"].items():
                rate = 1000 * part["gflop"] / part["ms"]
                print(
                    f"{name:18}{dtype:7}{number:7}{part['ms']:9.2f}{part['gflop']:9.2f}{rate:9.0f}"
                    f"{part['reached']:9.0%}"
                )
            limits = measured["limits"]
            print(f"{'(limit)':18}{dtype:7}{limits['gflop_per_s']:34.0f}, {limits['gb_per_s']:.0f} GB/s", flush=True)
    return {"machine": machine, "films": films, "networks": networks}


def describe_machine(device: str) -> dict[str, Any]:
    """Names and numbers that every measurement depends on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
