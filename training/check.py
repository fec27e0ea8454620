"""The written model, through transformers alone: do the fixtures and the samples come out right?"""

import json
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

from captions import prompt
from make_samples import SAMPLES

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "priv/models/emoji-clip"
FIXTURES = ROOT / "test/fixtures/emoji"


@torch.no_grad()
def main() -> None:
    model = CLIPModel.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizerFast.from_pretrained(MODEL)
    processor = CLIPImageProcessorPil.from_pretrained(MODEL)

    def probabilities(file: Path, labels: list[str]) -> torch.Tensor:
        text = tokenizer([prompt(label) for label in labels], padding=True, return_tensors="pt")
        picture = processor(Image.open(file), return_tensors="pt")
        return model(**text, **picture).logits_per_image.softmax(dim=-1)[0]

    entries = json.loads((FIXTURES / "labels.json").read_text(encoding="utf-8"))
    right = 0
    for entry in entries:
        answer = entry["candidates"][probabilities(FIXTURES / entry["file"], entry["candidates"]).argmax()]
        right += answer == entry["label"]
        if answer != entry["label"]:
            print(f"{entry['file']}: {entry['label']}, taken for {answer}")
    print(f"fixtures: {right} of {len(entries)}")

    samples = ROOT / "priv/samples"
    labels = (samples / "labels.txt").read_text(encoding="utf-8").splitlines()
    for file, name, _, _ in SAMPLES:
        scores = probabilities(samples / file, labels)
        answer = labels[scores.argmax()]
        print(f"{file}: {answer} {scores.max():.1%}{'' if answer == name else ' WRONG'}")


if __name__ == "__main__":
    main()
