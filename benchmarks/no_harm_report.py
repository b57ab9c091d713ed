"""Outcomes of no_harm.py: what was measured of a clip, what is required, and tables in Markdown."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Outcome:
    """What a model did to the face of one clip; means over the frames.

    Args:
        clip, level, model (`str`): Names.
        source (`str`): What the result depends on in addition to the names.
        num_frames (`int`): Frames that show the face.
        input_psnr, output_psnr (`float`): Of input and output against the truth, in dB.
        kept_psnr (`float`): Of the output against the input, in dB. At the level none, the input is the truth.
        input_sharpness, output_sharpness (`float`): Relative to the truth, see sharpness.py.
        input_identity, output_identity (`float`, *optional*): Similarity of identity to the truth, from -1 to 1.
        cpu_seconds (`float`): Per frame of the video, summed over threads, from file to file.
        strength (`float`, *optional*): The weight of the restored faces that `strength="auto"` chose, mean over the
            people.
    """

    clip: str
    level: str
    model: str
    source: str
    num_frames: int
    input_psnr: float
    output_psnr: float
    kept_psnr: float
    input_sharpness: float
    output_sharpness: float
    input_identity: float | None
    output_identity: float | None
    cpu_seconds: float
    strength: float | None = None

    @property
    def gain(self) -> float | None:
        """PSNR of the output above that of the input, in dB; `None` at the level none."""
        return None if self.level == "none" else self.output_psnr - self.input_psnr


@dataclass(frozen=True)
class Limits:
    """The smallest values that are accepted at a level, with those of their arguments that are not `None`.

    Args:
        kept_psnr, sharpness (`float`, *optional*): Of every clip.
        mean_gain, worst_gain (`float`, *optional*): Of the mean over the clips and of every clip, in dB.
    """

    kept_psnr: float | None = None
    sharpness: float | None = None
    mean_gain: float | None = None
    worst_gain: float | None = None

    def accepts(self, outcome: Outcome) -> bool:
        """Whether a clip is within the limits for every clip."""
        pairs = (
            (outcome.kept_psnr, self.kept_psnr),
            (outcome.output_sharpness, self.sharpness),
            (outcome.gain, self.worst_gain),
        )
        return all(limit is None or (value is not None and value >= limit) for value, limit in pairs)

    def accept(self, outcomes: list[Outcome]) -> bool:
        """Whether all clips of a level and their mean are within the limits."""
        gains = [outcome.gain for outcome in outcomes if outcome.gain is not None]
        is_enough = self.mean_gain is None or fmean(gains) >= self.mean_gain
        return is_enough and all(self.accepts(outcome) for outcome in outcomes)

    def __str__(self) -> str:
        texts = (
            (self.kept_psnr, "kept ≥ {:g} dB"),
            (self.sharpness, "sharpness ≥ {:g}"),
            (self.mean_gain, "mean gain ≥ {:g} dB"),
            (self.worst_gain, "worst gain ≥ {:g} dB"),
        )
        return ", ".join(text.format(limit) for limit, text in texts if limit is not None) or "none"


LIMITS = {
    "none": Limits(kept_psnr=38, sharpness=0.9),
    "mild": Limits(mean_gain=1.2, worst_gain=0),
    "medium": Limits(mean_gain=1.5, worst_gain=0.3),
    "heavy": Limits(),
}


# Label, field of `Outcome`, statistic over the clips, format
Column = tuple[str, str, Callable[[list[float]], float], str]
SUMMARY_COLUMNS: tuple[Column, ...] = (
    ("input dB", "input_psnr", fmean, ".2f"),
    ("output dB", "output_psnr", fmean, ".2f"),
    ("gain", "gain", fmean, "+.2f"),
    ("worst gain", "gain", min, "+.2f"),
    ("kept dB", "kept_psnr", fmean, ".2f"),
    ("worst kept", "kept_psnr", min, ".2f"),
    ("input sharpness", "input_sharpness", fmean, ".3f"),
    ("output sharpness", "output_sharpness", fmean, ".3f"),
    ("worst sharpness", "output_sharpness", min, ".3f"),
    ("input IDS", "input_identity", fmean, ".4f"),
    ("output IDS", "output_identity", fmean, ".4f"),
    ("strength", "strength", fmean, ".2f"),
    ("CPU s per frame", "cpu_seconds", fmean, ".2f"),
)
# Those of one clip need no second statistic.
CLIP_COLUMNS = tuple(column for column in SUMMARY_COLUMNS if column[2] is fmean)


def summary_table(outcomes: list[Outcome]) -> str:
    """A row per level and model: means and worst clips, the limits, and whether they are kept (Markdown)."""
    lines = _head(("level", "model", "clips"), SUMMARY_COLUMNS, ("limits", "passed"))
    for level, model in dict.fromkeys((one.level, one.model) for one in outcomes):
        rows = [one for one in outcomes if (one.level, one.model) == (level, model)]
        limits = LIMITS[level]
        cells = [level, model, str(len(rows)), *_cells(rows, SUMMARY_COLUMNS), str(limits)]
        lines.append(f"| {' | '.join(cells)} | {_verdict(limits.accept(rows))} |")
    return "\n".join(lines) + "\n"


def clips_table(outcomes: list[Outcome]) -> str:
    """A row per level, clip and model (Markdown). Limits of the mean do not count here."""
    lines = _head(("level", "clip", "model", "frames"), CLIP_COLUMNS, ("passed",))
    for one in outcomes:
        cells = [one.level, one.clip, one.model, str(one.num_frames), *_cells([one], CLIP_COLUMNS)]
        lines.append(f"| {' | '.join(cells)} | {_verdict(LIMITS[one.level].accepts(one))} |")
    return "\n".join(lines) + "\n"


def _head(first: tuple[str, ...], columns: tuple[Column, ...], last: tuple[str, ...]) -> list[str]:
    labels = [*first, *(label for label, *_ in columns), *last]
    return [f"| {' | '.join(labels)} |", "|---" * len(first) + "|---:" * len(columns) + "|---" * len(last) + "|"]


def _cells(outcomes: list[Outcome], columns: tuple[Column, ...]) -> list[str]:
    """Statistics over outcomes as text, empty where a value was not measured."""
    cells = []
    for _, field, statistic, decimals in columns:
        values = [getattr(one, field) for one in outcomes]
        cells.append("" if None in values else format(statistic(values), decimals))
    return cells


def _verdict(is_passed: bool) -> str:
    return "yes" if is_passed else "**no**"
