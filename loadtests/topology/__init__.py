"""The containers of docker/, built, run, broken and mended: `python -m loadtests.topology`."""
