"""What the administration service tells of a process, and how it is shown."""

from __future__ import annotations

from mesh.admin import describe, show
from mesh.client import Channel, Policy
from mesh.layers.budget import BudgetConfig
from mesh.layers.hedge import HedgeConfig
from mesh.node import Node
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import READ, Echo, EchoRequest


async def test_each_hedged_method_has_a_budget_which_all_channels_share() -> None:
    node = Node()
    network = MemoryNetwork(node.runtime)
    network.serve("here", Echo().routes())
    hedged = Policy(hedge=HedgeConfig(budget=BudgetConfig(share=0.0, per_s=0.0, burst=3.0)))
    for _ in range(2):
        channel = Channel(node, "echo", ["here"], network, hedged)
        await channel.unary_unary(READ.path)(EchoRequest())
    found = describe.status(node, node.target(""), [])
    assert len(found.budgets) == 1
    lines = [*show.status("caller", found, everything=False)]
    assert "  echo.Read: 3.0 second attempts left" in lines
