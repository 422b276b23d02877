"""RESULTS.md: the machine, its limits, what was aimed at, and a table a workload."""

from processes import median

# (workload, ours, peer, aim, words): how many times as fast as the peer ours is to be.
AIMS = (
    ("fbank", "speakerkit compute_fbank", "{torchaudio}", 1.0, "fbank"),
    ("extraction", "{default}", "WeSpeaker extract.py", 5.0, "extraction, default install"),
    ("extraction", "{default}", "3D-Speaker extract.py, 1 process", 3.0, "extraction, default install"),
    ("extraction", "speakerkit openvino bfloat16", "WeSpeaker extract.py", 10.0, "extraction, [openvino]"),
    ("extraction", "speakerkit openvino bfloat16", "3D-Speaker extract.py, 1 process", 5.0, "extraction, [openvino]"),
    ("extraction", "speakerkit openvino bfloat16", "sherpa-onnx, the same network", 4.0, "extraction, [openvino]"),
    ("training-step", "speakerkit, bfloat16", "{plain}", 4.5, "training step"),
    ("samples", "speakerkit, conf/resnet34.toml's", "WeSpeaker", 3.5, "training samples a worker"),
    ("scoring", "score-trials, scores and metrics", "WeSpeaker score.py + compute_metrics.py", 300.0, "scoring"),
    ("scoring", "score-trials, scores and metrics", "the reference's way: a loop in 2 processes, Python lists", 12.0,
     "scoring"),
    ("scoring", "score-trials, scores and metrics", "floor: bare polars scripts", 0.5, "scoring"),
    ("score-norm", "normalize-scores, cohort 3,000", "WeSpeaker score_norm.py, cohort 3,000", 13.0, "AS-norm"),
    ("score-norm", "normalize-scores, cohort 20,000", "WeSpeaker score_norm.py, cohort 20,000", 8.0, "AS-norm"),
)
# (workload, ours, peer or None, of what, aim, words): at most so much, or such a share of the peer's.
MOST = (
    ("extraction", "speakerkit openvino bfloat16", None, "peak_mb", 500.0, "extraction, [openvino]: MB at most"),
    ("score-norm", "normalize-scores, cohort 3,000", "WeSpeaker score_norm.py, cohort 3,000", "peak_mb", 0.2,
     "AS-norm: share of its memory"),
    ("score-norm", "normalize-scores, cohort 20,000", "WeSpeaker score_norm.py, cohort 20,000", "peak_mb", 0.2,
     "AS-norm: share of its memory"),
    ("start-up", "extract-embeddings --help", None, "cpu_s", 0.2, "start-up: CPU s at most"),
    ("start-up", "verify-speakers, 2 recordings, onnx float32", None, "cpu_s", 1.0, "start-up: CPU s at most"),
    ("start-up", "verify-speakers, 2 recordings, openvino float32", None, "cpu_s", 1.0, "start-up: CPU s at most"),
)


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def render(measured: dict, note: str) -> str:
    """The whole of RESULTS.md.

    Args:
        measured: "machine", "peers", "limits" and "sections" as run_benchmarks collects them.
        note: a sentence to stand on top; may be empty.
    """
    parts = ["# Speed, side by side", "Every run of a table alternates with the others: whole processes with their "
             "start unless said otherwise, medians. The last of a table's notes is the command that made it. Memory is "
             "that of all processes together, shared pages once. Figures of another machine, or of a busy one, differ; "
             "the ratios are what to compare."]
    parts += [note] * bool(note)
    parts.append("## Machine\n\n" + "".join(f"- {line}\n" for line in measured["machine"]))
    parts.append("Peers: " + "; ".join(measured["peers"]) + ".")
    if measured.get("limits"):
        parts.append("## Limits of this machine\n\n" + limits_table(measured["limits"]))
    aims = aims_table(measured["sections"])
    if aims:
        parts.append("## Aims\n\n" + aims)
    for section in measured["sections"].values():
        parts.append(section_text(section, measured.get("limits")))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def limits_table(limits: dict) -> str:
    """Rates of bare kernels, and of memory and disk."""
    columns = ["GFLOP/s", "matrix product", *[f"3x3 convolution, stage {n}" for n in range(1, 5)], "all stages"]
    rows = []
    for name, values in limits["gflops"].items():
        precision, threads = name.split()
        numbers = [values["gemm"], *[values[f"conv{n}"] for n in range(1, 5)], values["conv"]]
        rows.append([f"{precision}, {threads} thread{'s' * (threads != '1')}", *[f"{value:,.0f}" for value in numbers]])
    return (markdown(columns, rows) + f"\nMemory copy, read and write, 1 thread: {limits['copy_gb_s']:.1f} GB/s. "
            f"Reading a file that isn't in memory: {limits['disk_gb_s']:.2f} GB/s.")


