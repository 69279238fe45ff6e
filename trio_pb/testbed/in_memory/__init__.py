"""Whole servers and clients, the shipped code, in one process and virtual time: one seed decides everything.

`sim` runs the protocol core in a world without an event loop. Here it is the driver that is on trial: the code
between the core and the sockets, threads and files, under Trio's own scheduler and clock.
"""
