"""One frame's way through DAT, shown on one screen, with what it needs packaged beside it.

`frame.jpg` is a rendered scene; `recording.json` holds what a gate and an MLLM said about it;
`waiting.jsonl` holds events that wait for the uplink.
"""
