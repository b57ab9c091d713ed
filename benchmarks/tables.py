"""Tables of the evaluation in Markdown: by level as in Table 1 of the paper, by clip, and by group of clips."""

from keep_hf.evaluation.series import REFERENCE_METRICS, AverageMetrics, average

from .result_files import Results


# The metrics of the paper's Table 1, flicker and sharpness: key, statistic, label with the better direction, decimals.
COLUMNS = (
    ("psnr", "mean", "PSNR ↑", 2),
    ("ssim", "mean", "SSIM ↑", 4),
    ("lpips", "mean", "LPIPS ↓", 4),
    ("ids", "mean", "IDS ↑", 4),
    ("akd", "mean", "AKD ↓", 2),
    ("ids", "sigma", "sigma_IDS ↓", 4),
    ("akd", "sigma", "sigma_AKD ↓", 3),
    ("flicker", "mean", "Flicker ↓", 3),
    ("sharpness", "mean", "Sharpness → 1", 3),
)
# Key, label, decimals
CLIP_COLUMNS = (("psnr", "PSNR", 2), ("ssim", "SSIM", 4), ("sharpness", "sharpness", 3))
GROUP_COLUMNS = (("psnr", "PSNR", 2), ("ssim", "SSIM", 4), ("ids", "IDS", 4))

Columns = tuple[tuple[str, str, int], ...]
Averages = dict[str, dict[str, AverageMetrics]]  # by level and method


def average_clips(results: Results, clips: list[str], levels: list[str], methods: list[str]) -> Averages:
    """Average the results over clips, by level and method."""
    return {
        level: {method: average(results.load(clip, level, method) for clip in clips) for method in methods}
        for level in levels
    }


def levels_table(averages: Averages, missing: dict[str, str], notes: dict[str, str]) -> str:
    """A table with the layout of the paper's Table 1: a row per method and a group of metrics per level.

    Args:
        averages (`Averages`): By level and method, see [`average_clips`].
        missing (`dict[str, str]`): By metric that was not measured, what it needs.
        notes (`dict[str, str]`): By method, how it was run.

    Returns:
        `str`: Markdown. The notes, and the metrics that were not measured, are listed below the table.
    """
    levels = list(averages)
    methods = list(averages[levels[0]])
    example = averages[levels[0]][methods[0]]
    columns = [column for column in COLUMNS if example.mean[column[0]] is not None]
    gap = " |" * (len(columns) - 1)
    lines = [
        "| |" + "".join(f" {level} |{gap}" for level in levels),
        "|---|" + "---:|" * len(columns) * len(levels),
        "| |" + "".join(f" {label} |" for _ in levels for _, _, label, _ in columns),
    ]
    for method in methods:
        cells = [
            _format(getattr(averages[level][method], statistic)[key], decimals)
            for level in levels
            for key, statistic, _, decimals in columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    flicker = example.mean["reference_flicker"]
    lines += [
        "",
        f"{example.num_videos} clips, {example.num_frames} frames. PSNR in dB, IDS as cosine, AKD and sigma_AKD in "
        "pixels of a face of 512 x 512, flicker in levels of 255"
        + (f" (that of the truth: {flicker:.3f})" if flicker is not None else "")
        + ", sharpness relative to the truth.",
    ]
    lines += [f"{method}: {note}." for method, note in notes.items()]
    lines += [f"Not measured: {REFERENCE_METRICS[key].label}, which needs {needs}." for key, needs in missing.items()]
    return "\n".join(lines) + "\n"


def clips_table(results: Results, clips: list[str], levels: list[str], methods: list[str]) -> str:
    """PSNR, SSIM and sharpness of every clip and their mean: per level a table with a row per clip (Markdown)."""
    lines = []
    for level in levels:
        lines += _head(level, "clip | frames", CLIP_COLUMNS, methods)
        for name, members in ({clip: [clip] for clip in clips} | {"**mean**": clips}).items():
            averages = average_clips(results, members, [level], methods)[level]
            frames = averages[methods[0]].num_frames
            lines.append(f"| {name} | {frames} | {' | '.join(_cells(averages, CLIP_COLUMNS))} |")
        lines.append("")
    return "\n".join(lines)


def groups_table(results: Results, groups: dict[str, list[str]], levels: list[str], methods: list[str]) -> str:
    """PSNR, SSIM and IDS averaged over the clips of each group: per level a table with a row per group (Markdown).

    Args:
        results ([`Results`]): Results of all clips in the groups.
        groups (`dict[str, list[str]]`): Names of clips by name of the group.
        levels, methods (`list[str]`): Names.
    """
    lines = []
    for level in levels:
        lines += _head(level, "group | clips", GROUP_COLUMNS, methods)
        for name, members in groups.items():
            averages = average_clips(results, members, [level], methods)[level]
            lines.append(f"| {name} | {len(members)} | {' | '.join(_cells(averages, GROUP_COLUMNS))} |")
        lines.append("")
    return "\n".join(lines)


def _head(level: str, first: str, columns: Columns, methods: list[str]) -> list[str]:
    heads = [f"{label} {method}" for _, label, _ in columns for method in methods]
    return [f"## {level}", "", f"| {first} | {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) + 1)]


def _cells(averages: dict[str, AverageMetrics], columns: Columns) -> list[str]:
    return [_format(one.mean[key], decimals) for key, _, decimals in columns for one in averages.values()]


def _format(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
