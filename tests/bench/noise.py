"""How busy a machine was with other things while something was measured on it, and when that is too much to compare two
figures. Nothing here reads the machine but `cpu_times` and `load`, so the rules can be tried without one."""

import os
import statistics
import time

# A single busy core in five meets one of our calls in five; their medians still bear it, more would move them.
MOST_OTHERS = 0.2
# What a hypervisor gives to other guests is seen by no process here, and comes in pieces of many milliseconds.
MOST_STOLEN = 0.05
# The same bare command, again and again: on a quiet machine the third quartile is a third above the first.
MOST_SPREAD = 2.0
# How long the machine is looked at before a section, when nothing of it runs yet.
LOOK_SECONDS = 1.0


def parse_cpu(text):
    """Jiffies since the machine's start from /proc/stat: (busy, stolen, all). Guest time is in user time already."""
    words = text.split("\n", 1)[0].split()
    if words[:1] != ["cpu"] or len(words) < 9:
        return None
    user, nice, system, idle, wait, hard, soft, stolen = (int(word) for word in words[1:9])
    busy = user + nice + system + hard + soft
    return busy, stolen, busy + stolen + idle + wait


def shares(before, after):
    """Busy and stolen shares of all cores between two readings; None where nothing can be told."""
    if not before or not after or after[2] <= before[2]:
        return None
    whole = after[2] - before[2]
    return (after[0] - before[0]) / whole, (after[1] - before[1]) / whole


def cpu_times():
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return parse_cpu(file.read())
    except OSError:
        return None


def load():
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


class Watch:
    """Watches the machine through a section. `rest` is the sleep of a benchmark that has nothing running: whatever is busy
    then are others."""

    def __init__(self):
        self.first, self.loads, self.others = cpu_times(), [load()], []
        self.rest(LOOK_SECONDS)

    def rest(self, seconds):
        before = cpu_times()
        time.sleep(seconds)
        seen = shares(before, cpu_times())
        if seen:
            self.others.append(seen[0])

    def facts(self):
        whole = shares(self.first, cpu_times())
        return {"cores": os.cpu_count(), "load": [*self.loads, load()], "others": self.others,
                "stolen": whole[1] if whole else None}


def spread_of(values):
    """Third quartile by first: 1 for values that are all the same."""
    if len(values) < 4:
        return None
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third / first if first > 0 else None


def reasons(facts, control=()):
    """Why two figures of this section cannot be compared; none when they can. `control` is one bare command's times.
    The load average is told and no reason by itself: it remembers a minute, and with it what this benchmark did before."""
    found = []
    others, stolen, spread = facts.get("others"), facts.get("stolen"), spread_of(control)
    if others and statistics.median(others) > MOST_OTHERS:
        found.append(f"others used {statistics.median(others):.0%} of the cores, more than {MOST_OTHERS:.0%}")
    if stolen is not None and stolen > MOST_STOLEN:
        found.append(f"{stolen:.0%} of the time was stolen, more than {MOST_STOLEN:.0%}")
    if spread is not None and spread > MOST_SPREAD:
        found.append(f"quartiles of one bare squeue are {spread:.1f} apart, more than {MOST_SPREAD:.1f}")
    return found


def described(facts, control=()):
    """One line about the machine."""
    words = []
    loads = [value for value in facts.get("load", []) if value is not None]
    if loads:
        words.append(f"load {' to '.join(f'{value:.1f}' for value in loads)} on {facts.get('cores')} cores")
    if facts.get("others"):
        words.append(f"others {statistics.median(facts['others']):.0%}")
    if facts.get("stolen") is not None:
        words.append(f"stolen {facts['stolen']:.0%}")
    spread = spread_of(control)
    if spread is not None:
        words.append(f"quartiles of a bare squeue {spread:.1f} apart")
    return ", ".join(words) or "not recorded"
