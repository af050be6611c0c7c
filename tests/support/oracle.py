"""The direct transcription of the tile's definition: slow, plain, and what the fast path must equal.

torch's bilinear resizing of three channels adds its four terms in another order on one thread than on several
(and without fused multiply-add on a processor that has none): a third of a percent of the pixels of real windows
come out one level apart. The reference is torch on one thread, as it runs in the workers of a DataLoader.
"""

import numpy as np
import torch
from skimage.color import hed2rgb, rgb2hed
from skimage.draw import polygon2mask

SIDE = 112


def resize(window: np.ndarray) -> np.ndarray:
    """Bilinear to 112 × 112 in float32 on one thread, truncated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    image = torch.from_numpy(np.ascontiguousarray(window)).permute(2, 0, 1)[None].float()
    image = torch.nn.functional.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    torch.set_num_threads(threads)
    return image[0].permute(1, 2, 0).to(torch.uint8).numpy()


def mask(outline: np.ndarray, origin: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Nucleus outline (v, 2), x and y in H&E px, as a bool mask of the tile."""
    x = (outline[:, 0] - origin[0] + 0.5) * SIDE / width - 0.5
    y = (outline[:, 1] - origin[1] + 0.5) * SIDE / height - 0.5
    return polygon2mask((SIDE, SIDE), np.stack([y, x], axis=1))


def haematoxylin(image: np.ndarray) -> np.ndarray:
    """8-bit RGB to the haematoxylin image alone."""
    stains = rgb2hed(image)
    stains[..., 1:] = 0
    return (np.clip(hed2rgb(stains), 0, 1) * 255).astype(np.uint8)


def tile(window: np.ndarray, outline: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Window (h, w, 3) and outline to the quadruple tile (224, 224, 3)."""
    inside = mask(outline, origin, *window.shape[:2])[..., None]
    image = resize(window)
    stained = haematoxylin(image)
    return np.block([[[image], [image * inside]], [[stained], [stained * inside]]])
