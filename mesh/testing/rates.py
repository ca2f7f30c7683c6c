"""How much goes wrong: drawn for each seed, since one rate for all never meets some bugs.

"Swarm testing", Groce et al., ISSTA 2012: leaving kinds of faults out of a run finds what having
all of them always hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares are of messages, points or commits; times are in seconds and are means.

    0 means never.
    """

    faults_s: float
    latency_s: float
    lost_requests: float
    lost_replies: float
    repeats: float
    delays: float
    delay_s: float
    kills_at_points: float
    steps_to_live: int
    down_s: float
    silent_deaths: float
    failing_commits: float
    commit_s: float
    cut_every_s: float
    cut_s: float
    skew_s: float
    jump_every_s: float
    stop_every_s: float
    stop_s: float

    @staticmethod
    def draw(random: Random) -> Rates:
        """Return those of one seed."""
        choice = random.choice
        return Rates(
            faults_s=choice((10.0,) * 24 + (30.0,) * 12 + (60.0,) * 3 + (700.0,)),
            latency_s=choice((0.001, 0.005, 0.02, 0.1)),
            lost_requests=choice((0.0, 0.01, 0.04, 0.15)),
            lost_replies=choice((0.0, 0.01, 0.04, 0.15)),
            repeats=choice((0.0, 0.05, 0.2, 0.4)),
            delays=choice((0.0, 0.02, 0.05, 0.15)),
            delay_s=choice((1.0, 5.0, 20.0)),
            kills_at_points=choice((0.0, 0.001, 0.004, 0.015)),
            steps_to_live=choice((0, 0, 100, 400, 2000)),
            down_s=choice((0.1, 0.5, 3.0, 20.0)),
            silent_deaths=choice((0.0, 0.5)),
            failing_commits=choice((0.0, 0.0, 0.005, 0.03)),
            commit_s=choice((0.0, 0.002, 0.01, 0.05)),
            cut_every_s=choice((0.0, 0.0, 5.0, 20.0)),
            cut_s=choice((1.0, 5.0, 20.0, 700.0)),
            skew_s=choice((0.0, 0.0, 0.5, 30.0, 3600.0)),
            jump_every_s=choice((0.0, 0.0, 10.0)),
            stop_every_s=choice((0.0, 0.0, 1.0, 4.0)),
            stop_s=choice((1.0, 5.0, 20.0, 40.0)),
        )
