"""What ``metadist doctor`` says of one thing it looked at.

Like all of its parts it needs nothing but the standard library and click to be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["OK", "warn", "FAIL"]

#: Below this much free disk or memory, in bytes, a run is likely to fail.
LITTLE = 2 * 1024**3
INSTALL = "pip install metadist (in a checkout: make setup)"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: ``FAIL`` if training or evaluating cannot work like this.
        found: what there is.
        mend: what to do about it; empty if nothing is to be done.
    """

    name: str
    status: Status
    found: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.status:4}  {self.name:13}  {self.found}{mend}"


def brief(error: object) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
