"""Bugs in the protocol: journal, lease, resume table, rollback, verification, and the comparison of values."""

from __future__ import annotations

from tools.bugs import WRITING, Edit, Mutation, bug_in

LEASE = "migrator/lease.py"
RESUME = "migrator/resume.py"
ENGINE = "migrator/engine.py"
ROLLBACK = "migrator/rollback.py"
PLAN = "migrator/plan.py"
RULES = "tests/engine/test_rules.py"
LOSSES = "tests/engine/test_losses.py"
CRASHES = "tests/engine/test_crashes.py"
TAKEN_BACK = "tests/engine/test_rollback.py"
MODEL = "tests/model/test_protocol.py::test_every_order_of_events"

_APPLIED = '(events.BatchApplied if self._phase == "forward" else events.RollbackApplied)'

PROTOCOL_BUGS: tuple[Mutation, ...] = (
    # --- undo record before, marker inside, claim after ---
    Mutation(
        "a batch is recorded as applied before its acknowledgement",
        (
            Edit(
                LEASE,
                "        return self._landed(batch, self._backend.write(batch, marker))\n",
                f"        self._journal.append(self._run_id, {_APPLIED}(batch=batch.number))\n"
                "        return self._landed(batch, self._backend.write(batch, marker))\n",
            ),
            Edit(
                LEASE,
                "        self._journal.append(self._run_id, "
                "(events.BatchApplied if forward else events.RollbackApplied)(batch=number))\n",
                "",
            ),
        ),
        "tests/engine/test_claims.py",
    ),
    bug_in(
        "an update has no before-image",
        PLAN,
        "            dump_raw(raw),\n            written,\n",
        "            None,\n            written,\n",
        "tests/engine/test_decisions.py::test_a_change_in_the_source_alone_is_written_key_by_key_and_taken_back",
    ),
    bug_in(
        "the before-image is the canonical record, not what is stored",
        PLAN,
        "            dump_raw(raw),\n            written,\n",
        "            dump_raw(self._form.encode(known.target)),\n            written,\n",
        "tests/crash/test_killed_sqlite.py::test_killed_in_the_run_and_in_its_rollback",
        "write:3:before",
    ),
    # --- I7, epochs, plan numbers ---
    bug_in(
        "a connection that broke is used again without reading the marker",
        ENGINE,
        "        if state.epoch_planned or state.identity not in {None, run.target.identity()}:\n",
        "        if not lease.held and (state.epoch_planned or state.identity not in {None, run.target.identity()}):\n",
        f"{RULES}::test_a_batch_that_lands_after_the_run_was_settled_changes_nothing",
    ),
    bug_in(
        "a resume does not raise the epoch",
        LEASE,
        "epoch=epoch, owner=self._owner)\n        if not self._backend.swap_marker(marker, raised)",
        "epoch=marker.epoch, owner=self._owner)\n        if not self._backend.swap_marker(marker, raised)",
        f"{RULES}::test_a_batch_that_lands_after_another_process_resumed_changes_nothing",
    ),
    bug_in(
        "the next epoch is counted from the marker alone",
        LEASE,
        "max(state.epoch_planned, marker.epoch) + 1",
        "marker.epoch + 1",
        f"{RULES}::test_an_epoch_whose_raise_never_arrived_is_not_used_again",
    ),
    bug_in(
        "the next epoch is counted from the journal alone",
        LEASE,
        "max(state.epoch_planned, marker.epoch) + 1",
        "state.epoch_planned + 1",
        f"{RULES}::test_the_next_epoch_is_above_a_marker_that_is_ahead_of_the_journal",
    ),
    bug_in(
        "batches are sent under the claim's own epoch",
        LEASE,
        "        if not self._raise(self._journal.state(self._run_id), Action.CONTINUE, marker, identity):\n"
        "            self._fenced()\n",
        "        self._marker = marker\n",
        f"{RULES}::test_no_batch_is_sent_under_a_claims_own_epoch",
    ),
    bug_in(
        "the first hold by a raise is not journalled as the claim",
        RESUME,
        "        if state.claimed:\n            found.append(events.EpochRaised",
        "        if raised:\n            found.append(events.EpochRaised",
        f"{RULES}::test_the_first_hold_by_raise_is_journalled_as_the_claim",
    ),
    bug_in(
        "the number of a plan that never landed is used again",
        LEASE,
        "            self._number = state.last_number\n",
        "            self._number = state.last_applied\n",
        f"{CRASHES}::test_every_step_of_a_run[after]",
    ),
    bug_in(
        "a digest is looked up among the plans that are believed only",
        RESUME,
        "plans={batch.digest: batch.batch for batch in writing},",
        'plans={batch.digest: batch.batch for batch in writing if batch.status in {"planned", "applied"}},',
        f"{RULES}::test_a_digest_is_looked_up_among_all_plans_of_the_run",
    ),
    # --- one marker ---
    bug_in(
        "after a claim the markers are not counted again",
        LEASE,
        "        if markers != [marker]:\n",
        "        if marker not in markers:\n",
        f"{RULES}::test_a_claim_beside_another_is_withdrawn",
    ),
    bug_in(
        "a second marker is overlooked",
        LEASE,
        "        if len(markers) > 1:\n            msg",
        "        if len(markers) > 2:\n            msg",
        f"{RULES}::test_two_markers_stop_a_resume",
    ),
    bug_in(
        "the release takes whatever marker is there",
        LEASE,
        "        if not self._backend.swap_marker(self._marker, None) and",
        "        if not all(self._backend.swap_marker(one, None) for one in self._backend.markers()) and",
        f"{RULES}::test_the_release_takes_no_marker_but_its_own",
    ),
    # --- the resume table ---
    bug_in(
        "a batch that landed unheard is not recorded",
        RESUME,
        "        if batch.batch == batch_there:\n",
        "        if batch.batch == batch_there and raised is None:\n",
        f"{CRASHES}::test_every_step_of_a_run[after]",
    ),
    bug_in(
        "batches that the server lost are still believed",
        RESUME,
        "        above = [b for b in state.batches.values() if b.writes and b.batch > batch_there]\n",
        "        above: list[object] = []\n",
        f"{CRASHES}::test_a_server_that_dies_and_loses_what_was_not_durable[after]",
    ),
    bug_in(
        "decisions since the last barrier are kept after a loss",
        RESUME,
        "            if not b.writes and b.status",
        "            if b.writes and not b.writes and b.status",
        f"{LOSSES}::test_decisions_since_the_last_barrier_are_void_even_if_no_batch_is_lost",
    ),
    bug_in(
        "a marker that somebody removed is claimed again",
        RESUME,
        "        return Action.LOST if restarted else Action.STOP_REMOVED\n",
        "        return Action.LOST if restarted else Action.CLAIM\n",
        f"{TAKEN_BACK}::test_a_marker_that_somebody_removed_stops_the_resume_but_not_the_rollback",
    ),
    bug_in(
        "a claim that lands late is taken for the marker",
        RESUME,
        "    if marker.epoch < seen.epoch_held and not restarted:\n",
        "    if marker.epoch < 0 and not restarted:\n",
        f"{RULES}::test_a_late_claim_below_the_acknowledged_epoch_stops_the_run",
    ),
    bug_in(
        "a claim that lands late proves a loss",
        RESUME,
        "proven = marker is not None and marker.epoch not in state.unheard_claims\n",
        "proven = marker is not None\n",
        MODEL,
    ),
    bug_in(
        "a marker that names a refused plan does not prove it",
        RESUME,
        "        if batch.batch == batch_there:\n",
        '        if batch.batch == batch_there and batch.status == "planned":\n',
        MODEL,
    ),
    bug_in(
        "a marker that was released is taken for one that somebody removed",
        RESUME,
        "        if seen.closed:\n            return Action.RELEASED\n        if seen.phase",
        "        if seen.phase",
        f"{CRASHES}::test_every_step_of_a_run[before]",
    ),
    bug_in(
        "a rollback claims with another number than that of the last plan that landed",
        RESUME,
        '    return number, state.batches[number].digest if number else ""\n',
        '    return 0, ""\n',
        f"{CRASHES}::test_every_step_of_a_rollback[before]",
    ),
    bug_in(
        "a journal older than the target goes on",
        RESUME,
        "    if marker.batch > seen.last_number:\n        return Action.STOP_NEWER\n",
        "    if marker.batch > seen.last_number:\n        return Action.CONTINUE\n",
        f"{TAKEN_BACK}::test_a_restored_older_journal_stops",
    ),
    bug_in(
        "what was decided before the claim is believed after a restart",
        LEASE,
        '        if seen not in {"", identity}:\n',
        '        if seen not in {"", identity, seen}:\n',
        "tests/engine/test_regressions.py::test_decisions_before_the_first_claim_are_void_in_the_same_process",
    ),
    bug_in(
        "what was deleted in the target is made again",
        PLAN,
        '        return ("created", "") if base is None else ("conflict", DELETED_IN_TARGET)\n',
        '        return "created", ""\n',
        "tests/engine/test_decisions.py::test_what_was_deleted_in_the_target_is_not_made_again",
    ),
    # --- the durability barrier ---
    bug_in(
        "a run is finished without a barrier",
        ENGINE,
        "            complete_schema(run)\n            self._lease.barrier()\n",
        "            complete_schema(run)\n",
        f"{LOSSES}::test_what_a_finished_run_wrote_survives_its_server",
    ),
    bug_in(
        "a rollback is finished without a barrier",
        ROLLBACK,
        "        if lease.held:\n            lease.barrier()\n",
        "",
        f"{LOSSES}::test_what_a_finished_rollback_deleted_stays_deleted_when_its_server_dies",
    ),
    bug_in(
        "a claim is not made durable before batches are sent under it",
        LEASE,
        "        self._record(settlement(state, action, marker, raised, identity))\n        self.barrier()\n",
        "        self._record(settlement(state, action, marker, raised, identity))\n",
        f"{LOSSES}::test_the_marker_is_durable_before_a_batch_is_sent_under_it",
    ),
    bug_in(
        "nobody looks after a barrier whether the server is the same",
        LEASE,
        "        done = self._backend.barrier()\n        if not self.proves():\n",
        "        done = self._backend.barrier()\n        if self._marker is None:\n",
        f"{LOSSES}::test_a_server_that_restarted_during_the_barrier_made_nothing_durable",
    ),
    # --- rollback and verification ---
    bug_in(
        "rows of refused and lost batches are taken back, too",
        ROLLBACK,
        '("planned", "applied", "void")',
        '("planned", "applied", "void", "refused", "lost")',
        "tests/engine/test_regressions.py::test_a_lost_row_that_somebody_else_made_is_theirs",
    ),
    bug_in(
        "what was taken back is taken back again",
        ROLLBACK,
        "            if identity in undone:\n",
        "            if identity in undone and not undone:\n",
        "tests/engine/test_many_rows.py::test_a_restored_record_that_a_client_looked_at_since_is_restored",
    ),
    bug_in(
        "a rollback deletes what others changed since",
        ROLLBACK,
        '        if not ours and not self.force:\n            return Undo(entry, "retained", "changed since',
        '        if entry is None:\n            return Undo(entry, "retained", "changed since',
        f"{TAKEN_BACK}::test_what_others_changed_or_hung_on_is_retained_with_the_reason",
    ),
    bug_in(
        "a rollback puts a record back whole, over what others wrote",
        ROLLBACK,
        "        new = before if untouched or mangled else form.graft(kind, raw, before, back)\n",
        "        new = before\n",
        f"{TAKEN_BACK}::test_an_update_is_taken_back_key_by_key_beside_the_changes_of_others",
    ),
    bug_in(
        "a verification compares counts only",
        "migrator/verify.py",
        "            odd = [item for item in inside if there.get(item.id) != item.digest]\n",
        "            odd = inside[len(there) :]\n",
        "tests/engine/test_verification.py::test_a_lossy_engine_fails_and_is_taken_back",
    ),
    bug_in(
        "the watermark moves although nothing was verified",
        "migrator/sync.py",
        'if verification.status != "passed" else ""',
        'if verification.status == "failed" else ""',
        "tests/sync/test_since.py::test_no_verification_leaves_the_watermark_with_a_warning",
    ),
    bug_in(
        "the watermark moves although nothing was made durable",
        "migrator/sync.py",
        'if durability == "durable" else',
        "if durability else",
        "tests/sync/test_durability.py",
    ),
    # --- values and locks ---
    bug_in(
        "the signs of zero are equal, and NaN is not itself",
        "migrator/model.py",
        "    return repr(one) == repr(other) if isinstance(one, float) else one == other\n",
        "    return one == other\n",
        "tests/integration/test_falkor_guards.py::test_a_value_of_equal_size_and_other_type_is_written",
    ),
    bug_in(
        "1 and 1.0 are equal",
        "migrator/model.py",
        "    if type(one) is not type(other):\n        return False\n    if isinstance(one, dict) and",
        "    if isinstance(one, dict) and",
        f"{WRITING}::TestGuards::test_types_are_compared_too",
        "memory or neo4j",
    ),
    bug_in(
        "the journal's lock is released early",
        "journal/lock.py",
        "        os.ftruncate(self._handle, 0)\n",
        "        os.ftruncate(self._handle, 0)\n        fcntl.flock(self._handle, fcntl.LOCK_UN)\n",
        "tests/journal/test_files.py::test_second_process_is_refused_and_told_who",
    ),
    bug_in(
        "a before-image is not covered by the journal's chain",
        "journal/chain.py",
        "    return sha256(orjson.dumps([ENTRIES_ENCODING, rows])).hexdigest()\n",
        "    return sha256(orjson.dumps([ENTRIES_ENCODING, [(*row[:8], *row[9:]) for row in rows]])).hexdigest()\n",
        "tests/journal/test_tampering.py",
    ),
)
