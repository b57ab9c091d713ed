"""The documentation is correct: its code runs, its commands and options exist, its links have targets."""

import importlib
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from keep_hf import cli
from paths import REPOSITORY


GUIDES = sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("docs/guides/*.md"))
DOCUMENTS = ["README.md", "model_card.md", *GUIDES]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    place: str
    language: str
    code: str
    why_not: str | None


def blocks(document: str) -> list[Block]:
    text = (REPOSITORY / document).read_text()
    return [
        Block(
            f"{document}:{text.count(chr(10), 0, found.start()) + 1}", found["language"], found["code"], found["why"]
        )
        for found in BLOCK.finditer(text)
    ]


def commands(code: str) -> list[list[str]]:
    """The commands of a shell block, as lists of words."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


ALL_BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def runnable(language: str) -> list:
    return [pytest.param(b.code, id=b.place) for b in ALL_BLOCKS if b.language == language and not b.why_not]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A few frames of a face, with sound."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    runpy.run_path(str(REPOSITORY / "examples" / "demo.py"))["write_moving_portrait"](path, 5)
    return path


@pytest.fixture
def folder(clip, tmp_path, monkeypatch) -> Path:
    """The folder in which a reader would type: `in.mp4` and `clips/one.mp4`."""
    shutil.copyfile(clip, tmp_path / "in.mp4")
    (tmp_path / "clips").mkdir()
    shutil.copyfile(clip, tmp_path / "clips" / "one.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("code", runnable("python"))
def test_python_blocks_run(folder, code):
    exec(compile(code, "block", "exec"), {"__name__": "__main__"})
    if "out.mp4" in code:
        assert (folder / "out.mp4").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("code", runnable("bash"))
def test_commands_run(folder, code):
    for words in commands(code):
        assert words[0] == "keep-hf", "only keep-hf is run here: give other commands a block without a language"
        before = set(folder.rglob("*"))
        assert cli.main(words[1:]) == 0
        assert set(folder.rglob("*")) > before, f"{shlex.join(words)} wrote nothing"


def test_few_blocks_are_not_run():
    # The language sh is for commands of other programs, which are never run.
    assert sum(block.why_not is not None for block in ALL_BLOCKS if block.language != "sh") <= 3
    for block in ALL_BLOCKS:
        if not block.language:
            assert not re.search(r"keep-hf |keep_hf import", block.code), f"{block.place} has code, but no language"


@pytest.mark.parametrize("block", [pytest.param(b, id=b.place) for b in ALL_BLOCKS if b.why_not])
def test_blocks_that_are_not_run_could_be_read(block):
    if block.language == "python":
        compile(block.code, block.place, "exec")
    else:
        for words in commands(block.code):
            if words[0] == "keep-hf":
                cli.build_parser().parse_args(words[1:])


def test_the_table_of_options_is_complete(capsys):
    with pytest.raises(SystemExit):
        cli.main(["restore", "--help"])
    existing = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    page = REPOSITORY / "docs" / "guides" / "options.md"
    table = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert set(re.findall(r"`(--[a-z-]+)`", "\n".join(table))) == existing


TRAINING_COMMANDS = [
    pytest.param(words, id=block.place)
    for block in blocks("training/README.md")
    if block.language == "bash"
    for words in commands(block.code)
]


@pytest.mark.parametrize("words", TRAINING_COMMANDS)
def test_training_commands_are_parsed(words, monkeypatch):
    monkeypatch.chdir(REPOSITORY)  # recipes are named by their path in the repository
    module = words.index("-m") + 1
    importlib.import_module(words[module]).build_parser().parse_args(words[module + 1 :])


@pytest.mark.parametrize(
    "recipe", sorted(REPOSITORY.glob("training/recipes/*/*.txt")), ids=lambda p: f"{p.parent.name} {p.stem}"
)
def test_recipes_have_options_of_their_stage(recipe):
    parser = importlib.import_module(f"training.train_{recipe.stem}").build_parser()
    required = [f"--{name}=1" for name in ("data", "output", "steps", "vq", "kalman", "flow")]
    _, unknown = parser.parse_known_args([*required, f"@{recipe}"])
    assert set(unknown) <= set(required)


PAGES = [
    *DOCUMENTS,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "benchmarks/results.md",
    "benchmarks/results_speed.md",
    "benchmarks/streaming.md",
    "docs/architecture.md",
    "docs/troubleshooting.md",
    "spaces/README.md",
    "training/README.md",
]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_have_targets(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (REPOSITORY / page).read_text()):
        if "://" not in target:
            path = (REPOSITORY / page).parent / target if target else REPOSITORY / page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"
