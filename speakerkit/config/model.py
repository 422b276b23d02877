"""The section [model], and what each architecture's own values are."""

from dataclasses import dataclass

from speakerkit.config.checks import require

# architecture -> its own width (``base_channels``), blocks a stage (``num_blocks``) and embedding size
ARCHITECTURES = {
    "resnet18": (32, (2, 2, 2, 2), 256),
    "resnet34": (32, (3, 4, 6, 3), 256),
    "resnet50": (32, (3, 4, 6, 3), 256),
    "resnet101": (32, (3, 4, 23, 3), 256),
    "resnet152": (32, (3, 8, 36, 3), 256),
    "resnet221": (32, (6, 16, 48, 3), 256),
    "resnet293": (32, (10, 20, 64, 3), 256),
    "resnet34_reference": (32, (3, 4, 6, 3), 256),
    "resnet34_sp_l2reg": (32, (3, 4, 6, 3), 256),
    "simam_resnet34": (64, (3, 4, 6, 3), 256),
    "simam_resnet100": (64, (6, 16, 24, 3), 256),
    "resnet_speechbrain": (128, (3, 4, 6, 3), 256),
    "campplus": (32, (12, 24, 16), 192),
    "ecapa": (512, (3,), 192),
    "ecapa_speechbrain": (1024, (3,), 192),
    "eres2net": (32, (3, 4, 6, 3), 192),
    "eres2net_huge": (64, (3, 4, 6, 3), 192),
    "eres2netv2": (64, (3, 4, 6, 3), 192),
    "eres2netv2_w24s4ep4": (64, (3, 4, 6, 3), 192),
    "res2net": (32, (3, 4, 6, 3), 192),
}
# What a network's parts need: ECAPA splits its channels in eight, ERes2Net's attention has a quarter of a part's.
WIDTH_MULTIPLES = {"ecapa": 8, "eres2net": 4, "res2net": 2}
POOLINGS = ("statistics", "mean", "deviation", "attention")
COUNT_WORDS = {1: "one number", 3: "three numbers", 4: "four numbers"}


@dataclass(frozen=True)
class ModelConfig:
    """A network and what is done to its features.

    ``resnet18`` to ``resnet293`` are WeSpeaker's and 3D-Speaker's (statistics over time), ``resnet34_reference``
    the published CN-Celeb model's (pre-activation, statistics over time and frequency), ``resnet34_sp_l2reg`` its
    sibling's (a layer over all frequencies, statistics over time), ``resnet_speechbrain`` SpeechBrain's,
    ``simam_resnet...`` WeSpeaker's of VoxBlink2; ``ecapa`` is WeSpeaker's form, ``ecapa_speechbrain`` SpeechBrain's
    and 3D-Speaker's; ``campplus``, ``eres2net...`` and ``res2net`` are 3D-Speaker's. What isn't given takes the
    architecture's own value.
    """

    architecture: str = "resnet34"
    embedding_dim: int | None = None
    # resnet, eres2net: of the first stage; campplus: of the 2-D head and of a dense layer; ecapa: of all layers
    base_channels: int | None = None
    num_blocks: tuple[int, ...] | None = None  # residual blocks or dense layers of each stage; ecapa: blocks
    two_embedding_layers: bool = False  # resnet18 to 293, (e)res2net: ReLU, batch norm, a second layer
    pooling: str = "statistics"  # resnet18 to 293, (e)res2net: mean and deviation; mean; deviation; attention
    embedding_norm: bool = False  # ecapa: batch norm behind the embedding layer
    pooled_channels: int = 0  # ecapa: channels that are pooled; 0 takes three times the others, at most 1536 in ecapa
    global_context: bool = True  # ecapa: attention also sees the utterance's mean and deviation
    std_floor: float = 1e-7  # added to the variance; reference: its smallest value
    mean_norm: bool = True  # subtract each utterance's mean over time from its features

    def __post_init__(self):
        require(
            self.architecture in ARCHITECTURES,
            f"architecture is '{self.architecture}'; want one of {', '.join(ARCHITECTURES)}",
        )
        width, blocks, dim = ARCHITECTURES[self.architecture]
        for name, own in (("embedding_dim", dim), ("base_channels", width), ("num_blocks", blocks)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, own)
        if self.pooled_channels == 0 and self.architecture in ("ecapa", "ecapa_speechbrain"):
            own = 3 * self.base_channels
            object.__setattr__(self, "pooled_channels", min(own, 1536) if self.architecture == "ecapa" else own)
        require(1 <= self.embedding_dim <= 4096, f"embedding_dim {self.embedding_dim} is outside 1..4096")
        require(1 <= self.base_channels <= 4096, f"base_channels {self.base_channels} is outside 1..4096")
        require(
            len(self.num_blocks) == len(blocks) and all(1 <= n <= 64 for n in self.num_blocks),
            f"num_blocks {list(self.num_blocks)} is not {COUNT_WORDS[len(blocks)]} from 1 to 64",
        )
        multiple = WIDTH_MULTIPLES.get(self.architecture.partition("_")[0].removesuffix("v2"), 1)
        require(
            self.base_channels % multiple == 0,
            f"base_channels {self.base_channels} is no multiple of {multiple}, as {self.architecture} needs",
        )
        require(self.pooling in POOLINGS, f"pooling is '{self.pooling}'; want one of {', '.join(POOLINGS)}")
        fixed = self.architecture.startswith(("ecapa", "campplus", "simam")) or self.architecture in (
            "resnet34_reference", "resnet34_sp_l2reg", "resnet_speechbrain")
        require(self.pooling == "statistics" or not fixed, f"pooling is '{self.pooling}', which {self.architecture} "
                                                            "leaves no choice of")
        require(not self.embedding_norm or self.architecture == "ecapa", f"embedding_norm isn't {self.architecture}'s")
        require(0 <= self.pooled_channels <= 16384, f"pooled_channels {self.pooled_channels} is outside 0..16384")
        require(0 <= self.std_floor < 1, f"std_floor {self.std_floor} is outside 0..1")
