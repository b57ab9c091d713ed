"""Plots of evaluated videos: which are drawn, what they show, and that lines can be distinguished in greyscale."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keep_hf.evaluation import plots
from keep_hf.evaluation.results import Evaluation, Profile, Region
from keep_hf.evaluation.series import NO_REFERENCE_METRICS, REFERENCE_METRICS, Series, VideoMetrics


pytestmark = pytest.mark.slow


HEIGHT = 24


def make_region(
    name: str, keys: dict[str, float], segments: tuple[tuple[int, int], ...] = ((0, 8),), compared: bool = True
) -> Region:
    """Segments (first frame, length) with values that vary around those of the keys."""
    region = Region(name)
    for first, length in segments:
        metrics: dict[str, Series | None] = dict.fromkeys(REFERENCE_METRICS if compared else NO_REFERENCE_METRICS)
        for key, value in keys.items():
            num_values = length - (key in ("flicker", "reference_flicker", "identity_steps"))
            metrics[key] = Series([value * (1 + 0.02 * math.sin(i)) for i in range(num_values)])
        region.segments.append((first, VideoMetrics(name, length, metrics)))
    return region


def make_evaluation(
    whole: Region | None, people: list[Region], num_videos: int = 2, num_frames: int = 8
) -> Evaluation:
    random = np.random.default_rng(0)
    columns = {
        index: tuple(random.integers(0, 256, (HEIGHT, 3), dtype=np.uint8) for _ in range(num_videos))
        for index in range(num_frames)
    }
    sources = ["restored.mp4", "reference.mp4"][:num_videos]
    profile = Profile(int(people[0].name) if people else None, columns)
    sizes = [(40, HEIGHT)] * num_videos
    return Evaluation("deep/clip", sources, sizes, sizes[0], [0], num_frames, whole, people, profile)


FRAMES = {"psnr": 30.0, "flicker": 3.0, "reference_flicker": 1.0}
FACES = FRAMES | {"ids": 0.9}


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_three_plots_of_a_compared_video(matplotlib, tmp_path):
    written = plots.draw_plots(
        make_evaluation(make_region("clip", FRAMES), [make_region("0", FACES), make_region("1", FACES)]), tmp_path
    )
    names = ["clip_profile.png", "clip_identity.png", "clip_quality.png"]
    assert written == [tmp_path / "deep" / name for name in names]
    for path in written:
        image = pixels(path)
        assert image.shape[1] == 1400
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
        # A line reaches into every quarter of the width.
        assert all((quarter < 200).any() for quarter in np.array_split(image, 4, axis=1))


def test_the_profile_shows_the_pixels_themselves(matplotlib, tmp_path):
    clip = make_evaluation(make_region("clip", FRAMES), [])
    image = pixels(plots.draw_plots(clip, tmp_path)[0])
    shown = {tuple(colour) for colour in np.unique(image.reshape(-1, 3), axis=0)}
    expected = {tuple(pixel) for columns in clip.profile.columns.values() for column in columns for pixel in column}
    assert len(expected & shown) > 0.99 * len(expected)


def test_missing_metrics_are_not_drawn(matplotlib, tmp_path):
    (profile,) = plots.draw_plots(make_evaluation(None, [make_region("0", {})]), tmp_path)
    assert profile.name == "clip_profile.png"
    clip = make_evaluation(
        None, [make_region("0", {"flicker": 2.0, "identity_steps": 0.99}, compared=False)], num_videos=1
    )
    names = [path.name for path in plots.draw_plots(clip, tmp_path / "alone")]
    assert names == ["clip_profile.png", "clip_identity.png", "clip_quality.png"]


def axes_of(draw, clip):
    figure = draw(clip)
    figure.draw_without_rendering()
    return figure.axes


def test_labels_have_units_and_lines_have_gaps(matplotlib):
    person = make_region("0", FACES, segments=((0, 3), (5, 3)))
    axes = axes_of(plots._quality, make_evaluation(make_region("clip", FRAMES), [person]))
    assert [one.get_ylabel() for one in axes] == ["PSNR (dB)", "", "Flicker (levels of 255)", ""]
    assert [one.get_xlabel() for one in axes] == ["", "", "Frame", "Frame"]
    restored, reference = axes[3].get_lines()
    times, values = restored.get_data()
    assert times[np.isfinite(values)].tolist() == [1, 2, 6, 7]
    assert np.isnan(values).sum() == 2
    assert restored.get_linestyle() != reference.get_linestyle()
    (identity,) = axes_of(plots._identity, make_evaluation(None, [person]))
    assert identity.get_ylabel() == "IDS (cosine)"
    assert identity.get_ylim()[1] > 1
    assert "mean 0.9" in identity.get_legend().get_texts()[0].get_text()


def test_equal_frames_have_a_note_instead_of_a_line(matplotlib):
    axes = axes_of(
        plots._quality, make_evaluation(make_region("clip", {"psnr": math.inf, "flicker": 1, "ids": 1}), [])
    )
    assert [text.get_text() for text in axes[0].texts] == ["infinite: the frames are equal"]
    assert not axes[1].texts


def test_metrics_of_faces_only_have_a_note(matplotlib):
    keys = {"flicker": 2.0, "landmark_jitter": 1.0}
    whole, person = make_region("clip", {"flicker": 2.0}, compared=False), make_region("0", keys, compared=False)
    axes = axes_of(plots._quality, make_evaluation(whole, [person], num_videos=1))
    assert [[text.get_text() for text in one.texts] for one in axes] == [[], [], ["measured on faces only"], []]
    assert all(one.get_ylim()[0] == 0 for one in axes)


def test_only_the_people_in_the_most_frames_are_drawn(matplotlib):
    people = [make_region(str(i), FACES, segments=((0, 3 + i),)) for i in range(6)]
    (axes,) = axes_of(plots._identity, make_evaluation(None, people))
    drawn = [text.get_text().split(":")[0] for text in axes.get_legend().get_texts()]
    assert drawn == ["person 5", "person 4", "person 3", "person 2"]
    assert "2 more people" in axes.get_title()


def test_lines_can_be_distinguished_in_greyscale():
    greys = sorted(
        0.299 * int(colour[1:3], 16) + 0.587 * int(colour[3:5], 16) + 0.114 * int(colour[5:], 16)
        for colour, _ in plots.LINES[:2]
    )
    assert greys[1] - greys[0] > 60
    assert len({pattern for _, pattern in plots.LINES}) == len(plots.LINES)


def test_missing_matplotlib_is_reported_before_the_work(monkeypatch, tmp_path, capsys):
    from keep_hf.cli import main

    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert main(["evaluate", str(tmp_path / "missing.mp4"), "--plots", str(tmp_path / "plots")]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()
