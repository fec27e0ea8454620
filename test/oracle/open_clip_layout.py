"""Makes the tiny checkpoints with which native/clip_torch/tests checks that open_clip's own layout is read as open_clip reads it.

From the project's root, with the packages of training/requirements.txt, open_clip_torch, timm, sentencepiece and protobuf:

    python test/oracle/open_clip_layout.py            # test/fixtures/open_clip

Each is a model with random weights in the files that open_clip's push_to_hf_hub writes. Beside it lie the answers of
open_clip, which reads the directory itself: u8 `pixels`, `image_embeddings` and `text_embeddings` in
goldens.safetensors, and in goldens.json the prompts with their token ids, and the logit scale and bias.
"""

import json
import shutil
from pathlib import Path

import open_clip
import torch
from checkpoints import tokenizer as clip_tokenizer
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from sentencepieces import TEXT, metaclip_2, siglip, siglip2, write
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import normalize

OUTPUT = Path("test/fixtures/open_clip")
PROMPTS = [
    "a photo of a dog", "", "A hot_dog, isn't it?", "  TWO\u00a0dogs,\tone fish\n", "日本語 犬の写真 😀", "word " * 40, "déjà vu",
]


def tower(name: str, patch: int, size: int, width: int, heads: int, **options) -> None:
    """timm's image tower of this name, made tiny. Patch and size are in the name, the rest in the weights."""

    def model(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kwargs):
        made = VisionTransformer(img_size=size, patch_size=patch, embed_dim=width, depth=2, num_heads=heads, mlp_ratio=3,
                                 class_token=False, **options, **kwargs)
        made.default_cfg = {}
        return made

    model.__name__, model.__module__ = name, __name__
    register_model(model)


tower("vit_base_patch16_siglip_48", 16, 48, 24, 12)
tower("vit_so400m_patch16_siglip_40", 16, 40, 32, 16, act_layer="gelu_tanh")

SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
               "tokenizer_kwargs": {"clean": "canonicalize"}, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}
SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
OPENAI = {"mean": list(OPENAI_DATASET_MEAN), "std": list(OPENAI_DATASET_STD)}

