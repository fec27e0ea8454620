"""Held-out pictures of every emoji for bench/few_shot.exs: drawn as the fixtures are, with another seed.

    python make_few_shot.py DIRECTORY [PICTURES_OF_EACH]

writes DIRECTORY/NUMBER/0.png and so on, and DIRECTORY/labels.json with the names in the order of the numbers.
"""

import json
import random
import sys
from pathlib import Path

import emoji
from make_fixtures import compose

SEED = 20_260_301


def main(output: Path, count: int) -> None:
    rng = random.Random(SEED)
    kept, _ = emoji.load()
    for number, e in enumerate(kept):
        folder = output / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        glyph = emoji.draw(e.char)
        for i in range(count):
            compose(glyph, rng).save(folder / f"{i}.png")
    names = json.dumps([e.name for e in kept], ensure_ascii=False)
    (output / "labels.json").write_text(names, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
