"""Makes the tiny checkpoints of the families other than CLIP, and of CLIP's smallest relatives, and what transformers
makes of them.

From the project's root, with the packages of training/requirements.txt, and sentencepiece and protobuf:

    python test/oracle/families.py [NAME ...]                # test/fixtures/families
    python test/oracle/families.py full OUTPUT_DIRECTORY [NAME ...]   # full sizes, see bin/check-full-size

Each directory is written by transformers, with random weights, and its config.json cut down to what the repositories on
the Hub have. Beside it lie the answers of transformers, which reads the directory itself: u8 `pixels`,
`image_embeddings`, `text_embeddings` and `probabilities` (sigmoid, where the model has a bias) in goldens.safetensors;
prompts with their ids, logit_scale and logit_bias in goldens.json. The tokenizers are sentencepieces.py's tiny ones, whose
ids lie within every vocabulary.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import sentencepieces
from checkpoints import randomize, tokenizer
from safetensors.torch import save_file
from transformers import (
    AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, MetaClip2Config, MetaClip2Model, SiglipConfig,
    SiglipImageProcessor, SiglipModel,
)

OUTPUT, TOKENIZERS = Path("test/fixtures/families"), Path("test/fixtures/tokenizers")

# An empty one, short ones of unlike lengths, and one that is cut.
PROMPTS = [
    "a photo of a dog",
    "",
    "x",
    "A PHOTO of two dogs, a cat and (perhaps) a hot_dog!",
    "犬の写真 straße",
    "word " * 100,
    "a cat on the mat",
]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. vision: width, layers, heads, mlp, patch, picture; text: width, layers, heads, mlp, positions."""

    family: str
    vision: tuple
    text: tuple
    tokenizer: str = "siglip"  # below test/fixtures/tokenizers
    vocabulary: int = 900
    dim: int | None = None  # of an embedding, where the width of a tower does not say
    activation: str | None = None  # where it is not the family's own
    resample: int = 3
    squash: bool = True
    dtype: torch.dtype = torch.float32
    container: str = "safetensors"


SHAPES = {
    "siglip": Shape("siglip", (12, 2, 3, 24, 8, 32), (12, 2, 3, 24, 64)),
    # 16 positions, heads of an uneven size, patches that leave a rest.
    "siglip-so400m": Shape("siglip", (18, 1, 2, 43, 14, 45), (18, 2, 2, 43, 16)),
    # Towers of unlike widths.
    "siglip2-giant": Shape("siglip", (20, 2, 4, 40, 8, 32), (12, 1, 3, 24, 64), "siglip2", dim=20, resample=2),
    "siglip2": Shape("siglip", (12, 1, 2, 24, 16, 32), (12, 1, 2, 24, 64), "siglip2", resample=2, dtype=torch.bfloat16),
    "siglip-bin": Shape("siglip", (12, 1, 2, 24, 16, 32), (12, 1, 2, 24, 64), container="bin"),
    "metaclip-2": Shape("metaclip_2", (12, 2, 3, 24, 8, 32), (8, 2, 2, 16, 77), "metaclip-2", 200, 12, "quick_gelu", squash=False),
    # The pictures of the 378 pixel kind are squashed.
    "metaclip-2-squash": Shape("metaclip_2", (12, 1, 3, 24, 14, 42), (8, 2, 2, 16, 77), "metaclip-2", 200, 12, "gelu"),
    # TinyCLIP ViT's numbers of layers and heads.
    "tinyclip": Shape("clip", (16, 10, 4, 32, 8, 32), (16, 3, 4, 32, 77), "clip", 594, 16, "gelu", squash=False),
}

BASE, BASE_TEXT = (768, 12, 12, 3072), (768, 12, 12, 3072)
SO400M = (1152, 27, 16, 4304)

