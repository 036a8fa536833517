# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds made into lines, goals judged, JSON and plots written."""
import json
import os
import shutil
import statistics
import subprocess


def fmt(value, unit):
    if unit != "s":
        return "%.4g %s" % (value, unit)
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(value) * factor >= 1:
            break
    return "%.4g %s" % (value * factor, name)


def costs_of(out, work, key, size, target):
    """{round: cost}"""
    return {o["round"]: o["costs"][key] for o in out
            if o["work"] == work and o["size"] == size
            and o["target"] == target and key in o.get("costs", ())}


def reference(kind, target):
    """The null filesystem of the same libfuse and transport; of other kinds
    there is one."""
    if kind != "null":
        return kind
    name, *options = target.split(",")
    return ",".join([kind + name[len("txnfs"):]] +
                    [o for o in options if o.startswith("transport=")])


def goals_text(row, goals):
    return ", ".join("<= %.3g x %s" % g if len(g) > 1 else
                     "<= " + fmt(g[0], row.unit) for g in goals)


def goal_text(row):
    text = goals_text(row, row.goals)
    return text if not row.fast else \
        "%s (open=fast: %s)" % (text, goals_text(row, row.fast))


def judge(out, work, row, size, target, median):
    """A goal each: its ratio and whether it was met; None: cannot be told. A
    ratio is the median of the rounds' ratios: what disturbs a round disturbs
    both."""
    for limit, *kind in row.goals_of(target):
        if not kind:
            yield {"ratio": None, "met": median <= limit}
            continue
        mine = costs_of(out, work.name, row.key, size, target)
        other = costs_of(out, work.name, row.key, size,
                         reference(kind[0], target))
        ratios = [mine[r] / other[r] for r in mine if other.get(r)]
        ratio = statistics.median(ratios) if ratios else None
        yield {"ratio": ratio, "met": ratio <= limit if ratios else None}


def lines_of(work, out):
    """One dictionary for each (row, size, target)."""
    seen = {(o["size"], o["target"], o["kind"]): None for o in out
            if o["work"] == work.name}
    for row in work.rows:
        for size, target, kind in seen:
            costs = list(costs_of(out, work.name, row.key, size,
                                  target).values())
            if not costs:
                continue
            mine = [o for o in out if o["work"] == work.name and
                    o["size"] == size and o["target"] == target and
                    "costs" in o]
            median = statistics.median(costs)
            line = {"work": work.name, "row": row.key, "title": row.title,
                    "size": size, "target": target, "kind": kind,
                    "unit": row.unit, "goal": goal_text(row),
                    "median": median, "min": min(costs), "max": max(costs),
                    "goals": []}
            for k in ("client_s", "daemon_s", "daemon_reads"):
                line[k] = statistics.median(o[k] for o in mine)
            if kind == "txnfs":
                line["goals"] = list(judge(out, work, row, size, target,
                                           median))
            yield line


def show_line(line):
    verdicts = []
    for g in line["goals"]:
        verdicts.append({True: "met", False: "NOT MET", None: "?"}[g["met"]])
        if g["ratio"] is not None:
            verdicts[-1] = "%.3g x %s" % (g["ratio"], verdicts[-1])
    print("  %-18s %11s  %11s .. %-11s %7.2f %7.2f %9d  %s" % (
        line["target"], fmt(line["median"], line["unit"]),
        fmt(line["min"], line["unit"]), fmt(line["max"], line["unit"]),
        line["client_s"], line["daemon_s"], line["daemon_reads"],
        ", ".join(verdicts)))


def show_work(work, out):
    lines = list(lines_of(work, out))
    head = None
    for line in lines:
        if head != (line["row"], line["size"]):
            head = (line["row"], line["size"])
            size = "" if line["size"] is None else " (%d files)" % line["size"]
            goal = "" if not line["goal"] else "   goal: " + line["goal"]
            print("\n%s: %s%s%s" % (work.name, line["title"], size, goal))
            print("  %-18s %11s  %11s .. %-11s %7s %7s %9s" % (
                "", "median", "least", "most", "cpu s", "daemon", "reads"))
        show_line(line)
    for row in work.rows:
        if row.flat:
            show_flat(row, [x for x in lines if x["row"] == row.key])
    print(flush=True)


