"""Which files make up this checkout, for the tests that look at the source or pack it."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What `.gitignore` names, for a tree that came without git.
_LITTER_NAMES = frozenset(
    {
        ".git",
        ".hypothesis",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".venv",
        ".venv.lock",
        ".venv.old",
        "__pycache__",
        "build",
        "dist",
        "htmlcov",
        "results",
    }
)
_LITTER_SUFFIX = ".egg-info"
_LITTER_PREFIX = ".coverage"


def files_by_git(root: Path) -> list[Path]:
    """Tracked files and new ones that are not ignored; a symbolic link is an entry of its own."""
    output = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        env=environment_without_git(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    listed = {Path(name) for name in output.split("\0") if name}
    return sorted(path for path in listed if os.path.lexists(root / path))


def files_by_walk(root: Path) -> list[Path]:
    """The same without git: everything but what is known as litter."""
    found = []
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        links = [name for name in subfolders if (here / name).is_symlink()]
        subfolders[:] = [name for name in subfolders if name not in links and not _is_litter(name)]
        found += [
            (here / name).relative_to(root) for name in (*links, *names) if not _is_litter(name)
        ]
    return sorted(found)


def tree_files(root: Path = ROOT) -> list[Path]:
    """The files of the checkout, relative to `root`, sorted."""
    return files_by_git(root) if (root / ".git").exists() else files_by_walk(root)


def copy_tree(destination: Path, root: Path = ROOT) -> Path:
    """Copy the files of the checkout, links as links, into a new folder; returns it."""
    for path in tree_files(root):
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target, follow_symlinks=False)
    return destination


def environment_without_git() -> dict[str, str]:
    """The environment less what a git hook or a user's settings would change in a git call."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def _is_litter(name: str) -> bool:
    return (
        name in _LITTER_NAMES or name.endswith(_LITTER_SUFFIX) or name.startswith(_LITTER_PREFIX)
    )
