"""EliteMimic's settings in the environment."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.config import setting
from fleet.runtime.addresses import addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadersEnv:
    """Whom EliteMimic looks at beside the list that `fleet leaders` keeps."""

    wallets: tuple[str, ...] = setting(
        "ELITE_WALLETS",
        addresses,
        "",
        "wallets looked at beside the list of `fleet leaders`, separated by commas: the proxy or"
        " deposit wallets that trade; each is watched on paper until its score passes the gate",
    )
