"""The main job from beginning to end, as a story: two services, processes of their own, announce and find each other.

`make demo`, `consul-access demo` and `python -m consul_access.testing.demo` tell it; `story.tell` does.
"""
