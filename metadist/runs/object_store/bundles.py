"""Sets of files that are put and got as one: what documents of a run are kept as."""

from __future__ import annotations

import tempfile
import uuid
from fnmatch import fnmatch
from pathlib import Path

from data_pipeline.errors import DamagedData, UnsafeData
from data_pipeline.storage.local import inside, sealed_json, sha256_file, unseal_json
from data_pipeline.storage.objects import ObjectPlace, in_parallel
from metadist.runs.object_store.claims import Claim, Copied, parse_claim

#: Documents of a run: patterns below its directory.
DOCUMENTS = {
    "evaluation": ("evaluation/*",),
    "summary": ("log/metrics.parquet",),
    "report": ("report.html", "figures/*"),
}
#: Ends a bundle: names, sizes and digests of its files.
MARKER = "bundle.json"


class Bundles:
    """Sets of files below a place, each under a prefix of its own; the highest number counts."""

    def __init__(self, place: ObjectPlace) -> None:
        self.place = place

    def newest(self) -> Claim | None:
        """The bundle that counts; one without its marker is not complete and does not."""
        names = (found.name.partition("/") for found in self.place.objects())
        complete = (parse_claim(folder) for folder, _, file in names if file == MARKER)
        return max((claim for claim in complete if claim), default=None)

    def put(self, root: Path, files: list[str]) -> Claim:
        """Put files, given relative to ``root``, as the bundle that counts; remove older ones."""
        before = self.newest()
        bundle = Claim(before.number + 1 if before else 1, uuid.uuid4().hex)
        place = self.place / bundle.name
        listed = {
            name: {"sha256": sha256_file(root / name), "bytes": (root / name).stat().st_size}
            for name in files
        }
        in_parallel(lambda name: (place / name).put_file(root / name), files)
        (place / MARKER).put(sealed_json({"files": listed}))
        for name in self.place.folders():
            other = parse_claim(name)
            if other is not None and other < bundle:
                (self.place / name / MARKER).delete()
                (self.place / name).delete_below()
        return bundle

    def get(self, bundle: Claim, directory: Path) -> list[str]:
        """Write a bundle's files below a directory; their names.

        Raises:
            DamagedData, MissingData: an object is not what was put; it is named.
            UnsafeData: a name leads out of the directory.
        """
        place = self.place / bundle.name
        marker = unseal_json((place / MARKER).get(), place / MARKER)
        try:
            files = {
                name: (inside(directory, name), str(file["sha256"]), int(file["bytes"]))
                for name, file in marker["files"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedData(f"{place / MARKER}: not a list of files ({error!r})") from None
        for target, _, _ in files.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        in_parallel(lambda name: (place / name).get_file(*files[name]), files)
        return list(files)


class Document:
    """Files of a run that are made together, as a bundle.

    Args:
        name: one of :data:`DOCUMENTS`.
        place: of the run.
        path: the run's working copy.
    """

    def __init__(self, name: str, place: ObjectPlace, path: Path) -> None:
        self._name = name
        self._path = path
        self._bundles = Bundles(place / name)
        self._copied = Copied(path, name)

    def push(self) -> None:
        """Put its files as they are on disk."""
        if files := self._files():
            bundle = self._bundles.put(self._path, files)
            self._copied.set(bundle=bundle.name, files=files)

    def pull(self) -> None:
        """Bring its files up to date."""
        newest = self._bundles.newest()
        if newest is None or newest.name == self._copied.get("bundle"):
            return
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._path) as scratch:
            files = self._bundles.get(newest, Path(scratch))
            allowed = DOCUMENTS[self._name]
            if foreign := [n for n in files if not any(fnmatch(n, p) for p in allowed)]:
                raise UnsafeData(f"{self._bundles.place / newest.name}: no place for {foreign}")
            for name in files:
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(scratch) / name).replace(self._path / name)
        for name in set(self._files()) - set(files):
            (self._path / name).unlink(missing_ok=True)
        self._copied.set(bundle=newest.name, files=files)

    def _files(self) -> list[str]:
        found = (p for pattern in DOCUMENTS[self._name] for p in self._path.glob(pattern))
        names = (str(p.relative_to(self._path)) for p in found if p.is_file())
        return sorted(name for name in names if not Path(name).name.startswith("."))
