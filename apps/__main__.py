"""The installed command, which starts the same scripts from any folder.

    mobilenet-apps detection train --backbone a075
    mobilenet-apps detection predict photo.jpg --checkpoint last
    mobilenet-apps demo

`python -m apps detection train` is the same.
"""

import difflib
import runpy
import sys
from importlib.metadata import version

from apps.common import cli

DOORS = {
    "check": "find errors in photos and labels before training",
    "train": "train on your data, or on the sample set",
    "eval": "evaluate a model on a split, with a report",
    "predict": "photos, folders, videos or a camera",
    "export": "one file for other runtimes, checked against the original",
    "sample": "draw the sample set",
}
APPS = {
    "detection": DOORS,
    "finegrained": DOORS,
    "faceattr": {**DOORS, "teacher": "train a teacher on labels", "faces": "measure the margin of face crops"},
    "demo": {
        "app": "all pages in one, as without a name",
        "detection": "find objects",
        "finegrained": "classify",
        "faceattr": "describe faces",
    },
}
HELP = ("-h", "--help")
ABOUT = {
    "detection": "a detector: boxes around objects",
    "finegrained": "a fine-grained classifier",
    "faceattr": "attributes of faces",
    "demo": "a page in the browser with all apps, or one of them",
}


def main() -> None:
    """Run the script that the command line names, with the flags that follow."""
    cli.started_by, words = cli.COMMAND, sys.argv[1:]
    if words[:1] == ["--version"]:
        print(version("mobilenet-apps"))
        return
    app = _choice(words, ABOUT, f"usage: {cli.COMMAND} APP SCRIPT [FLAGS]", "app")
    if app == "demo" and (len(words) == 1 or (words[1].startswith("-") and words[1] not in HELP)):
        words[1:1] = ["app"]
    script = _choice(words[1:], APPS[app], f"usage: {cli.COMMAND} {app} SCRIPT [FLAGS], or --help", "script")
    cli.started_by = f"{cli.COMMAND} {app} {script}"
    sys.argv[1:] = words[2:]
    runpy.run_module(
        f"demos.{script}" if app == "demo" else f"apps.{app}.{script}", run_name="__main__", alter_sys=True
    )


def _choice(words: list[str], known: dict[str, str], usage: str, what: str) -> str:
    """The first word; the list of what there is if that is asked for, or one line about a word that is not there."""
    if not words or words[0] in HELP:
        print(usage, "", *(f"    {name:12} {about}" for name, about in known.items()), sep="\n")
        raise SystemExit(0 if words else 2)
    if words[0] not in known:
        near = difflib.get_close_matches(words[0], known, n=1)
        like = f"; did you mean {near[0]}?" if near else ""
        cli.fail(f"there is no {what} {words[0]!r}: there are {', '.join(known)}{like}")
    return words[0]


if __name__ == "__main__":
    main()
