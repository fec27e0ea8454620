"""Exports a tiny model of open_clip with random weights, and writes open_clip's own answers beside it.

From the project's root, with the packages of training/requirements.txt and open_clip_torch 3.3.0:

    python test/oracle/open_clip_export.py                      # test/fixtures/open-clip
    python test/oracle/open_clip_export.py OUTPUT_DIRECTORY     # ViT-B-32 in full size, with open_clip's vocabulary

goldens.safetensors and prompts.txt are what `cargo run --release -p clip_torch --example parity` compares with.
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
from checkpoints import PROMPTS, tokenizer
from safetensors.torch import save_file
from transformers import CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
from export_open_clip import export, pieces_of  # noqa: E402

FIXTURE = Path("test/fixtures/open-clip")
# Of other models than OpenAI's: mean and deviation must come from here.
PREPROCESSING = {"size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "interpolation": "bicubic",
                 "resize_mode": "shortest"}


def tiny(vocabulary: int) -> open_clip.CLIP:
    vision = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 16}
    text = {"context_length": 24, "vocab_size": vocabulary, "width": 8, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text, quick_gelu=False)


def randomize(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.normal_(0, 0.1)
        elif "ln_" in name:
            weight.data.normal_(1, 0.1)
        elif weight.dim() >= 2:
            weight.data.normal_(0, weight[0].numel() ** -0.5)
    model.logit_scale.data.fill_(4.2)


@torch.no_grad()
def write_goldens(model, preprocessing: dict, directory: Path, prompts: list[str]) -> None:
    size, length = preprocessing["size"], model.context_length
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    images = model.encode_image((pixels / 255 - mean) / std, normalize=True)
    read = CLIPTokenizer.from_pretrained(directory)
    rows = [read(text, truncation=True, max_length=length)["input_ids"] for text in prompts]
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    texts = model.encode_text(ids, normalize=True)
    tensors = {"pixels": pixels, "image_embeddings": images, "text_embeddings": texts}
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    (directory / "prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")


def main() -> None:
    torch.manual_seed(0)
    # A line each.
    prompts = [prompt for prompt in PROMPTS if "\n" not in prompt and "\r" not in prompt]
    if len(sys.argv) > 1:
        output = Path(sys.argv[1])
        model = open_clip.create_model("ViT-B-32", load_weights=False)
        preprocessing = {**PREPROCESSING, "size": 224}
        pieces = pieces_of(open_clip.get_tokenizer("ViT-B-32"))
    else:
        output, preprocessing = FIXTURE, PREPROCESSING
        whole = tokenizer()["model"]
        model, pieces = tiny(len(whole["vocab"])), (whole["vocab"], [" ".join(merge) for merge in whole["merges"]])
    randomize(model)
    export(model, preprocessing, pieces, output)
    write_goldens(model, preprocessing, output, prompts)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
