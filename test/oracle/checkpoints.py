"""Makes the tiny checkpoints with which native/clip_torch/tests checks that every layout is read as transformers reads it.

From the project's root, with the packages of training/requirements.txt:

    python test/oracle/checkpoints.py            # test/fixtures/checkpoints

Each is a CLIP with random weights in the layout of a repository on the Hub (layouts.py), with a tokenizer of some 600
tokens. Beside it lie the answers of transformers, which reads the directory itself: u8 `pixels`, `image_embeddings`
and `text_embeddings` in goldens.safetensors, and in goldens.json the prompts with their token ids.
"""

import json
import shutil
from pathlib import Path

import torch
from layouts import LAYOUTS, write
from safetensors.torch import save_file
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel, CLIPTokenizer

OUTPUT = Path("test/fixtures/checkpoints")
EMBEDDED = Path("priv/models/emoji-clip/tokenizer.json")

# vision: width, layers, heads, patch, picture; text: width, layers, heads; projection; activation.
SIZES = {
    "openai-b32": ((8, 2, 2, 16, 32), (8, 2, 2), 12, "quick_gelu"),
    "openai-b16": ((8, 1, 4, 8, 32), (8, 1, 2), 12, "quick_gelu"),
    "openai-l14": ((12, 2, 3, 7, 28), (8, 1, 2), 12, "quick_gelu"),
    "openai-l14-336": ((8, 1, 2, 7, 42), (8, 1, 2), 12, "quick_gelu"),
    "laion-b32": ((8, 1, 2, 16, 32), (8, 2, 2), 12, "gelu"),
    "laion-h14": ((20, 2, 5, 7, 28), (8, 1, 2), 16, "gelu"),
    "laion-bigg": ((8, 1, 2, 7, 28), (8, 1, 2), 16, "gelu"),
    "metaclip": ((8, 1, 2, 16, 32), (8, 1, 2), 12, "quick_gelu"),
    "fashion-clip": ((8, 1, 2, 16, 32), (8, 1, 2), 12, "quick_gelu"),
    "bin-shards": ((8, 1, 2, 16, 32), (8, 1, 2), 12, "gelu"),
    "bin-views": ((8, 1, 2, 16, 32), (8, 1, 2), 12, "gelu"),
    "transformers-5": ((8, 1, 2, 16, 32), (8, 1, 2), 12, "quick_gelu"),
    # Pictures that are no whole number of patches.
    "saved-from-double": ((8, 1, 2, 16, 45), (8, 1, 2), 12, "gelu"),
    "sentence-transformers": ((8, 1, 2, 7, 29), (8, 1, 2), 12, "quick_gelu"),
}

PROMPTS = [
    "a photo of a dog",
    "",
    "It's 12 o'clock: déjà-vu, isn't it?",
    "  TWO\u00a0dogs,\tone ﬁsh\n",
    "<|startoftext|>a<|ENDOFTEXT|> b <|STARTOFTEXT|> \u0130 \u1e9e",
    "日本語 😀👩‍👩‍👧 e\u0301 \u200b\u0000!",
    "word " * 100,
]


def tokenizer() -> dict:
    """The embedded model's, cut down to the bytes and some merges."""
    whole = json.loads(EMBEDDED.read_text())
    pieces = sorted(whole["model"]["vocab"], key=whole["model"]["vocab"].get)[:512]
    merges = whole["model"]["merges"][:80]
    specials = [token["content"] for token in whole["added_tokens"]]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *("".join(pair) for pair in merges), *specials])}
    whole["model"] |= {"vocab": vocabulary, "merges": merges}
    for token in whole["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    processor = whole["post_processor"]
    for name in ("sep", "cls"):
        processor[name][1] = vocabulary[processor[name][0]]
    return whole


def config(name: str, vocabulary: int) -> CLIPConfig:
    (width, layers, heads, patch, size), (text_width, text_layers, text_heads), projection, activation = SIZES[name]
    # OpenAI's and LAION's say 2 by mistake, and transformers then pools at the highest id.
    end = vocabulary - 1 if name in ("metaclip", "fashion-clip", "transformers-5") else 2
    return CLIPConfig(
        projection_dim=projection,
        vision_config={
            "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "patch_size": patch, "image_size": size,
            "hidden_act": activation, "projection_dim": projection,
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": 2 * text_width, "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads, "hidden_act": activation, "projection_dim": projection,
            "vocab_size": vocabulary, "max_position_embeddings": 24, "eos_token_id": end,
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
def write_goldens(directory: Path, prompts: list[str]) -> None:
    """What transformers makes of a directory that it reads itself."""
    model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
    read = CLIPTokenizer.from_pretrained(directory)
    processor = AutoImageProcessor.from_pretrained(directory, use_fast=False)
    size, positions = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    images = model.get_image_features(pixel_values=(pixels / 255 - mean) / std)
    tokens = read(prompts, padding=True, truncation=True, max_length=positions, return_tensors="pt")
    texts = model.get_text_features(**tokens)
    unit = lambda out: torch.nn.functional.normalize(getattr(out, "pooler_output", out), dim=-1)
    tensors = {"pixels": pixels, "image_embeddings": unit(images), "text_embeddings": unit(texts)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    facts = {"logit_scale": model.logit_scale.exp().item(),
             "prompts": [{"text": text, "ids": read(text)["input_ids"]} for text in prompts]}
    (directory / "goldens.json").write_text(json.dumps(facts) + "\n")


def main() -> None:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    pieces = tokenizer()
    for seed, name in enumerate(SIZES):
        torch.manual_seed(seed)
        model = CLIPModel(config(name, len(pieces["model"]["vocab"]))).eval()
        randomize(model)
        write(model, LAYOUTS[name], OUTPUT / name, pieces)
        write_goldens(OUTPUT / name / LAYOUTS[name].folder, PROMPTS)
        print(f"wrote {OUTPUT / name}", flush=True)


if __name__ == "__main__":
    main()
