"""A hook of MkDocs: lists as GitHub reads them.

GitHub takes lines that are indented by the width of `- ` or `1. ` as part of the list item.
Python-Markdown, which MkDocs uses, wants four spaces.
"""

import re
from collections.abc import Iterator

_MARKER = re.compile(r"(?:-|\d+\.) ")
_FENCE = "```"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Indent the further lines of list items by four spaces."""
    return "\n".join(_indented(markdown.split("\n")))


def _indented(lines: list[str]) -> Iterator[str]:
    width = 0  # of the marker of the list item that the line may belong to; 0: none
    in_fence = False
    for line in lines:
        marker = _MARKER.match(line)
        if line.startswith(_FENCE):
            in_fence = not in_fence
            width = 0
        elif marker and not in_fence:
            width = marker.end()
        elif width and line.startswith(" " * width):
            yield " " * 4 + line[width:]
            continue
        elif line:
            width = 0
        yield line
