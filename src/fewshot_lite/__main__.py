"""`python -m fewshot_lite`."""

from fewshot_lite.cli.start import main

if __name__ == "__main__":
    main()
