-- One row for each saga. `epoch` is the fencing token: whoever runs the saga has raised it.
CREATE TABLE mesh_sagas (
  saga_id          TEXT PRIMARY KEY,
  name             TEXT NOT NULL,
  version          BIGINT NOT NULL,
  key              TEXT NOT NULL,             -- what the caller knows it by
  request          BYTEA NOT NULL,
  state            BIGINT NOT NULL,           -- mesh.saga.v1.Saga.State
  epoch            BIGINT NOT NULL DEFAULT 0,
  resumes          BIGINT NOT NULL DEFAULT 0,
  cancel_reason    TEXT,                      -- set when somebody asked to cancel it
  pivoted          BIGINT NOT NULL DEFAULT 0, -- 1 once it can only go forward
  failed_step      TEXT NOT NULL DEFAULT '',
  refusal          BYTEA,                     -- google.rpc.Status
  correlation_id   TEXT NOT NULL,
  traceparent      TEXT NOT NULL,             -- of the root span
  segment          TEXT NOT NULL DEFAULT '',  -- of the span that ran it last
  created_at       DOUBLE PRECISION NOT NULL,
  updated_at       DOUBLE PRECISION NOT NULL,
  deadline_at      DOUBLE PRECISION NOT NULL,
  UNIQUE (name, key)
);
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);

-- The journal: what was to be done, and what came of it.
CREATE TABLE mesh_saga_steps (
  saga_id       TEXT NOT NULL REFERENCES mesh_sagas (saga_id),
  position      BIGINT NOT NULL,
  target        TEXT NOT NULL,                -- the service's name, as clients dial it
  method        TEXT NOT NULL,
  request       BYTEA NOT NULL,
  state         BIGINT NOT NULL,              -- mesh.saga.v1.SagaStep.State
  answer        BYTEA,                        -- the reply, or a google.rpc.Status
  attempts      BIGINT NOT NULL DEFAULT 0,
  undo_method   TEXT NOT NULL DEFAULT '',
  undo_request  BYTEA,
  undo_state    BIGINT NOT NULL DEFAULT 0,    -- mesh.saga.v1.SagaStep.UndoState
  undo_attempts BIGINT NOT NULL DEFAULT 0,
  started_at    DOUBLE PRECISION NOT NULL,
  ended_at      DOUBLE PRECISION,
  PRIMARY KEY (saga_id, position)
);
