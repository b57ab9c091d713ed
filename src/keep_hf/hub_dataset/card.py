"""The card of a dataset of restored videos: what made it, and from what."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData


TAGS = ["face-restoration", "keep_hf", "video"]

INTRODUCTION = """
# {name}

The videos of [{source}](https://huggingface.co/datasets/{source}), with the faces restored by
[keep_hf](https://github.com/keep-hf/keep_hf). Rows and their order are those of the source. The restored video
replaces the original one; all other columns are unchanged, and three are new:

| column | content |
|---|---|
| `restoration_outcome` | `restored`; `no faces`, if the frames are unchanged; or `failed`, if there is no video |
| `restoration_reason` | why it failed |
| `restoration_report` | JSON: scenes, people, what was done to each of them, damage in the source |

A network has generated parts of these faces. They may differ from the real ones: do not use them to identify people.

## Licence

Not chosen. The licence of the source applies to its videos{weights}. Add `license:` to the metadata of this card.
"""

SECTION = """
## {heading}

Commit `{revision}` of [{source}](https://huggingface.co/datasets/{source}), column `{column}`.

| option | value |
|---|---|
| model | {model} |
{options}
"""

# Named in the text above the table.
NO_OPTIONS = ("source", "revision", "config", "split", "column", "num_shards")


def add_split(
    card: DatasetCard | None,
    name: str,
    config: str,
    split: str,
    pattern: str,
    job: Mapping[str, Any],
    model: str,
    licence: str | None,
) -> str | None:
    """The card with a section for a split, or `None` if it has one already.

    Args:
        card (`DatasetCard`, *optional*): The card of the dataset.
        name (`str`): Name of the dataset, for a new card.
        config, split, pattern (`str`): The split, and the files that belong to it.
        job (`Mapping`): What the result depends on.
        model (`str`): The model, as the user named it.
        licence (`str`, *optional*): Licence of its weights.
    """
    heading = f"Split `{split}` of `{config}`"
    if card is None:
        weights = f", and that of the model, {licence}, to its weights" if licence else ""
        text = INTRODUCTION.format(name=name, source=job["source"], weights=weights)
        card = DatasetCard(f"---\n{DatasetCardData(tags=TAGS).to_yaml()}\n---\n{text}")
    if f"## {heading}" in card.text:
        return None
    rows = [f"| {key} | {value} |" for key, value in job.items() if key not in NO_OPTIONS and value is not None]
    section = SECTION.format(heading=heading, model=model, options="\n".join(rows), **job)
    configs = {entry["config_name"]: entry for entry in card.data.get("configs") or []}
    entry = configs.setdefault(config, {"config_name": config, "data_files": []})
    entry["data_files"].append({"split": split, "path": pattern})
    card.data["configs"] = list(configs.values())
    card.text = card.text.rstrip("\n") + "\n" + section
    return str(card)
