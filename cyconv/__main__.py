"""Run the command line: ``python -m cyconv``."""

import sys

from cyconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
