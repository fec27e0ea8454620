"""Writes which patches the cosines of tiny checkpoints come from, by hooks on transformers' eager CLIPModel.

From the project's root, with the packages of training/requirements.txt:

    python test/oracle/parts.py            # goldens-parts.safetensors in each of test/fixtures/checkpoints, and in goldens

`accounts` is [pictures, texts, 1 + patches]: what every patch adds to the cosine of a picture and a text by direct
effect, and first the rest. The pictures and texts are those of the goldens beside. The sums go another way than ours: a
text's direction is carried back into the residual stream, and the rest is added up from its own parts (embeddings, MLPs,
biases, what the class token took from itself), not taken as what is left.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, CLIPModel

CHECKPOINTS = Path("test/fixtures/checkpoints")
EMBEDDED = Path("priv/models/emoji-clip")
GOLDENS = Path("test/fixtures/goldens")


def recorded(model: CLIPModel, pixels: torch.Tensor) -> dict:
    """What a forward pass computes on the way: inputs and outputs of layers, and attention weights."""
    vision, seen = model.vision_model, {"values": [], "mlps": [], "normed": []}
    hooks = [vision.pre_layrnorm.register_forward_hook(lambda _m, _i, out: seen.update(begun=out)),
             vision.post_layernorm.register_forward_hook(lambda _m, x, _o: seen["normed"].append(x[0]))]
    for layer in vision.encoder.layers:
        hooks.append(layer.self_attn.v_proj.register_forward_hook(lambda _m, _i, out: seen["values"].append(out)))
        hooks.append(layer.mlp.register_forward_hook(lambda _m, _i, out: seen["mlps"].append(out)))
    seen["attentions"] = vision(pixel_values=pixels, output_attentions=True).attentions
    for hook in hooks:
        hook.remove()
    return seen


def account(model: CLIPModel, pixels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """[1 + patches] of one picture [3, side, side] and a unit text embedding."""
    vision, seen = model.vision_model, recorded(model, pixels.unsqueeze(0))
    last, norm = seen["normed"][-1].reshape(-1), vision.post_layernorm
    deviation = (last.var(unbiased=False) + norm.eps).sqrt()
    embedding = model.visual_projection(norm(last))
    projected = model.visual_projection.weight.T @ text / embedding.norm()
    gain = norm.weight * projected
    direction = (gain - gain.mean()) / deviation
    rest = norm.bias @ projected + seen["begun"][0, 0] @ direction
    patches = torch.zeros(seen["begun"].shape[1] - 1)
    for layer, weights, values, mlp in zip(vision.encoder.layers, seen["attentions"], seen["values"], seen["mlps"]):
        out = layer.self_attn.out_proj
        heads = weights.shape[1]
        by_head = values[0].unflatten(-1, (heads, -1))                          # [positions, heads, size]
        written = (by_head * weights[0, :, 0].T.unsqueeze(-1)).flatten(1) @ out.weight.T  # [positions, width]
        effects = written @ direction
        patches += effects[1:]
        rest = rest + effects[0] + out.bias @ direction + mlp[0, 0] @ direction
    both = torch.cat([rest.reshape(1), patches])
    cosine = embedding @ text / embedding.norm()
    assert (both.sum() - cosine).abs() < 1e-5, (both.sum(), cosine)
    return both


@torch.no_grad()
def write(directory: Path, goldens: Path, name: str, pictures: int) -> None:
    model = CLIPModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    processor = AutoImageProcessor.from_pretrained(directory, use_fast=False)
    tensors = load_file(goldens)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    pixels = (tensors["pixels"][:pictures] / 255 - mean) / std
    accounts = torch.stack([torch.stack([account(model, picture, text) for text in tensors["text_embeddings"][:7]])
                            for picture in pixels])
    save_file({"accounts": accounts.contiguous()}, goldens.parent / name)
    print(f"{directory}: {list(accounts.shape)}", flush=True)


if __name__ == "__main__":
    for golden in sorted(CHECKPOINTS.glob("**/goldens.safetensors")):
        write(golden.parent, golden, "goldens-parts.safetensors", 2)
    write(EMBEDDED, GOLDENS / "emoji-clip.safetensors", "emoji-clip-parts.safetensors", 3)
