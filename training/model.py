"""The two towers: transformers' own CLIPModel, small."""

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import CLIPConfig, CLIPModel

from augment import IMAGE_SIZE
from tokenizer import END, POSITIONS, START

EMBEDDING = 128


def build(tokenizer: Tokenizer) -> CLIPModel:
    end = tokenizer.token_to_id(END)
    text = dict(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        projection_dim=EMBEDDING,
        bos_token_id=tokenizer.token_to_id(START),
        eos_token_id=end,
        pad_token_id=end,
    )
    vision = dict(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=IMAGE_SIZE,
        patch_size=16,
        hidden_act="quick_gelu",
        projection_dim=EMBEDDING,
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING))


def embed_images(model: CLIPModel, pixel_values: torch.Tensor) -> torch.Tensor:
    pooled = model.vision_model(pixel_values=pixel_values).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def embed_texts(model: CLIPModel, input_ids: torch.Tensor) -> torch.Tensor:
    pooled = model.text_model(input_ids=input_ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def token_ids(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Padded with the end token: behind the first one nothing is attended to."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    end = tokenizer.token_to_id(END)
    longest = min(POSITIONS, max(map(len, rows)))
    rows = [row if len(row) <= longest else row[: longest - 1] + [end] for row in rows]
    return torch.tensor([row + [end] * (longest - len(row)) for row in rows])
