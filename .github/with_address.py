"""Give a checkout the address where it is published: with_address.py ADDRESS REF, before a build.

pyproject.toml gets its URLs, and README.md links and pictures that an index page can follow.
ADDRESS is that of the repository, as https://HOST/OWNER/NAME, REF a tag of it.
"""

import re
import sys
from pathlib import Path


def project_urls(address: str) -> str:
    """The table of a project's URLs, as pyproject.toml has it."""
    places = {
        "Homepage": address,
        "Documentation": f"{address}/tree/main/docs",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    lines = (f'{name} = "{place}"\n' for name, place in places.items())
    return f"\n[project.urls]\n{''.join(lines)}"


def with_absolute_links(text: str, address: str, ref: str) -> str:
    """Markdown whose links into the repository are of the web."""

    def absolute(link: re.Match[str]) -> str:
        is_picture, words, place = link.groups()
        view = "raw" if is_picture else "blob"
        return f"{is_picture}[{words}]({address}/{view}/{ref}/{place})"

    # Words may be a picture's alt text with brackets of no link, but hold no link themselves.
    return re.sub(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)", absolute, text)


def main(address: str, ref: str) -> None:
    """Change the two files of the current folder."""
    for name, change in (
        ("pyproject.toml", lambda text: text + project_urls(address)),
        ("README.md", lambda text: with_absolute_links(text, address, ref)),
    ):
        path = Path(name)
        path.write_text(change(path.read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
