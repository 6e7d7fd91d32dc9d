"""What an honest-but-curious server learns of its clients, measured by attacks on what really crossed.

The attacker has the messages that a run has kept (`engine.keep_messages`), the public part of the data and the run's
settings. The truth about private samples, which only scores the attacks, is rebuilt from the run's data and seed.
"""

from __future__ import annotations

from fedloom.audits.attacks import ATTACKS, AuditSettings, audit, compared

__all__ = ["ATTACKS", "AuditSettings", "audit", "compared"]
