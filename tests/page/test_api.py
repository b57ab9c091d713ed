"""The API of the page through gradio_client, and its limits."""

import os
import re
import shutil
import threading
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from keep_hf.page import ClientLimits, build_demo
from page_steps import LIMITS, audio_seconds, frames
from paths import REPOSITORY
from portraits import FRAME_RATE, SIDE, write_people


pytest_plugins = ["page_fixtures"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(url) -> Client:
    return Client(url, verbose=False)


def test_api(url, two_people, tmp_path):
    client = Client(url, verbose=False, download_files=tmp_path)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/faces", "/restore"}
    people = client.predict(handle_file(two_people), end=2.0, api_name="/faces")
    numbers = [person["number"] for person in people]
    assert len(numbers) == 2
    assert numbers == [1, 2]
    assert (people[0]["start"], people[0]["end"]) == pytest.approx((0, 1.9))

    job = client.submit(
        handle_file(two_people),
        start=1.0,
        end=2.0,
        people=numbers[:1],
        person_strength={str(numbers[0]): 0.5},
        upscale=2,
        quality="best",
        api_name="/restore",
    )
    restored, both, report = job.result()
    assert any("Restoring" in output[2].get("progress", "") for output in job.outputs())
    assert frames(Path(restored)).shape == (FRAME_RATE, 2 * SIDE, 4 * SIDE, 3)
    assert frames(Path(both)).shape == (FRAME_RATE, 2 * SIDE, 8 * SIDE, 3)
    assert audio_seconds(Path(restored)) == pytest.approx(1, abs=0.1)
    assert report["frames"] == FRAME_RATE
    (track,) = report["tracks"]
    assert track["strength"]["weight"] == 0.5


def test_the_api_is_documented(url, tmp_path, monkeypatch):
    """Every parameter and result is described, and the snippets run with a video of the user."""
    endpoints = httpx.get(f"{url}gradio_api/info").json()["named_endpoints"]
    assert [parameter["label"] for parameter in endpoints["/restore"]["parameters"]] == [
        *("video", "start", "end", "people", "fidelity", "strength", "upscale", "quality", "person_strength")
    ]
    for endpoint in endpoints.values():
        for value in endpoint["parameters"] + endpoint["returns"]:
            assert len(value["python_type"]["description"]) > 10
    write_people(tmp_path / "in.mp4", 8)
    monkeypatch.chdir(tmp_path)
    results = {}
    for name, endpoint in endpoints.items():
        names: dict = {}
        exec(compile(endpoint["code_snippets"]["python"], name, "exec"), names)
        results[name] = names["result"]
    assert [person["number"] for person in results["/faces"]] == [1, 2]
    restored, side_by_side, report = results["/restore"]
    assert [Path(path).name for path in (restored, side_by_side)] == ["in_restored.mp4", "in_side_by_side.mp4"]
    assert report["source"] == "in.mp4"
    assert report["options"]["strength"] == "auto"


def test_api_example_of_the_guide(url, tmp_path, monkeypatch):
    """The block of the guide that needs a running page."""
    guide = (REPOSITORY / "docs" / "guides" / "page.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    write_people(tmp_path / "in.mp4", 8)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code.replace("http://127.0.0.1:7860", url), "page.md", "exec"), names)
    assert len(names["numbers"]) == 2
    assert len(frames(Path(names["restored"]))) == names["report"]["frames"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 3.0, "end": 2.0}, "must end after it starts"),
        ({"start": 9.0}, "is 3.6 seconds long"),
        ({"people": [7]}, "There is no person 7 in this part, in which 2 were found."),
        ({"fidelity": 2.0}, "fidelity must be from 0 to 1"),
        ({"upscale": 5}, "upscale must be 1, 2, 3 or 4"),
        ({"quality": "perfect"}, "small file, good, best"),
        ({"start": "now"}, "start must be a number of seconds, got 'now'."),
        ({"people": ["me"]}, "people must be a list of numbers from /faces"),
        ({"strength": "much"}, "strength must be a number from 0 to 1, or 'auto', got 'much'."),
        ({"person_strength": {"7": 1}}, "There is no person 7 in this part, in which 2 were found."),
        (
            {"person_strength": {"1": "much"}},
            "person_strength of 1 must be a number from 0 to 1, or 'auto', got 'much'.",
        ),
        ({"upscale": True}, "upscale must be 1, 2, 3 or 4, got True."),
    ],
)
def test_api_errors(client, two_people, options, message):
    with pytest.raises(Exception, match=re.escape(message)) as raised:
        client.predict(handle_file(two_people), **options, api_name="/restore")
    assert str(two_people.parent) not in str(raised.value)


