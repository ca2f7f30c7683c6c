-- What waits of each aggregate, in order: the relay finds the first without reading what is published.
CREATE INDEX mesh_outbox_heads ON mesh_outbox (topic, aggregate, version)
  WHERE published_at IS NULL;
