"""Writes a tiny CLIP with random weights, and the zero-shot classifiers that open_clip itself builds with it.

From the project's root, with the packages of training/requirements.txt and open_clip_torch 3.3.0:

    python test/oracle/zero_shot_classifier.py      # test/fixtures/zero-shot-classifier

The model is open_clip's; beside its answers it lies in the layout of Hugging Face, which is what the library reads.
goldens.json has the labels and open_clip's lists of templates word for word, goldens.safetensors for each list the
`build_zero_shot_classifier` of open_clip, a row for each label, and its logits for the `pixels`.
"""

import json
import shutil
from pathlib import Path

import open_clip
import torch
from checkpoints import tokenizer
from layouts import MEAN, STD, Layout, write
from open_clip_export import randomize
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

OUTPUT = Path("test/fixtures/zero-shot-classifier")
LAYOUT = Layout("safetensors", "new", "json", "sizes")
LENGTH, SIZE, PATCH, WIDTH, HEADS, LAYERS, DIM = 77, 32, 16, 16, 2, 2, 24
LISTS = {
    "openai_imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple_imagenet": open_clip.SIMPLE_IMAGENET_TEMPLATES,
}
# The last is cut in most of the templates and not in all.
LABELS = ["dog", "great white shark", "crème brûlée", "Chihuahua", "犬 🐕", "", "long " * 22]


def theirs(vocabulary: int) -> open_clip.CLIP:
    vision = {"image_size": SIZE, "layers": LAYERS, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH}
    text = {"context_length": LENGTH, "vocab_size": vocabulary, "width": WIDTH, "heads": HEADS, "layers": LAYERS}
    model = open_clip.CLIP(embed_dim=DIM, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    randomize(model)
    return model.eval()


def ours(model: open_clip.CLIP, vocabulary: int) -> CLIPModel:
    """The same weights by their names in transformers."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS,
             "num_attention_heads": HEADS, "hidden_act": "quick_gelu", "projection_dim": DIM}
    text = {"vocab_size": vocabulary, "max_position_embeddings": LENGTH, "eos_token_id": vocabulary - 1}
    config = CLIPConfig(projection_dim=DIM, text_config=tower | text,
                        vision_config=tower | {"image_size": SIZE, "patch_size": PATCH})
    state = model.state_dict()
    named = {
        "logit_scale": state["logit_scale"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
             "vision_model.post_layernorm": "visual.ln_post"}
    for own, their in norms.items():
        named |= {f"{own}.{part}": state[f"{their}.{part}"] for part in ("weight", "bias")}
    blocks = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
              "self_attn.out_proj": "attn.out_proj"}
    for own_tower, their_tower in (("text_model", ""), ("vision_model", "visual.")):
        for layer in range(LAYERS):
            own, their = f"{own_tower}.encoder.layers.{layer}", f"{their_tower}transformer.resblocks.{layer}"
            for part in ("weight", "bias"):
                named |= {f"{own}.{x}.{part}": state[f"{their}.{y}.{part}"] for x, y in blocks.items()}
                thirds = state[f"{their}.attn.in_proj_{part}"].chunk(3)
                named |= {f"{own}.self_attn.{x}_proj.{part}": third for x, third in zip("qkv", thirds)}
    converted = CLIPModel(config).eval()
    missing, unexpected = converted.load_state_dict(named, strict=False)
    assert not unexpected and all(name.endswith("position_ids") for name in missing), (missing, unexpected)
    return converted


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    pieces = tokenizer()
    vocabulary = len(pieces["model"]["vocab"])
    model = theirs(vocabulary)
    write(ours(model, vocabulary), LAYOUT, OUTPUT, pieces)
    read = CLIPTokenizer.from_pretrained(OUTPUT)
    pixels = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    images = model.encode_image((pixels / 255 - mean) / std, normalize=True)
    lengths = []

    def rows(texts: list[str]) -> torch.Tensor:
        """As open_clip's own tokenizer does: rows of one length, filled up with zeros."""
        lengths.extend(len(read(text)["input_ids"]) for text in texts)
        ids = [read(text, truncation=True, max_length=LENGTH)["input_ids"] for text in texts]
        return torch.tensor([row + [0] * (LENGTH - len(row)) for row in ids])

    tensors = {"pixels": pixels}
    for name, templates in LISTS.items():
        classifier = open_clip.build_zero_shot_classifier(model, rows, LABELS, templates, num_classes_per_batch=2)
        tensors[f"{name}.classifier"] = classifier.T
        tensors[f"{name}.logits"] = model.logit_scale.exp() * images @ classifier
    save_file({name: value.contiguous() for name, value in tensors.items()}, OUTPUT / "goldens.safetensors")
    # Of a function of Python's, its words with the placeholder of ours.
    words = {name: [template("{label}") for template in templates] for name, templates in LISTS.items()}
    facts = {"open_clip": open_clip.__version__, "labels": LABELS, "templates": words}
    (OUTPUT / "goldens.json").write_text(json.dumps(facts, indent=1) + "\n")
    cut = sum(length > LENGTH for length in lengths)
    print(f"wrote {OUTPUT}: {cut} of {len(lengths)} prompts are longer than {LENGTH} tokens")


if __name__ == "__main__":
    main()
