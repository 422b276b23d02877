"""Published models that can be named: where their checkpoints lie, how they are checked, whose they are.

Repositories and files are those of 3D-Speaker's `speakerlab/bin/infer_sv.py`, WeSpeaker's `docs/pretrained.md`
and SpeechBrain's `pretrained_interfaces`. Licences are those of the model pages; WeSpeaker's page says that a
model follows the licence of its corpus. A size or SHA-256 is given where the file itself was seen
(campplus-cn-en) or where public projects pin it: several name the same for campplus-cn and SpeechBrain's ECAPA-TDNN,
one names those of ERes2NetV2, one those of campplus-voxceleb, one those of eres2net-huge-cn (both sizes are those of
these networks' values and a torch archive).
"""

from dataclasses import dataclass

MODELSCOPE, HUGGINGFACE = "ModelScope", "Hugging Face"
_CHINESE_200K = "200,000 speakers of Chinese (3D-Speaker, Alibaba; not public)"
_THREE_D_SPEAKER = "3D-Speaker corpus: 10,000 speakers of Chinese, near and far"


@dataclass(frozen=True)
class Published:
    """One checkpoint on a hub."""

    name: str
    hub: str
    repository: str
    file: str
    source: str  # whose networks and front end: what import-model's --from names
    licence: str
    training_data: str
    num_bytes: int | None = None
    sha256: str | None = None


CATALOGUE = (
    Published("campplus-cn-en", MODELSCOPE, "iic/speech_campplus_sv_zh_en_16k-common_advanced",
              "campplus_cn_en_common.pt", "3dspeaker", "Apache-2.0",
              "200,000 speakers of Chinese and English (3D-Speaker, Alibaba; not public)", 28_044_640,
              "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"),
    Published("campplus-cn", MODELSCOPE, "iic/speech_campplus_sv_zh-cn_16k-common", "campplus_cn_common.bin",
              "3dspeaker", "Apache-2.0", _CHINESE_200K, 28_036_335,
              "3388cf5fd3493c9ac9c69851d8e7a8badcfb4f3dc631020c4961371646d5ada8"),
    Published("campplus-cn-huggingface", HUGGINGFACE, "funasr/campplus", "campplus_cn_common.bin",
              "3dspeaker", "Apache-2.0", _CHINESE_200K, 28_036_335,
              "3388cf5fd3493c9ac9c69851d8e7a8badcfb4f3dc631020c4961371646d5ada8"),
    Published("campplus-voxceleb", MODELSCOPE, "iic/speech_campplus_sv_en_voxceleb_16k", "campplus_voxceleb.bin",
              "3dspeaker", "Apache-2.0", "VoxCeleb2 dev: 5,994 speakers", 29_357_703,
              "5b1a88b6f8d85826fabef804779c3372b42f3af21457fa48bd5c097c0686b2de"),
    Published("eres2net-voxceleb", MODELSCOPE, "iic/speech_eres2net_sv_en_voxceleb_16k", "pretrained_eres2net.ckpt",
              "3dspeaker", "Apache-2.0", "VoxCeleb2 dev: 5,994 speakers"),
    Published("eres2net-base-cn", MODELSCOPE, "iic/speech_eres2net_base_200k_sv_zh-cn_16k-common",
              "pretrained_eres2net.pt", "3dspeaker", "Apache-2.0", _CHINESE_200K),
    Published("eres2net-base-3dspeaker", MODELSCOPE, "iic/speech_eres2net_base_sv_zh-cn_3dspeaker_16k",
              "eres2net_base_model.ckpt", "3dspeaker", "Apache-2.0", _THREE_D_SPEAKER),
    Published("eres2net-large-3dspeaker", MODELSCOPE, "iic/speech_eres2net_large_sv_zh-cn_3dspeaker_16k",
              "eres2net_large_model.ckpt", "3dspeaker", "Apache-2.0", _THREE_D_SPEAKER),
    Published("eres2net-huge-cn", MODELSCOPE, "iic/speech_eres2net_sv_zh-cn_16k-common",
              "pretrained_eres2net_aug.ckpt", "3dspeaker", "Apache-2.0", _CHINESE_200K, 221_210_095,
              "ad78a02cab9dc23385c3fe235d1c3a370c0bd89ef192d0250546b370b0b8f227"),
    Published("eres2netv2-cn", MODELSCOPE, "iic/speech_eres2netv2_sv_zh-cn_16k-common", "pretrained_eres2netv2.ckpt",
              "3dspeaker", "Apache-2.0", _CHINESE_200K, 71_768_231,
              "0eb4057106b2573dd7b132cf0c36273ab29afd192c1610f80baa9c556dbb963c"),
    Published("eres2netv2-w24s4ep4-cn", MODELSCOPE, "iic/speech_eres2netv2w24s4ep4_sv_zh-cn_16k-common",
              "pretrained_eres2netv2w24s4ep4.ckpt", "3dspeaker", "Apache-2.0", _CHINESE_200K, 214_688_240,
              "740bb6584a99ee4cf910101536acba38c15a8017ea6a3a2813ec668fb62981f1"),
    Published("wespeaker-voxceleb-resnet34", HUGGINGFACE, "Wespeaker/wespeaker-voxceleb-resnet34-LM", "avg_model.pt",
              "wespeaker", "CC-BY-4.0", "VoxCeleb2 dev: 5,994 speakers"),
    Published("wespeaker-voxceleb-campplus", HUGGINGFACE, "Wespeaker/wespeaker-voxceleb-campplus-LM", "avg_model.pt",
              "wespeaker", "CC-BY-4.0", "VoxCeleb2 dev: 5,994 speakers"),
    Published("wespeaker-voxceleb-ecapa512", HUGGINGFACE, "Wespeaker/wespeaker-ecapa-tdnn512-LM", "avg_model.pt",
              "wespeaker", "CC-BY-4.0", "VoxCeleb2 dev: 5,994 speakers"),
    Published("wespeaker-cnceleb-resnet34", HUGGINGFACE, "Wespeaker/wespeaker-cnceleb-resnet34", "avg_model.pt",
              "wespeaker", "that of CN-Celeb", "CN-Celeb 1 and 2: 2,793 speakers", 35_219_659),
    Published("speechbrain-ecapa-voxceleb", HUGGINGFACE, "speechbrain/spkrec-ecapa-voxceleb", "embedding_model.ckpt",
              "speechbrain", "Apache-2.0", "VoxCeleb 1 and 2: 7,205 speakers", 83_316_686,
              "0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2"),
    Published("speechbrain-resnet-voxceleb", HUGGINGFACE, "speechbrain/spkrec-resnet-voxceleb",
              "embedding_model.ckpt", "speechbrain", "Apache-2.0", "VoxCeleb 1 and 2: 7,205 speakers"),
)

RECOMMENDED = "campplus-cn-en"  # for real use: what commands that fall back to the bundled model point to


def look_up(name: str) -> Published | None:
    """The entry of that name or repository; ModelScope's older `damo/` stands for `iic/`."""
    repository = name.replace("damo/", "iic/", 1) if name.startswith("damo/") else name
    return next((entry for entry in CATALOGUE if entry.name == name or entry.repository == repository), None)

