"""Names of the classes of a class list, for the lists that a library we use anyway publishes."""

from backbone.weights.files import import_when_needed


def load_class_names(class_list: str | None) -> tuple[str, ...] | None:
    """Class names in the order of the classifier's rows; None for lists whose names no library publishes.

    Args:
        class_list: of `LoadedWeights` or `WeightFile`. "imagenet" are 1000, sorted by WordNet id, from torchvision.

    Raises:
        ValueError: torchvision is not installed.
    """
    if class_list != "imagenet":
        return None
    models = import_when_needed("torchvision.models", package="torchvision", purpose="naming the ImageNet classes")
    return tuple(models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])
