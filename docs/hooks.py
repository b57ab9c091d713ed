"""Pages of the documentation site that lie outside of docs/, and links between all of them."""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


REPOSITORY = Path(__file__).resolve().parents[1]
# Pages of the repository -> pages of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "model_card.md": "model_card.md",
    "benchmarks/results.md": "benchmarks/results.md",
    "benchmarks/results_speed.md": "benchmarks/results_speed.md",
    "benchmarks/streaming.md": "benchmarks/streaming.md",
    "training/README.md": "guides/training.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(REPOSITORY / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    sources = {site: source for source, site in OUTSIDE.items()}
    folder = PurePosixPath(sources.get(here, f"docs/{here}")).parent
    return LINK.sub(
        lambda found: found[1] + relink(found[2], folder, here, config) + (found[3] or "") + found[4], markdown
    )


def relink(target: str, folder: PurePosixPath, here: str, config: MkDocsConfig) -> str:
    """The target of a link in a page of the repository, as seen from a page of the site."""
    if "://" in target or target.startswith("mailto:"):
        return target
    path = os.path.normpath(folder / target).replace(os.sep, "/")
    if path in OUTSIDE:
        site = OUTSIDE[path]
    elif path.startswith("docs/") and (REPOSITORY / path).is_file():
        site = path.removeprefix("docs/")
    elif (REPOSITORY / path).exists():
        return f"{config.repo_url}/blob/main/{path}"
    else:
        return target  # mkdocs reports it
    return os.path.relpath(site, PurePosixPath(here).parent).replace(os.sep, "/")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Types without the marks of diffusers' docstrings: "[`GMFlow`], *optional*" -> "GMFlow, optional"."""
    html = re.sub(r"\[(<code>[^<]*</code>)\]", r"\1", html)
    return re.sub(r"<code>[^<]*`[^<]*</code>", lambda found: re.sub(r"\[(?=`)|(?<=`)\]|`|\*", "", found[0]), html)
