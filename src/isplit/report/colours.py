"""Define the colours of the page and of the figures: two themes, and ramps with even steps of lightness.

Ramps are computed in OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020), whose lightness
matches human perception. The steps of a ramp are therefore equally far apart, and lines of equal lightness are equally
visible on a background.
"""

from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

SHADES = 16
"""The number of colours that distinguish early cuts from late ones."""

RGB = tuple[float, float, float]


def oklch(lightness: float, chroma: float, hue_degrees: float) -> RGB:
    """Return a colour of OKLCH as red, green and blue in [0, 1]; colours that a screen cannot show are clipped."""
    a, b = chroma * cos(hue_degrees * pi / 180), chroma * sin(hue_degrees * pi / 180)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (_gamma(min(max(value, 0.0), 1.0)) for value in linear)
    return red, green, blue


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def hex_colour(colour: RGB) -> str:
    """Return a colour as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)


def relative_luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb" as WCAG 2.2 defines it, in [0, 1]."""
    values = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours "#rrggbb" as WCAG 2.2 defines it, from 1 to 21."""
    lighter, darker = sorted((relative_luminance(first), relative_luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


# ---- ramps for images: 256 colours each ----


def _ramp(lightness: tuple[float, float], chroma: float, hues: tuple[float, float]) -> NDArray[np.uint8]:
    """Return 256 colours (256, 3) of evenly growing lightness; the chroma falls towards both ends."""
    colours = []
    for place in np.linspace(0.0, 1.0, 256):
        bright = lightness[0] + place * (lightness[1] - lightness[0])
        # A screen can show strong colours only at middle lightness.
        strong = chroma * sin(pi * bright) ** 0.6
        colours.append(oklch(bright, strong, hues[0] + place * (hues[1] - hues[0])))
    return np.rint(255 * np.array(colours)).astype(np.uint8)


def map_ramp() -> NDArray[np.uint8]:
    """Return the colours of importance maps: near black, then purple, orange and light yellow."""
    return _ramp((0.06, 0.97), 0.17, (285.0, 465.0))


def heat_ramp() -> NDArray[np.uint8]:
    """Return the colours of the classes' heat map: dark violet, blue, green and yellow."""
    return _ramp((0.28, 0.93), 0.115, (300.0, 105.0))


def gradient(ramp: NDArray[np.uint8], *, stops: int = 9) -> str:
    """Return a ramp as the list of colours in a CSS gradient."""
    places = np.linspace(0, len(ramp) - 1, stops).round().astype(int)
    return ", ".join("#" + bytes(ramp[place].tolist()).hex() for place in places)


# ---- themes ----


def _shades(lightness: float, chroma: float) -> dict[str, str]:
    """Return the colours of the cuts, the first blue and the last red, all of one lightness."""
    return {
        f"shade-{step}": hex_colour(oklch(lightness, chroma, 255.0 - 235.0 * step / (SHADES - 1)))
        for step in range(SHADES)
    }


LIGHT: dict[str, str] = {
    "ink": "#1f2937",
    "soft": "#525c6b",
    "faint": "#dfe3e9",
    "paper": "#ffffff",
    "ground": "#f3f5f8",
    "header": "#f0f3f7",
    "hover": "#f3f6fb",
    "edge": "#858f9e",
    "grid": "#e6e9ee",
    "blue": "#1d4f91",
    "accent": "#b5380a",
    "tint": "#fff5ec",
    "slate": "#4b5563",
    "reference": "#838d9b",
    "warning": "#8a3d0c",
    "warning-edge": "#b45309",
    "warning-ground": "#fffbeb",
    **_shades(0.52, 0.145),
}
DARK: dict[str, str] = {
    "ink": "#e5e9ef",
    "soft": "#a7b1bf",
    "faint": "#2c343f",
    "paper": "#12161d",
    "ground": "#0a0d12",
    "header": "#1b212b",
    "hover": "#1b222d",
    "edge": "#707b8b",
    "grid": "#232a34",
    "blue": "#85b4f7",
    "accent": "#ff9a6e",
    "tint": "#2a1d15",
    "slate": "#b0bac7",
    "reference": "#7a8696",
    "warning": "#fbc278",
    "warning-edge": "#d98a2b",
    "warning-ground": "#2a2211",
    **_shades(0.76, 0.125),
}
"""The colours of the page by their role; both themes have the same names."""

NOTEBOOK: dict[str, str] = {
    **LIGHT,
    "ink": "currentColor",
    "soft": "currentColor",
    "paper": "none",
    "edge": "#7f8a99",
    "grid": "#7f8a9940",
    "blue": "#3b7dd8",
    "accent": "#d9541e",
    "slate": "#7b8794",
}
"""The colours of a fragment, whose page may be light or dark: they are visible on both."""


def css_variables(theme: dict[str, str]) -> str:
    """Return a theme as CSS custom properties."""
    return " ".join(f"--{name}: {colour};" for name, colour in theme.items())
