"""Pictures of measured videos: which there are, what they show, and that they can be told apart in grey."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keep_hf.evaluation import plots
from keep_hf.evaluation.report import Evaluation, Part, Profile
from keep_hf.evaluation.series import COMPARED, INSPECTED, Series, VideoMeasures


HEIGHT = 24


def part(name: str, keys: dict[str, float], runs: tuple[tuple[int, int], ...] = ((0, 8),), compared=True) -> Part:
    """Runs (first frame, length) with values that go up and down around those of the keys."""
    made = Part(name)
    for first, length in runs:
        measures: dict[str, Series | None] = dict.fromkeys(COMPARED if compared else INSPECTED)
        for key, value in keys.items():
            num_values = length - (key in ("flicker", "reference_flicker", "identity_steps"))
            measures[key] = Series([value * (1 + 0.02 * math.sin(i)) for i in range(num_values)])
        made.runs.append((first, VideoMeasures(name, length, measures)))
    return made


def evaluation(whole: Part | None, people: list[Part], num_videos: int = 2, num_frames: int = 8) -> Evaluation:
    random = np.random.default_rng(0)
    columns = {
        index: tuple(random.integers(0, 256, (HEIGHT, 3), dtype=np.uint8) for _ in range(num_videos))
        for index in range(num_frames)
    }
    sources = ["restored.mp4", "reference.mp4"][:num_videos]
    profile = Profile(int(people[0].name) if people else None, columns)
    sizes = [(40, HEIGHT)] * num_videos
    return Evaluation("deep/film", sources, sizes, sizes[0], [0], num_frames, whole, people, profile)


FRAMES = {"psnr": 30.0, "flicker": 3.0, "reference_flicker": 1.0}
FACES = FRAMES | {"ids": 0.9}


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_three_pictures_of_a_compared_video(matplotlib, tmp_path):
    written = plots.draw_plots(evaluation(part("film", FRAMES), [part("0", FACES), part("1", FACES)]), tmp_path)
    names = ["film_profile.png", "film_identity.png", "film_quality.png"]
    assert written == [tmp_path / "deep" / name for name in names]
    for path in written:
        picture = pixels(path)
        assert picture.shape[1] == 1400
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
        # A line reaches into every quarter of the width.
        assert all((quarter < 200).any() for quarter in np.array_split(picture, 4, axis=1))


def test_the_profile_shows_the_pixels_themselves(matplotlib, tmp_path):
    film = evaluation(part("film", FRAMES), [])
    picture = pixels(plots.draw_plots(film, tmp_path)[0])
    shown = {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0)}
    wanted = {tuple(pixel) for columns in film.profile.columns.values() for column in columns for pixel in column}
    assert len(wanted & shown) > 0.99 * len(wanted)


def test_what_is_missing_is_not_drawn(matplotlib, tmp_path):
    (profile,) = plots.draw_plots(evaluation(None, [part("0", {})]), tmp_path)
    assert profile.name == "film_profile.png"
    film = evaluation(None, [part("0", {"flicker": 2.0, "identity_steps": 0.99}, compared=False)], num_videos=1)
    names = [path.name for path in plots.draw_plots(film, tmp_path / "alone")]
    assert names == ["film_profile.png", "film_identity.png", "film_quality.png"]


def axes_of(draw, film):
    figure = draw(film)
    figure.draw_without_rendering()
    return figure.axes


def test_labels_have_units_and_lines_have_gaps(matplotlib):
    person = part("0", FACES, runs=((0, 3), (5, 3)))
    axes = axes_of(plots._quality, evaluation(part("film", FRAMES), [person]))
    assert [one.get_ylabel() for one in axes] == ["PSNR (dB)", "", "Flicker (levels of 255)", ""]
    assert [one.get_xlabel() for one in axes] == ["", "", "Frame", "Frame"]
    restored, reference = axes[3].get_lines()
    times, values = restored.get_data()
    assert times[np.isfinite(values)].tolist() == [1, 2, 6, 7] and np.isnan(values).sum() == 2
    assert restored.get_linestyle() != reference.get_linestyle()
    (identity,) = axes_of(plots._identity, evaluation(None, [person]))
    assert identity.get_ylabel() == "IDS (cosine)" and identity.get_ylim()[1] > 1
    assert "mean 0.9" in identity.get_legend().get_texts()[0].get_text()


def test_equal_frames_have_no_line_but_a_word(matplotlib):
    axes = axes_of(plots._quality, evaluation(part("film", {"psnr": math.inf, "flicker": 1, "ids": 1}), []))
    assert [text.get_text() for text in axes[0].texts] == ["infinite: the frames are equal"]
    assert not axes[1].texts


def test_what_faces_alone_have_is_said(matplotlib):
    keys = {"flicker": 2.0, "landmark_jitter": 1.0}
    whole, person = part("film", {"flicker": 2.0}, compared=False), part("0", keys, compared=False)
    axes = axes_of(plots._quality, evaluation(whole, [person], num_videos=1))
    assert [[text.get_text() for text in one.texts] for one in axes] == [[], [], ["measured of faces only"], []]
    assert all(one.get_ylim()[0] == 0 for one in axes)


def test_only_those_who_are_there_for_longest_are_drawn(matplotlib):
    people = [part(str(i), FACES, runs=((0, 3 + i),)) for i in range(6)]
    (axes,) = axes_of(plots._identity, evaluation(None, people))
    drawn = [text.get_text().split(":")[0] for text in axes.get_legend().get_texts()]
    assert drawn == ["person 5", "person 4", "person 3", "person 2"]
    assert "2 more people" in axes.get_title()


def test_lines_can_be_told_apart_in_grey():
    greys = sorted(
        0.299 * int(colour[1:3], 16) + 0.587 * int(colour[3:5], 16) + 0.114 * int(colour[5:], 16)
        for colour, _ in plots.LINES[:2]
    )
    assert greys[1] - greys[0] > 60
    assert len({pattern for _, pattern in plots.LINES}) == len(plots.LINES)


def test_without_matplotlib_it_is_said_before_the_work(monkeypatch, tmp_path, capsys):
    from keep_hf.cli import main

    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert main(["evaluate", str(tmp_path / "missing.mp4"), "--plots", str(tmp_path / "plots")]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()
