"""One of the two processes of `benchmarks.speed compare`: it runs the networks of one version of the code.

It imports only public names of the package, so that it also runs with older versions.  For every line on stdin it runs
a clip through the recursion and prints a line of JSON with the CPU seconds of each part.
"""

import argparse
import json
import os
import resource
import runpy
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from keep_hf import GMFlow, KalmanGainNetwork, KalmanRecursion, KeepPipeline, KeepVQModel


PUBLISHED_SIZE = "published-size"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("observe", "flow", "gains", "recursion")


@dataclass(frozen=True)
class WorkerRun:
    """The result of a run.

    Args:
        seconds (`dict[str, float]`): CPU seconds by part, summed over threads; `all` is their sum.
        peak_memory (`int`): Of the process, in bytes.
        output (`str`): File with the restored `frames` and their `codes` (`.npz`).
    """

    seconds: dict[str, float]
    peak_memory: int
    output: str


def load_recursion(args: argparse.Namespace) -> KalmanRecursion:
    torch.manual_seed(0)
    if args.model == PUBLISHED_SIZE and args.weights:
        pipe = load_filled(args.weights)
    elif args.model == PUBLISHED_SIZE:
        pipe = KeepPipeline(vq=KeepVQModel(), kalman=KalmanGainNetwork(), flow=GMFlow())
    else:
        pipe = KeepPipeline.from_pretrained(args.model)
    for network in (pipe.vq, pipe.kalman, pipe.flow):
        assert isinstance(network, torch.nn.Module)
        torch.nn.Module.to(network, DTYPES[args.dtype]).eval()
    if args.compile:
        pipe.compile()
    return KalmanRecursion(pipe.vq, pipe.kalman, pipe.flow)


def load_filled(reference: Path) -> KeepPipeline:
    """A pipeline of the published size with the weights of the golden data, which `fill_weights.py` computes."""
    fill = runpy.run_path(str(reference / "fill_weights.py"))["fill_array"]
    tensors = json.loads((reference / "manifest_full.json").read_text())["tensors"]
    weights = {entry["key"]: torch.from_numpy(fill(entry["key"], entry["shape"], "g")) for entry in tensors}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(weights, Path(folder) / "published.pth")
        return KeepPipeline.from_single_file(Path(folder) / "published.pth")


def moving_image(num_frames: int, size: int) -> torch.Tensor:
    """A smooth random image that moves: (1, t, 3, size, size) in [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, size // 8, size // 8, generator=random) * 2 - 1
    image = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(-1, 1)
    return torch.stack([image.roll((i, 2 * i), dims=(2, 3))[0] for i in range(num_frames)])[None]


@torch.no_grad()
def run_clip(recursion: KalmanRecursion, frames: torch.Tensor, output: Path) -> WorkerRun:
    """Restore a clip, and write its frames and codes to a file."""
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        started = time.process_time()
        yield
        seconds[part] += time.process_time() - started

    assert recursion.kalman is not None
    with timed("observe"):
        observed = recursion.observe(frames)
    with timed("flow"):
        flows = recursion.flows(frames, None)
    with timed("gains"):
        gains = recursion.kalman(observed.latents).gains
    state, restored, codes = None, [], []
    for i in range(frames.shape[1]):
        back = flows[:, i - 1] if i else None
        with timed("recursion"):
            step = recursion.step(frames[:, i], observed[:, i], state, gain=gains[:, i], flow=back)
        state = step.state
        restored.append(state.output.float().numpy())
        assert step.logits is not None
        codes.append(step.logits.argmax(-1).numpy())
    np.savez(output, frames=np.stack(restored), codes=np.stack(codes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return WorkerRun(seconds | {"all": sum(seconds.values())}, peak, str(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=f"built-in name, folder, or {PUBLISHED_SIZE}")
    parser.add_argument("--weights", type=Path, help="folder of fill_weights.py, for the published size")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as keep-hf does")
    parser.add_argument("--compile", action="store_true", help="compile the networks of the recursion")
    args = parser.parse_args()

    if args.keep_memory:
        from keep_hf.allocator import keep_freed_memory

        assert keep_freed_memory()
    recursion = load_recursion(args)
    frames = moving_image(args.frames, recursion.vq.config.sample_size).to(DTYPES[args.dtype])
    output = Path(tempfile.gettempdir()) / f"speed-{os.getpid()}.npz"
    while sys.stdin.readline():
        print(json.dumps(asdict(run_clip(recursion, frames, output))), flush=True)


if __name__ == "__main__":
    main()
