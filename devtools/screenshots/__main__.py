"""`make screenshots`: the pictures of the README and of the guides; with --every, of every page, for people to look at.

Those of the README and the guides are written to where they belong. The others go to .cache/photographs, in two sizes and two
colour schemes; what axe finds there, or what scrolls sideways, is printed, and the program then ends with 1.
"""

from __future__ import annotations

import argparse
import sys

from devtools.guard import ROOT
from devtools.screenshots.pages import photograph_everything, take_pictures
from devtools.screenshots.studio import opened

HOUSE = ROOT / ".cache" / "screenshots"
PHOTOGRAPHS = ROOT / ".cache" / "photographs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make screenshots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", action="store_true", help="photograph every page instead")
    arguments = parser.parse_args()
    with opened(HOUSE, PHOTOGRAPHS) as studio:
        (photograph_everything if arguments.every else take_pictures)(studio)
        problems = studio.problems
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
