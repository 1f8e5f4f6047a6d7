"""Figures of published weights: accuracies, sizes, digests. Facts, with these sources:

- Keras: address and alphas from keras.applications; top-1 at 224 measured by keras-team (README of keras-applications);
  at other resolutions that of the TF-Slim checkpoints of June 2017 which the files were converted from
  (tensorflow/models, mobilenet_v1.md of that time); the size from the log of a download.
- timm: results-imagenet.csv and the pretrained configurations of pytorch-image-models; means and stds are 0.5.
- pytorchcv: file names, release tags and SHA-1 from the model store of pytorchcv 0.0.74, accuracies from its README.
- Google: tensorflow/models, research/mobilenet/README.md, whose table links exactly these archives. SHA-256 of the
  float archives from OpenVINO's open_model_zoo (one of them SHA-384), of the quantised ones from Renesas' Yocto layer
  meta-renesas-ai; TensorFlow's workspace files confirm the two of 1.0/224.
- COCO detectors: the archive that Google named coco_ssd_mobilenet_v1_1.0 holds a network of width 0.75. Its SHA-256
  (TensorFlow's workspace2.bzl, under the name ..._0.75_...) and that of the .tflite in it are public; the file in
  flutter_tflite is the same one. A network of width 1.0 is in google-coral/test_data; its size and SHA-256 are from a
  public script that checks them, its width follows from its size (6.9 MB for 6.8 million parameters).
"""

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)

# Top-1 in percent: rows are alphas, columns resolutions, in the order of ALPHAS and RESOLUTIONS.
KERAS_TOP1 = (
    (70.4, 69.3, 67.2, 64.1),
    (68.4, 67.4, 65.2, 61.8),
    (64.3, 62.1, 59.9, 56.2),
    (51.6, 49.0, 46.0, 41.3),
)
GOOGLE_TOP1 = (
    (70.9, 70.0, 68.0, 65.2),
    (68.4, 67.2, 65.3, 62.1),
    (63.3, 61.7, 59.1, 56.3),
    (49.8, 47.7, 45.5, 41.5),
)
GOOGLE_QUANT_TOP1 = (
    (70.1, 69.2, 67.2, 63.4),
    (66.8, 66.1, 62.3, 55.8),
    (60.7, 60.0, 57.7, 54.5),
    (48.0, 46.0, 43.4, 39.5),
)


# File name -> digest; sizes below where known.
GOOGLE_DIGESTS = {
    "mobilenet_v1_1.0_224": "sha256:2fadeabb9968ec6833bee903900dda6e61b3947200535874ce2fe42a8493abc0",
    "mobilenet_v1_0.5_224": "sha256:98cf7a39552f73920cb99617cfa9b88d5732a87abf9ec14f7cc7f3ade1db0aaa",
    "mobilenet_v1_0.5_160": (
        "sha384:7023a17e0f7dd48ffb3607ef1d7712702b1eb110d1a2c14f80bdf41b08148a07f9521a22250b5ef214b59a0bf62ef88b"
    ),
    "mobilenet_v1_0.25_128": "sha256:879ddc3e0857f3611b5cf248e36de2288c7a11ea8c2ed8a8bdded635e6010dfe",
    "mobilenet_v1_1.0_224_quant": "sha256:d32432d28673a936b2d6281ab0600c71cf7226dfe4cdcef3012555f691744166",
    "mobilenet_v1_1.0_192_quant": "sha256:b87b20c784e756fb52e265cc31fbea5b3236c9a001205bc24ed27985875b4559",
    "mobilenet_v1_1.0_160_quant": "sha256:b5c9da0d5215a1c1faab313f88ba0a900ac199c7af45f559ab65c63b0649bee1",
    "mobilenet_v1_1.0_128_quant": "sha256:29aec24c721329b83ff667195431ff9151362ba1854dfc8852d03aef5ac40def",
    "mobilenet_v1_0.75_224_quant": "sha256:6c40604a53edb295e6fd72ead340759db63a2e4d930593610f4d09efe17aa9b7",
    "mobilenet_v1_0.75_192_quant": "sha256:8dc64937bd9f35dcf8d3baa16b8eda47e2473c3af51641bf309d1ed2b1a355af",
    "mobilenet_v1_0.75_160_quant": "sha256:ed023a21c1fbb062a4777056f79910aab6137c9a83655317020faed6ad0ca738",
    "mobilenet_v1_0.75_128_quant": "sha256:14cd0b9c5cde26272c68ecc50de054979663e28fb1fd0348166d408a8b45538f",
    "mobilenet_v1_0.5_224_quant": "sha256:f61c28ab322a3ef441341431d33732ef79dfbf03ebc00769c12e5843573b2e9c",
    "mobilenet_v1_0.5_192_quant": "sha256:b3b7aca2599c9a09f7ebeb3f624fc51bc4897b9356950b67a5f11c65666dab3d",
    "mobilenet_v1_0.5_160_quant": "sha256:036ff1a53180f844ee629ae5846c2b18dfa94371c51c44016c70dc9688a34d31",
    "mobilenet_v1_0.5_128_quant": "sha256:0a5b18571d3df4d85a5ac6cb5be829d141dd5855243ea04422ca7d19f730a506",
    "mobilenet_v1_0.25_224_quant": "sha256:be8131a23c93a83d7d0b1875ac34aa2e06319aef377f89dc6be2e8f10a0589ca",
    "mobilenet_v1_0.25_192_quant": "sha256:33f4ca5c5c7fb70f81a23ec06a884482ddcf5d26e32e4211781e110afb7a0877",
    "mobilenet_v1_0.25_160_quant": "sha256:8aba0b905df472d994c1d923efa743c7dfe182df579e0440b8e78c8f714ddc98",
    "mobilenet_v1_0.25_128_quant": "sha256:40230cd1a429a20cfd648f08f72b6d554ca8f4bff838341cb8210bd167962c0e",
}
GOOGLE_SIZES = {
    "mobilenet_v1_1.0_224": 94321559,
    "mobilenet_v1_0.5_224": 29969407,
    "mobilenet_v1_0.5_160": 29958343,
    "mobilenet_v1_0.25_128": 10800019,
}
PYTORCHCV_FILES = (
    # name, alpha, file without hash, release, SHA-1 of the .pth in the zip, top-1, class list
    ("pytorchcv-a100", 1.0, "w1-0895", "v0.0.155", "7e1d739f0fd4b95c16eef077c5dc0a5bb1da8ad5", 73.4, "imagenet"),
    ("pytorchcv-a075", 0.75, "w3d4-1076", "v0.0.130", "d801bcaea83885b16a0306b8b77fe314bbc585c3", 69.9, "imagenet"),
    ("pytorchcv-a050", 0.5, "wd2-1355", "v0.0.156", "41a21242c95050407df876cfa44bb5d3676aa751", 65.9, "imagenet"),
    ("pytorchcv-a025", 0.25, "wd4-2249", "v0.0.62", "1ad5e8fe8674cdf7ffda8450095eb96d227397e0", 53.7, "imagenet"),
    ("cub", 1.0, "w1_cub-2377", "v0.0.346", "8428471f4ae08709b71ff2f69cf1a6fd286004c9", 76.2, "cub200"),
)
