"""Writes a CLIP model as the repositories on the Hugging Face Hub hold theirs: file names, formats and old fields.

Used by checkpoints.py (tiny models, committed) and full_size.py (full size, not committed).
"""

import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPModel

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True)
class Layout:
    """How a repository is written.

    weights: "bin", "safetensors", "both" (the .bin of another model: who reads it is found out), "shards", "bin shards",
        "bin views" (all tensors in one storage, matrices transposed, in an archive of the kind for more than 4 GB)
    config: "null dicts" (OpenAI's B/32), "partial dicts" (L/14), "plain" (transformers 4), "new" (transformers 5),
        "nan" (the same with numbers that JSON does not have)
    tokenizer: "json", "pieces" (vocab.json and merges.txt), "both"
    processor: "numbers" (size 224), "sizes" ({"shortest_edge": 224}), "nested" (processor_config.json)
    """

    weights: str
    config: str
    tokenizer: str
    processor: str
    position_ids: bool = False
    prefix: str = ""  # of every tensor's name
    folder: str = ""  # below the repository
    dtype: torch.dtype = torch.float32
    others: tuple = ()


OLD_NAMES = ("flax_model.msgpack", "tf_model.h5")

LAYOUTS = {
    "openai-b32": Layout("bin", "null dicts", "both", "numbers", position_ids=True, others=OLD_NAMES),
    "openai-b16": Layout(
        "bin", "null dicts", "both", "numbers", position_ids=True, dtype=torch.float16, others=OLD_NAMES
    ),
    "openai-l14": Layout("both", "partial dicts", "both", "numbers", position_ids=True, others=OLD_NAMES),
    "openai-l14-336": Layout("bin", "partial dicts", "both", "numbers", position_ids=True, others=("tf_model.h5",)),
    "laion-b32": Layout(
        "safetensors", "plain", "both", "sizes", position_ids=True,
        others=("open_clip_config.json", "open_clip_pytorch_model.bin"),
    ),
    "laion-h14": Layout(
        "both", "partial dicts", "both", "sizes", position_ids=True, dtype=torch.float16,
        others=("open_clip_config.json", "open_clip_pytorch_model.bin"),
    ),
    "laion-bigg": Layout("shards", "plain", "both", "sizes", dtype=torch.float16, others=("open_clip_config.json",)),
    "metaclip": Layout("bin", "plain", "pieces", "sizes", others=("metaclip_b32_400m.bin",)),
    "fashion-clip": Layout("both", "plain", "both", "sizes", position_ids=True, others=("preprocessor.json",)),
    "bin-shards": Layout("bin shards", "plain", "json", "sizes"),
    "bin-views": Layout("bin views", "plain", "json", "sizes"),
    "transformers-5": Layout("safetensors", "new", "json", "nested", dtype=torch.bfloat16),
    "saved-from-double": Layout("safetensors", "nan", "json", "nested", prefix="clip.", dtype=torch.float64),
    "sentence-transformers": Layout(
        "bin", "plain", "both", "sizes", prefix="clip.", dtype=torch.float64, folder="0_CLIPModel"
    ),
}


def write(model: CLIPModel, layout: Layout, directory: Path, tokenizer: dict) -> None:
    if layout.folder:
        directory.mkdir(parents=True, exist_ok=True)
        module = {"idx": 0, "name": "0", "path": layout.folder, "type": "sentence_transformers.models.CLIPModel"}
        write_json(directory / "modules.json", [module])
        directory /= layout.folder
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config(model, layout))
    write_weights(model, layout, directory)
    write_tokenizer(layout, directory, tokenizer, model.config.text_config.max_position_embeddings)
    write_processor(layout, directory, model.config.vision_config.image_size)
    for name in layout.others:
        (directory / name).write_text("{}\n")


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# config.json


def config(model: CLIPModel, layout: Layout) -> dict:
    whole = model.config.to_dict()
    keys = ("projection_dim", "logit_scale_init_value", "initializer_factor")
    root = {"architectures": ["CLIPModel"], "model_type": "clip", **{key: whole[key] for key in keys}}
    towers = {name: tower(whole[f"{name}_config"], layout) for name in ("text", "vision")}
    root |= {f"{name}_config": fields for name, fields in towers.items()}
    if layout.config == "null dicts":
        root |= {"text_config_dict": None, "vision_config_dict": None}
    if layout.config == "partial dicts":
        for name, fields in towers.items():
            root[f"{name}_config_dict"] = partial(fields)
            # What only the newer object says does not count.
            fields["layer_norm_eps"] = 0.5
    if layout.config == "nan":
        root |= {"logit_scale_init_value": float("nan"), "initializer_factor": float("-inf")}
        towers["vision"]["initializer_range"] = float("inf")
    root["dtype" if layout.config in ("new", "nan") else "torch_dtype"] = str(layout.dtype).removeprefix("torch.")
    root["transformers_version"] = {"new": "5.23.0", "nan": "5.23.0", "plain": "4.31.0"}.get(layout.config, "4.16.0.dev0")
    return root


# Defaults of CLIPTextConfig and CLIPVisionConfig, which partial objects leave out.
DEFAULTS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_channels": 3, "max_position_embeddings": 77}
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "projection_dim", "vocab_size",
    "max_position_embeddings", "image_size", "patch_size", "num_channels", "hidden_act", "layer_norm_eps",
)


def partial(fields: dict) -> dict:
    kept = {key: value for key, value in fields.items() if key in SIZES and DEFAULTS.get(key) != value}
    return kept | {"eos_token_id": fields["eos_token_id"]} if "eos_token_id" in fields else kept


