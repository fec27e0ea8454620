"""Makes priv/vocabulary/nouns.txt: nouns that pictures show.

    apt-get install wordnet-base wamerican-small
    python vocabulary.py

WordNet says which nouns are things that can be seen, Debian's small word list which words are common. What is left out
by hand and added by hand is in `vocabulary/`.
"""

import collections
import re
from pathlib import Path

HERE = Path(__file__).parent
WORDNET = Path("/usr/share/wordnet")
COMMON = Path("/usr/share/dict/american-english-small")

# WordNet's files of things that can be seen, and among artefacts the kinds that can.
ANIMAL, ARTIFACT, FOOD, OBJECT, PLANT = 5, 6, 13, 17, 20
ARTIFACTS = set(
    "instrumentality structure clothing commodity decoration article toiletry plaything art sheet line excavation "
    "float padding fabric".split()
)
UNSEEN = {"way", "communication", "system", "drug", "medicine", "component", "part"}


def main():
    common = set(COMMON.read_text().split())
    left_out = set((HERE / "vocabulary/left_out.txt").read_text().splitlines())
    added = set((HERE / "vocabulary/added.txt").read_text().splitlines())
    nouns = (set(wordnet(common)) - left_out) | added
    path = HERE / "../priv/vocabulary/nouns.txt"
    path.write_text("".join(f"{noun}\n" for noun in sorted(nouns, key=str.lower)))
    print(len(nouns), "nouns")


def wordnet(common):
    synsets, senses, uses = read_synsets(), read_senses(), read_uses()
    for lemma, offsets in senses.items():
        file, words, instance, _ = synsets[offsets[0]]
        if file not in (ANIMAL, ARTIFACT, FOOD, OBJECT, PLANT) or instance or lemma not in words:
            continue
        if not re.fullmatch(r"[a-z]{3,}([ _-][a-z]{3,})?", lemma):
            continue
        own = uses[lemma, 1]
        parts = re.split("[_-]", lemma)
        if not (lemma in common if len(parts) == 1 else own >= 1):
            continue
        # Is the thing what the word usually means?
        if sum(uses[lemma, sense] for sense in range(2, len(offsets) + 1)) > own * 1.5 + 2:
            continue
        kinds = {synsets[offset][1][0] for offset in above(offsets[0], synsets, set())}
        if (file == ARTIFACT and not kinds & ARTIFACTS) or kinds & UNSEEN:
            continue
        # One word of several for the same thing.
        same = [word for word in words if word in common and senses.get(word, [None])[0] == offsets[0]]
        if len(parts) == 1 and same and same[0] != lemma and own < max(uses[word, 1] for word in same):
            continue
        yield lemma.replace("_", " ")


def read_synsets():
    synsets = {}
    for line in records("data.noun"):
        fields = line.split("|")[0].split()
        count = int(fields[3], 16)
        pointers = fields[4 + 2 * count + 1 :]
        parents = [pointers[i + 1] for i, kind in enumerate(pointers) if kind == "@"]
        words = fields[4 : 4 + 2 * count : 2]
        synsets[fields[0]] = int(fields[1]), words, "@i" in pointers, parents
    return synsets


def read_senses():
    lines = (line.split() for line in records("index.noun"))
    return {fields[0]: fields[-int(fields[2]) :] for fields in lines}


def read_uses():
    """How often a word has a sense in the texts that WordNet's makers annotated."""
    uses = collections.Counter()
    for line in (WORDNET / "cntlist.rev").read_text().splitlines():
        key, sense, count = line.split()
        lemma, rest = key.split("%")
        if rest.startswith("1:"):
            uses[lemma, int(sense)] += int(count)
    return uses


def records(name):
    return (line for line in (WORDNET / name).read_text().splitlines() if not line.startswith("  "))


def above(offset, synsets, seen):
    if offset not in seen:
        seen.add(offset)
        for parent in synsets[offset][3]:
            above(parent, synsets, seen)
    return seen


if __name__ == "__main__":
    main()
