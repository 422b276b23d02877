"""What is known of published checkpoints that say nothing of themselves, by the SHA-256 of the file."""

# The model's own page on ModelScope; the licence is named there and in the notices of what ships it.
KNOWN = {
    "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199": {
        "published_as": "iic/speech_campplus_sv_zh_en_16k-common_advanced, campplus_cn_en_common.pt",
        "training_data": "200,000 speakers of Chinese and English (3D-Speaker, Alibaba; not public)",
        "domain": "Chinese and English speech at 16 kHz",
        "licence": "Apache-2.0",
        "threshold": 0.4178,
        "threshold_trials": "all pairs of 800 recordings of 40 speakers of speechocean762 (read English of native "
                            "Mandarin speakers): 7,600 target and 312,000 nontarget trials, EER 1.17 %",
    },
}
