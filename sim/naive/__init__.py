"""Textbook primary-backup, and twelve mistakes that students make in it.

`replica` is the protocol as a chapter of a textbook has it: views, majorities, a log, a state machine. `mistakes`
has twelve subclasses, each of which replaces one method by what seems to be enough. `scripts` has a script
for each: the faults of the world that show what was wrong with it. The same scripts run against trio_pb.
"""
