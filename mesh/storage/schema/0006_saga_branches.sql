-- Steps side by side share a position; what was asked in vain is told; an operator may set a step
-- going anew. The key of the table grows, so it is made again.
CREATE TABLE mesh_saga_steps_of_branches (
  saga_id         TEXT NOT NULL REFERENCES mesh_sagas (saga_id),
  position        BIGINT NOT NULL,
  branch          BIGINT NOT NULL DEFAULT 0, -- from 1; 0: the step has the position to itself
  target          TEXT NOT NULL,             -- the service's name, as clients dial it
  method          TEXT NOT NULL,
  request         BYTEA NOT NULL,
  state           BIGINT NOT NULL,           -- mesh.saga.v1.SagaStep.State
  answer          BYTEA,                     -- the reply, or a google.rpc.Status
  attempts        BIGINT NOT NULL DEFAULT 0,
  round           BIGINT NOT NULL DEFAULT 0, -- how often it was set going under a new key
  failures        BYTEA,                     -- mesh.saga.v1.Failures: the last attempts in vain
  undo_method     TEXT NOT NULL DEFAULT '',
  undo_request    BYTEA,
  undo_state      BIGINT NOT NULL DEFAULT 0, -- mesh.saga.v1.SagaStep.UndoState
  undo_attempts   BIGINT NOT NULL DEFAULT 0,
  undo_answers    BIGINT NOT NULL DEFAULT 0, -- those of them that were answered, with an error
  undo_round      BIGINT NOT NULL DEFAULT 0,
  started_at      DOUBLE PRECISION NOT NULL,
  ended_at        DOUBLE PRECISION,
  undo_started_at DOUBLE PRECISION,
  undo_ended_at   DOUBLE PRECISION,
  PRIMARY KEY (saga_id, position, branch)
);

INSERT INTO mesh_saga_steps_of_branches (saga_id, position, target, method, request, state, answer,
  attempts, undo_method, undo_request, undo_state, undo_attempts, started_at, ended_at)
SELECT saga_id, position, target, method, request, state, answer,
  attempts, undo_method, undo_request, undo_state, undo_attempts, started_at, ended_at
FROM mesh_saga_steps;

DROP TABLE mesh_saga_steps;
ALTER TABLE mesh_saga_steps_of_branches RENAME TO mesh_saga_steps;

-- It counts how often the function failed, not how often a process took the saga up.
ALTER TABLE mesh_sagas RENAME COLUMN resumes TO failures;
