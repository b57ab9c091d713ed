"""The page: its components, their events, and the service behind them.

a video, a part of it ──> its people ──> selection and options ──> restoration ──> comparison of before and after
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ..pipeline import KeepPipeline
from .api import build_endpoints
from .clips import write_side_by_side
from .comparison import comparison_value
from .endpoints.documentation import DocumentedBlocks
from .examples import RESULT, SHOWN
from .interface.browser_copy import BrowserCopyHandlers
from .interface.events import AS_SENT, AT_ONCE, READ_SESSION, WRITE_SESSION
from .interface.handlers import Handlers
from .interface.layout import PRESETS, Components, lay_out
from .interface.several_videos import add_several
from .interface.upload_guard import UploadGuard
from .jobs.clients import ClientLimits
from .jobs.service import JobService
from .limits import Limits
from .messages import explain


HERE = Path(__file__).parent
UPLOADS = "GRADIO_TEMP_DIR"  # the variable that names gradio's folder for uploads
SPEED_SECONDS = 0.4  # of an example, which are restored at start
# Arguments of gradio.Blocks.launch.
LAUNCH_OPTIONS: dict[str, Any] = {
    "css": (HERE / "page.css").read_text(encoding="utf-8"),
    # Text has the contrast that WCAG AA requires. One font for everything: the one that gradio loads for half-bold
    # text lacks most letters.
    "theme": gr.themes.Default(
        primary_hue="blue", font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_label_text_color="*neutral_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_cancel_background_fill="*neutral_700",
        button_cancel_background_fill_dark="*neutral_700",
        button_cancel_background_fill_hover="*neutral_800",
        button_cancel_background_fill_hover_dark="*neutral_800",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
    ),
    "footer_links": ["api"],
}

ABOUT = """# Clear, steady faces

Upload a video with blurred, noisy or blocky faces. **keep_hf** finds all faces, restores them, and keeps them
consistent from frame to frame. The sound is kept.

A restored face is plausible, not evidence: its details are invented. Do not use it to identify people.
"""


class Demo(DocumentedBlocks):
    """The page with its service; `close` ends both.

    Until then, the environment variable `GRADIO_TEMP_DIR` puts uploads into the folder of the service. The whole
    process has one: of two pages, the one that was built last must be closed first.

    Args:
        service ([`JobService`]): The jobs.
    """

    def __init__(self, service: JobService) -> None:
        self.service = service
        self._former_folder = os.environ.get(UPLOADS)
        os.environ[UPLOADS] = str(service.folder / "uploads")
        seconds = math.ceil(service.client_limits.seconds)
        super().__init__(
            title="keep_hf: clear, steady faces", analytics_enabled=False, delete_cache=(seconds, seconds)
        )

    def launch(self, **options: Any) -> Any:  # type: ignore[override]
        """Serve the page; `options` are those of `gradio.Blocks.launch`."""
        if not self.service.is_gpu_borrowed:
            self.service.measure_speed(SHOWN.path, SPEED_SECONDS)
        guard = Middleware(UploadGuard, service=self.service)
        own = {"max_file_size": f"{self.service.limits.megabytes}mb", "app_kwargs": {"middleware": [guard]}}
        return super().launch(**(LAUNCH_OPTIONS | own | options))

    def close(self, verbose: bool = False) -> None:
        """Stop serving, cancel all jobs, and delete all files."""
        super().close(verbose)
        self.service.close()
        if self._former_folder is None:
            os.environ.pop(UPLOADS, None)
        else:
            os.environ[UPLOADS] = self._former_folder


def build_demo(
    pipe: KeepPipeline,
    *,
    limits: Limits | None = None,
    client_limits: ClientLimits | None = None,
    on_gpu: Callable[..., Callable] | None = None,
) -> Demo:
    """Build the page.

    Args:
        pipe ([`KeepPipeline`]): The pipeline, on its device.
        limits ([`Limits`], *optional*): Limits of a request.
        client_limits ([`ClientLimits`], *optional*): Limits of each client.
        on_gpu (`Callable`, *optional*): How to borrow a GPU, see [`Backend`].

    Returns:
        `Demo`: To be launched with `demo.launch()`, and closed with `demo.close()`.
    """
    service = JobService(
        pipe, lambda error: explain(error, None), limits=limits, client_limits=client_limits, on_gpu=on_gpu
    )
    with Demo(service) as demo:
        with gr.Column(elem_id="page"):
            gr.Markdown(ABOUT)
            components = lay_out(service.limits, _show_example(service.folder))
            add_several(components, service)
        connect(demo, components, Handlers(components, service))
        for endpoint in build_endpoints(service):
            gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)
    return demo


def _show_example(folder: Path) -> dict[str, Any]:
    """An example before and after restoration, which plays when the page is opened."""
    both = folder / "example.mp4"
    for _ in write_side_by_side(SHOWN.path, RESULT, both):
        pass
    return comparison_value(both, autoplay=True)


def connect(demo: gr.Blocks, components: Components, handlers: Handlers) -> None:
    """Connect the events of the components with their handlers."""
    page, rendered = [components.session, components.shown], components.rendered()
    chosen = [components.session, *rendered]
    opened = demo.load(handlers.opened, components.session, chosen, js=READ_SESSION, **AT_ONCE)
    opened.then(handlers.display_again, components.session, components.video, postprocess=False, **AT_ONCE)
    # "always_last": of the events that come while one is being handled, the last one is handled afterwards. Video and
    # part have events of their own: after a reload the video changes, and would replace a part that is chosen then.
    last: dict[str, Any] = {"trigger_mode": "always_last", **AS_SENT}
    chose = [
        components.video.change(handlers.chose_video, components.choice(), chosen, **last),
        gr.on(
            [components.start.input, components.end.input], handlers.chose_part, components.choice(), chosen, **last
        ),
    ]
    components.timer.tick(handlers.changed, page, rendered, **AT_ONCE)
    people = [components.session, components.faces]
    # "always_last": a click while the one before is being handled would be lost otherwise.
    components.faces.select(handlers.chose_people, people, None, trigger_mode="always_last", **AT_ONCE)
    options = [components.fidelity, components.strength]
    # In the browser: a click on "Restore" right after it sends what was chosen.
    components.preset.input(None, components.preset, options, js=f"(name) => ({json.dumps(PRESETS)})[name]", **AT_ONCE)
    clicks = [
        components.find.click(handlers.find_again, components.choice(), chosen, **AS_SENT),
        components.run.click(handlers.restore_part, components.request(), chosen, **AS_SENT),
        components.preview.click(handlers.preview, components.request(), chosen, **AS_SENT),
    ]
    components.cancel.click(handlers.cancel, page, rendered, **AT_ONCE)
    copies = BrowserCopyHandlers(handlers.service)
    for event in (opened, *chose):
        announced = event.then(copies.announce, components.session, components.copy, **AT_ONCE)
        # A part that is chosen while a copy is made gets its own one afterwards.
        announced.then(
            copies.make,
            [components.session, components.copy],
            components.copy,
            trigger_mode="always_last",
            **AT_ONCE,
        )
    for event in (opened, *chose, *clicks):  # each of them can open a session
        event.then(None, components.session, None, js=WRITE_SESSION, **AT_ONCE)
