"""Filters of single images, grey (H, W) or in colour (H, W, C), with fixed kernels.

Images are uint8, float32 or float64 arrays as Pillow and imageio give them, of any strides; each channel is filtered by
itself. Names of boundaries and the meaning of every parameter are SciPy's; results equal SciPy's within rounding.
"""

from cyconv.image.correlation import convolve, correlate
from cyconv.image.edges import laplacian, sobel
from cyconv.image.smoothing import box, gaussian, sharpen

__all__ = ["box", "convolve", "correlate", "gaussian", "laplacian", "sharpen", "sobel"]
