"""One peer, as a process that bench/peers.exs asks to do one task at a time.

    python peers.py PEER MODEL_DIR ONNX_DIR IMAGES_DIR
    python peers.py export MODEL_DIR ONNX_DIR        # writes what the last two read
    python peers.py images IMAGES_DIR                # writes the pictures

PEER is transformers, onnxruntime or openvino, all in f32; openvino-default, which chooses a precision by
itself; or onnxruntime-int8, with weights and inputs of 8 bits. Needs torch, transformers, onnx, onnxruntime, openvino, tokenizers, pillow and numpy. Reads lines
`TASK LABELS_FILE`, writes the milliseconds that the task took.
"""

import json
import os
import sys
import time

THREADS = int(os.environ.get("THREADS", os.cpu_count()))
CLOCK = time.process_time if os.environ.get("CLOCK") == "processor" else time.perf_counter
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
BATCH = 32


def read(model, name):
    with open(f"{model}/{name}.json") as file:
        return json.load(file)


def is_siglip(model):
    return read(model, "config")["model_type"] == "siglip"


def preprocessing(model):
    """From a path to pixels, without torch: it is what makes the peers fast."""
    size = read(model, "config")["vision_config"].get("image_size", 224)
    if is_siglip(model):
        return lambda path: squashed(path, size, read(model, "preprocessor_config")["resample"])
    return lambda path: cropped(path, size)


def squashed(path, size, resample):
    image = np.asarray(Image.open(path).convert("RGB").resize((size, size), resample), np.float32)
    return (image / 127.5 - 1).transpose(2, 0, 1)


def cropped(path, size):
    """OpenAI's recipe."""
    image = Image.open(path).convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, int(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    image = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
    return ((image - MEAN) / STD).transpose(2, 0, 1)


def tokenizer(model):
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(f"{model}/tokenizer.json")
    if is_siglip(model):
        # Padding counts, so every prompt has all positions.
        length = read(model, "config")["text_config"].get("max_position_embeddings", 64)
        padding = read(model, "tokenizer_config")["pad_token"]
        tokens.enable_padding(length=length, pad_id=tokens.token_to_id(padding), pad_token=padding)
        tokens.enable_truncation(length)
    else:
        tokens.enable_padding(pad_id=49407, pad_token="<|endoftext|>")
        tokens.enable_truncation(77)
    return lambda texts: np.array([e.ids for e in tokens.encode_batch(texts)], np.int64)


class OnnxRuntime:
    SUFFIX = ""

    def __init__(self, model, onnx):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = lambda name: onnxruntime.InferenceSession(
            f"{onnx}/{name}{self.SUFFIX}.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.vision, self.text, self.tokens = session("vision"), session("text"), tokenizer(model)

    def images(self, batch):
        return self.vision.run(None, {"px": batch})[0]

    def texts(self, texts):
        return self.text.run(None, {"ids": self.tokens(texts)})[0]


class OnnxRuntimeInt8(OnnxRuntime):
    SUFFIX = "-int8"


class OpenVino:
    PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}

    def __init__(self, model, onnx):
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": THREADS,
            "PERFORMANCE_HINT": "LATENCY",
            **self.PRECISION,
        }
        core = openvino.Core()
        compiled = lambda name: core.compile_model(f"{onnx}/{name}.onnx", "CPU", settings)
        self.vision, self.text, self.tokens = compiled("vision"), compiled("text"), tokenizer(model)

    def images(self, batch):
        return self.vision([batch])[0]

    def texts(self, texts):
        return self.text([self.tokens(texts)])[0]


class OpenVinoDefault(OpenVino):
    PRECISION = {}


class Transformers:
    def __init__(self, model, _onnx):
        import torch
        from transformers import AutoModel

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.model, self.tokens = AutoModel.from_pretrained(model).eval(), tokenizer(model)

    def unit(self, x):
        x = getattr(x, "pooler_output", x)
        return (x / x.norm(dim=-1, keepdim=True)).numpy()

    def images(self, batch):
        return self.unit(self.model.get_image_features(pixel_values=self.torch.from_numpy(batch)))

    def texts(self, texts):
        ids = self.torch.from_numpy(self.tokens(texts))
        return self.unit(self.model.get_text_features(input_ids=ids))


PEERS = {
    "transformers": Transformers,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino-default": OpenVinoDefault,
    "onnxruntime-int8": OnnxRuntimeInt8,
}


