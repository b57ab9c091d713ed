"""The component that shows before and after, and its value.

Both versions are the halves of one video, so a frame that is decoded late or dropped is so in both. The browser copies
each decoded frame once and draws its halves from the copy.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.data_classes import FileData

from ...video.containers import open_container
from .face_paths import FacePath, divider_start


HERE = Path(__file__).parent


def build_comparison(value: dict[str, Any] | None = None, **options: Any) -> gr.HTML:
    """Build the component.

    Args:
        value (`dict`, *optional*): From [`comparison_value`]; by default, a line of text is shown instead.
        options: Further arguments of `gr.HTML`, such as `elem_id`.
    """
    return gr.HTML(
        value,
        html_template=(HERE / "compare.html").read_text(encoding="utf-8"),
        css_template=(HERE / "compare.css").read_text(encoding="utf-8"),
        js_on_load=(HERE / "compare.js").read_text(encoding="utf-8"),
        **options,
    )


def comparison_value(both: Path, faces: tuple[FacePath, ...] = (), *, autoplay: bool = False) -> dict[str, Any]:
    """The value of the component that shows a video.

    Args:
        both (`Path`): Before and after side by side, see [`write_side_by_side`].
        faces (`tuple[FacePath, ...]`, *optional*): The restored faces, on which the component can zoom, the most
            important one first.
        autoplay (`bool`, *optional*, defaults to `False`): Whether to play at once, without sound; not for users who
            prefer reduced motion.

    Returns:
        `dict`: Numbers, text and a file that gradio serves.
    """
    with open_container(both) as container:
        stream = container.streams.video[0]
        base = cast(Fraction, stream.time_base)
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        has_sound = bool(container.streams.audio)
    times = [round(float((one - pts[0]) * base), 6) for one in pts]
    return {
        "video": FileData(path=str(both)).model_dump(),
        "times": times,
        "faces": [
            {"times": [times[frame] for frame in path.frames], "boxes": path.boxes.round(4).tolist()} for path in faces
        ],
        "divider": divider_start(faces),
        "has_sound": has_sound,
        "autoplay": autoplay,
    }
