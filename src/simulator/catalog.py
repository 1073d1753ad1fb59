"""The machines that the simulated market knows: what they are, what they cost, what nvidia-smi calls them.

Figures are those of the real cards (NVIDIA data sheets); prices are typical of vast.ai in 2026-08.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU. Memory in MiB, power in W, bandwidth in GB/s, price in $/h for one of them."""

    name: str
    smi_name: str
    memory_mib: int
    power_w: float
    bandwidth: float
    tflops: float
    compute_cap: int
    dph: float
    min_bid: float


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("RTX 4090", "NVIDIA GeForce RTX 4090", 24_564, 450.0, 3570.4, 82.3, 890, 0.35, 0.21),
        Gpu("H100 SXM", "NVIDIA H100 80GB HBM3", 81_559, 700.0, 2620.1, 53.8, 900, 1.90, 1.20),
        Gpu("RTX 5090", "NVIDIA GeForce RTX 5090", 32_607, 575.0, 1510.9, 104.8, 1200, 0.49, 0.31),
        Gpu("A100 SXM4", "NVIDIA A100-SXM4-80GB", 81_920, 400.0, 1820.0, 19.5, 800, 0.89, 0.52),
        Gpu("L40S", "NVIDIA L40S", 46_068, 350.0, 690.2, 91.6, 890, 0.59, 0.36),
        Gpu("RTX 3090", "NVIDIA GeForce RTX 3090", 24_576, 350.0, 817.9, 35.6, 860, 0.17, 0.09),
    )
}

#: Where machines stand: (geolocation, country code).
PLACES: tuple[tuple[str, str], ...] = (
    ("Quebec, CA", "CA"),
    ("Virginia, US", "US"),
    ("Sweden, SE", "SE"),
    ("Czechia, CZ", "CZ"),
    ("Taiwan, TW", "TW"),
)

DRIVER_VERSION = "570.133.20"


@dataclass(frozen=True, slots=True)
class Image:
    """What an instance runs: image, the environment that names the model, the engine's port inside."""

    name: str
    template: str
    port: int
    model_env: str
    args_env: str | None


#: Templates of vast.ai (2026-08): all but Ollama and TGI put the engine on 127.0.0.1:18000.
IMAGES: dict[str, Image] = {
    "sglang": Image("vastai/sglang:v0.5.9", "SGLang", 18_000, "MODEL_NAME", "SGLANG_ARGS"),
    "vllm": Image("vastai/vllm:v0.11.0", "vLLM", 18_000, "VLLM_MODEL", "VLLM_ARGS"),
    "llamacpp": Image("vastai/llama-cpp:b6900", "Llama.cpp", 18_000, "LLAMA_MODEL", "LLAMA_ARGS"),
    "ollama": Image("vastai/ollama:0.12.6", "Ollama", 11_434, "OLLAMA_MODEL", None),
    "tgi": Image("ghcr.io/huggingface/text-generation-inference:3.3.5", "TGI", 80, "MODEL_ID", None),
}

ENGINES: tuple[str, ...] = tuple(IMAGES)


def engine_of_image(image: str) -> str | None:
    """The engine that an image name stands for, or None when it is none that we can play."""
    name = image.lower().replace("-", "").replace(".", "")
    known = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "llamacpp", "ollama": "ollama"}
    if "textgenerationinference" in name:
        return "tgi"
    return next((engine for part, engine in known.items() if part in name), None)
