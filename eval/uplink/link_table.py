"""What each link shows of the study's claims, side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.uplink import acceptance, study
from eval.uplink.acceptance import Figure
from eval.uplink.setting import Setting
from eval.uplink.trace import Rates, fingerprint, window_start


@dataclass(frozen=True)
class LinkFigures:
    """One link: its name, what of it was replayed, and the figures of each claim."""

    name: str
    seconds: int
    replayed: str
    fitted_here: bool
    figures: list[Figure]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def link(name: str, setting: Setting, bandwidth: Rates, seeds: int, draws: int) -> LinkFigures:
    """The claims on one link."""
    start = window_start(bandwidth, setting.trace)
    end = min(len(bandwidth), start + setting.trace.seconds)
    return LinkFigures(
        name=name,
        seconds=len(bandwidth),
        replayed=f"{start:,} to {end:,}",
        fitted_here=fingerprint(bandwidth, setting.trace) == setting.trace.fitted_to,
        figures=acceptance.evidence(study.evidence(setting, bandwidth, seeds, draws)),
    )


def as_markdown(links: Sequence[LinkFigures]) -> str:
    """A row for each claim, a column for each link; what does not hold is in bold."""
    heads = [link.name + (" (fitted)" if link.fitted_here else "") for link in links]
    lines = ["| claim | demanded | " + " | ".join(heads) + " | holds on |"]
    lines.append("| --- " * (len(links) + 3) + "|")
    seconds = " | ".join(link.replayed for link in links)
    lines.append(f"| seconds replayed | | {seconds} | |")
    for same_claim in zip(*(link.figures for link in links), strict=True):
        cells = [_cell(figure) for figure in same_claim]
        holds = sum(figure.passed for figure in same_claim)
        claim = same_claim[0]
        lines.append(
            f"| {claim.name} | {claim.demand} | {' | '.join(cells)} | {holds} of {len(links)} |"
        )
    return "\n".join(lines) + "\n"


def _cell(figure: Figure) -> str:
    return figure.value if figure.passed else f"**{figure.value}**"
