"""Recompute an audit from its counts: python recompute.py audit.json counts.csv"""  # noqa: D415
# With Python's standard library alone; the formulas are those that the page names.
# ruff: noqa: B905, D103
# pyright: basic

import csv
import json
import random
import sys
from collections import Counter, defaultdict
from itertools import accumulate, combinations
from math import ceil, erfc, exp, hypot, sqrt
from statistics import NormalDist, fmean

# Which cells (groups, label, decision, above the median) count, and which are hits.
BASE = {"tpr": lambda k, fav: k[1] == fav, "fpr": lambda k, fav: k[1] != fav}
HIT = {"scoring_rate": lambda k, _: k[3] == 1, "accuracy": lambda k, _: k[1] == k[2]}


def normals(seed):  # standard normal numbers
    source = random.Random(seed)
    while True:
        yield NormalDist().inv_cdf(source.random())


def drawn(w, squares, z):  # what a cell might weigh: a gamma number, Wilson-Hilferty
    k = w * w / squares if w > 0 else 1.0
    return w * max(0.0, 1 - 1 / (9 * k) + z / (3 * sqrt(k))) ** 3


def quantile(values, share):
    return sorted(values)[max(0, ceil(share * len(values) - 1e-9) - 1)]


def wilson(p, n, c):
    middle, half = p + c * c / (2 * n), c * sqrt(p * (1 - p) / n + (c / n) ** 2 / 4)
    low, high = ((middle + way * half) / (1 + c * c / n) for way in (-1, 1))
    return min(p, max(0, low)), max(p, min(1, high))


def sums(keyed):  # rows, weights and squared weights of equal keys
    out = defaultdict(lambda: [0.0] * 3)
    for key, values in keyed:
        out[key] = [a + b for a, b in zip(out[key], values)]
    return dict(sorted(out.items()))


def gap(outcomes):  # widest difference between groups; (part, whole) by outcome, group
    some = [g for g in zip(*outcomes) if all(whole > 0 for _, whole in g)]
    rates = zip(*([part / whole for part, whole in g] for g in some))
    return max((max(r) - min(r) for r in rates), default=0.0)


def line(p, n, q, m, c, top, leader):  # a group of rate p and size n beside the highest
    low, high = wilson(p, n, c)
    mine = {"effective_n": n, "rate": p, "low": low, "high": high}
    if not leader:
        return mine  # not compared
    mine |= {"difference": p - q, "ratio": p / q if q else None}
    if top:
        return mine
    first, last = wilson(q, m, c)
    pooled = (p * n + q * m) / (n + m)
    error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    mine["difference_low"] = max(-1, p - q - hypot(p - low, last - q))
    mine["difference_high"] = min(1, p - q + hypot(high - p, q - first))
    mine["smallest_difference"] = (c + 0.8416212335729143) * error
    if q:
        parts = [1 / (r * s + 0.5) - 1 / (s + 0.5) for r, s in ((p, n), (q, m))]
        times = exp(c * sqrt(sum(parts)))
        mine["ratio_low"] = p / q / times
        mine["ratio_high"] = max(p / q, 0.5 / n / q) * times
    else:
        del mine["ratio"]
    if error:
        mine["standard_deviations"] = (p - q) / error
        mine["p_value"] = erfc(abs(p - q) / error / sqrt(2))
    return mine


