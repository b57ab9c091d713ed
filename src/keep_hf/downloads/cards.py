"""The model card of converted weights: where they come from, and their licence."""

from pathlib import Path

from huggingface_hub import ModelCardData

from .releases import Release


TEXT = """\
# {title}, converted for keep_hf

The published weights of {title}, converted by [keep_hf](https://github.com/keep-hf/keep_hf) without a change of their
values; those that were saved in half precision are rounded.

**Licence: [NTU S-Lab License 1.0]({licence_url}). It allows non-commercial use only, and it also holds for these
converted weights.**

- Published by: <https://github.com/{repository}>, release {tag}
- File: {file}
- SHA-256 of the file that was converted: `{sha256}`

```python
from keep_hf import KeepPipeline

pipe = KeepPipeline.from_pretrained("{name}")  # or the folder or repository of this card
pipe.restore_video("in.mp4", "out.mp4")
```
"""


def write_card(release: Release, sha256: str | None, folder: Path) -> None:
    """Write the README.md of a folder with converted weights.

    Args:
        release ([`Release`]): The release they come from.
        sha256 (`str`, *optional*): SHA-256 of the file that was converted.
        folder (`Path`): The folder; it is created.
    """
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="video-to-video",
        license="other",
        license_name="ntu-s-lab-1.0",
        license_link=release.licence_url,
        tags=["face-restoration", "video-restoration", "video-super-resolution"],
    )
    text = TEXT.format(**vars(release) | {"sha256": sha256 or "unknown"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n{text}", encoding="utf-8")
