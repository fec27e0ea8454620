"""What transformers makes of the embedded model: the answers that other implementations are held to.

The weights are float16, the arithmetic float32. Pictures go through transformers' Pillow backend, whose
pixels before rescaling are kept, so that the towers can be tested apart from the preprocessing.
"""

import json
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

from captions import TEMPLATE, prompt

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "priv/models/emoji-clip"
FIXTURES = ROOT / "test/fixtures/emoji"
OUTPUT = ROOT / "test/fixtures/goldens"

# Every so many of the two hundred, in the order of labels.json.
EVERY = 8
PICTURES = 24

PLAIN = (
    "dog", "cat", "red apple", "rocket", "guitar", "slice of pizza", "airplane", "umbrella with rain drops",
    "a photo of dog", "a photo of a cat", "a drawing of crown", "three o’clock", "children crossing",
    "face with tears of joy", "a picture of a violin", "unseenwordthatisnoemoji",
)  # fmt: skip
AWKWARD = (
    "",
    " ",
    "!",
    "a",
    "Dog",
    "A PHOTO OF A DOG",
    "  a   photo \t of\n a dog  ",
    "a\u00a0photo\u2003of a dog",
    "résumé café",
    "re\u0301sume\u0301 cafe\u0301",
    "İstanbul STRASSE straße ΑΣ",
    "日本語の写真",
    "фото собаки",
    "🐶",
    "a photo of 🍕🚀",
    "👩\u200d🚀",
    "it's the dog's, they're we'll I'd I'm can't we've",
    "IT'S THE DOG'S",
    "no. 1 in 2026: 50% off!!! (really?)",
    "hello...world_under-score",
    "<|endoftext|>",
    "a dog <|endoftext|> and a cat",
    "a dog<|ENDOFTEXT|>cat",
    "<|startoftext|>a dog",
    "a </w> b",
    "&amp; &lt;b&gt;",
    "a photo of " + "very " * 60 + "long dog",
    "x" * 200,
)


def read_pictures(entries: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    processor = CLIPImageProcessorPil.from_pretrained(MODEL)
    pictures = [Image.open(FIXTURES / entry["file"]) for entry in entries]
    # Before rescaling the pixels are whole numbers; what follows is checked to be plain arithmetic on them.
    pixels = processor(pictures, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    u8 = np.asarray(pixels).astype(np.uint8)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    values = np.asarray(processor(pictures, return_tensors="np")["pixel_values"])
    assert np.allclose((u8 / np.float32(255) - mean) / std, values, atol=1e-5)
    return torch.from_numpy(u8), torch.from_numpy(values)


@torch.no_grad()
def main() -> None:
    model = CLIPModel.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizerFast.from_pretrained(MODEL)
    entries = json.loads((FIXTURES / "labels.json").read_text(encoding="utf-8"))[::EVERY][:PICTURES]
    u8, pixel_values = read_pictures(entries)

    def ids(texts: list[str]):
        return tokenizer(
            texts, truncation=True, max_length=tokenizer.model_max_length, padding=True, return_tensors="pt"
        )

    texts = [*PLAIN, *AWKWARD]
    rows = [ids([text]) for text in texts]
    # One at a time, so that no padding comes into it.
    described = torch.cat([model(**row, pixel_values=pixel_values[:1]).text_embeds for row in rows])

    seen = [
        model(**ids([prompt(name) for name in entry["candidates"]]), pixel_values=picture[None])
        for entry, picture in zip(entries, pixel_values, strict=True)
    ]
    tensors = {
        "pixels": u8,
        "image_embeddings": torch.cat([output.image_embeds for output in seen]),
        "text_embeddings": described,
        "probabilities": torch.cat([output.logits_per_image.softmax(dim=-1) for output in seen]),
    }
    document = {
        "versions": {
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
        },
        "logit_scale": model.logit_scale.exp().item(),
        "template": TEMPLATE,
        "pictures": [{key: entry[key] for key in ("file", "candidates")} for entry in entries],
        "prompts": [
            {"text": text, "input_ids": row["input_ids"][0].tolist()} for text, row in zip(texts, rows, strict=True)
        ],
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, OUTPUT / "emoji-clip.safetensors")
    text = json.dumps(document, indent=1)
    (OUTPUT / "emoji-clip.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