def measure(name, doc, coarse, z, boot):  # yields what, recomputed, in the audit
    theirs, fav, stats = doc["measures"][name], doc["favorable"], []
    hit = HIT.get(name, lambda k, fav: k[2] == fav)
    base = BASE.get(name, lambda k, fav: True)
    worst = [0.0] * len(boot)
    for one in theirs["sets"]:
        places, found = [doc["columns"].index(c) for c in one["columns"]], []
        at = defaultdict(list)
        for i, key in enumerate(coarse):
            at[tuple(key[0][j] for j in places)].append((i, key, coarse[key]))
        for _, who in sorted(at.items()):
            den = [(i, v) for i, key, v in who if base(key, fav)]
            num = [(i, v) for i, key, v in who if base(key, fav) and hit(key, fav)]
            w = sum(v[1] for _, v in den)
            n = w * w / sum(v[2] for _, v in den) if w else 0
            p = sum(v[1] for _, v in num) / w if w else 0.0
            mass = [[sum(b[i] for i, _ in c) for c in (num, den)] for b in boot]
            off = [a / d - p if d > 0 else 0.0 for a, d in mass]
            near = (p * n + 2) / (n + 4)
            rows = (sum(v[0] for v in c) for c in ([v for *_, v in who], *(
                [v for _, v in part] for part in (den, num))))  # fmt: skip
            found.append((p, n, *rows, off, sqrt(near * (1 - near) / (n + 4))))
        live = [f[5:] for f in found if f[1]]
        pairs = [([a - b for a, b in zip(o, q)], hypot(e, f))
                 for (o, e), (q, f) in combinations(live, 2)]  # fmt: skip
        for off, error in live + pairs:
            worst = [max(a, abs(b) / error) for a, b in zip(worst, off)]
        stats.append(found)
    c = max(1.959963984540054, quantile(worst, 0.95))
    yield "critical", c, theirs["critical"]
    for one, found in zip(theirs["sets"], stats):
        everyone = sum(f[2] for f in found)
        left_out = 0.02 if doc["options"]["leave_out_small"] else 0
        ok = [f[1] > 0 and f[2] / everyone >= left_out for f in found]
        ok = ok if any(ok) else [f[1] > 0 for f in found]
        noise = [[next(z) for _ in found] for _ in boot]
        if any(ok):
            q, m = max((f[:2] for f, k in zip(found, ok) if k),
                       key=lambda f: f[0])  # fmt: skip
            pool = sum(f[0] * f[1] for f in found) / sum(f[1] for f in found)
            errors = [sqrt(pool * (1 - pool) / f[1]) if f[1] else 0 for f in found]
            keep = [i for i, k in enumerate(ok) if k]
            wide = [[v[i] * errors[i] for i in keep] for v in noise]
            wide = [max(v) - min(v) for v in wide]
            yield "range", q - min(found[i][0] for i in keep), one["range"]
            yield "range by chance", fmean(wide), one["range_by_chance"]
            yield "the same, 95%", quantile(wide, 0.95), one["range_by_chance_95"]
        for (p, n, who, den, num, *_), k, row in zip(found, ok, one["rows"]):
            mine = {"share": who / everyone, "n": den}
            if n:
                mine |= {"hits": num} | line(p, n, q, m, c, row.get("is_highest"), k)
            for key, value in mine.items():
                yield f"{row['group']}, {key}", value, row.get(key)


def metrics(keyed, doc, names, has):  # of weights by group, label, decision and bin
    said, scored, out = Counter(), Counter(), {}
    K, T = range(len(doc["label_names"])), len(doc["thresholds"]) + 1
    for (g, k, p, b), w in keyed:
        said[max(k, 0), p, g] += w
        scored[max(k, 0), b, g] += w

    def odds(k, p):  # of deciding p about label k (None: any), by group
        labels = K if k is None else [k]
        total = [[sum(said[j, q, g] for j in labels) for q in K] for g in names]
        return [(one[p], sum(one)) for one in total]

    def widest_tail(labels):
        tails = [list(accumulate(sum(scored[k, b, g] for k in labels)
                 for b in reversed(range(T)))) for g in names]  # fmt: skip
        return gap([[(t[b], t[-1]) for t in tails] for b in range(T - 1)])

    if has["said"]:
        out["demographic_parity"] = gap([odds(None, p) for p in K])
    if has["said"] and has["label"]:
        right = [[sum(v) for v in zip(*odds(k, k))] for k in K]
        recall = [a / b for a, b in right if b > 0]
        out["accuracy"] = sum(a for a, _ in right) / sum(b for _, b in right)
        out["balanced_accuracy"] = fmean(recall)
        if len(K) == 2 and doc["favorable"] is not None:
            out["equal_opportunity"] = gap([odds(*[doc["favorable"]] * 2)])
        out["equalized_odds"] = gap([odds(k, p) for k in K for p in K])
        out["tpr_gap"] = sqrt(fmean(gap([odds(k, k)]) ** 2 for k in K))
    if has["score"]:
        out["sup_dp_gap"] = widest_tail((0, 1))
    if has["score"] and has["label"]:
        by = [[sum(scored[k, b, g] for g in names) for b in range(T)] for k in (0, 1)]
        no, yes = by
        below = [a - b / 2 for a, b in zip(accumulate(no), no)]
        pairs = sum(a * b for a, b in zip(yes, below))
        out["auc"] = pairs / (sum(yes) * sum(no))
        out["sup_tpr_gap"], out["sup_fpr_gap"] = widest_tail([1]), widest_tail([0])
    return out


