"""The page with the figures as a text: what stands between its marks, and new tables put into it so that what was not measured
this time stays."""

import re


def marks(name):
    return f"<!-- bench {name} -->", f"<!-- end {name} -->"


def part(text, name):
    """What stands between a part's marks; None without them."""
    begin, end = marks(name)
    found = re.search(re.escape(begin) + r"\n(.*?)\n?" + re.escape(end), text, flags=re.S)
    return found.group(1) if found else None


def with_part(text, name, body):
    begin, end = marks(name)
    return re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{body}\n{end}", text, flags=re.S)


def cells(line):
    return line.strip().removeprefix("| ").removesuffix(" |").split(" | ") if line.startswith("|") else []


def in_order(old, new, name):
    """The new ones, and of the old ones those whose names are not among them, where they stood; what is new altogether comes first."""
    result, at = list(new), 0
    names, known = [name(each) for each in new], {name(each) for each in old}
    for each in old:
        if name(each) in names:
            at = [name(other) for other in result].index(name(each)) + 1
            while at < len(result) and name(result[at]) not in known:
                at += 1
        else:
            result.insert(at, each)
            at += 1
    return result


def merged(old, new):
    """Tables with their rows out of two texts: what the new text does not have is kept. A table's name is its head."""
    tables = lambda text: [block.split("\n") for block in text.split("\n\n") if block.startswith("|")]
    fresh = {lines[0]: lines for lines in tables(new)}
    kept = {lines[0]: lines for lines in tables(old)}
    for head, lines in fresh.items():
        if head in kept:
            lines[2:] = in_order(kept[head][2:], lines[2:], lambda line: cells(line)[0])
    heads = in_order(list(kept), list(fresh), lambda head: head)
    return "\n\n".join("\n".join(fresh.get(head) or kept[head]) for head in heads)


def told_when(meta):
    """When, of what and where something was measured, in a few words; nothing where that is not known."""
    commit = re.search(r"commit (\w+)", meta.get("versions", ""))
    if not commit or not meta.get("date"):
        return ""
    return ", ".join([meta["date"].split(" ")[0], f"commit {commit.group(1)}", *([meta["machine"]] if meta.get("machine") else [])])


def summary_table(rows):
    return "\n".join(["| | |", "|---|---|"] + [f"| {name} | {value} |" for name, value in rows])


def targets(verdicts):
    missed = [f"{section}: {what} ({text})" for section, what, text, met in verdicts if not met]
    if not verdicts:
        return {}
    return {"targets": f"{sum(met for *_, met in verdicts)} of {len(verdicts)} met" + (f"; not met: {'; '.join(missed)}" if missed else "")}


def verdicts_of(text, sections):
    """The verdicts in all tables of a document, whenever they were measured."""
    found = []
    for section in sections:
        for line in (part(text, section) or "").split("\n"):
            what, *rest = cells(line) or [""]
            for cell in rest:
                verdict = re.fullmatch(r"(.*): (met|\*\*not met\*\*)", cell)
                if verdict:
                    found.append((section, what, verdict.group(1), verdict.group(2) == "met"))
    return found
