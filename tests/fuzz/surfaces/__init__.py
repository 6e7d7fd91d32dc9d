"""All surfaces, by subject."""

from __future__ import annotations

from fuzz.surfaces import arrays, bundles, images, runs, settings, silos, sounds, tables, wire

SURFACES = (
    *(*wire.SURFACES, *silos.SURFACES, *bundles.SURFACES),
    *(*runs.SURFACES, *settings.SURFACES),
    *(*tables.SURFACES, *images.SURFACES, *arrays.SURFACES, *sounds.SURFACES),
)
