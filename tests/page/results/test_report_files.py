"""The report of a result of the page."""

import json
import re

from conftest import make_components
from keep_hf import KeepPipeline
from keep_hf.page.backend import Backend
from keep_hf.page.requests import RestorationRequest, RestoredPart
from keep_hf.page.results.report_files import complete_report
from portraits import write_people


def test_the_report_is_complete_and_has_a_page(tmp_path):
    detector = KeepPipeline.from_pretrained("keep-tiny").detector
    pipe = KeepPipeline(**make_components(), detector=detector, gain_window=4)
    before = write_people(tmp_path / "before.mp4", 6, num_people=1)
    request = RestorationRequest(1.0, 1.6, people=(0,), strength=1.0, upscale=2)
    targets = tmp_path / "a_restored.mp4", tmp_path / "a_side_by_side.mp4", tmp_path / "a_report.json"
    *_, part = Backend(pipe).restore_part(before, 6, request, targets)
    assert isinstance(part, RestoredPart)
    upload = "\u5bb6\u65cf <b>.mov"
    complete = complete_report(part, upload, request)

    report = json.loads(complete.report.read_text())
    assert report["source"] == upload
    assert report["target"] == "a_restored.mp4"
    assert report["part"] == {"start": 1.0, "end": 1.6, "quality": "good"}
    assert report["size"] == [2 * 144, 2 * 144]
    assert report["options"]["faces"] == [0]
    assert report["frames"] == 6
    assert complete.page == tmp_path / "a_report.html"
    page = complete.page.read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["\u5bb6\u65cf &lt;b&gt;.mov"]
    assert "<h4>Person 1</h4>" in page
    assert str(tmp_path) not in page