# The sizes of the repositories on the Hub.
FULL = {
    "siglip-base-patch16-224": Shape("siglip", (*BASE, 16, 224), (*BASE_TEXT, 64), vocabulary=32_000),
    "siglip-base-patch16-256": Shape("siglip", (*BASE, 16, 256), (*BASE_TEXT, 64), vocabulary=32_000),
    "siglip-base-patch16-384": Shape("siglip", (*BASE, 16, 384), (*BASE_TEXT, 64), vocabulary=32_000),
    "siglip-base-patch16-512": Shape("siglip", (*BASE, 16, 512), (*BASE_TEXT, 64), vocabulary=32_000),
    "siglip-so400m-patch14-224": Shape("siglip", (*SO400M, 14, 224), (*SO400M, 16), vocabulary=32_000),
    "siglip-so400m-patch14-384": Shape("siglip", (*SO400M, 14, 384), (*SO400M, 64), vocabulary=32_000),
    "siglip-large-patch16-256": Shape("siglip", (1024, 24, 16, 4096, 16, 256), (1024, 24, 16, 4096, 64), vocabulary=32_000),
    "siglip2-base-patch32-256": Shape("siglip", (*BASE, 32, 256), (*BASE_TEXT, 64), "siglip2", 256_000, resample=2),
    "siglip2-base-patch16-224": Shape("siglip", (*BASE, 16, 224), (*BASE_TEXT, 64), "siglip2", 256_000, resample=2),
    "siglip2-so400m-patch16-384": Shape("siglip", (*SO400M, 16, 384), (*SO400M, 64), "siglip2", 256_000, resample=2),
    "siglip2-giant-opt-patch16-256": Shape(
        "siglip", (1536, 40, 16, 6144, 16, 256), (*SO400M, 64), "siglip2", 256_000, dim=1536, resample=2
    ),
    "metaclip-2-worldwide-s16": Shape(
        "metaclip_2", (384, 12, 6, 1536, 16, 224), (384, 12, 6, 1536, 77), "metaclip-2", 901_629, 384, "quick_gelu",
        squash=False,
    ),
    "TinyCLIP-ViT-8M-16-Text-3M-YFCC15M": Shape(
        "clip", (256, 10, 4, 1024, 16, 224), (256, 3, 4, 1024, 77), "clip", 49_408, 512, "gelu", squash=False
    ),
}

CLASSES = {
    "siglip": (SiglipConfig, SiglipModel),
    "metaclip_2": (MetaClip2Config, MetaClip2Model),
    "clip": (CLIPConfig, CLIPModel),
}

# Fields of config.json that repositories have; everything else is the default of the family.
ROOT = ("architectures", "model_type", "projection_dim", "logit_scale_init_value")
TOWER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size",
         "vocab_size", "max_position_embeddings", "projection_size", "hidden_act", "eos_token_id", "model_type")


def config(shape: Shape):
    width, layers, heads, mlp, patch, size = shape.vision
    vision = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
              "patch_size": patch, "image_size": size}
    width, layers, heads, mlp, positions = shape.text
    text = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": mlp,
            "max_position_embeddings": positions, "vocab_size": shape.vocabulary}
    root = {}
    if shape.family == "siglip":
        text |= {"projection_size": shape.dim} if shape.dim else {}
    else:
        # XLM-R's end token really is 2; of CLIP's, transformers pools at the highest id then.
        text |= {"eos_token_id": 2}
        root |= {"projection_dim": shape.dim}
    if shape.activation:
        text |= {"hidden_act": shape.activation}
        vision |= {"hidden_act": shape.activation}
    return CLASSES[shape.family][0](vision_config=vision, text_config=text, **root)


def randomize_all(model) -> None:
    randomize(model)
    if hasattr(model, "logit_bias"):
        # Near zero, where a wrong bias shows most.
        model.logit_bias.data.fill_(-1.25)
        head = model.vision_model.head
        head.probe.data.normal_()
        for bias in (head.attention.in_proj_bias, head.attention.out_proj.bias):
            bias.data.normal_(0, 0.1)


