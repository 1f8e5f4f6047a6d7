"""MobileNet V1 and its two knobs, width and resolution."""

from backbone.mobilenet_v1 import FeatureInfo, MobileNetV1, create_backbone
from backbone.names import backbone_name, parse_backbone

__all__ = ["FeatureInfo", "MobileNetV1", "backbone_name", "create_backbone", "parse_backbone"]
