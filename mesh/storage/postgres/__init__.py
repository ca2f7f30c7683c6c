"""The storage port on PostgreSQL.

`store` queues works, `group` runs them on a connection of `pool`, `tx` is what they see; `watch`
hears of other processes' commits; `database` connects, and knows what errors mean.
"""