# model_cfg, preprocess_cfg, file of the weights, and their type.
MODELS = {
    "vit": (
        {"embed_dim": 12, "quick_gelu": True,
         "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
         "text_cfg": {"context_length": 24, "width": 16, "heads": 2, "layers": 2, "hf_tokenizer_name": "x"}},
        {**OPENAI, "interpolation": "bilinear", "resize_mode": "shortest"}, "open_clip_model.safetensors", torch.float32,
    ),
    "vit-custom-text": (
        {"embed_dim": 12, "custom_text": True, "init_logit_bias": -10,
         "vision_cfg": {"image_size": [32, 32], "layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 2.7},
         "text_cfg": {"context_length": 12, "width": 8, "heads": 2, "layers": 1, "mlp_ratio": 3, "hf_tokenizer_name": "x",
                      "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-4}}},
        {**OPENAI, "resize_mode": "squash"}, "open_clip_pytorch_model.bin", torch.float16,
    ),
    "siglip": (
        {"embed_dim": 24, "custom_text": True, "init_logit_bias": -10,
         "vision_cfg": {"image_size": 48, "timm_model_name": "vit_base_patch16_siglip_48", "timm_model_pretrained": False,
                        "timm_pool": "map", "timm_proj": "none"},
         "text_cfg": {"context_length": 16, "width": 16, "heads": 2, "layers": 2, **SIGLIP_TEXT}},
        SQUASH, "open_clip_pytorch_model.bin", torch.float32,
    ),
    "siglip2": (
        {"embed_dim": 32, "custom_text": True, "init_logit_bias": -10,
         "vision_cfg": {"image_size": 40, "timm_model_name": "vit_so400m_patch16_siglip_40", "timm_model_pretrained": False,
                        "timm_pool": "map", "timm_proj": "none"},
         "text_cfg": {"context_length": 16, "width": 24, "heads": 3, "layers": 1, "mlp_ratio": 3.7362, **SIGLIP_TEXT,
                      "act_kwargs": {"approximate": "tanh"}}},
        SQUASH, "shards", torch.float32,
    ),
    "worldwide": (
        {"embed_dim": 12, "quick_gelu": True,
         "vision_cfg": {"image_size": 28, "layers": 1, "width": 16, "head_width": 8, "patch_size": 14},
         "text_cfg": {"context_length": 16, "width": 8, "heads": 2, "layers": 1, "pool_type": "eos", "eos_id": 2,
                      "hf_tokenizer_name": "facebook/xlm-v-base"}},
        {**OPENAI, "resize_mode": "shortest"}, "open_clip_model.safetensors", torch.float32,
    ),
}


def tokenizers() -> dict:
    words = [f"▁{word.lower()}" for line in TEXT for word in line.split()]
    t5 = siglip()
    clip = {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return {"vit": (clip_tokenizer(), clip), "vit-custom-text": (clip_tokenizer(), clip), "worldwide": metaclip_2(),
            "siglip": (t5[0], {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "</s>",
                               "unk_token": "<unk>", "extra_ids": 0, "additional_special_tokens": []}),
            "siglip2": siglip2(words, 500)}


def randomize(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if "logit" in name:
            continue
        if name.endswith("bias"):
            weight.data.normal_(0, 0.1)
        elif "norm" in name or "ln_" in name:
            weight.data.normal_(1, 0.1)
        else:
            weight.data.normal_(0, max(weight[0].numel(), 1) ** -0.5)


def save(model: torch.nn.Module, directory: Path, weights: str, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    if weights.endswith(".bin"):
        torch.save(tensors, directory / weights)
    elif weights == "shards":
        names = sorted(tensors)
        files = [f"open_clip_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        of = {name: files[n % 2] for n, name in enumerate(names)}
        for file in files:
            save_file({name: tensors[name] for name in names if of[name] == file}, directory / file)
        index = {"metadata": {}, "weight_map": of}
        (directory / "open_clip_model.safetensors.index.json").write_text(json.dumps(index) + "\n")
        # open_clip reads one file; this one is not kept.
        save_file(tensors, directory / "open_clip_model.safetensors")
    else:
        save_file(tensors, directory / weights)


@torch.no_grad()
def goldens(directory: Path) -> None:
    """What open_clip makes of a directory that it reads itself."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    model.eval()
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.visual.image_mean, model.visual.image_std))
    ids = open_clip.get_tokenizer(f"local-dir:{directory}")(PROMPTS)
    images = normalize(model.encode_image((pixels / 255 - mean) / std), dim=-1)
    tensors = {"pixels": pixels, "image_embeddings": images, "text_embeddings": normalize(model.encode_text(ids), dim=-1)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "goldens.safetensors")
    bias = getattr(model, "logit_bias", None)
    facts = {"logit_scale": model.logit_scale.exp().item(), "logit_bias": None if bias is None else bias.item(),
             "prompts": [{"text": text, "ids": row.tolist()} for text, row in zip(PROMPTS, ids)]}
    (directory / "goldens.json").write_text(json.dumps(facts) + "\n")


def main() -> None:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    for seed, (name, tokenizer) in enumerate(tokenizers().items()):
        model_cfg, preprocess_cfg, weights, dtype = MODELS[name]
        torch.manual_seed(seed)
        directory = OUTPUT / name
        write(directory, tokenizer)
        vocabulary = tokenizer[0]["model"]["vocab"]
        model_cfg["text_cfg"]["vocab_size"] = len(vocabulary)
        (directory / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}, indent=2) + "\n")
        kind = open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP
        model = kind(**{key: value for key, value in model_cfg.items() if key != "custom_text"})
        randomize(model)
        save(model, directory, weights, dtype)
        goldens(directory)
        if weights == "shards":
            (directory / "open_clip_model.safetensors").unlink()
        print(f"wrote {directory}", flush=True)


if __name__ == "__main__":
    main()
