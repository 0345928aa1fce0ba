"""`python -m radz`."""

import sys

from radz.cli import main

if __name__ == "__main__":
    sys.exit(main())
