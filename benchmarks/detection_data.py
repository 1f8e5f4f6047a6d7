"""Measure how many training images one process reads and augments in a second.

    python benchmarks/detection_data.py --data PATH --resolution 300

The process reads and decodes photos of the train split and applies the SSD paper's windows, mirroring and colours, as
in training, with one thread. It prints the median over the rounds, after a round that fills the system's file cache.
Divide a GPU's images a second by this rate to get the number of data processes that it needs.
"""

import argparse
import statistics
import time
from pathlib import Path

import cv2
import torch

from apps.common.training.sampling import SampleKey
from apps.detection.data.batches import TrainingSet
from apps.detection.data.load import load_splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=300)
    parser.add_argument("--images", type=int, default=500, help="images in a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    cv2.setNumThreads(1)  # as in a data process
    torch.set_num_threads(1)
    train_split, _ = load_splits(args.data, ("train", "val"), bad_data="skip")
    dataset = TrainingSet(train_split, resolution=args.resolution, augment="full")
    rates = []
    for number in range(args.rounds + 1):
        start = time.perf_counter()
        for index in range(args.images):
            dataset[SampleKey(seed=0, epoch=number, item=index % len(dataset))]
        rates.append(args.images / (time.perf_counter() - start))
    print(
        f"{statistics.median(rates[1:]):.0f} images a second in one process, {min(rates[1:]):.0f} to "
        f"{max(rates[1:]):.0f} over {args.rounds} rounds of {args.images} images at {args.resolution} pixels"
    )


if __name__ == "__main__":
    main()
