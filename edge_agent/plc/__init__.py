"""Outcome to the machine, in time. In: triggers and judgements. Out: verdicts, heartbeats, replies; the journal on disk.

One publisher thread owns deadlines, outcomes and the sockets. No disk flush stands on this way. A failure of a subscriber
is counted and never waited for.
"""
