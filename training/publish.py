"""Prepare a trained pipeline for the Hub: half precision, a model card, no paths of the machine.

    python -m training.publish runs/keep/pipeline keep-mine --licence apache-2.0 --data "400 clips of my own videos" \\
        --dataset me/clips --report runs/vfhq_test/report.json --push-to-hub me/keep-mine

The values in the card are those of `benchmarks/vfhq_test.py`; without a report the card says that none were measured.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, HfApi

from keep_hf import KeepPipeline
from keep_hf.evaluation.series import REFERENCE_METRICS
from keep_hf.pipeline.model_card import CardContents, format_model_card


ARROWS = {"higher": "↑", "lower": "↓", "": ""}
# The method of the report that is the pipeline itself.
METHOD = "keep"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pipeline", type=Path, help="folder written by train_keep.py")
    add("output", type=Path, help="folder to write")
    add("--licence", required=True, help="licence of the weights, as the Hub names it: apache-2.0, mit, ...")
    add("--data", required=True, help="description of the training data and their licence")
    add(
        "--dataset", action="append", default=[], metavar="ID", help="training data on the Hub; for several, repeat it"
    )
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

    pipe = KeepPipeline.from_pretrained(args.pipeline, dtype=torch.float16, licence=args.licence)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "README.md").write_text(
        format_model_card(pipe, args.push_to_hub or args.output.name, describe(args)), encoding="utf-8"
    )
    pipe.save_pretrained(args.output)
    for file in (args.output / "model_index.json", *args.output.glob("*/config.json")):
        remove_path(file)
    for path in args.output.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in args.output.rglob("*.safetensors"))
    print(f"{args.output}: {size / 1e6:.1f} MB")
    if args.push_to_hub:
        hub = HfApi()
        hub.create_repo(args.push_to_hub, private=args.private, exist_ok=True)
        hub.upload_folder(repo_id=args.push_to_hub, folder_path=args.output, commit_message="Add the pipeline")
        print(f"uploaded to {args.push_to_hub}")


def remove_path(config_file: Path) -> None:
    """Remove the path from which a pipeline or a component was loaded."""
    config = json.loads(config_file.read_text())
    config.pop("_name_or_path", None)
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def describe(args: argparse.Namespace) -> CardContents:
    """What the arguments say of the weights."""
    contents = CardContents(licence=args.licence, data=args.data, datasets=tuple(args.dataset))
    if not args.report:
        return contents
    report = json.loads(args.report.read_text())
    return dataclasses.replace(contents, evaluation=tabulate(report), results=tuple(list_results(report)))


def list_results(report: dict[str, Any]) -> list[EvalResult]:
    """The values of the pipeline for the metadata of the card."""
    return [
        EvalResult(
            task_type="video-to-video",
            dataset_type="clips",
            dataset_config=level,  # results of one type and configuration become one entry
            dataset_name=f"{len(report['clips'])} sharp clips, degraded {level}",
            metric_type=key,
            metric_name=f"{metric.label} ({metric.unit})" if metric.unit else metric.label,
            metric_value=float(f"{methods[METHOD]['mean'][key]:.4g}"),
        )
        for level, methods in report["levels"].items()
        for key, metric in REFERENCE_METRICS.items()
        if metric.better and METHOD in methods and methods[METHOD]["mean"].get(key) is not None
    ]


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