def whole_table(doc, fine, has):  # yields the metrics, their intervals, and chance's
    z, names = normals(doc["options"]["seed"] + 1), sorted({k[0] for k in fine})
    n_boot = doc["options"]["n_boot"]

    def of(keyed):
        return metrics(list(keyed), doc, names, has)

    values = of((k, v[1]) for k, v in fine.items())
    boot = [
        of((k, drawn(v[1], v[2], next(z))) for k, v in fine.items())
        for _ in range(n_boot)
    ]
    kinds = sums((k[1:], v) for k, v in fine.items())
    per, label = (sums((k[a:2], v) for k, v in fine.items()) for a in (0, 1))
    factor = sum(v[2] for v in fine.values()) / sum(v[1] for v in fine.values())
    alike = [
        ((g, *k), per.get((g, k[0]), (0, 0.0))[1] * v[1] / label[k[:1]][1])
        for g in names
        for k, v in kinds.items()
    ]
    null = [
        of((k, drawn(w, w * factor, next(z))) for k, w in alike)
        for _ in range(max(1, n_boot // 2))
    ]
    for name, theirs in doc["metrics"].items():
        v, draws = values[name], [b[name] for b in boot]
        if name in ("accuracy", "balanced_accuracy", "auc"):
            low, high = quantile(draws, 0.025), quantile(draws, 0.975)
        else:
            ends = (2 * v - quantile(draws, share) for share in (0.995, 0.005))
            low, high = (min(1, max(0, end)) for end in ends)
            chance = [b[name] for b in null]
            yield f"{name}, by chance", fmean(chance), theirs["by_chance"]
            yield f"{name}, chance 95%", quantile(chance, 0.95), theirs["by_chance_95"]
        yield f"{name}, value", v, theirs["value"]
        yield f"{name}, low", min(low, v), theirs["low"]
        yield f"{name}, high", max(high, v), theirs["high"]


def main(audit, counts):
    """Print which numbers of the audit differ, and return whether any does."""
    with open(audit) as file, open(counts, newline="") as table:
        doc, (_, *rows) = json.load(file), csv.reader(table)
    m, bad, seen = len(doc["columns"]), [], 0
    codes = [{name: i for i, name in enumerate(names)} for names in doc["levels"]]
    labels = {name: i for i, name in enumerate(doc["label_names"])} | {"": -1}
    cells = []  # groups, label, decision, above the median, score bin; then the sums
    for r in rows:
        group = tuple(code[v] for code, v in zip(codes, r[:m]))
        number = [int(v or -1) for v in r[m + 2 : m + 4]]
        cells.append(((group, labels[r[m]], labels[r[m + 1]], *number),
                      [float(v) for v in r[m + 4 :]]))  # fmt: skip
    has = dict(
        zip(("label", "said", "score"), (cells[0][0][i] >= 0 for i in (1, 2, 4)))
    )
    coarse = sums((k[:4], v) for k, v in cells)
    z = normals(doc["options"]["seed"])
    boot = [[drawn(v[1], v[2], next(z)) for v in coarse.values()]
            for _ in range(doc["options"]["draws"])]  # fmt: skip
    found = [(f"{name}: {what}", *two) for name in doc["measures"]
             for what, *two in measure(name, doc, coarse, z, boot)]  # fmt: skip
    found += whole_table(doc, sums(((*k[:3], k[4]), v) for k, v in cells), has)
    for what, mine, theirs in found:
        seen += 1
        if mine is None or theirs is None:
            same = mine is theirs
        else:
            same = abs(mine - theirs) <= 1e-7 * max(1, abs(mine))
        if not same:
            bad.append(f"{what}: recomputed {mine}, the audit says {theirs}")
    print("\n".join(bad) or f"All {seen} numbers agree.")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
