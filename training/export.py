"""Writes the model as a Hugging Face directory, weights rounded to float16."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import CLIPModel

from augment import IMAGE_SIZE, MEAN, STD
from tokenizer import END, POSITIONS, START

# Written out in full: readers in other languages do not share transformers' defaults.
SHARED = ("projection_dim", "initializer_factor", "logit_scale_init_value")
TOWER = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "projection_dim",
    "initializer_factor",
    "initializer_range",
    "model_type",
)
TEXT = (*TOWER, "vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
VISION = (*TOWER, "image_size", "patch_size", "num_channels")


def config(model: CLIPModel) -> dict:
    def part(source, keys):
        return {key: getattr(source, key) for key in keys}

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float16",
        **part(model.config, SHARED),
        "text_config": part(model.config.text_config, TEXT),
        "vision_config": part(model.config.vision_config, VISION),
    }


def preprocessor() -> dict:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def special_token(content: str, normalized: bool) -> dict:
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


def special_tokens() -> dict:
    end = special_token(END, False)
    return {"bos_token": special_token(START, True), "eos_token": end, "pad_token": end, "unk_token": end}


def tokenizer_config(tokenizer: Tokenizer) -> dict:
    added = {
        str(tokenizer.token_to_id(token["content"])): token | {"special": True}
        for token in (special_token(START, True), special_token(END, False))
    }
    return {
        "tokenizer_class": "CLIPTokenizer",
        "processor_class": "CLIPProcessor",
        "model_max_length": POSITIONS,
        "added_tokens_decoder": added,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": True,
        "errors": "replace",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }


def export(model: CLIPModel, tokenizer: Tokenizer, output: Path) -> None:
    """Every file is written beside its place and renamed, so that a reader never meets half a model."""
    documents = {
        "config.json": config(model),
        "preprocessor_config.json": preprocessor(),
        "tokenizer_config.json": tokenizer_config(tokenizer),
        "special_tokens_map.json": special_tokens(),
    }
    beside = output.with_name(output.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, document in documents.items():
        (beside / name).write_text(json.dumps(document, indent=2) + "\n")
    tokenizer.save(str(beside / "tokenizer.json"))
    weights = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, beside / "model.safetensors", metadata={"format": "pt"})
    (beside / "model.safetensors").chmod(0o644)

    output.mkdir(parents=True, exist_ok=True)
    for file in beside.iterdir():
        file.rename(output / file.name)
    beside.rmdir()