def test_clients_cannot_read_files_of_others(url, demo, two_people):
    """Neither files of the machine nor files of other requests."""
    other = demo.service.folder / "jobs" / "other"
    other.mkdir()
    shutil.copyfile(two_people, other / "before.mp4")
    client = Client(url, verbose=False)
    for name in (two_people, other / "before.mp4", demo.service.folder, "/etc/passwd"):
        assert httpx.get(f"{url}gradio_api/file={name}").status_code in (403, 404)
        for endpoint in ("/faces", "/restore"):
            # A custom client could name a file without uploading it.
            index = next(fn["id"] for fn in client.config["dependencies"] if fn["api_name"] == endpoint[1:])
            defaults = {"faces": [0, 1], "restore": [0, 1, None, 1, 1, 1, "good", None]}[endpoint[1:]]
            file = {"path": str(name)}
            assert "must be uploaded" in call_api(url, index, [file, *defaults])
            file["meta"] = {"_type": "gradio.FileData"}
            assert '"success":false' in call_api(url, index, [file, *defaults])
    shutil.rmtree(other)


def test_uploads_are_limited(url):
    """All files of a request count: each of these is allowed."""
    files = [("files", (f"{number}.mp4", bytes(1_500_000))) for number in range(2)]
    allowed = httpx.post(f"{url}gradio_api/upload", files=files[:1])
    assert allowed.status_code == 200
    refused = httpx.post(f"{url}gradio_api/upload", files=files)
    assert refused.status_code == 413
    assert "3 MB are too large for one upload: the limit is 2 MB" in refused.text
    unknown = httpx.post(f"{url}gradio_api/upload", content=iter([b"1"]))
    assert unknown.status_code == 411


def call_api(url: str, index: int, data: list) -> str:
    """Call an API function without gradio's client, and return its last message."""
    session = {"session_hash": f"test{time.monotonic_ns()}"}
    httpx.post(f"{url}gradio_api/queue/join", json={"data": data, "fn_index": index} | session).raise_for_status()
    with httpx.stream("GET", f"{url}gradio_api/queue/data", params=session, timeout=60) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                return line
    return ""


def test_concurrent_users_get_their_own_results(url, tmp_path):
    results: dict[int, tuple] = {}
    clips = {
        length: write_people(tmp_path / "clip.mp4", length, 1).rename(tmp_path / f"{length}") for length in (8, 13)
    }

    def run_client(length: int) -> None:
        folder = tmp_path / f"of {length}"
        folder.mkdir()
        mine = shutil.copyfile(clips[length], folder / "clip.mp4")  # both clips have the same name
        client = Client(url, verbose=False, download_files=folder)
        results[length] = client.predict(handle_file(mine), api_name="/restore")

    clients = [threading.Thread(target=run_client, args=(length,)) for length in clips]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for length in clips:
        restored, _, report = results[length]
        assert report["frames"] == len(frames(Path(restored))) == length


def test_old_files_are_deleted(pipe, two_people, tmp_path, url):
    uploads_of_other_page = os.environ["GRADIO_TEMP_DIR"]
    demo = build_demo(pipe, limits=LIMITS, client_limits=ClientLimits(seconds=1))
    demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        uploads = demo.service.folder / "uploads"
        client = Client(demo.local_url, verbose=False, download_files=tmp_path)
        kept = set(uploads.rglob("*.*"))  # the example
        client.predict(handle_file(two_people), end=0.3, api_name="/restore")
        deadline = time.monotonic() + 60
        while set(uploads.rglob("*.*")) > kept and time.monotonic() < deadline:
            time.sleep(0.2)
        assert set(uploads.rglob("*.*")) == kept
        assert kept
    finally:
        demo.close()
    assert not demo.service.folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == uploads_of_other_page  # which is still open
