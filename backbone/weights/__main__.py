"""Published weights on the command line.

python -m backbone.weights list                    every published file: name, width, accuracy, licence, in the cache?
python -m backbone.weights fetch timm-a100         download it (once) and print where it is
python -m backbone.weights inspect mobilenet.h5    what a file holds; a name works too
"""

import argparse
import os
import sys

from backbone.weights.catalog import CATALOG, WeightFile, find_entry
from backbone.weights.fetch import fetch, weights_dir
from backbone.weights.load import load_weights
from backbone.weights.loaded_weights import LoadedWeights


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, or 2 after a user's mistake, which is reported in one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m backbone.weights", description="Published weights of MobileNet V1."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every published file this project reads")
    fetching = commands.add_parser("fetch", help="download one and print its path")
    fetching.add_argument("name", help="as `list` shows it")
    inspecting = commands.add_parser("inspect", help="what a weight file holds")
    inspecting.add_argument("file", help="path of a weight file, or a name as `list` shows it")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            print(catalog_table(), flush=True)
        elif options.command == "fetch":
            print(fetch(find_entry(options.name)))
        else:
            print(description(load_weights(options.file)), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def catalog_table() -> str:
    """The catalog as text, one line per file."""
    head: tuple[str, ...] = ("name", "width", "pixels", "classes", "top-1 %", "bits", "licence", "cached", "address")
    rows = [head, *(_row(entry) for entry in CATALOG)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(entry: WeightFile) -> tuple[str, ...]:
    classes = f"{entry.num_classes} {entry.class_list}" if entry.num_classes else "-"
    return (
        entry.name,
        entry.backbone,
        str(entry.resolution),
        classes,
        "-" if entry.top1 is None else f"{entry.top1:.1f}",
        "8" if entry.quantised else "32",
        entry.licence,
        "yes" if (weights_dir() / entry.file_name).is_file() else "no",
        entry.url,
    )


def description(weights: LoadedWeights) -> str:
    """What a file holds, one fact a line."""
    low, high = weights.preprocessing.input_range
    mean, std = (
        ", ".join(f"{x:.4g}" for x in numbers) for numbers in (weights.preprocessing.mean, weights.preprocessing.std)
    )
    facts = {
        "file": weights.source,
        "kind": weights.layout,
        "width": f"{weights.width_mult:.2f} ({weights.backbone})",
        "resolution": f"{weights.resolution} pixels" if weights.resolution else "not stored",
        "classes": f"{weights.num_classes} ({weights.class_list or 'names unknown'})"
        if weights.num_classes
        else "none",
        "padding": weights.padding,
        "activation": weights.activation,
        "BatchNorm eps": f"{weights.norm_eps:g}",
        "quantised": "yes, dequantised on loading" if weights.quantised else "no",
        "input": f"(pixel / 255 - mean) / std, mean {mean}, std {std}: {low:.3f} to {high:.3f}",
        "tensors": str(sum(not name.endswith("num_batches_tracked") for name in weights.state_dict)),
        "parameters": f"{weights.num_parameters:,} trainable",
        "published top-1": None if weights.top1 is None else f"{weights.top1:.1f} %",
        "licence": weights.licence,
    }
    lines = [f"{name:16}{value}" for name, value in facts.items() if value is not None]
    return "\n".join([*lines, *weights.notes])


if __name__ == "__main__":
    sys.exit(main())
