"""Generate a video with any diffusers pipeline and restore the faces in it, without a file in between.

python examples/after_diffusers.py "a woman reads by the window" out.mp4 --generator Wan-AI/Wan2.1-T2V-1.3B-Diffusers
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from keep_hf import KeepPipeline, VideoWriter


def generate(generator: Any, keep: KeepPipeline, frame_rate: float, **options: Any) -> list[Image.Image]:
    """Generate the frames of a video, with the options of the generator, and restore the faces in them."""
    frames = generator(output_type="pil", **options).frames[0]
    return keep(frames, frame_rate=frame_rate).frames[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("output", type=Path, help="video file to write")
    parser.add_argument("--generator", required=True, help="Hub id or folder of a text-to-video pipeline")
    parser.add_argument("--num-frames", type=int, default=81)
    parser.add_argument("--frame-rate", type=float, default=16.0, help="frames per second of the generated video")
    parser.add_argument("--model", default="keep-small")
    args = parser.parse_args()

    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    generator = DiffusionPipeline.from_pretrained(args.generator, torch_dtype=dtype).to(device)
    keep = KeepPipeline.from_pretrained(args.model).to(device)
    frames = generate(generator, keep, args.frame_rate, prompt=args.prompt, num_frames=args.num_frames)
    width, height = frames[0].size
    with VideoWriter(args.output, width=width, height=height, frame_rate=args.frame_rate) as writer:
        for frame in frames:
            writer.write(np.array(frame))


if __name__ == "__main__":
    main()
