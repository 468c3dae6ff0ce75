"""Look for words that were replaced (``words.txt``) in code, docs and configuration.

python scripts/check_words.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKED = [
    "spark_flow",
    "jobs",
    "conf",
    "docs",
    "scripts",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "notebooks",
    "spark-submit.sh",
    "Makefile",
]
WORDS = Path(__file__).with_name("words.txt")


def words() -> list[tuple[re.Pattern[str], str]]:
    """Each pattern, and what to write instead."""
    lines = [line for line in WORDS.read_text().splitlines() if line and not line.startswith("#")]
    return [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in (line.split("\t") for line in lines)]


def main() -> int:
    """Print where a replaced word is; returns 1 if one is found."""
    list_files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *CHECKED]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patterns, found = words(), 0
    for name in listed.splitlines():
        path = ROOT / name
        if (
            path == WORDS
            or path.suffix not in {".py", ".md", ".ipynb", ".yaml", ".sh", ".conf", ""}
            or not path.is_file()
        ):
            continue
        for at, line in enumerate(path.read_text().splitlines(), 1):
            for pattern, instead in patterns:
                for word in pattern.finditer(line):
                    print(f"{name}:{at}: {word[0]!r}: write {instead}")
                    found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
