"""Makes the tiny checkpoints of the families other than CLIP, and of CLIP's smallest relatives, and what transformers
makes of them.

From the project's root, with the packages of training/requirements.txt:

    python test/oracle/families.py               # test/fixtures/families

Each directory is written by transformers, with random weights, and its config.json cut down to what the repositories on
the Hub have. Beside it lie the answers of transformers, which reads the directory itself: u8 `pixels`,
`image_embeddings`, `text_embeddings`, the ids of the prompts, `input_ids`, and `probabilities` (sigmoid, where the model
has a bias) in goldens.safetensors, and logit_scale and logit_bias in goldens.json.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from checkpoints import randomize
from safetensors.torch import save_file
from transformers import (
    AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, MetaClip2Config, MetaClip2Model, SiglipConfig,
    SiglipImageProcessor, SiglipModel,
)

OUTPUT = Path("test/fixtures/families")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. vision: width, layers, heads, mlp, patch, picture; text: width, layers, heads, mlp, positions."""

    family: str
    vision: tuple
    text: tuple
    vocabulary: int = 300
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
    "siglip2-giant": Shape("siglip", (20, 2, 4, 40, 8, 32), (12, 1, 3, 24, 64), dim=20, resample=2),
    "siglip2": Shape("siglip", (12, 1, 2, 24, 16, 32), (12, 1, 2, 24, 64), resample=2, dtype=torch.bfloat16),
    "siglip-bin": Shape("siglip", (12, 1, 2, 24, 16, 32), (12, 1, 2, 24, 64), container="bin"),
    "metaclip-2": Shape("metaclip_2", (12, 2, 3, 24, 8, 32), (8, 2, 2, 16, 77), dim=12, activation="quick_gelu", squash=False),
    # The pictures of the 378 pixel kind are squashed.
    "metaclip-2-squash": Shape("metaclip_2", (12, 1, 3, 24, 14, 42), (8, 2, 2, 16, 77), dim=12, activation="gelu"),
    # TinyCLIP ViT's numbers of layers and heads.
    "tinyclip": Shape("clip", (16, 10, 4, 32, 8, 32), (16, 3, 4, 32, 77), dim=16, activation="gelu", squash=False),
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
        # XLM-R's end token really is 2.
        text |= {"eos_token_id": 2 if shape.family == "metaclip_2" else shape.vocabulary - 1}
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


def write(name: str, shape: Shape, directory: Path, cut: bool = True) -> None:
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


def rows(shape: Shape) -> torch.Tensor:
    """Ids of an empty prompt, of short ones of unlike lengths, and of one that was cut."""
    positions, made = shape.text[-1], []
    for length in (0, 1, 3, 7, positions):
        ids = torch.randint(3, shape.vocabulary - 1, (length,)).tolist()
        if shape.family == "siglip":
            ids = ids[: positions - 1] + [1]
            # The first SigLIP pads with its end token, SigLIP 2 with 0.
            ids += [0 if shape.resample == 2 else 1] * (positions - len(ids))
        else:
            start, end = (0, 2) if shape.family == "metaclip_2" else (shape.vocabulary - 2, shape.vocabulary - 1)
            ids = [start, *ids[: positions - 2], end]
            ids += [1 if shape.family == "metaclip_2" else end] * (positions - len(ids))
        made.append(ids)
    return torch.tensor(made)


@torch.no_grad()
def write_goldens(shape: Shape, directory: Path) -> None:
    """What transformers makes of a directory that it reads itself."""
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    prepared = CLASSES[shape.family][0].from_pretrained(directory)
    size, pictures = prepared.vision_config.image_size, processor(shape)
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (pictures.image_mean, pictures.image_std))
    ids = rows(shape)
    # No mask: SigLIP attends to padding, and to what is behind the end token CLIP does not.
    out = model(input_ids=ids, pixel_values=(pixels / 255 - mean) / std)
    tensors = {"pixels": pixels, "input_ids": ids, "image_embeddings": out.image_embeds, "text_embeddings": out.text_embeds}
    facts = {"logit_scale": model.logit_scale.exp().item()}
    if hasattr(model, "logit_bias"):
        facts["logit_bias"] = model.logit_bias.item()
        tensors["probabilities"] = out.logits_per_image.sigmoid()
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    (directory / "goldens.json").write_text(json.dumps(facts) + "\n")


def main() -> None:
    for seed, name in enumerate(SHAPES):
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        directory = OUTPUT / name
        shutil.rmtree(directory, ignore_errors=True)
        torch.manual_seed(100 + seed)
        write(name, SHAPES[name], directory)
        write_goldens(SHAPES[name], directory)
        print(f"wrote {directory}", flush=True)


if __name__ == "__main__":
    main()
