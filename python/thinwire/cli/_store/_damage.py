"""How damage is told: by the files and tensors it hits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from thinwire.cli._store import _common
from thinwire.errors import StoreError

if TYPE_CHECKING:
    from thinwire.store import Store
    from thinwire.store.maintenance import Damage, Hit, Report


def show(args: argparse.Namespace, store: Store, found: Report, done: str) -> int:
    """Print a report of verify or repair; the exit status."""
    damage = [_facts(store, each) for each in found.damage]
    counts = f"{found.versions} versions, {found.packs} packs, {found.chunks} chunks {done}"
    lines = [f"{each['what']}: {each['reason']}{_hits_text(each['hits'])}" for each in damage]
    lines.append(f"{counts}: {f'{len(damage)} damaged' if damage else 'all sound'}")
    facts = {
        "versions": found.versions,
        "packs": found.packs,
        "chunks": found.chunks,
        "damage": damage,
    }
    _common.report(args, facts, "\n".join(lines))
    return _common.DAMAGED if damage else 0


def _facts(store: Store, damage: Damage) -> dict[str, Any]:
    hits = [
        {
            "name": hit.name,
            "version": hit.version,
            "begin": hit.begin,
            "end": hit.end,
            "parts": _parts(store, hit),
        }
        for hit in damage.hits
    ]
    return {"what": damage.what, "reason": damage.reason, "hits": hits}


def _parts(store: Store, hit: Hit) -> list[str]:
    """The files or tensors of a version that overlap with the damaged bytes; none where that is not known."""
    from thinwire.store.parts import parts_of

    if hit.end is None:
        return []
    try:
        manifest = store.catalog.manifest(store.refs.resolve(f"{hit.name}@{hit.version}"))
    except StoreError:
        return []
    return [
        part.name for part in parts_of(manifest.metadata) if part.begin < hit.end and hit.begin < part.end
    ]


def _hits_text(hits: list[dict[str, Any]]) -> str:
    lines = []
    for hit in hits:
        parts = f" ({', '.join(hit['parts'])})" if hit["parts"] else ""
        until = "the end" if hit["end"] is None else hit["end"]
        lines.append(f"\n    hits {hit['name']}@{hit['version']} bytes {hit['begin']} to {until}{parts}")
    return "".join(lines) or " (hits no data)"
