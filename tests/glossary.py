"""Words that this project has replaced by standard terms, and a search for them.

    python tests/glossary.py [REPOSITORY]       # prints how often each is used

CONTRIBUTING.md has the table of terms.  Identifiers count like prose: `num_films` and `FilmReader` are uses of "film".
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paths import REPOSITORY


SEARCHED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "model_card.md",
    "benchmarks",
    "docs",
    "examples",
    "spaces",
    "src",
    "training",
)
SUFFIXES = {".css", ".html", ".ipynb", ".js", ".json", ".md", ".py", ".txt", ".yml"}
# What the words look like once identifiers are divided into words.
WORDS = {
    "picture": r"pictures?|pictured",
    "film": r"films?|filmed",
    "road": r"roads?",
    "room": r"rooms?(?! for\b)",  # there may be room for something
    "door": r"doors?",
    "arrows": r"arrows point|^#+ arrows",  # the signs of a table and the keys keep their name
    "told": r"tells?|told|telling",
    "speak": r"speaks?|spoken",
    "anew": r"anew",
    # The noun.  The verb is followed by one of these words.
    "look": r"looks?(?![ -](?:ahead|at|for|up|like|into|similar|the same|wrong|soft)\b)",
    "likeness": r"likeness(?:es)?|how alike",
    "visit": r"visits?|visitors?",
    "nobody": r"nobody|everybody",
    "wish": r"wish|wishes",
    "whoever": r"whoever",
    "lest": r"lest",
    "unasked": r"unasked",
    "so many": r"so many",
    "be had": r"be had",
    "be meant": r"be meant",
    "on its way": r"on (?:its|the|their) way",
    "as it was": r"as it was|as they were",
}
# Names of other projects, removed before the search.
ALLOWED = ("PictureType",)


class Use(NamedTuple):
    word: str
    place: str
    text: str


def searched_files(repository: Path) -> list[Path]:
    found = [path for name in SEARCHED for path in [repository / name, *(repository / name).rglob("*")]]
    return sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())


def divide_identifiers(text: str) -> str:
    """Put spaces between the words of identifiers."""
    for name in ALLOWED:
        text = text.replace(name, "")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ")


def without_glossary(text: str) -> str:
    """A page without its section "Glossary", with as many lines."""
    return re.sub(r"^## Glossary\n.*?(?=^## |\Z)", lambda found: "\n" * found[0].count("\n"), text, flags=re.M | re.S)


def find_uses(repository: Path) -> Iterator[Use]:
    """Every use of a replaced word in the names and in the text of files."""
    patterns = {word: re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.I) for word, pattern in WORDS.items()}
    for path in searched_files(repository):
        name = path.relative_to(repository).as_posix()
        lines = without_glossary(path.read_text(encoding="utf-8")).splitlines()
        for number, line in enumerate([name, *lines]):
            for word, pattern in patterns.items():
                for _ in pattern.finditer(divide_identifiers(line)):
                    yield Use(word, f"{name}:{number}", line.strip())


if __name__ == "__main__":
    counts = Counter(use.word for use in find_uses(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY))
    for word in WORDS:
        print(f"{word:12}{counts[word]:5}")
    print(f"{'all':12}{counts.total():5}")
