"""`python -m radz`."""

import sys

from radz.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
