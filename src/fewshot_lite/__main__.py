"""`python -m fewshot_lite`."""

from fewshot_lite.cli import main

if __name__ == "__main__":
    main()
