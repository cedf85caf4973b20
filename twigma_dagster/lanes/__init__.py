"""Where single steps of a run execute: `local` worker processes, a `ray` cluster, `kubernetes` jobs.

What belongs here: how one step is started, watched and stopped in each of these places. What does not: which
step goes where (`executors`).
"""
