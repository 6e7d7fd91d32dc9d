"""All surfaces, by subject."""

from __future__ import annotations

from fuzz.surfaces import bundles, runs, silos, tables, wire

SURFACES = (*wire.SURFACES, *silos.SURFACES, *bundles.SURFACES, *runs.SURFACES, *tables.SURFACES)