def tower(fields: dict, layout: Layout) -> dict:
    kept = {key: fields[key] for key in (*SIZES, "attention_dropout", "initializer_range", "eos_token_id") if key in fields}
    if layout.config in ("new", "nan"):
        return kept
    # What transformers 4 wrote into every config.
    clutter = {"_name_or_path": "", "add_cross_attention": False, "architectures": None, "bos_token_id": 0,
               "bad_words_ids": None, "dropout": 0.0, "id2label": {"0": "LABEL_0"}, "num_beams": 1, "top_p": 1.0,
               "torch_dtype": None, "return_dict": True, "transformers_version": "4.16.0.dev0"}
    return clutter | kept


# Weights


def state_dict(model: CLIPModel, layout: Layout) -> dict:
    state = {name: value.to(layout.dtype).contiguous() for name, value in model.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    if layout.position_ids:
        vision, text = model.config.vision_config, model.config.text_config
        positions = {"text": text.max_position_embeddings, "vision": (vision.image_size // vision.patch_size) ** 2 + 1}
        for name, count in positions.items():
            state[f"{name}_model.embeddings.position_ids"] = torch.arange(count).unsqueeze(0)
    return {layout.prefix + name: value for name, value in state.items()}


def write_weights(model: CLIPModel, layout: Layout, directory: Path) -> None:
    state = state_dict(model, layout)
    # With its metadata, as `model.state_dict()` has it.
    ordered = model.state_dict().__class__(state)
    ordered._metadata = getattr(model.state_dict(), "_metadata", None)
    match layout.weights:
        case "bin":
            torch.save(ordered, directory / "pytorch_model.bin")
        case "safetensors":
            save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        case "both":
            save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
            torch.save({"logit_scale": torch.zeros(())}, directory / "pytorch_model.bin")
        case "shards":
            write_shards(state, directory, "model", "safetensors", lambda part, path: save_file(part, path, {"format": "pt"}))
        case "bin views":
            torch.save(views(state), directory / "pytorch_model.bin")
            make_zip64(directory / "pytorch_model.bin")
        case "bin shards":
            write_shards(state, directory, "pytorch_model", "bin", torch.save)


def write_shards(state: dict, directory: Path, stem: str, extension: str, save) -> None:
    names = sorted(state)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    places = {}
    for number, half in enumerate(halves, 1):
        file = f"{stem}-{number:05}-of-{len(halves):05}.{extension}"
        save({name: state[name] for name in half}, directory / file)
        places |= {name: file for name in half}
    total = sum(value.numel() * value.element_size() for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(directory / f"{stem}.{extension}.index.json", index)


def views(state: dict) -> dict:
    """The same tensors as views of one storage, none of which begins at its start; matrices lie column after column."""
    parts = [value.t().reshape(-1) if value.dim() == 2 else value.reshape(-1) for value in state.values()]
    storage, at, seen = torch.cat([torch.zeros(3), *parts]), 3, {}
    for name, value in state.items():
        part = storage[at : at + value.numel()]
        seen[name] = part.view(value.shape[::-1]).t() if value.dim() == 2 else part.view(value.shape)
        at += value.numel()
    return seen


def make_zip64(path: Path) -> None:
    """Rewrites the table of a zip archive as archives of more than 4 GB have it."""
    with zipfile.ZipFile(path) as archive:
        infos, start = archive.infolist(), archive.start_dir
    table = b""
    for info in infos:
        name, wide = info.filename.encode(), struct.pack("<HHQQQ", 1, 24, info.file_size, info.file_size, info.header_offset)
        table += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, 0, 0, 0, info.CRC, 2**32 - 1, 2**32 - 1,
                             len(name), len(wide), 0, 0, 0, 0, 2**32 - 1) + name + wide
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, len(infos), len(infos), len(table), start)
    end += struct.pack("<IIQI", 0x07064B50, 0, start + len(table), 1)
    end += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(path.read_bytes()[:start] + table + end)


# Tokenizer and preprocessing


def write_tokenizer(layout: Layout, directory: Path, tokenizer: dict, positions: int) -> None:
    if layout.tokenizer in ("json", "both"):
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    specials = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    start, end = sorted(specials, key=specials.get)
    names = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": positions, **names})
    if layout.tokenizer == "json":
        return
    vocabulary = json.dumps(tokenizer["model"]["vocab"], ensure_ascii=False)
    (directory / "vocab.json").write_text(vocabulary)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    objects = {name: {"content": content, **flags} for name, content in names.items() if name in ("bos_token", "eos_token")}
    write_json(directory / "special_tokens_map.json", names | objects)
    if layout.tokenizer == "pieces":
        write_json(directory / "added_tokens.json", specials)


def write_processor(layout: Layout, directory: Path, size: int) -> None:
    fields = {"do_center_crop": True, "do_normalize": True, "do_resize": True, "image_mean": MEAN, "image_std": STD,
              "resample": 3}
    old = fields | {"crop_size": size, "feature_extractor_type": "CLIPFeatureExtractor", "size": size}
    new = fields | {"crop_size": {"height": size, "width": size}, "do_convert_rgb": True, "do_rescale": True,
                    "image_processor_type": "CLIPImageProcessor", "rescale_factor": 1 / 255, "size": {"shortest_edge": size}}
    match layout.processor:
        case "numbers":
            write_json(directory / "preprocessor_config.json", old)
        case "sizes":
            write_json(directory / "preprocessor_config.json", new)
        case "nested":
            write_json(directory / "processor_config.json", {"image_processor": new, "processor_class": "CLIPProcessor"})
