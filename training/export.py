"""A trained pipeline -> the folder that is shipped: half precision, no traces of the machine it was made on.

python training/export.py runs/keep/pipeline src/keep_hf/checkpoints/keep-tiny
"""

import argparse
import json
from pathlib import Path

import torch

from keep_hf import KeepPipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, help="folder that train_keep.py wrote")
    parser.add_argument("output", type=Path, help="folder to write")
    args = parser.parse_args()
    if not (args.pipeline / "model_index.json").is_file():
        parser.error(f"{args.pipeline} holds no pipeline (model_index.json)")

    KeepPipeline.from_pretrained(args.pipeline, dtype=torch.float16).save_pretrained(args.output)
    for path in args.output.rglob("*.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in args.output.rglob("*.safetensors"))
    for path in args.output.rglob("*.safetensors"):
        path.chmod(0o644)
    print(f"{args.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
