"""Compare the networks of a pipeline with the limits of this machine.

    python -m benchmarks.roofline --model published-size --device cuda --dtype fp32 tf32 bf16 --people 1 3 8

The limit of a network is its roofline: it takes at least the time of its multiplications at the highest rate of a
single layer, and at least the time to read its weights once at the rate of a copy.  `keep-hf benchmark` measures whole
videos.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from keep_hf import GMFlow, KeepPipeline
from keep_hf.benchmark import (
    DTYPES,
    PUBLISHED_SIZE,
    Setup,
    describe_machine,
    load_pipeline,
    measure_in_process,
    print_machine,
)
from keep_hf.drawn_people import draw_video
from keep_hf.models.flow.warp import warp
from keep_hf.models.recursion import KalmanRecursion
from keep_hf.video.pixels import to_tensor


MAX_REPEATS = 5
MAX_SECONDS = 1.0  # of all repeats of one measurement
# Sides of the square matrices and of the feature maps that are multiplied and convolved to find the highest rate.
MATRIX_SIDES = {"cpu": (256, 512, 1024, 2048), "gpu": (1024, 2048, 4096, 8192)}
MAP_SIDES = {"cpu": (8, 16, 32, 64), "gpu": (64, 128, 256)}
CHANNELS = 256


def _linear_flops(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight[0]


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * query[:3].numel() * key[2] * (key[3] + value[3])


# Kernels for CPUs that torch's counter does not know.
FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # the wheels for macOS have no oneDNN
    FLOP_FORMULAS[torch.ops.mkldnn._linear_pointwise] = _linear_flops


@dataclass(frozen=True)
class Limits:
    """Rates that this machine reaches.

    Args:
        gflop_per_s (`float`): Of the fastest convolution or matrix product.
        gb_per_s (`float`): Of a copy in memory; bytes that are read and written both count.
    """

    gflop_per_s: float
    gb_per_s: float


@dataclass(frozen=True)
class PartSpeed:
    """Speed of a part of the networks.

    Args:
        milliseconds (`float`): Per frame and person.
        gflop (`float`): Per frame and person.
        share_of_limit (`float`): Shortest possible time divided by the measured time.
    """

    milliseconds: float
    gflop: float
    share_of_limit: float


@dataclass(frozen=True)
class Work:
    """A call to measure.

    Args:
        run (`Callable[[], object]`): The call.
        network (`nn.Module`): Its weights are read once per call.
        num_frames (`float`): Frames that the call processes for every person.
    """

    run: Callable[[], object]
    network: nn.Module
    num_frames: float


def measure_networks(setup: Setup) -> dict[str, Any]:
    """Measure every part of the networks with a batch of one crop per person.

    Returns:
        `dict[str, Any]`: For JSON. The values of the setup; `limits` ([`Limits`]); `parts`, by name a [`PartSpeed`].
    """
    pipe = load_pipeline(setup)
    device, dtype = torch.device(setup.device), DTYPES[setup.dtype]
    with torch.no_grad():
        limits = measure_limits(device, dtype)
        parts = {
            name: asdict(measure_part(work, limits, setup.num_people))
            for name, work in list_parts(pipe, setup.num_people).items()
        }
    return {**asdict(setup), "limits": asdict(limits), "parts": parts}


def list_parts(pipe: KeepPipeline, num_people: int) -> dict[str, Work]:
    """The parts of the networks, each with inputs as in the middle of a video."""
    vq, kalman, flow = pipe.vq, pipe.kalman, pipe.flow
    recursion = KalmanRecursion(vq, kalman, flow)
    size, window = vq.config.sample_size, pipe.config.gain_window
    crops = [cv2.resize(frame, (size, size)) for frame in draw_video(1, 3)]
    clip = to_tensor(crops, pipe.device, vq.dtype)[None].expand(num_people, -1, -1, -1, -1)
    observed = recursion.observe(clip)
    assert observed.latents is not None
    state = recursion.step(clip[:, 0], observed[:, 0], None).state
    all_latents = observed.latents
    latents = all_latents[:, 1]
    quantized = vq.lookup(vq.predict_codes(latents).argmax(-1), clip)
    parts = {
        "observe": Work(lambda: recursion.observe(clip[:, 1:2]), vq.lq_encoder, 1),
        "code transformer": Work(lambda: vq.predict_codes(latents), vq.code_transformer, 1),
        "decoder": Work(lambda: vq.decode(quantized, observed[:, 1].features, 1.0, state.features), vq.decoder, 1),
    }
    if not isinstance(flow, GMFlow) or kalman is None or vq.hq_encoder is None:
        return parts
    back = recursion.flows(clip[:, 1:2], clip[:, 0])[:, 0]
    windows = all_latents[:, :1].expand(-1, window, -1, -1, -1)

    def predict() -> object:
        _, features = vq.encode_hq(warp(state.output, back))
        return vq.update_features(observed[:, 1].features, features)

    return parts | {
        # Three frames are two pairs; each frame passes through the backbone once, as in a video.
        "flow": Work(lambda: recursion.flows(clip, None), flow, 2),
        # Every frame is in two windows.
        "gains": Work(lambda: kalman(windows), kalman, window / 2),
        "predict": Work(predict, vq.hq_encoder, 1),
    }


def measure_part(work: Work, limits: Limits, num_people: int) -> PartSpeed:
    """Count the operations of a call and time it."""
    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        work.run()
    gflop = counter.get_total_flops() / 1e9
    gb = sum(parameter.nbytes for parameter in work.network.parameters()) / 1e9
    seconds = shortest_time(work.run, next(work.network.parameters()).device)
    least = max(gflop / limits.gflop_per_s, gb / limits.gb_per_s)
    share = work.num_frames * num_people
    return PartSpeed(1000 * seconds / share, gflop / share, least / seconds)


def measure_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Measure the highest rates of this machine for a type."""
    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, device=device, dtype=dtype)

    def convolve(side: int) -> tuple[Callable[[], object], float]:
        maps = torch.randn(1, CHANNELS, side, side, device=device, dtype=dtype)
        return lambda: convolution(maps), 2 * 9 * CHANNELS**2 * side**2

    def multiply(side: int) -> tuple[Callable[[], object], float]:
        square = torch.randn(side, side, device=device, dtype=dtype)
        return lambda: square @ square, 2 * side**3

    kind = "cpu" if device.type == "cpu" else "gpu"
    rates = highest_rate(convolve, MAP_SIDES[kind], device), highest_rate(multiply, MATRIX_SIDES[kind], device)
    block = torch.empty(2**28, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    copied = 2 * block.nbytes / shortest_time(lambda: other.copy_(block), device)
    return Limits(gflop_per_s=max(rates) / 1e9, gb_per_s=copied / 1e9)


def highest_rate(
    make: Callable[[int], tuple[Callable[[], object], float]], sides: tuple[int, ...], device: torch.device
) -> float:
    """Operations per second at the best of several sizes.

    The sizes grow, and those after the first slow one are left out: a CPU without instructions for a type would need
    minutes for the largest.

    Args:
        make (`Callable[[int], tuple[Callable[[], object], float]]`): From a size to a call and its operations.
        sides (`tuple[int, ...]`): In ascending order.
        device (`torch.device`): Where the call runs.
    """
    best = 0.0
    for side in sides:
        run, operations = make(side)
        seconds = shortest_time(run, device)
        best = max(best, operations / seconds)
        if seconds > MAX_SECONDS / MAX_REPEATS:
            break
    return best


def shortest_time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several calls.

    The first call, which selects kernels and allocates memory, counts only if it takes so long that no other follows.
    """
    seconds: list[float] = []
    while len(seconds) <= MAX_REPEATS and sum(seconds) < MAX_SECONDS:
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:] or seconds)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="keep-tiny", help=f"as of keep-hf restore, or {PUBLISHED_SIZE}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["fp32"])
    parser.add_argument("--people", type=int, nargs="+", default=[1, 3], help="sizes of the batch")
    parser.add_argument("--report", type=Path, help="write all values, as JSON")
    args = parser.parse_args(arguments)

    machine = describe_machine(args.device)
    print_machine(machine)
    print(f"\n{'part':18}{'dtype':7}{'people':>7}{'ms':>9}{'GFLOP':>9}{'GFLOP/s':>9}{'of limit':>9}", flush=True)
    networks = []
    for dtype in args.dtype:
        for number in args.people:
            measured = measure_in_process(measure_networks, Setup(args.model, args.device, dtype, number, True, 1))
            networks.append(measured)
            for name, part in measured["parts"].items():
                milliseconds, gflop, share = part.values()
                rate = 1000 * gflop / milliseconds
                print(f"{name:18}{dtype:7}{number:7}{milliseconds:9.2f}{gflop:9.2f}{rate:9.0f}{share:9.0%}")
            limits = Limits(**measured["limits"])
            print(f"{'(limit)':18}{dtype:7}{limits.gflop_per_s:34.0f}, {limits.gb_per_s:.0f} GB/s", flush=True)
    if args.report:
        args.report.write_text(json.dumps({"machine": machine, "networks": networks}, indent=2) + "\n")


if __name__ == "__main__":
    main()
