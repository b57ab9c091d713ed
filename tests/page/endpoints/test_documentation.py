"""What gradio shows of an endpoint, from a running server."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.data_classes import FileData

from keep_hf.page.endpoints.documentation import DocumentedBlocks


def measure(
    video: FileData, start: float = 0.5, people: list[int] | None = None, strength: float | str = "auto"
) -> tuple[int, str]:
    """Measure a video.

    Args:
        video: The video, as gradio_client.handle_file(path).
        start: Start of the part, in seconds.
        people: Numbers of people; all by default.
        strength: From 0 to 1, or "auto".

    Returns:
        size: Number of bytes: of the file.
        summary: The other arguments.
    """
    path = video["path"] if isinstance(video, dict) else video.path
    return Path(path).stat().st_size, f"{start} {people} {strength}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with DocumentedBlocks() as demo:
        gr.api(measure, api_name="measure")
    demo.launch(prevent_thread_lock=True, quiet=True)
    yield demo.local_url
    demo.close()


def test_every_parameter_and_result_is_described(url):
    info = httpx.get(f"{url}gradio_api/info").json()["named_endpoints"]["/measure"]
    assert info["description"] == "Measure a video."
    described = {value["label"]: value["python_type"]["description"] for value in info["parameters"] + info["returns"]}
    assert described == {
        "video": "The video, as gradio_client.handle_file(path).",
        "start": "Start of the part, in seconds.",
        "people": "Numbers of people; all by default.",
        "strength": 'From 0 to 1, or "auto".',
        "size": "Number of bytes: of the file.",
        "summary": "The other arguments.",
    }


def test_the_snippet_runs(url, tmp_path, monkeypatch):
    """With a file of this name in the folder."""
    snippets = httpx.get(f"{url}gradio_api/info").json()["named_endpoints"]["/measure"]["code_snippets"]
    assert "handle_file" in snippets["python"]
    assert "handle_file" in snippets["javascript"]
    assert "/upload" in snippets["bash"]
    (tmp_path / "in.mp4").write_bytes(bytes(123))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(snippets["python"], "snippet.py", "exec"), names)
    assert names["result"] == (123, "0.5 None auto")
