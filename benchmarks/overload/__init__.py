"""More is asked of a service than it can do: what is executed, refused, and how soon it ends."""
