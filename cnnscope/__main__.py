"""`python -m cnnscope`."""

from cnnscope.cli import main

if __name__ == "__main__":
    main()
