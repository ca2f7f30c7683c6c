"""Events: facts that services publish with their writes, and apply once where they are wanted.

    handler's transaction -> outbox -> relay -> bus -> inbox -> handler's transaction

`outbox` and `inbox` are tables; `relay` and `consumer` move events between them and the bus, whose
adapters are `memory`, `nats` and `redis`.
"""
