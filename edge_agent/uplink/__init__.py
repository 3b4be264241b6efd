"""Evidence to the datacenter, eventually. In: verdict records and pictures. Out: acknowledged rows at the collector.

Three threads: evidence (encodes pictures), outbox writer (owns the database), sender (owns the socket). What a full disk
or a full pool forces out is declared as a loss and shipped as such.
"""
