"""PostgreSQL's statements of the claim protocol, for all jobs of one look at once."""

from nightcrew.outcome import State

# The rows are locked in one order and past those somebody holds, so that two ticks can neither deadlock nor queue.
CLAIM = f"""
WITH due AS (
    SELECT * FROM jsonb_to_recordset(CAST(:bids AS jsonb))
        AS bid(job text, slot timestamptz, run text, fence bigint, said text)
), free AS (
    SELECT j.name FROM nightcrew_jobs AS j JOIN due ON due.job = j.name AND due.fence = j.fence
    ORDER BY j.name FOR UPDATE OF j SKIP LOCKED
), won AS (
    UPDATE nightcrew_jobs AS j
       SET fence = j.fence + 1, mark = COALESCE(due.slot, j.mark), run = due.run, owner = :owner, attempt = 0,
           failed_run = CASE WHEN due.slot IS NULL THEN j.failed_run END,
           paused_at = NULL, paused_by = NULL, paused_reason = NULL, paused_until = NULL,
           lease_until = clock_timestamp() + CAST(:lease AS bigint) * interval '1 microsecond'
      FROM due, free
     WHERE due.job = j.name AND free.name = j.name AND due.fence = j.fence AND j.run IS NULL
       AND (j.paused_at IS NULL OR j.paused_until <= clock_timestamp())
       AND (due.slot IS NULL OR ((j.mark IS NULL OR due.slot > j.mark)
            AND due.slot <= clock_timestamp() + CAST(:early AS bigint) * interval '1 microsecond'))
    RETURNING j.name AS job, j.run, j.fence, due.slot, due.said, clock_timestamp() AS moment
)
INSERT INTO nightcrew_runs (id, job, slot, state, trigger, caller, attempt, fence, owner, moment, deleted, counts)
SELECT run, job, slot, '{State.RUNNING}', said, CAST(:caller AS text), 1, fence, :owner,
       (SELECT max(moment) FROM won), 0, '{{}}'
  FROM won
RETURNING job, id AS run, fence, moment
"""
"""Claims what is free of :bids, and records the runs that begin; all of them at one moment."""

# In one order, too; whoever holds a row is waited for, and what they have changed of it is looked at again.
SETTLE = f"""
WITH ended AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS one(job text, fence bigint, run text, reason text, counted bigint)
), held AS (
    SELECT j.name FROM nightcrew_jobs AS j JOIN ended ON ended.job = j.name AND ended.fence = j.fence
     WHERE j.owner IS NOT NULL ORDER BY j.name FOR UPDATE OF j
), freed AS (
    UPDATE nightcrew_jobs AS j
       SET failed_run = CASE WHEN j.failed_run = j.run THEN NULL ELSE j.failed_run END, fail_streak = 0,
           last_ok_at = clock_timestamp(), run = NULL, owner = NULL, lease_until = NULL, attempt = 0, failures = 0,
           retry_at = NULL, cancelled_run = NULL, cancelled_by = NULL, cancelled_reason = NULL
      FROM ended, held
     WHERE ended.job = j.name AND held.name = j.name AND ended.fence = j.fence AND j.owner IS NOT NULL
    RETURNING ended.*
), closed AS (
    UPDATE nightcrew_runs AS r
       SET state = '{State.DONE}', reason = freed.reason, deleted = freed.counted, error = NULL,
           finished_at = clock_timestamp()
      FROM freed WHERE r.id = freed.run
)
SELECT job, fence FROM freed
"""