class Tasks:
    def __init__(self, peer, images, model):
        self.peer, self.folder, self.matrix = peer, images, None
        self.pixels = preprocessing(model)
        # Rows of 64 tokens take too much memory all at once, and are slower.
        self.texts = self.batches if is_siglip(model) else peer.texts
        self.many = sorted(f"{images}/many/{name}" for name in os.listdir(f"{images}/many"))

    def run(self, task, labels):
        return getattr(self, task)(["a photo of " + label for label in labels])

    def classify(self, file, texts):
        image = self.peer.images(self.pixels(f"{self.folder}/{file}")[None])
        scores = np.exp(100 * (image @ texts.T - 1))
        return scores / scores.sum()

    def batches(self, prompts):
        parts = [prompts[i : i + BATCH] for i in range(0, len(prompts), BATCH)]
        return np.concatenate([self.peer.texts(part) for part in parts])

    def labels(self, prompts):
        self.classify("mid.jpg", self.texts(prompts))

    def compile(self, prompts):
        self.matrix = self.texts(prompts)

    def compiled(self, _prompts):
        self.classify("mid.jpg", self.matrix)

    def big(self, _prompts):
        self.classify("big.jpg", self.matrix)

    def many_pictures(self, _prompts):
        from concurrent.futures import ThreadPoolExecutor

        batches = [self.many[i : i + BATCH] for i in range(0, len(self.many), BATCH)]
        with ThreadPoolExecutor(THREADS) as pool:
            ahead = [pool.map(self.pixels, batch) for batch in batches]
            for batch in ahead:
                self.peer.images(np.stack(list(batch))) @ self.matrix.T


def serve(name, model, onnx, images):
    tasks = Tasks(PEERS[name](model, onnx), images, model)
    print("ready", flush=True)
    for line in sys.stdin:
        task, file = line.split()
        labels = open(file).read().splitlines()
        start = CLOCK()
        tasks.run(task, labels)
        print(f"{(CLOCK() - start) * 1000:.3f}", flush=True)


def export(model, onnx):
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    os.makedirs(onnx, exist_ok=True)
    clip = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    size = clip.config.vision_config.image_size

    class Tower(torch.nn.Module):
        def __init__(self, run):
            super().__init__()
            self.clip, self.run = clip, run

        def forward(self, x):
            x = self.run(x)
            return x / x.norm(dim=-1, keepdim=True)

    vision = lambda x: clip.get_image_features(pixel_values=x).pooler_output
    text = lambda x: clip.get_text_features(input_ids=x).pooler_output
    # SigLIP's prompts have one length.
    length, axes = (9, {0: "b", 1: "s"})
    if is_siglip(model):
        length, axes = (clip.config.text_config.max_position_embeddings, {0: "b"})
    towers = {
        "vision": (vision, torch.randn(2, 3, size, size), "px", {0: "b"}),
        "text": (text, torch.randint(1, 800, (2, length)), "ids", axes),
    }
    for name, (run, example, argument, axes) in towers.items():
        torch.onnx.export(
            Tower(run), (example,), f"{onnx}/{name}.onnx", input_names=[argument],
            output_names=["emb"], dynamic_axes={argument: axes}, opset_version=18, dynamo=False,
        )
        quantize_dynamic(f"{onnx}/{name}.onnx", f"{onnx}/{name}-int8.onnx", weight_type=QuantType.QInt8)


def natural(width, height, rng, grain):
    """Noise of all sizes with some edges: a JPEG of it costs about what one of a photo costs."""
    acc, strength, size = np.full((height, width, 3), 110, np.float32), 60.0, 4
    while size < max(width, height):
        noise = rng.standard_normal((max(2, size * height // width), size, 3)).astype(np.float32)
        layer = [Image.fromarray(noise[..., c]).resize((width, height), Image.BICUBIC) for c in range(3)]
        acc += strength * np.stack([np.asarray(channel) for channel in layer], -1)
        strength, size = strength * 0.62, size * 2
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(12):
        cx, cy = rng.integers(0, width), rng.integers(0, height)
        radius = rng.integers(min(width, height) // 30, min(width, height) // 5)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        acc[inside] = acc[inside] * 0.5 + rng.integers(0, 256, 3)
    acc += rng.standard_normal(acc.shape).astype(np.float32) * grain
    return Image.fromarray(np.clip(acc, 0, 255).astype(np.uint8))


def images(folder):
    os.makedirs(f"{folder}/many", exist_ok=True)
    rng = np.random.default_rng(7)
    natural(4000, 3000, rng, 7).save(f"{folder}/big.jpg", quality=90)
    natural(640, 480, rng, 2).save(f"{folder}/mid.jpg", quality=90)
    for i in range(256):
        natural(640, 480, rng, 2).save(f"{folder}/many/{i:03d}.jpg", quality=90)


if __name__ == "__main__":
    command = sys.argv[1]
    {"export": export, "images": images}.get(command, lambda *a: serve(command, *a))(*sys.argv[2:])
