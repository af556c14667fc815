"""Online: feedback in, labels and slates out. Imports `models`, never `training`."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the version of the installed package; `0` in a checkout that is not installed."""
    try:
        return version("reelrank")
    except PackageNotFoundError:
        return "0"
