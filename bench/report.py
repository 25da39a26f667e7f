"""From measurements to a table: medians over rounds, each peer's best variant, ratios."""

import datetime
import os
import pathlib
import platform
import statistics
import subprocess

OURS = "resnet"
# Another binary of ours, in place of peers.
BEFORE = "before"
MIB = 1 << 20


def name(work):
    return f"{work['model']} {work['mode']}, batch {work['batch']}, {work['precision']}"


def like_ours(works):
    """A peer that does all works, in one way."""
    modes = {work["mode"] for work in works}
    precisions = list({work["precision"] for work in works})
    return {mode: [""] for mode in modes} | {"precisions": {mode: precisions for mode in modes}}


def summarise(works, measured):
    """Per work: everybody's best variant, and our ratio to the best peer."""
    versions = {}
    for entry in measured:
        versions |= entry.get("versions", {})
    return {
        "works": [summary(work, measured) for work in works],
        "versions": versions,
        "failed": failures(measured),
        "measurements": measured,
    }


def summary(work, measured):
    """One work. Rates are medians over rounds; a ratio is taken within each round first, since the
    machine may be slower in one than in another."""
    variants = group(work, measured)
    ours = variants.pop((OURS, ""), None)
    peers = {}
    for (who, variant), found in variants.items():
        row = {"variant": variant} | found
        if who not in peers or peers[who]["images_per_second"] < row["images_per_second"]:
            peers[who] = row
    best = max(peers, key=lambda who: peers[who]["images_per_second"], default=None)
    ratio = None
    if ours and best:
        theirs = peers[best]["rates"]
        each = [ours["rates"][r] / theirs[r] for r in ours["rates"] if r in theirs]
        ratio = {"median": statistics.median(each), "least": min(each), "most": max(each)}
    return {"work": work, "ours": ours, "peers": peers, "best": best, "ratio": ratio}


def group(work, measured):
    """(who, variant) -> what it reached, for a work. A peer may also take the pictures of an inference
    batch one by one."""
    found = {}
    for entry in measured:
        if "images_per_second" not in entry:
            continue
        variant = entry["variant"]
        if entry.get("requests", 1) != 1:
            variant = f"{variant}, {entry['requests']} requests at once"
        if entry["work"] != work:
            one_by_one = entry["work"]["batch"] == 1 and same_but_batch(entry["work"], work)
            if work["mode"] != "infer" or entry["who"] in (OURS, BEFORE) or not one_by_one:
                continue
            variant = f"{work['batch']} x batch 1, {variant}"
        found.setdefault((entry["who"], variant), []).append(entry)
    return {key: medians(entries) for key, entries in found.items()}


def same_but_batch(a, b):
    return all(a[key] == b[key] for key in ("model", "mode", "precision"))


def medians(entries):
    rates = {str(entry["round"]): entry["images_per_second"] for entry in entries}
    memory = [entry["peak_memory_bytes"] for entry in entries if entry.get("peak_memory_bytes")]
    return {
        "images_per_second": statistics.median(rates.values()),
        "rates": rates,
        "peak_memory_bytes": max(memory, default=None),
    }


def failures(measured):
    """Each thing that failed, once."""
    found = {}
    for entry in measured:
        if "error" in entry:
            found[name(entry["work"]), entry["who"], entry["variant"]] = entry["error"]
    return [{"what": " ".join(key).strip(), "error": error} for key, error in found.items()]


def machine(root):
    """What a number means nothing without."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    git = lambda *words: subprocess.run(["git", "-C", root, *words], capture_output=True, text=True).stdout.strip()
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "features": [f for f in FEATURES if f in fields.get("flags", "").split()],
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "commit": git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "rustc": rustc,
        "date": datetime.date.today().isoformat(),
    }


FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile")


def markdown(content):
    """The tables, with everything needed to judge them."""
    about, settings = content["machine"], content["settings"]
    held = f", everybody held to {settings['isa'].upper()}" if settings["isa"] else ""
    versions = ", ".join(f"{key} {value}" for key, value in sorted(content["versions"].items()))
    text = [
        "# Comparison", "",
        f"{about['processor']} ({' '.join(about['features'])}), {about['processors']} processors, {about['system']}; "
        f"{settings['threads']} threads each{held}; load {about['load_before']} before.",
        f"Commit {about['commit']}, {about['rustc']}, {about['date']}; {versions}.",
        f"{settings['rounds']} rounds of turns of {settings['seconds']} s, {settings['minutes']} minutes in all. "
        "Rates are images/s, medians over rounds; a ratio is ours to the best peer's, taken in each round; "
        "memory is the process's peak, with its interpreter and libraries.", "",
        "| work | resnet | best peer | its rate | ratio | from – to | memory, MiB: resnet / peer |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    text += [row(summary) for summary in content["works"]]
    peers = sorted({who for summary in content["works"] for who in summary["peers"]})
    text += ["", f"| work | {' | '.join(peers)} |", "|---" * (1 + len(peers)) + "|"]
    for summary in content["works"]:
        cells = [cell(summary["peers"].get(who)) for who in peers]
        text.append(f"| {name(summary['work'])} | {' | '.join(cells)} |")
    text += [""] + [f"Left out: {who}, since {why}." for who, why in settings["left_out"].items()]
    text += [f"Failed: {failure['what']}: {failure['error']}." for failure in content["failed"]]
    return "\n".join(text).rstrip() + "\n"


def row(summary):
    ours, best, ratio = summary["ours"], summary["best"], summary["ratio"]
    theirs = summary["peers"].get(best, {})
    rates = [f"{found['images_per_second']:.1f}" if found else "–" for found in (ours, theirs)]
    bytes = [found["peak_memory_bytes"] if found else None for found in (ours, theirs)]
    memory = [f"{count / MIB:.0f}" if count else "–" for count in bytes]
    who = shown(best, theirs) if best else "–"
    ratios = f"**{ratio['median']:.2f}** | {ratio['least']:.2f} – {ratio['most']:.2f}" if ratio else "– | –"
    return f"| {name(summary['work'])} | {rates[0]} | {who} | {rates[1]} | {ratios} | {' / '.join(memory)} |"


def cell(found):
    return shown(f"{found['images_per_second']:.1f}", found) if found else "–"


def shown(text, found):
    """With the variant, where there is one."""
    return f"{text} ({found['variant']})" if found["variant"] else text
