"""The commit of the code that runs, for the record of a run."""

import subprocess
from pathlib import Path


def git_commit() -> str | None:
    """The commit of the code that runs, with "+" if files were changed since; None outside a git checkout."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else the checkout is of what it is installed in
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
