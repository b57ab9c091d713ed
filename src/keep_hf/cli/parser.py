"""The arguments of all commands.

Nothing heavy is imported here, so lists of choices that a heavy module defines are repeated;
`tests/cli/test_parser.py` compares them.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import AUTO, CODECS, DEFAULT_MODEL, GAIN_MODES, LATENCIES, PRESETS, RestorationOptions
from ..version import __version__


if TYPE_CHECKING:
    import torch

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


ANY_CLUSTER = "auto"
DTYPES = ("fp32", "bf16", "fp16")
BENCHMARK_DTYPES = ("fp32", "tf32", "bf16", "fp16")
LEVELS = ("mild", "medium", "heavy")
MODEL = (
    "keep-small or keep-tiny, in the package; keep, keep-asian or codeformer, downloaded on first use (non-commercial "
    "licence); a folder; a Hub id; a checkpoint file or its URL"
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `keep-hf`; the parsed arguments hold the name of the command as `command`."""
    parser = argparse.ArgumentParser(prog="keep-hf", description="Clear, steady faces in degraded video.")
    parser.add_argument("--version", action="version", version=f"keep_hf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add_command in (
        _add_restore,
        _add_faces,
        _add_convert,
        _add_degrade,
        _add_evaluate,
        _add_benchmark,
        _add_demo,
    ):
        add_command(commands)
    return parser


def _add_restore(commands: "Commands") -> None:
    parser = commands.add_parser("restore", help="restore the faces of a video, or of all videos in a folder")
    parser.add_argument(
        "input", metavar="IN", type=Path, help="video file, animated image, folder of videos, or folder of images"
    )
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="video file or folder to write; both may be URLs such as s3://..."
    )
    _add_model(parser, MODEL)
    parser.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    parser.add_argument(
        "--faces", type=face_selection, default="all", help="all, largest, or numbers from keep-hf faces: 0,2"
    )
    parser.add_argument(
        "--min-face-size",
        type=float,
        default=RestorationOptions.min_face_size,
        help="in pixels; smaller faces are not restored",
    )
    parser.add_argument("--fidelity", type=float, help="0: free of the input's artifacts; 1: close to the input")
    parser.add_argument(
        "--strength",
        type=strength,
        default=RestorationOptions.strength,
        help="weight of the result against the input, 0 to 1; auto: as much as the input needs",
    )
    parser.add_argument(
        "--person-strength",
        type=person_strength,
        metavar="N=S,...",
        help="a strength for single people, by their numbers from keep-hf faces: 0=1,1=0.5,2=0",
    )
    parser.add_argument(
        "--upscale", type=int, default=RestorationOptions.upscale, help="enlarge the frames by this factor, 1 to 4"
    )
    parser.add_argument("--gain-mode", choices=GAIN_MODES, default=RestorationOptions.gain_mode)
    parser.add_argument(
        "--latency",
        choices=LATENCIES,
        default=RestorationOptions.latency,
        help="low: as for a camera, to try it on a file",
    )
    _add_device(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--compile", action="store_true", help="compile the networks first: for long videos on a GPU")
    parser.add_argument("--background", type=Path, help="model file that enlarges the rest of the frames")
    parser.add_argument("--parser", help="model that keeps what occludes a face: a folder or a Hub repository")
    _add_identity(parser)
    _add_frame_rate(parser)
    _add_video_stream(parser)
    parser.add_argument("--strict", action="store_true", help="fail on a truncated or damaged video: exit code 1")
    parser.add_argument("--codec", choices=CODECS, help="codec of the output; by default chosen by the source")
    parser.add_argument("--crf", type=int, help="quality of the output, from 0 (best) to 51; 16 by default")
    parser.add_argument("--preset", choices=PRESETS, help="speed of H.264 and HEVC; medium by default")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="folder for local copies of remote files; by default in HF_HOME"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run after its last segment")
    parser.add_argument(
        "--ray",
        nargs="?",
        const=ANY_CLUSTER,
        metavar="ADDRESS",
        help="restore on a Ray cluster, scene by scene; by default the one that runs here, or else a local one",
    )
    parser.add_argument("--workers", type=int, help="with --ray: number of workers; by default one per GPU or core")
    parser.add_argument(
        "--longest-whole", type=int, default=500, help="with --ray: frames up to which a video is not divided"
    )
    parser.add_argument("--report", type=Path, help="file to write a summary to: .html to read, or else JSON")
    parser.add_argument(
        "--column",
        help="IN is a dataset, hf://datasets/owner/name, with videos in this column; OUT becomes another",
    )
    parser.add_argument("--config", help="with --column: the configuration (subset) of the dataset")
    parser.add_argument("--split", help="with --column: the split; train by default")
    parser.add_argument(
        "--num-shards", type=int, help="with --column: shards of the result; by default as many as IN has files"
    )


def _add_faces(commands: "Commands") -> None:
    parser = commands.add_parser("faces", help="list the faces of a video with the numbers for restore --faces")
    parser.add_argument("input", metavar="IN", type=Path, help="video file, or folder of images")
    parser.add_argument("--sheet", type=Path, help="write an image of all faces with their numbers: .png or .jpg")
    _add_model(parser, f"whose detector to use: {MODEL}")
    _add_identity(parser)
    parser.add_argument("--min-face-size", type=float, default=0, help="in pixels; smaller faces are not listed")
    _add_frame_rate(parser)
    _add_video_stream(parser)
    _add_device(parser)
    parser.set_defaults(dtype="fp32")


def _add_convert(commands: "Commands") -> None:
    parser = commands.add_parser("convert", help="convert a published checkpoint to a folder for from_pretrained")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint file, its URL, or owner/repository/file")
    parser.add_argument("output", metavar="OUT_DIR", type=Path)


def _add_degrade(commands: "Commands") -> None:
    parser = commands.add_parser("degrade", help="degrade a sharp video as in the paper")
    parser.add_argument("input", metavar="IN", type=Path)
    parser.add_argument("output", metavar="OUT", type=Path)
    parser.add_argument("--level", choices=LEVELS, default="medium")
    parser.add_argument("--seed", type=int, default=0)


def _add_evaluate(commands: "Commands") -> None:
    parser = commands.add_parser("evaluate", help="measure videos against references, or how steady they are")
    parser.add_argument("restored", metavar="RESTORED", type=Path, help="video, folder of videos or of images")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, nargs="?", help="the ground truth, alike")
    parser.add_argument("--aligned", action="store_true", help="the frames are aligned face crops already")
    parser.add_argument("--resize", action="store_true", help="shrink the larger video by area to the smaller one")
    parser.add_argument(
        "--faces", type=face_selection, default="all", help="all, largest, or numbers from keep-hf faces: 0,2"
    )
    parser.add_argument("--min-face-size", type=float, default=0, help="in pixels; smaller faces are not measured")
    parser.add_argument("--identity", help="for IDS, and to number people: ONNX file, folder or Hub repository")
    parser.add_argument("--landmarks", help="for AKD: ONNX file, folder or Hub repository")
    parser.add_argument("--lpips", help="for LPIPS: folder or Hub repository, or the weight file of a backbone")
    parser.add_argument("--lpips-weights", help="LPIPS' channel weights, if --lpips names a backbone")
    parser.add_argument("--flow", default="dis", help="for flicker: dis, or the model whose flow network to use")
    _add_model(parser, f"whose detector to use: {MODEL}")
    _add_frame_rate(parser)
    _add_device(parser)
    parser.add_argument("--report", type=Path, help="JSON file to write all values to")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="folder for plots of profiles and values over time")
    parser.set_defaults(dtype="fp32")


