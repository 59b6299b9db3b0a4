"""What a job runs first: a look whether this cluster is what it was submitted for, then metadist.

It is sent with the job as ``metadist_job.py`` and runs under whatever ``python`` the cluster's
node has, so it uses the standard library alone and no syntax that is newer than Python 3.8.
"""

from __future__ import annotations

import json
import os
import platform
import runpy
import sys
from importlib import metadata

#: Exit status of a job that does not fit its cluster.
MISFIT = 78


def found() -> dict[str, str]:
    """Versions that this interpreter would run the job with."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("ray", "metadist"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def misfits(expected: dict[str, str], there: dict[str, str]) -> list[str]:
    """What differs between where a job was submitted and where it is to run, in words."""
    lines = []
    for name, title in (("python", "Python"), ("ray", "Ray"), ("metadist", "metadist")):
        want, have = expected[name], there[name]
        if not have:
            lines.append(f"there is no {title} here")
        elif series(want) != series(have) if name != "metadist" else want != have:
            lines.append(f"{title} is {have} here and {want} where it was submitted")
    return lines


def series(version: str) -> str:
    """``2.60.0`` is of series 2.60."""
    return ".".join(version.split(".")[:2])


def main() -> None:
    """Check, then run ``metadist`` with this process's arguments."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "job.json")) as handle:
        job = json.load(handle)
    wrong = misfits(job["versions"], found())
    if wrong:
        lacking = [line for line in wrong if line.startswith("there is no")]
        fatal = lacking or not job["any_version"]
        cure = (
            "name another interpreter of the cluster with --python, or use an image that has it"
            if lacking
            else "use the same versions, or submit with --any-version"
        )
        sys.stderr.write(
            "{}: this job does not fit {} on {}: {}; {}\n".format(
                "Error" if fatal else "Warning",
                sys.executable,
                platform.node(),
                "; ".join(wrong),
                cure,
            )
        )
        if fatal:
            sys.exit(MISFIT)
    if job.get("needs_tracking") and not os.environ.get("MLFLOW_TRACKING_URI"):
        sys.stderr.write(f"Error: {job['needs_tracking']}\n")
        sys.exit(MISFIT)
    if job["data_dir"]:
        # The job's own directory is gone when it ends, and other nodes do not see it.
        os.environ.setdefault("METADIST_DATA_DIR", job["data_dir"])
    sys.argv[0] = "metadist"
    runpy.run_module("metadist", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