def section_text(section: dict, limits: dict | None) -> str:
    """One workload: its notes and its table."""
    results, base = section["results"], section["base"]
    if not results.get(base, {}).get("wall_s"):
        base = next((name for name, row in results.items() if row.get("wall_s")), base)
    further = dict(section["columns"])
    share = _share_of_limit(section, limits)
    if share:
        further["GFLOP/s (of the limit)"] = share
    columns = ["way", "s", "CPU s", "MB", f"times {base}", *further]
    rows, left_out = [], []
    for name, row in results.items():
        if not row.get("wall_s"):
            left_out.append(f"{name}: left out, {row.get('left_out', 'not run')}")
            continue
        cells = [f"{median(results, name):.3g}", f"{median(results, name, 'cpu_s'):.3g}",
                 f"{median(results, name, 'peak_mb'):.0f}", f"{median(results, base) / median(results, name):.2f}"]
        runs = row["note"] or ("1 run" if len(row["wall_s"]) == 1 else f"{len(row['wall_s'])} runs")
        rows.append([f"{name} ({runs})", *cells, *[column.get(name, "") for column in further.values()]])
    notes = [*section["notes"], *left_out, f"{section['when']}, commit {section['commit']}: `{section['command']}`"]
    return (f"## {section['title']}\n\n" + "".join(f"- {line}\n" for line in notes) + "\n" + markdown(columns, rows))


def _share_of_limit(section: dict, limits: dict | None) -> dict[str, str]:
    """What share of bare convolutions at the same precision, on all cores, a whole extraction reaches."""
    facts, found = section["facts"], {}
    if not limits or "gflop_per_s" not in facts:
        return found
    for name in section["results"]:
        seconds = median(section["results"], name)
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        limit = limits["gflops"].get(f"{precision} {limits['cores']}")
        if seconds and limit and (name.startswith("speakerkit") or "Speaker" in name or "same network" in name):
            rate = facts["audio_s"] * facts["gflop_per_s"] / seconds
            found[name] = f"{rate:.0f} ({rate / limit['conv']:.0%})"
    return found


def aims_table(sections: dict) -> str:
    """Each aim beside what was measured; nothing where its two sides weren't."""
    rows = []
    for key, ours, peer, aim, words in AIMS:
        sides = _sides(sections, key, ours, peer)
        if sides:
            ratio = median(sections[key]["results"], sides[1]) / median(sections[key]["results"], sides[0])
            rows.append([words, sides[0], sides[1], f"{aim:g} times", f"{ratio:.1f} times", _verdict(ratio >= aim)])
    for key, ours, peer, what, aim, words in MOST:
        sides = _sides(sections, key, ours, peer or ours)
        if sides:
            results = sections[key]["results"]
            value = median(results, sides[0], what)
            value = value / median(results, sides[1], what) if peer else value
            rows.append([words, sides[0], sides[1] if peer else "", f"{aim:g}", f"{value:.3g}", _verdict(value <= aim)])
    return markdown(["what", "ours", "beside", "aim", "measured", ""], rows) if rows else ""


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _sides(sections: dict, key: str, *names: str) -> list[str] | None:
    if key not in sections:
        return None
    facts, results = sections[key]["facts"], sections[key]["results"]
    try:
        named = [name.format(**{k: v for k, v in facts.items() if isinstance(v, str)}) for name in names]
    except KeyError:
        return None
    return named if all(median(results, name) for name in named) else None