def _add_benchmark(commands: "Commands") -> None:
    parser = commands.add_parser("benchmark", help="measure speed and memory on this machine, with a synthetic video")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"{MODEL}, or published-size: the published network, untrained"
    )
    _add_device(parser)
    parser.add_argument("--dtype", choices=BENCHMARK_DTYPES, nargs="+", default=["fp32"])
    parser.add_argument("--people", type=int, nargs="+", default=[1, 3], help="numbers of people in the video")
    parser.add_argument("--frames", type=int, default=50, help="length of the video")
    parser.add_argument("--report", type=Path, help="JSON file to write all values to")


def _add_demo(commands: "Commands") -> None:
    parser = commands.add_parser("demo", help="open the web page on this machine")
    _add_model(parser, MODEL)
    _add_device(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 admits other machines")
    parser.add_argument("--port", type=port, help="7860, or the next free port, by default")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="longest part of a video to restore at once")


def _add_model(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--model", default=DEFAULT_MODEL, help=help)
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="folder for downloaded models; by default in HF_HOME"
    )
    parser.add_argument("--detector", help="YuNet instead of the model's detector: an .onnx file or a Hub repository")


def _add_identity(parser: argparse.ArgumentParser) -> None:
    help = "face recognition, which also finds people again after cuts: an .onnx file or a Hub repository"
    parser.add_argument("--identity", help=help)


def _add_frame_rate(parser: argparse.ArgumentParser) -> None:
    help = "frames per second of a folder of images"
    parser.add_argument("--frame-rate", type=float, default=RestorationOptions.frame_rate, help=help)


def _add_video_stream(parser: argparse.ArgumentParser) -> None:
    help = "index of the video stream among all streams of the file; by default the one marked as the default"
    parser.add_argument("--video-stream", type=int, metavar="N", help=help)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=existing_device, help="cpu, cuda, cuda:1, mps; by default a GPU if present")


def port(text: str) -> int:
    """The value of `--port`."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def existing_device(text: str) -> "torch.device":
    """The value of `--device`."""
    import torch  # takes more than a second

    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}
    kind, _, index = text.partition(":")
    if not (index or "0").isdecimal() or int(index or 0) >= counts.get(kind, 0):
        available = ", ".join(f"{name}:{i}" for name, count in counts.items() for i in range(count))
        raise argparse.ArgumentTypeError(f"there is no {text!r} on this machine, but {available}")
    return torch.device(text)


def strength(text: str) -> float | str:
    """The value of `--strength`."""
    if text == AUTO:
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {AUTO} nor a number") from None


def person_strength(text: str) -> dict[int, float | str]:
    """The value of `--person-strength`."""
    strengths: dict[int, float | str] = {}
    for entry in text.split(","):
        number, separator, value = (part.strip() for part in entry.partition("="))
        if not (separator and number.isdecimal()):
            raise argparse.ArgumentTypeError(f"{entry!r} is not a number of a person and a strength, such as 1=0.5")
        if int(number) in strengths:
            raise argparse.ArgumentTypeError(f"{text!r} has person {int(number)} twice")
        strengths[int(number)] = strength(value)
    return strengths


def face_selection(text: str) -> str | tuple[int, ...]:
    """The value of `--faces`."""
    if text in ("all", "largest"):
        return text
    if not all(number.strip().isdecimal() for number in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not all, largest, or numbers separated by commas")
    return tuple(int(number) for number in text.split(","))
