"""The code that a saved pipeline carries for programs that do not import keep_hf.

`DiffusionPipeline.from_pretrained(name, trust_remote_code=True)` runs `pipeline.py`, which `model_index.json` names,
and expects a file named like its library in the folder of every component. All of them only import keep_hf. In a
program that has imported keep_hf none of them runs (`registration.py`).
"""

import json
from pathlib import Path

from ..registration import REMOTE_CLASS


INSTALL = "pip install 'keep_hf @ git+https://github.com/keep-hf/keep_hf'"

# No import statements of keep_hf: diffusers looks for them and advises to install what is missing by its name, which
# may belong to somebody else on the package index.
PIPELINE_FILE = f'''"""Finds the class of this pipeline for trust_remote_code=True."""

from importlib import import_module


try:
    KeepPipeline = import_module("keep_hf").KeepPipeline
except ModuleNotFoundError as error:
    if error.name != "keep_hf":
        raise
    raise ImportError("This pipeline needs the package keep_hf: {INSTALL}") from None
'''
COMPONENT_FILE = '''"""Finds the class of this component for trust_remote_code=True."""

from importlib import import_module


{name} = import_module("keep_hf").{name}
'''


def write_remote_code(folder: Path) -> None:
    """Add the code to a pipeline that diffusers has saved."""
    index = folder / "model_index.json"
    config = json.loads(index.read_text()) | {"_class_name": REMOTE_CLASS}
    index.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "pipeline.py").write_text(PIPELINE_FILE)
    for component, value in config.items():
        if isinstance(value, list) and value[0] == "keep_hf":
            (folder / component / "keep_hf.py").write_text(COMPONENT_FILE.format(name=value[1]))
