"""Known weaknesses in what serving installs: `pip-audit` over the installed closure of `reelrank[cpu]`.

Exit codes: 0 none is known of any; 1 some are (listed); 2 it cannot be asked at all; 3 the advisories could
not be had for all of it, and what could not be checked is named. A check that did not happen must not look
like a check that passed, nor fail a machine without a way out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300


def serving() -> dict[str, str]:
    """Name and version of everything that serving on CPU installs, from what is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["cpu"]]
    found: dict[str, str] = {}
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if name in found or (requirement.marker and not requirement.marker.evaluate()):
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"audit: {name} is not installed; run make test first")
        found[name] = installed.version
        for text in installed.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                needed.marker = None
                waiting.append(needed)
    return found


def main() -> int:
    """Ask, and say what came of it."""
    packages = serving()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in sorted(packages.items())))
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--no-deps",
            "--disable-pip",
            "--progress-spinner",
            "off",
        ]
        try:
            done = subprocess.run(
                [*command, "-f", "json", "-r", file.name], capture_output=True, text=True, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            print(f"audit: NOT CHECKED: no answer within {TIMEOUT_S} s", file=sys.stderr)
            return 3
    try:
        report = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        if "No module named pip_audit" in done.stderr:
            print("audit: pip-audit is not installed; run make test first", file=sys.stderr)
            return 2
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"audit: NOT CHECKED: the advisories could not be had ({last[:200]})", file=sys.stderr)
        return 3
    weak = [(p["name"], p["version"], v["id"]) for p in report for v in p.get("vulns", ())]
    unchecked = sorted(p["name"] for p in report if "vulns" not in p)
    for name, version, advisory in weak:
        print(f"audit: {name} {version}: {advisory}", file=sys.stderr)
    if unchecked:
        print(f"audit: NOT CHECKED, no advisories to be had: {', '.join(unchecked)}", file=sys.stderr)
    print(
        f"audit: {len(report) - len(unchecked)} of {len(packages)} packages checked, {len(weak)} weaknesses"
    )
    return 1 if weak else 3 if unchecked else 0


if __name__ == "__main__":
    sys.exit(main())
