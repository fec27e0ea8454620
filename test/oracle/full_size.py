"""Writes full-size CLIP checkpoints with random weights, and transformers' embeddings of them.

    python test/oracle/full_size.py                             # the names of the models
    python test/oracle/full_size.py OUTPUT_DIRECTORY [NAME ...]

Each checkpoint is a directory in the layout of the repository on the Hub (layouts.py) plus `pixels`,
`image_embeddings` and `text_embeddings` in goldens.safetensors and prompts.txt. Real weights are not needed to compare
arithmetic, and need no download. The tokenizer is the embedded model's: its ids lie within the vocabulary of every
model here. `emoji-clip` is the embedded model itself.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from checkpoints import randomize, write_goldens
from layouts import LAYOUTS, write
from transformers import CLIPConfig, CLIPModel

EMBEDDED = Path(__file__).resolve().parents[2] / "priv/models/emoji-clip"

# vision: width, layers, heads, patch, picture; text: width, layers, heads; projection; activation; layout.
MODELS = {
    "ViT-B-32": ((768, 12, 12, 32, 224), (512, 12, 8), 512, "quick_gelu", "openai-b32"),
    "ViT-B-16": ((768, 12, 12, 16, 224), (512, 12, 8), 512, "quick_gelu", "openai-b16"),
    "ViT-L-14": ((1024, 24, 16, 14, 224), (768, 12, 12), 768, "quick_gelu", "openai-l14"),
    "ViT-L-14-336": ((1024, 24, 16, 14, 336), (768, 12, 12), 768, "quick_gelu", "openai-l14-336"),
    "laion-ViT-B-32": ((768, 12, 12, 32, 224), (512, 12, 8), 512, "gelu", "laion-b32"),
    "laion-ViT-H-14": ((1280, 32, 16, 14, 224), (1024, 24, 16), 1024, "gelu", "laion-h14"),
    "metaclip-ViT-B-32": ((768, 12, 12, 32, 224), (512, 12, 8), 512, "quick_gelu", "metaclip"),
    "fashion-clip": ((768, 12, 12, 32, 224), (512, 12, 8), 512, "quick_gelu", "fashion-clip"),
}

PROMPTS = [
    "a photo of a dog",
    "",
    "x",
    "a photo of a hot air balloon over the sea at dawn",
    "A PHOTO of two dogs, a cat and (perhaps) a mouse!",
    "word " * 100,
]


def config(name: str) -> CLIPConfig:
    (width, layers, heads, patch, size), (text_width, text_layers, text_heads), projection, activation, _ = MODELS[name]
    end = json.loads((EMBEDDED / "config.json").read_text())["text_config"]["eos_token_id"]
    return CLIPConfig(
        projection_dim=projection,
        vision_config={
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "patch_size": patch, "image_size": size,
            "hidden_act": activation, "projection_dim": projection,
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads, "hidden_act": activation, "projection_dim": projection,
            "eos_token_id": end if name in ("metaclip-ViT-B-32", "fashion-clip") else 2,
        },
    )


def make(name: str, output: Path) -> None:
    torch.manual_seed(0)
    directory = output / name
    if name == EMBEDDED.name:
        shutil.copytree(EMBEDDED, directory)
    else:
        randomized(name, directory)
    write_goldens(directory, PROMPTS)
    (directory / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    print(f"wrote {directory}", flush=True)


def randomized(name: str, directory: Path) -> None:
    model = CLIPModel(config(name)).eval()
    randomize(model)
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_text())
    write(model, LAYOUTS[MODELS[name][-1]], directory, tokenizer)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join([EMBEDDED.name, *MODELS]))
    for model_name in sys.argv[2:] or ([EMBEDDED.name, *MODELS] if len(sys.argv) == 2 else []):
        make(model_name, Path(sys.argv[1]))
