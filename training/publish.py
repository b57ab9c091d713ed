"""A trained pipeline -> the folder that is shipped: half precision, a model card, no traces of the machine.

    python -m training.publish runs/keep/pipeline keep-mine --licence apache-2.0 --data "400 clips of my films" \\
        --measures runs/vfhq_test/report.json --push-to-hub me/keep-mine

The card's figures are those that `benchmarks/vfhq_test.py` measured; without them it says that nothing was measured.
"""

import argparse
import json
from pathlib import Path
from string import Template

import torch
from huggingface_hub import HfApi

from keep_hf import KeepPipeline
from keep_hf.evaluation.series import REFERENCE_METRICS


CARD = Path(__file__).parent / "model_card_template.md"
ARROWS = {"higher": "↑", "lower": "↓", "": ""}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, help="folder that train_keep.py wrote")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--licence", required=True, help="of the weights, as the Hub names it: apache-2.0, mit, ...")
    parser.add_argument("--data", required=True, help="what it was trained on, and under which licence that is")
    parser.add_argument("--measures", type=Path, help="report.json of benchmarks/vfhq_test.py for this pipeline")
    parser.add_argument("--push-to-hub", metavar="REPO_ID", help="repository to create, if need be, and to upload to")
    parser.add_argument("--private", action="store_true", help="for a new repository")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not (args.pipeline / "model_index.json").is_file():
        parser.error(f"{args.pipeline} holds no pipeline (model_index.json)")
    if args.measures and not args.measures.is_file():
        parser.error(f"there is no {args.measures}: run `python -m benchmarks.vfhq_test` first")
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
    """The template with what is known of this pipeline."""
    components = {name: component for name, component in pipe.components.items() if component is not None}
    count = sum(p.numel() for component in components.values() for p in component.parameters())
    measures = "Nothing was measured yet."
    if args.measures:
        measures = tabulate(json.loads(args.measures.read_text()))
    return Template(CARD.read_text()).substitute(
        name=args.push_to_hub or args.output.name,
        licence=args.licence,
        data=args.data,
        size=pipe.vq.config.sample_size,
        num_codes=f"{pipe.vq.config.num_codes:,}",
        parameters=f"{count / 1e6:.1f}",
        components=", ".join(f"`{name}` ({type(component).__name__})" for name, component in components.items()),
        measures=measures,
    )


def tabulate(report: dict) -> str:
    """Rows for methods, a table for each degree of degradation."""
    settings = report["settings"]
    blocks = [
        f"{len(report['clips'])} sharp clips, {settings['frames']} frames of each at the most, compared at "
        f"{settings['size']} x {settings['size']} pixels; means over the clips."
    ]
    for level, methods in report["levels"].items():
        means = [method["mean"] for method in methods.values()]
        metrics = {k: m for k, m in REFERENCE_METRICS.items() if any(mean[k] is not None for mean in means)}
        keys, heads = list(metrics), [f"{metric.label} {ARROWS[metric.better]}".strip() for metric in metrics.values()]
        rows = [f"| {level} | {' | '.join(heads)} |", f"|---|{'---:|' * len(keys)}"]
        for name, method in methods.items():
            values = [f"{method['mean'][key]:.4g}" for key in keys]
            rows.append(f"| {name} | {' | '.join(values)} |")
        blocks.append("\n".join(rows))
    if report["missing"]:
        blocks.append(f"Not measured, for want of a model: {', '.join(report['missing'])}.")
    return "\n\n".join(blocks)


if __name__ == "__main__":
    main()
