"""`python -m isplit` is the command line."""

from isplit.cli import main

if __name__ == "__main__":
    main()
