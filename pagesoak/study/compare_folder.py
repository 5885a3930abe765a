"""The directory of a comparison: a folder for each variant with its runs, and `compare.json`.

`TIME-compare-SCENARIO/2-mainline/TIME-SCENARIO-POLICY-SEED/`: each run is an ordinary one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagesoak.base.errors import PagesoakError
from pagesoak.engine.run_files import replace_file
from pagesoak.engine.rundir import RunDirectory, new_directory, remove_empty, stamped_name
from pagesoak.study.compare import Comparison
from pagesoak.study.compare_words import sentences

FILE = "compare.json"


@dataclass(frozen=True)
class CompareFolder:
    """One comparison's directory; made by `create`."""

    path: Path
    started: float
    made_above: tuple[Path, ...]

    @classmethod
    def create(cls, results_root: Path, *, started: float, scenario: str) -> "CompareFolder":
        """Make it below `results_root`; `started` is seconds since the epoch. InputError if the
        results cannot go there.
        """
        path, made = new_directory(results_root, stamped_name(started, "compare", scenario))
        return cls(path, started, made)

    def remove_if_empty(self) -> None:
        """Take away folders in which no run left anything."""
        for folder in self.path.iterdir():
            remove_empty([folder])
        remove_empty([*self.made_above, self.path])

    def keep(self, comparison: Comparison, finished: float, wall_seconds: float) -> dict[str, Any]:
        """Write `compare.json`; what stands in it. PagesoakError if it cannot be written."""
        document = {
            "started": RunDirectory.label(self.started),
            "finished": RunDirectory.label(finished),
            "wall_seconds": wall_seconds,
            "directory": str(self.path),
            **comparison.as_json(),
            "found": sentences(comparison),
        }
        path = self.path / FILE
        try:
            replace_file(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise PagesoakError(f"{path}: cannot be written: {error.strerror}") from error
        return document
