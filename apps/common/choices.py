"""The choices of flags that several apps share; without slow imports, see `cli.run_command`."""

from typing import Literal

Amp = Literal["auto", "none", "bf16", "fp16"]
BadData = Literal["refuse", "skip"]
Format = Literal["onnx", "openvino", "tflite", "executorch", "ncnn", "web"]
Input = Literal["uint8", "float"]
Io = Literal["float", "int8"]
On = Literal["here", "ray"]
OptimizerName = Literal["sgd", "rmsprop", "adamw"]
Precision = Literal["auto", "float32"]
Runtime = Literal["auto", "torch", "torch-compile", "onnx", "openvino"]

QAT_NEEDS = "--qat fine-tunes a trained model: give --weights a run or model folder of this app"
