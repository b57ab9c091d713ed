"""Accessibility of the page in every state: axe-core, and the contrast of all text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
ALL = [(size, scheme) for size in SIZES for scheme in SCHEMES]
# axe-core takes a second. Colours depend on the scheme, and the layout on the size, so each is in one pair.
PAIRS = [("desktop", "light"), ("phone", "dark")]
LOWEST_CONTRAST = 4.5  # of all text, as WCAG 2 AA requires of text that is not large

# Colours that change slowly would be measured on their way from one colour scheme to the other.
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"

# Texts with less contrast than `lowest`, as "text: ratio, colours, element". Disabled controls are exempt, as in WCAG.
# The background is composed of all layers behind a text, down to the first opaque one; opacity counts. Text over
# images and videos is not measured. Returns the number of texts measured, and the failures.
LOW_CONTRAST = """(lowest) => {
  const parse = (text) => { const p = text.match(/[\\d.]+/g).map(Number); return [p[0], p[1], p[2], p[3] ?? 1]; };
  const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((value) => { const c = value / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const over = (top, under) => under.map((value, i) => i < 3 ? top[i] * top[3] + value * (1 - top[3]) : 1);
  const parents = (node) => node ? [node, ...parents(node.parentElement)] : [];
  const opacity = (node) => parents(node).reduce((all, parent) => all * getComputedStyle(parent).opacity, 1);
  const behind = (node) => { const stack = [];
    for (const parent of parents(node)) { const colour = parse(getComputedStyle(parent).backgroundColor);
      colour[3] *= opacity(parent); if (colour[3] > 0) stack.push(colour); if (colour[3] === 1) break; }
    return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]); };
  const name = (node) => parents(node).slice(0, 3).map((parent) => parent.tagName.toLowerCase()
    + (parent.id ? `#${parent.id}` : parent.classList[0] ? `.${parent.classList[0]}` : "")).reverse().join(" > ");
  const inside = (box) => { const middle = (low, high) => (low + high) / 2;
    return middle(box.left, box.right) > 0 && box.width >= 2 && box.height >= 2; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) { const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    const style = getComputedStyle(node);
    const hidden = style.clip !== "auto" || style.clipPath === "inset(50%)" || opacity(node) === 0;
    if (!text || hidden || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (!inside(node.getBoundingClientRect())) continue;
    if (node.closest("script, style, video, .views, [aria-hidden=true], [inert]")) continue;
    if (node.closest(":disabled, [aria-disabled=true]")) continue;
    const ground = behind(node), colour = parse(style.color); colour[3] *= opacity(node);
    const front = over(colour, ground);
    const [high, low] = [light(front), light(ground)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    count += 1;
    const show = (rgb) => rgb.slice(0, 3).map(Math.round).join(" ");
    if (ratio < lowest) found.push(
      `${text.slice(0, 60)}: ${ratio.toFixed(2)}, ${show(front)} on ${show(ground)}, ${name(node)}`); }
  return [count, found]; }"""


def find_violations(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, one line for each element; then the texts of low contrast."""
    lines = []
    for violation in Axe().run(page).response["violations"]:
        for node in violation["nodes"]:
            lines.append(describe_violation(violation, node))
    return lines + find_low_contrast(page)


def find_low_contrast(page: Page) -> list[str]:
    """The texts of low contrast on the page as it is, one line for each."""
    num_texts, low_contrast = page.evaluate(LOW_CONTRAST, LOWEST_CONTRAST)
    assert num_texts > 2, "no text is measured"
    return [f"contrast below {LOWEST_CONTRAST}: {text}" for text in low_contrast]


def describe_violation(violation: dict[str, Any], node: dict[str, Any]) -> str:
    target = " ".join(str(part) for part in node["target"])
    html = " ".join(node["html"].split())[:140]
    return f"axe {violation['id']} ({violation['impact']}): {violation['help']}: {target}: {html}"


@contextmanager
def shown_as(page: Page, size: str, scheme: str) -> Iterator[None]:
    """Show the page in another size and colour scheme, without loading it again."""
    before = page.viewport_size
    page.set_viewport_size(SIZES[size])
    page.emulate_media(color_scheme=scheme)
    page.add_style_tag(content=STILL)
    page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
    yield
    page.set_viewport_size(before)


class AccessibilityCheck:
    """Collects the violations of all states of a page, in all sizes and colour schemes.

    A violation that several states share is one entry: the report stays short.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.places: dict[str, list[str]] = {}  # by violation: the states that have it

    def check(self, state: str, axe_in: Sequence[tuple[str, str]] = PAIRS) -> None:
        """Check the page as it is now: the contrast in all sizes and schemes, all else in those that are given."""
        for size, scheme in ALL:
            with shown_as(self.page, size, scheme):
                find = find_violations if (size, scheme) in axe_in else find_low_contrast
                for violation in find(self.page):
                    self.places.setdefault(violation, []).append(f"{state} ({size}, {scheme})")

    def report(self) -> str:
        """One line for each violation, then the states that have it; empty if there is none."""
        return "\n".join(f"{violation}\n    in: {', '.join(states)}" for violation, states in self.places.items())
