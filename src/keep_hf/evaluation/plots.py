"""Plots of the evaluation of a video: a column of pixels, the similarity of identity, PSNR and flicker over time.

They are drawn by matplotlib, which only this file needs.  Lines differ in brightness and in pattern, so that they can
be distinguished in greyscale.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .results import Evaluation, Region
from .series import NO_REFERENCE_METRICS, REFERENCE_METRICS


METRICS = {**NO_REFERENCE_METRICS, **REFERENCE_METRICS}
STYLE: dict[Any, Any] = {
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "font.size": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "savefig.dpi": 200,
}
# Colour and pattern, from dark to bright
LINES = (("#16365c", "-"), ("#d9822b", "--"), ("#5b8c5a", ":"), ("#999999", "-."))
MAX_PEOPLE = len(LINES)  # in one plot: those in the most frames
WIDTH = 7.0  # in inches, of a page
MAX_MARKED_FRAMES = 60  # up to this number every frame has a marker
ABSENT = 255  # level of a profile where the person is absent


def require_matplotlib() -> None:
    """Check that plots can be drawn, before other work is done.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("plots are drawn by matplotlib, which is not installed: pip install matplotlib")


def draw_plots(evaluation: Evaluation, folder: str | Path) -> list[Path]:
    """Draw the plots of a video; those whose metrics are missing are left out.

    Args:
        evaluation ([`Evaluation`]): Result of the video.
        folder (`str` or `Path`): Folder for `NAME_profile.png`, `NAME_identity.png` and `NAME_quality.png`.

    Returns:
        `list[Path]`: the files that were written.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context

    written = []
    with rc_context(STYLE):
        for kind, draw in (("profile", _profile), ("identity", _identity), ("quality", _quality)):
            figure = draw(evaluation)
            if figure is not None:
                path = Path(folder) / f"{evaluation.name}_{kind}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path)
                written.append(path)
    return written


def _profile(evaluation: Evaluation) -> Any:
    """The middle columns of all frames side by side, for the restored video and below it for the reference."""
    columns, person = evaluation.profile.columns, evaluation.profile.person
    first, last = min(columns), max(columns)
    videos = ["Restored", "Reference"][: len(evaluation.sources)]
    height = len(columns[first][0])
    figure, grid = _grid(len(videos), 1, row_height=2.2)
    for i, (axes, video) in enumerate(zip(grid[:, 0], videos, strict=True)):
        image = np.full((height, last + 1 - first, 3), ABSENT, np.uint8)
        for index, column in columns.items():
            image[:, index - first] = column[i]
        # The outer edges of the pixels
        extent = (first - 0.5, last + 0.5, height - 0.5, -0.5)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
        axes.set_ylabel("Row (pixels)")
        axes.set_title(video)
    region = "whole frames" if person is None else f"the face of person {person}"
    figure.suptitle(f"Middle column of {region}", x=0.01, ha="left")
    return figure


def _identity(evaluation: Evaluation) -> Any:
    """Similarity of identity over time, one line per person."""
    key = "ids" if len(evaluation.sources) == 2 else "identity_steps"
    people = sorted(evaluation.people, key=lambda person: -person.join().num_frames)[:MAX_PEOPLE]
    people = [person for person in people if len(person.over_time(key)[0])]
    if not people:
        return None
    figure, ((axes,),) = _grid(1, 1, row_height=2.4)
    lowest = 1.0
    for person, line in zip(people, LINES, strict=False):
        series = person.join().metrics[key]
        assert series is not None
        label = f"person {person.name}: mean {series.mean:.3f}, sigma {series.sigma:.3f}"
        _draw_line(axes, person, key, label, line)
        lowest = min(lowest, min(series.finite, default=1.0))
    # Up to the best possible value, and with a range that does not magnify noise
    low = min(lowest - 0.02, 0.9)
    axes.set_ylim(low, 1 + 0.03 * (1 - low))
    axes.set_ylabel(_label(key))
    axes.legend(loc="lower left")
    others = len(evaluation.people) - len(people)
    axes.set_title("Identity" + (f" (of {others} more people not drawn)" if others else ""))
    return figure


def _quality(evaluation: Evaluation) -> Any:
    """PSNR and flicker, or flicker and landmark jitter, over time: of whole frames and of the face of the profile."""
    compared = len(evaluation.sources) == 2
    rows = [["psnr"], ["flicker", "reference_flicker"]] if compared else [["flicker"], ["landmark_jitter"]]
    shown = [region for region in evaluation.people if region.name == str(evaluation.profile.person)]
    regions = [(f"Face of person {region.name}", region) for region in shown]
    if evaluation.whole is not None:
        regions.insert(0, ("Whole frames", evaluation.whole))
    rows = [keys for keys in rows if any(len(region.over_time(keys[0])[0]) for _, region in regions)]
    if not rows:
        return None
    figure, grid = _grid(len(rows), len(regions), row_height=2.0)
    for column, (title, region) in enumerate(regions):
        grid[0, column].set_title(title)
        for row, keys in enumerate(rows):
            axes = grid[row, column]
            for key, video, line in zip(keys, ("restored", "reference"), LINES, strict=False):
                _draw_line(axes, region, key, video, line)
            values = region.over_time(keys[0])[1]
            if not np.isfinite(values).any():
                reason = "infinite: the frames are equal" if np.isinf(values).any() else "measured on faces only"
                axes.text(0.5, 0.5, reason, ha="center", transform=axes.transAxes)
    for axes, keys in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(_label(keys[0]))
        if keys != ["psnr"]:
            axes.set_ylim(bottom=0)
        if len(keys) > 1:
            # Above the axes, because the lines may fill every corner
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    return figure


def _grid(num_rows: int, num_columns: int, row_height: float) -> tuple[Any, np.ndarray]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, row_height * num_rows + 0.5), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharex="col", sharey="row", squeeze=False)
    for axes in grid[-1]:
        axes.set_xlabel("Frame")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, grid


def _draw_line(axes: Any, region: Region, key: str, label: str, line: tuple[str, str]) -> None:
    times, values = region.over_time(key)
    colour, pattern = line
    marker = "o" if len(times) <= MAX_MARKED_FRAMES else None
    values = np.where(np.isinf(values), np.nan, values)
    axes.plot(times, values, color=colour, linestyle=pattern, marker=marker, label=label)


def _label(key: str) -> str:
    metric = METRICS[key]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
