"""The report of one or several videos as an HTML page: a file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from .thumbnails import draw_thumbnails
from .wording import PersonWords, describe_person, describe_recognition, describe_rest, describe_result, person_name


TEMPLATE = Path(__file__).with_name("report_page.html")


@dataclass(frozen=True)
class VideoSection:
    """A video on the page.

    Attributes:
        name (`str`): Name of the file.
        result (`str`): The result in two sentences.
        recognition (`str`): By what people were recognized after cuts.
        people (`tuple[PersonWords, ...]`): What was done to whom.
        thumbnails (`dict[int, tuple[str, str]]`): From [`draw_thumbnails`].
        rest (`tuple[str, ...]`): What else was left unchanged.
        warnings (`tuple[str, ...]`): What is damaged in the source.
        settings (`dict[str, str]`): The options.
    """

    name: str
    result: str
    recognition: str
    people: tuple[PersonWords, ...]
    thumbnails: dict[int, tuple[str, str]]
    rest: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: dict[str, str]


def describe_video(report: Mapping[str, Any], source: Path, target: Path) -> VideoSection:
    """Collect what the page shows of a video, with a thumbnail of every person before and after.

    Args:
        report (`Mapping[str, Any]`): The report of [`KeepPipeline.restore_video`].
        source, target (`Path`): The video before and after, which are read for the thumbnails.

    Raises:
        ValueError: If a video cannot be read any more.
    """
    name = Path(report["source"]).name
    return VideoSection(
        name,
        describe_result(report),
        describe_recognition(report),
        tuple(describe_person(track, report) for track in report["tracks"]),
        draw_thumbnails(report, source, target),
        tuple(describe_rest(report)),
        tuple(message.replace(report["source"], name) for message in report["warnings"]),
        {option.replace("_", " "): _format_option(value) for option, value in report["options"].items()},
    )


def render_report(sections: Sequence[VideoSection], failures: Mapping[str, str] | None = None) -> str:
    """Render an HTML page. Names and messages are escaped, and nothing is loaded from elsewhere.

    Args:
        sections (`Sequence[VideoSection]`): The videos.
        failures (`Mapping[str, str]`, *optional*): By the name of a video that could not be restored, the reason.
    """
    failures = failures or {}
    # StrictUndefined: a misspelled name in the template is an error, not an empty text.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    names = [*(section.name for section in sections), *failures]
    title = names[0] if len(names) == 1 else f"{len(names)} videos"
    return template.render(title=title, sections=sections, failures=failures)


def _format_option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):  # by the numbers of people; JSON has them as text
        return ", ".join(f"{person_name(int(number))}: {_format_option(item)}" for number, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
