"""`python -m beaconhq`: the command line of `beaconhq.cli`."""

import sys

from beaconhq.cli import main

if __name__ == "__main__":
    sys.exit(main())
