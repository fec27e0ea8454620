"""Writes full-size CLIP checkpoints with random weights, and transformers' embeddings of them.

    python test/oracle/full_size.py OUTPUT_DIRECTORY [NAME ...]

Each checkpoint is a directory in Hugging Face layout plus `pixels`, `image_embeddings` and
`text_embeddings` in goldens.safetensors and prompts.txt. Real weights are not needed to compare
arithmetic, and need no download. The tokenizer is the embedded model's: its ids lie within the
vocabulary of every model here.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

EMBEDDED = Path(__file__).resolve().parents[2] / "priv/models/emoji-clip"

# vision: width, layers, heads, patch, picture; text: width, heads; projection; activation.
MODELS = {
    "ViT-B-32": ((768, 12, 12, 32, 224), (512, 8), 512, "quick_gelu"),
    "ViT-L-14": ((1024, 24, 16, 14, 224), (768, 12), 768, "quick_gelu"),
    "laion-ViT-B-32": ((768, 12, 12, 32, 224), (512, 8), 512, "gelu"),
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
    (width, layers, heads, patch, size), (text_width, text_heads), projection, activation = MODELS[name]
    end = json.loads((EMBEDDED / "config.json").read_text())["text_config"]["eos_token_id"]
    return CLIPConfig(
        projection_dim=projection,
        vision_config={
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "patch_size": patch, "image_size": size,
            "hidden_act": activation, "projection_dim": projection,
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": 12,
            "num_attention_heads": text_heads, "hidden_act": activation, "projection_dim": projection,
            "eos_token_id": end,
        },
    )


def randomize(model: CLIPModel) -> None:
    """Weights large enough that every term counts; transformers' own leave biases at zero."""
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.normal_(0, 0.1)
        elif "norm" in name:
            weight.data.normal_(1, 0.1)
        elif weight.dim() >= 2:
            weight.data.normal_(0, weight[0].numel() ** -0.5)
    model.logit_scale.data.fill_(4.6052)


@torch.no_grad()
def goldens(model: CLIPModel, directory: Path) -> dict[str, torch.Tensor]:
    size = model.config.vision_config.image_size
    pixels = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    processor = CLIPImageProcessor.from_pretrained(directory)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    images = model.get_image_features(pixel_values=(pixels / 255 - mean) / std)
    # A tokenizer.json of its own stands for the file; 77 positions as the models have.
    tokenizer = CLIPTokenizerFast.from_pretrained(directory)
    tokens = tokenizer(PROMPTS, padding=True, truncation=True, max_length=77, return_tensors="pt")
    texts = model.get_text_features(**tokens)
    unit = lambda out: torch.nn.functional.normalize(getattr(out, "pooler_output", out), dim=-1)
    return {"pixels": pixels, "image_embeddings": unit(images), "text_embeddings": unit(texts)}


def write(name: str, output: Path) -> None:
    torch.manual_seed(0)
    directory = output / name
    model = CLIPModel(config(name)).eval()
    randomize(model)
    model.save_pretrained(directory)
    size = model.config.vision_config.image_size
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size).save_pretrained(directory)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (EMBEDDED / file).exists():
            shutil.copy(EMBEDDED / file, directory / file)
    tensors = goldens(model, directory)
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    (directory / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    print(f"wrote {directory}", flush=True)


if __name__ == "__main__":
    for model_name in sys.argv[2:] or MODELS:
        write(model_name, Path(sys.argv[1]))
