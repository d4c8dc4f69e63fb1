"""Every settings type of the fleet: to tell a misspelt key from another bot's."""

from __future__ import annotations

from typing import Final

from fleet.bots.arbhunter_settings import ArbEnv
from fleet.bots.elitemimic_settings import EliteEnv, LeadersEnv
from fleet.bots.polyai_settings import PolyEnv
from fleet.bots.trader_settings import TraderEnv
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.ops.backup_settings import BackupSettings
from fleet.runtime.crypto_settings import CryptoEnv
from fleet.runtime.listener_settings import ListenerEnv
from fleet.runtime.settings import SHARED

KNOWN: Final[tuple[type, ...]] = (
    *SHARED,
    BackupSettings,
    ArbEnv,
    PolyEnv,
    LlmEnv,
    NewsEnv,
    MemoryEnv,
    EliteEnv,
    LeadersEnv,
    ListenerEnv,
    TraderEnv,
    CryptoEnv,
)
"""A later bot adds its own here."""
