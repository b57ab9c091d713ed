"""Prepare a trained pipeline for the Hub: half precision, a model card, no paths of the machine.

    python -m training.publish runs/keep/pipeline keep-mine --licence apache-2.0 --data "400 clips of my own videos" \\
        --report runs/vfhq_test/report.json --push-to-hub me/keep-mine

The values in the card are those of `benchmarks/vfhq_test.py`; without a report the card says that none were measured.
"""

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

import torch
from huggingface_hub import HfApi

from keep_hf import KeepPipeline
from keep_hf.evaluation.series import REFERENCE_METRICS


CARD = Path(__file__).parent / "model_card_template.md"
ARROWS = {"higher": "↑", "lower": "↓", "": ""}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pipeline", type=Path, help="folder written by train_keep.py")
    add("output", type=Path, help="folder to write")
    add("--licence", required=True, help="licence of the weights, as the Hub names it: apache-2.0, mit, ...")
    add("--data", required=True, help="description of the training data and their licence")
    add("--report", type=Path, help="report.json of benchmarks/vfhq_test.py for this pipeline")
    add("--push-to-hub", metavar="REPO_ID", help="repository to upload to, created if it does not exist")
    add("--private", action="store_true", help="create a private repository")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not (args.pipeline / "model_index.json").is_file():
        parser.error(f"{args.pipeline} contains no pipeline (model_index.json)")
    if args.report and not args.report.is_file():
        parser.error(f"there is no {args.report}: run `python -m benchmarks.vfhq_test` first")
    if args.output.exists() and any(args.output.iterdir()):
        parser.error(f"{args.output} is not empty: name a new folder")

    pipe = KeepPipeline.from_pretrained(args.pipeline, dtype=torch.float16)
    pipe.save_pretrained(args.output)
    for path in args.output.rglob("*.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in args.output.rglob("*.safetensors"):
        path.chmod(0o644)
    (args.output / "README.md").write_text(write_card(pipe, args))
    size = sum(path.stat().st_size for path in args.output.rglob("*.safetensors"))
    print(f"{args.output}: {size / 1e6:.1f} MB")
    if args.push_to_hub:
        hub = HfApi()
        hub.create_repo(args.push_to_hub, private=args.private, exist_ok=True)
        hub.upload_folder(repo_id=args.push_to_hub, folder_path=args.output, commit_message="Add the pipeline")
        print(f"uploaded to {args.push_to_hub}")


def write_card(pipe: KeepPipeline, args: argparse.Namespace) -> str:
    """Fill in the template."""
    components = {name: component for name, component in pipe.components.items() if component is not None}
    networks = [component for component in components.values() if isinstance(component, torch.nn.Module)]
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    return Template(CARD.read_text()).substitute(
        name=args.push_to_hub or args.output.name,
        licence=args.licence,
        data=args.data,
        size=pipe.vq.config.sample_size,
        num_codes=f"{pipe.vq.config.num_codes:,}",
        parameters=f"{count / 1e6:.1f}",
        components=", ".join(f"`{name}` ({type(component).__name__})" for name, component in components.items()),
        metrics=tabulate(json.loads(args.report.read_text())) if args.report else "Nothing was measured yet.",
    )


def tabulate(report: dict[str, Any]) -> str:
    """Format a report as one table per level of degradation, with a row per method."""
    settings = report["settings"]
    blocks = [
        f"{len(report['clips'])} sharp clips, at most {settings['frames']} frames of each, compared at "
        f"{settings['size']} x {settings['size']} pixels; means over the clips."
    ]
    for level, methods in report["levels"].items():
        means = [method["mean"] for method in methods.values()]
        metrics = {k: m for k, m in REFERENCE_METRICS.items() if any(mean[k] is not None for mean in means)}
        heads = [f"{metric.label} {ARROWS[metric.better]}".strip() for metric in metrics.values()]
        rows = [f"| {level} | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
        for name, mean in zip(methods, means, strict=True):
            values = ["-" if mean[key] is None else f"{mean[key]:.4g}" for key in metrics]
            rows.append(f"| {name} | {' | '.join(values)} |")
        blocks.append("\n".join(rows))
    if report["missing"]:
        blocks.append(f"Not measured, because a model was missing: {', '.join(report['missing'])}.")
    return "\n\n".join(blocks)


if __name__ == "__main__":
    main()
