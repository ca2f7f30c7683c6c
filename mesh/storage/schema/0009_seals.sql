-- The keys with which messages in this database were sealed, by what they are known by.
CREATE TABLE mesh_seals (
  key_id BYTEA PRIMARY KEY
);
