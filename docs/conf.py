"""Sphinx's settings. `make docs` builds the pages into build/docs; a warning is an error there."""

import thinwire as tw

project = "thinwire"
copyright = "the thinwire authors"
version = release = tw.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"thinwire {release}"


NORMS = {"max": "of the block's greatest magnitude", "l2": "of the input's L2 norm"}


def codec_table() -> str:
    """The table of docs/codecs.md, made from the registry, so that it cannot disagree with the code."""
    lines = ["| codec | id | parameters | smaller than fp32 | error bound |", "|---|---|---|---|---|"]
    for info in tw.codecs():
        parameters = ", ".join(f"`{name}={str(value).lower()}`" for name, value in info.params.items())
        cells = (
            f"[{info.name}](wire/{info.name}.md)",
            str(info.wire_id),
            parameters,
            f"{info.ratio:.3g} x",
            f"{100 * info.error_bound:.3g} % {NORMS[info.error_norm]}" if info.error_bound else "none",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


myst_substitutions = {"codec_table": codec_table()}
