"""Checks that the programs in README.md are what stands in the files they are said to come from.

Each block of code follows a line that names a file in backquotes. Its lines must stand in that file
as they are, one after the other, apart from indentation that the whole block shares.
"""

from __future__ import annotations

import pathlib
import re
import sys
import textwrap

BLOCK = re.compile(r"`(examples/[^`]+)`[^\n]*\n\n```\w+\n(.*?)```", re.DOTALL)


def main() -> None:
    root = pathlib.Path(__file__).parent.parent
    blocks = BLOCK.findall((root / "README.md").read_text())
    if len(blocks) != 3:
        sys.exit(f"README.md: {len(blocks)} programs from examples/ instead of 3")
    for name, block in blocks:
        lines = (root / name).read_text().splitlines(keepends=True)
        count = block.count("\n")
        starts = range(len(lines) - count + 1)
        if not any(textwrap.dedent("".join(lines[at : at + count])) == block for at in starts):
            sys.exit(f"README.md does not show what stands in {name}")


if __name__ == "__main__":
    main()
