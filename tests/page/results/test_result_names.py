"""Names of results, for any name of an upload."""

import pytest

from keep_hf.page.results.result_names import MAX_BYTES, distinct_names, result_name, safe_stem


@pytest.mark.parametrize(
    ("upload", "stem"),
    [
        ("holiday.mp4", "holiday"),
        ("two people.mp4", "two_people"),
        ("no extension", "no_extension"),
        ("archive.tar.gz", "archive.tar"),
        ("../../etc/passwd", "passwd"),
        ("..", "video"),
        ("", "video"),
        (".mp4", "mp4"),
        ("C:\\clips\\a.mov", "a"),
        ("Ferien \u201eK\u00f6ln\u201c.mov", "Ferien_\u201eK\u00f6ln\u201c"),
        ("Ko\u0308ln.mp4", "K\u00f6ln"),  # a letter and its accent as separate characters
        ("\u5bb6\u65cf.mp4", "\u5bb6\u65cf"),
        ("\u0633\u0641\u0631.mp4", "\u0633\u0641\u0631"),
        ("cat \U0001f408.mp4", "cat_\U0001f408"),
        ('a"; rm -rf ~; ".mp4', "a_rm_-rf"),
        ("<img src=x onerror=alert(1)>.mp4", "img_src=x_onerror=alert(1)"),
        ("$(id)`id`.mp4", "(id)_id"),
        ("-o.mp4", "o"),
        ("a\r\nSet-Cookie: b.mp4", "a_Set-Cookie_b"),
        ("gpj.\u202eexe.mp4", "gpj._exe"),
        ("NUL.mp4", "NUL_"),
        ("a\x00b.mp4", "a_b"),
        ("surrogate\udcff.mp4", "surrogate"),
    ],
)
def test_names_are_safe(upload, stem, tmp_path):
    assert safe_stem(upload) == stem
    path = tmp_path / result_name(upload, "restored")
    path.touch()
    assert path.resolve().parent == tmp_path.resolve()
    assert path.name == f"{stem}_restored.mp4"


def test_long_names_are_cut_between_letters(tmp_path):
    for letter in ("a", "\u5bb6", "\U0001f408"):
        stem = safe_stem(f"{letter * 500}.mp4")
        assert MAX_BYTES - 4 < len(stem.encode()) <= MAX_BYTES
        assert set(stem) == {letter}
        (tmp_path / result_name(letter * 500, "side_by_side")).touch()


def test_kinds_of_results():
    assert result_name("holiday.mov", "preview") == "holiday_preview.mp4"
    assert result_name("holiday.mov", "report", ".html") == "holiday_report.html"


def test_equal_names_are_numbered():
    names = ["a.mp4", "A.MP4", "b.mp4", "a.mp4", "a_2.mp4", "a"]
    assert distinct_names(names) == ["a.mp4", "A_2.MP4", "b.mp4", "a_3.mp4", "a_2_2.mp4", "a"]
