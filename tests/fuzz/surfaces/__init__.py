"""All surfaces, by subject: what comes over the wire, and what lies in files."""

from __future__ import annotations

from fuzz.surfaces import arrays, bundles, exports, images, methods, runs, settings, silos, sounds, tables, wire

MESSAGES = (*wire.SURFACES, *methods.SURFACES, *silos.SURFACES)
FILES = (
    *(*bundles.SURFACES, *runs.SURFACES, *exports.SURFACES, *settings.SURFACES),
    *(*tables.SURFACES, *images.SURFACES, *arrays.SURFACES, *sounds.SURFACES),
)
SURFACES = (*MESSAGES, *FILES)
