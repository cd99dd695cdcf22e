"""python -m nmt, the same as the console script `nmt`."""

import sys

from nmt.cli.launch import main as launch


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(launch(sys.argv[1:]))


if __name__ == "__main__":
    main()
