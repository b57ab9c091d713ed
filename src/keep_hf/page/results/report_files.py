"""The report of a result: as JSON in the form of that of a whole video, and as a page to read."""

import json
from dataclasses import replace
from typing import Any

from ...restoration.report.report_page import VideoSection, describe_video, render_report
from ...video.reader import VideoReader
from ..requests import RestorationRequest, RestoredPart


def complete_report(part: RestoredPart, upload: str, request: RestorationRequest) -> RestoredPart:
    """Complete the JSON report of a result, and write the page beside it.

    Args:
        part ([`RestoredPart`]): The result, with the report of the stream.
        upload (`str`): Name of the upload.
        request ([`RestorationRequest`]): What was restored; `people` are numbers of tracks.

    Returns:
        [`RestoredPart`]: With the path of the page.
    """
    report = json.loads(part.report.read_text(encoding="utf-8")) | _describe(part, upload, request)
    part.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    page = part.report.with_suffix(".html")
    page.write_text(render_report([describe_part(part)]), encoding="utf-8")
    return replace(part, page=page)


def _describe(part: RestoredPart, upload: str, request: RestorationRequest) -> dict[str, Any]:
    """What [`KeepPipeline.restore_video`] reports besides the stream, and the part."""
    with VideoReader(part.after) as reader:
        rate, size = float(reader.frame_rate), [reader.width, reader.height]
    described = request.describe()
    return {
        "source": upload,
        "target": part.after.name,
        "part": {name: described[name] for name in ("start", "end", "quality")},
        "options": vars(request.options(rate)),
        "video_stream": None,
        "frame_rate": rate,
        "size": size,
    }


def describe_part(part: RestoredPart) -> VideoSection:
    """What the page of a report shows of a result whose report is complete."""
    return describe_video(json.loads(part.report.read_text(encoding="utf-8")), part.before, part.after)
