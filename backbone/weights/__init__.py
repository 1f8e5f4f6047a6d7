"""Published weights of MobileNet V1: a catalog, downloads, and a small reader for each format.

weights = load_weights("pytorchcv-a075")                        # or a path
model = create_backbone_from(weights, num_classes=0)            # built as the weights were trained
model.reset_classifier(37)                                      # a fresh head
"""

from backbone.weights.catalog import CATALOG, WeightFile, find_entry, imagenet_entries
from backbone.weights.classes import load_class_names
from backbone.weights.fetch import fetch
from backbone.weights.load import load_graph, load_weights
from backbone.weights.loaded_weights import LoadedWeights, Preprocessing, create_backbone_from
from backbone.weights.unfold_norms import unfold_norms

__all__ = [
    "CATALOG",
    "LoadedWeights",
    "Preprocessing",
    "WeightFile",
    "create_backbone_from",
    "fetch",
    "find_entry",
    "imagenet_entries",
    "load_class_names",
    "load_graph",
    "load_weights",
    "unfold_norms",
]
