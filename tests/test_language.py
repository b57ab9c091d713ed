"""The terms of the glossary in CONTRIBUTING.md are used, the words that they replaced are not."""

import re

import pytest

from glossary import WORDS, divide_identifiers, find_uses
from paths import REPOSITORY


def test_the_replaced_words_are_not_used(capsys):
    uses = list(find_uses(REPOSITORY))
    with capsys.disabled():
        print(f"\nreplaced words in use: {len(uses)}")
    assert not uses, "\n".join(f"{use.place}: {use.word}: {use.text}" for use in uses)


def test_the_glossary_has_every_word_that_is_searched_for():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (.+?) \| .+ \|$", page.split("\n## Glossary\n")[1].split("\n## ")[0], re.M)
    listed = {word for row in rows[1:] for word in row.split(", ")}
    assert listed == set(WORDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PICTURE_SUFFIXES, make_pictures(), a Picture", ["picture"] * 3),
        ("FilmReader reads num_films", ["film", "film"]),
        ("The look of a face, LOOK_SIZE, looks[0]", ["look"] * 3),
        ("a look-ahead; look_at(clip); it looks like a cut; vq.lookup(codes)", []),
        ("room for the result, a room", ["room"]),
        ("PictureType, filmstrip, broad, indoor, visitation", []),
    ],
)
def test_identifiers_are_searched_like_prose(tmp_path, text, words):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"{text}\n\n## Glossary\n\n| film | video |\n\n## After\n\nanew\n")
    assert sorted(use.word for use in find_uses(tmp_path)) == sorted([*words, "anew"])


def test_uses_are_reported_with_their_place(tmp_path):
    (tmp_path / "README.md").write_text("# Videos\n\nA film.\n")
    assert list(find_uses(tmp_path)) == [("film", "README.md:3", "A film.")]
    assert divide_identifiers("FilmReader.num_films") == "Film Reader.num films"