def show_flat(row, lines):
    for target in dict.fromkeys(x["target"] for x in lines):
        mine = sorted((x for x in lines if x["target"] == target),
                      key=lambda x: x["size"])
        if len(mine) < 2 or mine[0]["median"] <= 0:
            continue
        growth = mine[-1]["median"] / mine[0]["median"]
        mine[-1]["growth"] = growth
        print("  %s: flat? %d files: %.3g x the time of %d: %s" % (
            target, mine[-1]["size"], growth, mine[0]["size"],
            "met" if growth <= row.FLAT_LIMIT else "NOT MET"))


def plot(work, row, lines, folder):
    """Cost against size; says nothing without gnuplot."""
    targets = list(dict.fromkeys(x["target"] for x in lines))
    if not shutil.which("gnuplot") or len({x["size"] for x in lines}) < 2:
        return
    name = os.path.join(folder, "%s.svg" % work.name)
    data = ""
    for t in targets:
        for x in sorted((x for x in lines if x["target"] == t),
                        key=lambda x: x["size"]):
            data += "%d %g %g %g\n" % (x["size"], x["median"] * 1e3,
                                       x["min"] * 1e3, x["max"] * 1e3)
        data += "e\n"
    curves = ", ".join('"-" using 1:2:3:4 with yerrorlines title "%s"' % t
                       for t in targets)
    script = ('set terminal svg size 640,400; set output "%s"\n'
              'set title "%s"; set logscale x\n'
              'set xlabel "files in the tree"; set ylabel "ms"\n'
              'set yrange [*<0:*]; set key left top\nplot %s\n%s' % (
                  name, row.title, curves, data))
    subprocess.run(["gnuplot"], input=script, text=True, check=False)
    print("plot: " + name)


def verdict_text(line):
    words = {True: "met", False: "not met", None: "?"}
    return ", ".join(words[g["met"]] if g["ratio"] is None else
                     "%.2g x, %s" % (g["ratio"], words[g["met"]])
                     for g in line["goals"])


def markdown(lines):
    """The medians for a document: a line for each row and size, a column for
    each target, and how ours stand to the goals."""
    targets = list(dict.fromkeys(x["target"] for x in lines))
    ours = list(dict.fromkeys(x["target"] for x in lines
                              if x["kind"] == "txnfs"))
    head = ["work"] + targets + ["goal"] + (
        ["reached"] if len(ours) == 1 else ["reached: " + t for t in ours])
    rows = [head, ["---"] * len(head)]
    cells = {}
    for x in lines:
        cells.setdefault((x["work"], x["row"], x["size"]), {})[x["target"]] = x
    for mine in cells.values():
        any_line = next(iter(mine.values()))
        title = any_line["title"]
        if any_line["size"] is not None:
            title += " (%d files)" % any_line["size"]
        rows.append(
            [title] +
            [fmt(mine[t]["median"], any_line["unit"]) if t in mine else ""
             for t in targets] +
            [any_line["goal"]] +
            [verdict_text(mine[t]) if t in mine else "" for t in ours])
    return "".join("| %s |\n" % " | ".join(r) for r in rows)


def finish(works, out, about, folder):
    os.makedirs(folder, exist_ok=True)
    lines = []
    for work in works:
        mine = list(lines_of(work, out))
        lines += mine
        for row in work.rows:
            if row.flat:
                plot(work, row, [x for x in mine if x["row"] == row.key],
                     folder)
    path = os.path.join(folder, "result.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"machine": about, "rows": lines, "rounds": out}, f,
                  indent=1)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as f:
        f.write(markdown(lines))
    judged = [g["met"] for x in lines for g in x["goals"]
              if g["met"] is not None]
    print("%s; %d of %d goals met" % (path, sum(judged), len(judged)))
