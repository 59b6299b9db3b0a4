"""Images that cannot be decoded: all of them are named, or what is left is taken without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from data_pipeline.errors import DamagedData, DataError, UnsafeData, listed
from data_pipeline.storage.local import sha256_bytes

Read = TypeVar("Read")
Given = ParamSpec("Given")
#: What a store's description calls them.
SKIPPED = "skipped"
#: What helps where images may be skipped.
SKIPPING = ", or go on without with `--skip-damaged`"


class Damaged:
    """Notes images that are damaged, no images at all, or too large to be decoded.

    Args:
        skip: go on without them.
        cure: what helps beside replacing or removing them, to end a sentence with.
    """

    def __init__(self, skip: bool = False, cure: str = "") -> None:
        self.skip = skip
        self._cure = cure
        self._errors: dict[str, DataError] = {}

    def read(
        self, name: str, reading: Callable[Given, Read], *args: Given.args, **options: Given.kwargs
    ) -> Read | None:
        """What ``reading`` returns for what is given, or None if it meets damage.

        Args:
            name: of the image, for the record.
        """
        try:
            return reading(*args, **options)
        except (DamagedData, UnsafeData) as error:
            # A caught error holds its frames, and with them the bytes of the image.
            self._errors[name] = type(error)(*error.args)
            return None

    @property
    def refused(self) -> bool:
        """Whether :meth:`check` is going to raise."""
        return bool(self._errors) and not self.skip

    def check(self) -> None:
        """Raise if there are damaged images that are not skipped.

        Raises:
            DamagedData, UnsafeData: they are named, each with its reason.
        """
        if not self.refused:
            return
        errors = list(self._errors.values())
        kind = UnsafeData if all(isinstance(e, UnsafeData) for e in errors) else DamagedData
        many = f"{len(errors)} images cannot be used: " if len(errors) > 1 else ""
        them = "them" if many else "it"
        raise kind(f"{many}{listed(map(str, errors), '; ')}. Replace or remove {them}{self._cure}")

    def described(self) -> dict[str, str]:
        """What was skipped, for the description of a store; empty if nothing was."""
        if not self._errors:
            return {}
        names = sorted(self._errors)
        digest = sha256_bytes("".join(f"{name}\0" for name in names).encode())
        plural = "s" if len(names) > 1 else ""
        text = f"{len(names)} damaged image{plural}: {listed(names)} (sha256 of names {digest})"
        return {SKIPPED: text}

    def mismatch(self, described: Mapping[str, str]) -> list[str]:
        """What a store's description says was left out of it and should not have been, in words."""
        if self.skip or SKIPPED not in described:
            return []
        return [f"made with `--skip-damaged`, without {described[SKIPPED]}"]
