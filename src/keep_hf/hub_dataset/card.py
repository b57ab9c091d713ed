"""The card of a dataset of restored videos: what made it, and from what."""

import re
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
    is_new: bool,
) -> str | None:
    """The card with a section for a split, or `None` if it does not change.

    Args:
        card (`DatasetCard`, *optional*): The card of the dataset.
        name (`str`): Name of the dataset, for a new card.
        config, split, pattern (`str`): The split, and the files that belong to it.
        job (`Mapping`): What the result depends on.
        model (`str`): The model, as the user named it.
        licence (`str`, *optional*): Licence of its weights.
        is_new (`bool`): Whether a section that is there is replaced: an earlier run has written it. Otherwise it stays
            as it is, with all changes of users.
    """
    heading = f"Split `{split}` of `{config}`"
    if card is None:
        weights = f", and that of the model, {licence}, to its weights" if licence else ""
        text = INTRODUCTION.format(name=name, source=job["source"], weights=weights)
        card = DatasetCard(f"---\n{DatasetCardData(tags=TAGS).to_yaml()}\n---\n{text}")
    before = str(card)
    earlier = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", card.text, re.MULTILINE | re.DOTALL)
    if earlier is not None and not is_new:
        return None
    rows = [f"| {key} | {value} |" for key, value in job.items() if key not in NO_OPTIONS and value is not None]
    section = SECTION.format(heading=heading, model=model, options="\n".join(rows), **job).strip() + "\n"
    configs = {entry["config_name"]: entry for entry in card.data.get("configs") or []}
    entry = configs.setdefault(config, {"config_name": config, "data_files": []})
    files = {"split": split, "path": pattern}
    if files not in entry["data_files"]:
        entry["data_files"].append(files)
    card.data["configs"] = list(configs.values())
    if earlier is None:
        card.text = f"{card.text.rstrip()}\n\n{section}"
    else:
        after = card.text[earlier.end() :]
        card.text = card.text[: earlier.start()] + section + ("\n" + after if after else "")
    new = str(card)
    return None if new == before else new
