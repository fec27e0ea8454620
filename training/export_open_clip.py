"""Exports a model of open_clip as TorchScript encoders for Image.ZeroShot.

    pip install torch==2.11.0 open_clip_torch==3.3.0
    python training/export_open_clip.py ViT-B-32 laion2b_s34b_b79k OUTPUT_DIRECTORY

writes a directory without weights: `image.pt` and `text.pt`, the configurations that name their sizes and the pixels'
mean and deviation, and the tokenizer's vocabulary. It is loaded with

    Image.ZeroShot.load(repo: {:local, directory}, torchscript: directory)

TorchScript is a program and runs with the rights of the VM: load only what you exported yourself. Models that are there
as checkpoints for transformers (model_type "clip") need none of this, and are faster: their texts are not padded.

The contract, for encoders from elsewhere: `image.pt` takes u8 pixels [n, 3, side, side], normalises them itself, and
gives [n, dim]; `text.pt` takes int64 ids [n, length], start and end token included and not padded, of any length up to
the context's, and gives [n, dim]. Any n; the embeddings need not have length 1.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

INTERPOLATIONS = {"bilinear": 2, "bicubic": 3}
START, END = "<|startoftext|>", "<|endoftext|>"


class ImageEncoder(torch.nn.Module):
    """u8 pixels to embeddings, normalisation included."""

    def __init__(self, model, mean, std):
        super().__init__()
        self.visual = model.visual
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1))

    def forward(self, pixels):
        return self.visual((pixels.float() - self.mean) / self.std)


class TextEncoder(torch.nn.Module):
    """Token ids of any length to embeddings: open_clip's models take rows of one length, filled up with zeros."""

    def __init__(self, model, length):
        super().__init__()
        self.model = model
        self.register_buffer("zeros", torch.zeros(1, length, dtype=torch.int64))

    def forward(self, ids):
        filled = torch.cat([ids, self.zeros.expand(ids.shape[0], -1)], dim=1)
        return self.model.encode_text(filled[:, : self.zeros.shape[1]])


@torch.no_grad()
def export(model, preprocessing: dict, pieces: tuple[dict, list], output: Path) -> None:
    """Writes the directory of a CLIP of open_clip, its preprocessing, and its vocabulary and merges."""
    model = model.eval().float()
    size = preprocessing["size"] if isinstance(preprocessing["size"], int) else preprocessing["size"][0]
    length = model.context_length
    if getattr(model, "logit_bias", None) is not None:
        sys.exit("expected a model that scores with softmax, this one has a logit_bias (SigLIP)")
    output.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(0, 256, (5, 3, size, size), dtype=torch.uint8)
    image = trace(ImageEncoder(model, preprocessing["mean"], preprocessing["std"]), pixels[:2], [pixels, pixels[:1]])
    end = len(pieces[0]) - 1
    ids = torch.full((4, 9), end)
    ids[:, :-1] = torch.randint(0, end - 1, (4, 8))
    save(image, output / "image.pt")
    # Or both files would hold the whole model.
    visual, model.visual = model.visual, torch.nn.Identity()
    text = trace(TextEncoder(model, length), ids[:2], [ids, ids[:1, -2:], ids[:3, :1]])
    save(text, output / "text.pt")
    model.visual = visual
    write_configurations(model, preprocessing, size, end, image(pixels[:1]).shape[1], output)
    write_tokenizer(*pieces, length, output)


def trace(encoder, example, others):
    """Traces an encoder, and checks that what was recorded holds for other numbers of rows and other lengths."""
    traced = torch.jit.trace(encoder.eval(), example, check_trace=False)
    for other in others:
        difference = (traced(other) - encoder(other)).abs().max().item()
        if not difference < 1e-4:
            sys.exit(f"the trace gives another answer for {list(other.shape)}: it differs by {difference}")
    return traced


def save(encoder, path):
    """Saves an encoder without the names of this machine's folders, which PyTorch writes beside the code."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        encoder.save(whole)
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", allowZip64=True) as target:
            for info in source.infolist():
                if not info.filename.endswith(".debug_pkl"):
                    target.writestr(info, source.read(info))


def write_configurations(model, preprocessing, size, end, dim, output):
    write_json(output / "config.json", {
        "model_type": "clip",
        "projection_dim": dim,
        "logit_scale_init_value": model.logit_scale.item(),
        "text_config": {"vocab_size": end + 1, "max_position_embeddings": model.context_length, "eos_token_id": end},
        # One patch: the real ones are the encoder's own business.
        "vision_config": {"image_size": size, "patch_size": size},
    })
    squash = preprocessing.get("resize_mode", "shortest") == "squash"
    if preprocessing.get("resize_mode", "shortest") == "longest":
        sys.exit("expected a model that crops or squashes its pictures, this one pads them")
    write_json(output / "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size} if squash else {"shortest_edge": size},
        "resample": INTERPOLATIONS[preprocessing.get("interpolation", "bicubic")],
        "do_center_crop": not squash,
        "crop_size": {"height": size, "width": size},
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing["mean"]),
        "image_std": list(preprocessing["std"]),
    })


def write_tokenizer(vocabulary, merges, length, output):
    (output / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (output / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    names = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(output / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **names})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pieces_of(tokenizer):
    """Vocabulary and merges of open_clip's own tokenizer, which names its special tokens differently."""
    import open_clip

    if not isinstance(tokenizer, open_clip.SimpleTokenizer):
        sys.exit(f"expected a model with open_clip's own tokenizer, this one has {type(tokenizer).__name__}")
    names = {tokenizer.sot_token_id: START, tokenizer.eot_token_id: END}
    vocabulary = {names.get(number, piece): number for piece, number in tokenizer.encoder.items()}
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    return vocabulary, [" ".join(merge) for merge in merges if len(merge) == 2]


def main(name, pretrained, output):
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained or None)
    preprocessing = open_clip.get_model_preprocess_cfg(model)
    export(model, preprocessing, pieces_of(open_clip.get_tokenizer(name)), Path(output))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
