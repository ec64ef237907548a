"""Kills and malformed files, as in ``tests/test_kills.py`` and ``tests/test_fuzz.py``, for as long as one likes.

    .venv/bin/python scripts/campaign.py --seed 7 --size 20    # another seed, twenty times as much as in the tests

Another seed gives other inputs; the same one gives the same again, but for the moments of the kills. Stops at the first
run that does not end as it should, and leaves its folder; malformed files are all tried, then what went wrong is shown.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there: see scripts/test

from tests import test_fuzz, test_kills

KILLS = 21


def main() -> int:
    """Run what was asked for; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=10, help="how many times as much as in the tests (default: 10)")
    parser.add_argument("--only", choices=["kills", "fuzz"], help="default: both")
    arguments = parser.parse_args()
    base = Path(mkdtemp(prefix="charrnn-campaign-"))
    os.environ["CHARRNN_CACHE"] = str(base / "cache")
    print(f"in {base}, seed {arguments.seed}", flush=True)
    good = True
    if arguments.only != "fuzz":
        (base / "kills").mkdir()
        count = test_kills.campaign(base / "kills", arguments.seed, KILLS * arguments.size)
        print("kills:", count, "all resumed to the same end", flush=True)
    if arguments.only != "kills":
        folder = base / "fuzz"
        folder.mkdir()
        test_fuzz.tiny_run(folder)
        for inputs, size in test_fuzz.SIZES.items():
            report = test_fuzz.fuzz(folder, inputs, arguments.seed, size * arguments.size, seconds=24 * 3600)
            print(f"{inputs.__name__}: {report}", flush=True)
            good = good and not report.failures
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
