"""Pictures the model never sees twice: a glyph turned, scaled, shifted and set on a background."""

import math

import torch
import torch.nn.functional as F

# Of the pictures that CLIP was first trained on: every CLIP preprocessing carries these.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

CANVAS = 72
IMAGE_SIZE = 64

ROTATION = math.radians(20)
SCALE = (0.6, 1.05)
SHIFT = 0.25  # of half the canvas
MIRRORED = 0.1


def uniform(shape, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def placement(mirrorable: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Affine matrices from canvas to glyph coordinates, the direction grid_sample wants."""
    n = len(mirrorable)
    angle = uniform(n, -ROTATION, ROTATION, generator)
    scale = uniform(n, *SCALE, generator)
    shift = uniform((n, 2, 1), -SHIFT, SHIFT, generator)
    mirrored = mirrorable & (torch.rand(n, generator=generator) < MIRRORED)

    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], 1)
    turn[mirrored, 0] *= -1
    return torch.cat([turn, -turn @ shift], dim=2)


def background(n: int, generator: torch.Generator) -> torch.Tensor:
    """A third white, a third one plain colour, a third a gradient between four corners."""
    corners = torch.rand((n, 3, 2, 2), generator=generator)
    kind = torch.randint(3, (n, 1, 1, 1), generator=generator)
    corners = torch.where(kind == 1, corners[..., :1, :1], corners)
    corners = torch.where(kind == 2, torch.ones_like(corners), corners)
    return F.interpolate(corners, (CANVAS, CANVAS), mode="bilinear", align_corners=True)


def augment(glyphs: torch.Tensor, mirrorable: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Premultiplied RGBA glyphs to RGB pictures in 0..1, of the size the image tower takes."""
    n = len(glyphs)
    grid = F.affine_grid(placement(mirrorable, generator), (n, 4, CANVAS, CANVAS), align_corners=False)
    layer = F.grid_sample(glyphs, grid, mode="bilinear", align_corners=False)
    picture = layer[:, :3] + background(n, generator) * (1 - layer[:, 3:])

    # What a classifier's preprocessing does to a larger picture, so that it learns on what it will be given.
    picture = F.interpolate(picture, IMAGE_SIZE, mode="bicubic", antialias=True)
    picture = picture * uniform((n, 1, 1, 1), 0.8, 1.2, generator)
    picture = picture + uniform((n, 3, 1, 1), -0.05, 0.05, generator)
    picture = picture + 0.02 * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 1)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
