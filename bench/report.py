# SPDX-License-Identifier: BSD-3-Clause
"""Tables and ratios of bench/compare, from medians."""
import os
import platform
import statistics

BETTER_LOW = {"server_cpu_us", "client_cpu_us", "writes_per_512k",
              "idle_cpu_us"}


def medians(rounds):
    keys = {key for one in rounds for key in one}
    return {key: statistics.median(one[key] for one in rounds if key in one)
            for key in sorted(keys)}


def find(results, workload, transport, tool, label):
    for r in results:
        if (r["workload"], r["transport"], r["tool"], r["label"]) == \
           (workload, transport, tool, label):
            return r["median"]
    return None


def judge(target, results, workload, transport, tool):
    """Foliod's figure, the other's, their ratio, and whether it is enough;
    None where one of them was not measured."""
    own = find(results, workload.name, transport, tool, target.own)
    value = own and own.get(target.metric)
    if value is None:
        return None
    if target.absolute:
        other, ratio = None, value
    else:
        others = []
        for label in target.than:
            # What has no transport is measured once and counts for both.
            median = find(results, workload.name, transport, tool, label) or \
                find(results, workload.name, "none", "fio", label)
            if median and median.get(target.metric):
                others.append(median[target.metric])
        if not others:
            return None
        other = (min if target.metric in BETTER_LOW else max)(others)
        ratio = value / other
    met = (target.at_least is None or ratio >= target.at_least) and \
        (target.at_most is None or ratio <= target.at_most)
    return {"workload": workload.name, "transport": transport, "tool": tool,
            "target": target.text, "value": value, "other": other,
            "ratio": ratio, "at_least": target.at_least,
            "at_most": target.at_most, "met": met}


def cell(median, key, form, scale=1):
    return form.format(median[key] / scale) if key in median else ""


COLUMNS = [
    ("IOPS", "iops", "{:,.0f}", 1),
    ("MB/s", "bytes_per_second", "{:,.0f}", 1e6),
    ("server us/req", "server_cpu_us", "{:.2f}", 1),
    ("client us/req", "client_cpu_us", "{:.2f}", 1),
    ("p50 us", "p50_us", "{:,.0f}", 1),
    ("p99 us", "p99_us", "{:,.0f}", 1),
    ("dev reads", "device_reads", "{:,.0f}", 1),
    ("dev writes", "device_writes", "{:,.0f}", 1),
    ("writes/512K", "writes_per_512k", "{:.2f}", 1),
    ("idle us/s", "idle_cpu_us", "{:.1f}", 1),
]


def table(head, rows):
    """A markdown table, numbers to the right."""
    widths = [max(len(str(row[i])) for row in [head, *rows])
              for i in range(len(head))]
    line = "| " + " | ".join(h.ljust(w) for h, w in zip(head, widths)) + " |"
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":")
                          for i, w in enumerate(widths)) + "|"
    body = ["| " + " | ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                              for i, (c, w) in enumerate(zip(row, widths))) +
            " |" for row in rows]
    return "\n".join([line, rule, *body])


def workload_table(results, workload, transport, tool):
    mine = [r for r in results if r["workload"] == workload.name and
            (r["transport"], r["tool"]) in ((transport, tool), ("none", "fio"))]
    columns = [c for c in COLUMNS if any(c[1] in r["median"] for r in mine)]
    rows = [[r["label"]] + [cell(r["median"], key, form, scale)
                            for _, key, form, scale in columns] for r in mine]
    where = {"unix": "unix socket", "tcp": "TCP loopback"}[transport]
    with_tool = {"load": "nbd-load", "fio": "fio's nbd engine"}[tool]
    return (f"### {workload.text} ({where}, {with_tool})\n\n" +
            table(["server", *[c[0] for c in columns]], rows) + "\n")


def target_table(verdicts, transport, tool):
    """What is asked for is asked over a unix socket and of nbd-load; the same
    ratios elsewhere are for information, fio's client being the limit."""
    asked = (transport, tool) == ("unix", "load")
    rows = []
    for v in verdicts:
        limit = f">= {v['at_least']:g}" if v["at_least"] is not None else \
            f"<= {v['at_most']:g}"
        row = [f"{v['workload']}: {v['target']}", f"{v['ratio']:.2f}"]
        rows.append(row + [limit, "yes" if v["met"] else "NO"]
                    if asked else row)
    head = ["workload: foliod's median", "measured"]
    if asked:
        return "### What to reach\n\n" + \
            table(head + ["reach", "met"], rows) + "\n"
    return f"### The same ratios, {transport}, {tool}\n\n" + \
        table(head, rows) + "\n"


def read_first(path, prefix=""):
    try:
        with open(path) as f:
            for line in f:
                if line.startswith(prefix):
                    return line.partition(":")[2].strip() if prefix \
                        else line.strip()
    except OSError:
        pass
    return "unknown"


def file_system(directory):
    """Type and source of the mount that holds directory."""
    best = ("", "unknown", "unknown")
    real = os.path.realpath(directory)
    with open("/proc/self/mounts") as f:
        for line in f:
            source, point, kind = line.split()[:3]
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind, source)
    return {"type": best[1], "source": best[2]}


def machine(directory):
    return {
        "cpu": read_first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory": read_first("/proc/meminfo", "MemTotal"),
        "load_before": os.getloadavg(),
        "file_system": file_system(directory),
    }