def write(shape: Shape, directory: Path) -> None:
    model = CLASSES[shape.family][1](config(shape)).eval()
    randomize_all(model)
    model.to(shape.dtype).save_pretrained(directory)
    if shape.container == "bin":
        (directory / "model.safetensors").unlink()
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
    whole, default = (c.to_dict() for c in (model.config, CLASSES[shape.family][0]()))
    sparse = {key: whole[key] for key in ROOT if key in whole}
    for tower in ("text_config", "vision_config"):
        # Also what transformers' default says is left out, as SigLIP 2's repositories do.
        fields = {key: value for key, value in whole[tower].items() if key in TOWER and value is not None}
        sparse[tower] = {key: value for key, value in fields.items() if key == "model_type" or default[tower].get(key) != value}
    (directory / "config.json").write_text(json.dumps(sparse, indent=2) + "\n")
    processor(shape).save_pretrained(directory)


def processor(shape: Shape):
    size = shape.vision[-1]
    if shape.family == "siglip":
        return SiglipImageProcessor(size={"height": size, "width": size}, resample=shape.resample)
    if shape.squash:
        return CLIPImageProcessor(size={"height": size, "width": size}, do_center_crop=False)
    return CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def add_tokenizer(shape: Shape, directory: Path) -> None:
    if shape.tokenizer == "clip":
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False))
        return
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZERS / shape.tokenizer / name, directory / name)


def ids(shape: Shape, directory: Path, prompts: list[str]) -> torch.Tensor:
    """Ids of all positions: the models were trained so, and SigLIP attends to padding. Never a mask."""
    positions = shape.text[-1]
    if shape.tokenizer == "clip":
        read = CLIPTokenizer.from_pretrained(directory)
        return read(prompts, padding="max_length", truncation=True, max_length=positions, return_tensors="pt").input_ids
    read = sentencepieces.reference(directory, shape.tokenizer)
    rows = sentencepieces.ids(read, prompts, positions)
    padding = read.pad_token_id
    return torch.tensor([row + [padding] * (positions - len(row)) for row in rows])


@torch.no_grad()
def write_goldens(shape: Shape, directory: Path) -> None:
    """What transformers makes of a directory that it reads itself."""
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    size, pictures = model.config.vision_config.image_size, processor(shape)
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (pictures.image_mean, pictures.image_std))
    rows = ids(shape, directory, PROMPTS)
    out = model(input_ids=rows, pixel_values=(pixels / 255 - mean) / std)
    tensors = {"pixels": pixels, "image_embeddings": out.image_embeds, "text_embeddings": out.text_embeds}
    facts = {"logit_scale": model.logit_scale.exp().item()}
    if hasattr(model, "logit_bias"):
        facts["logit_bias"] = model.logit_bias.item()
        tensors["probabilities"] = out.logits_per_image.sigmoid()
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    facts["prompts"] = [{"text": text, "ids": row.tolist()} for text, row in zip(PROMPTS, rows)]
    (directory / "goldens.json").write_text(json.dumps(facts) + "\n")
    (directory / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")


def make(name: str, shape: Shape, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    write(shape, directory)
    add_tokenizer(shape, directory)
    write_goldens(shape, directory)
    print(f"wrote {directory}", flush=True)


def main(names: list[str]) -> None:
    for seed, name in enumerate(SHAPES):
        torch.manual_seed(100 + seed)
        if not names or name in names:
            make(name, SHAPES[name], OUTPUT / name)
            (OUTPUT / name / "prompts.txt").unlink()


def main_full(output: Path, names: list[str]) -> None:
    for name in names:
        torch.manual_seed(0)
        make(name, FULL[name], output / name)


if __name__ == "__main__":
    if sys.argv[1:2] == ["full"]:
        if len(sys.argv) == 2:
            print("\n".join(FULL))
        else:
            main_full(Path(sys.argv[2]), sys.argv[3:] or list(FULL))
    else:
        main(sys.argv[1:])
