"""Recompute an audit from its counts: python recompute.py audit.json counts.csv"""  # noqa: D415
# With Python's standard library alone; the formulas are those that the page names.
# ruff: noqa: B007, B905, SIM115

import collections
import csv
import itertools
import json
import math
import random
import statistics
import sys


def main(audit, counts):
    """Print which numbers of the audit differ, and return whether any does."""
    doc, rows = json.load(open(audit)), list(csv.reader(open(counts, newline="")))
    m, fav, opts = len(doc["columns"]), doc["favorable"], doc["options"]
    inv, bad, seen = statistics.NormalDist().inv_cdf, [], [0]
    order = [{v: i for i, v in enumerate(names)} for names in doc["levels"]]
    lab = {v: i for i, v in enumerate(doc["label_names"])} | {"": -1}
    cells: list = [
        (
            tuple(o[v] for o, v in zip(order, r)),
            lab[r[m]],
            lab[r[m + 1]],
            *(int(v or -1) for v in r[m + 2 : m + 4]),
            *map(float, r[m + 4 :]),
        )
        for r in rows[1:]
    ]

    def group(keyed):
        out = collections.defaultdict(lambda: [0.0] * 3)
        for key, c in keyed:
            out[key] = [a + b for a, b in zip(out[key], c[5:])]
        return dict(sorted(out.items()))

    def check(where, mine, theirs):
        seen[0] += 1
        if (mine is None) != (theirs is None) or (
            mine is not None and abs(mine - theirs) > 1e-7 * max(1, abs(mine))
        ):
            bad.append(f"{where}: recomputed {mine}, the audit says {theirs}")

    def drawn(w, w2, z):
        k = w * w / w2 if w > 0 else 1.0
        return w * max(0.0, 1 - 1 / (9 * k) + z / (3 * math.sqrt(k))) ** 3

    def quantile(values, share):
        return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]

    def wilson(p, n, c):
        mid, half = (
            p + c * c / (2 * n),
            c * math.sqrt(p * (1 - p) / n + c * c / (4 * n * n)),
        )
        return min(p, max(0, (mid - half) / (1 + c * c / n))), max(
            p, min(1, (mid + half) / (1 + c * c / n))
        )

    def widest(rates):
        rates = [r for r in rates if r is not None]
        return max(rates) - min(rates) if rates else 0.0

    coarse = group(((c[0], *c[1:4]), c) for c in cells)
    keys, mass, B = list(coarse), list(coarse.values()), opts["draws"]
    rnd = random.Random(opts["seed"])
    boot = [[drawn(w, w2, inv(rnd.random())) for _, w, w2 in mass] for _ in range(B)]
    hit = {
        "selection_rate": lambda k: k[2] == fav,
        "scoring_rate": lambda k: k[3] == 1,
        "tpr": lambda k: k[2] == fav,
        "fpr": lambda k: k[2] == fav,
        "accuracy": lambda k: k[1] == k[2],
    }
    base = {"tpr": lambda k: k[1] == fav, "fpr": lambda k: k[1] != fav}
    for name, measure in doc["measures"].items():
        stats, worst = [], [0.0] * B
        for s in measure["sets"]:
            cols, at = (
                [doc["columns"].index(c) for c in s["columns"]],
                collections.defaultdict(list),
            )
            for i, k in enumerate(keys):
                at[tuple(k[0][j] for j in cols)].append(i)
            found, offs = [], []
            for g, who in sorted(at.items()):
                den = [i for i in who if base.get(name, lambda k: True)(keys[i])]
                num = [i for i in den if hit[name](keys[i])]
                total = sum(mass[i][1] for i in den)
                p, n = (
                    (
                        sum(mass[i][1] for i in num) / total,
                        total**2 / sum(mass[i][2] for i in den),
                    )
                    if total
                    else (0.0, 0)
                )
                near = (p * n + 2) / (n + 4)
                found.append(
                    (
                        p,
                        n,
                        sum(mass[i][0] for i in den),
                        sum(mass[i][0] for i in num),
                        sum(mass[i][0] for i in who),
                    )
                )
                sums = [(sum(b[i] for i in num), sum(b[i] for i in den)) for b in boot]
                if total:
                    offs.append(
                        (
                            [a / d - p if d > 0 else 0.0 for a, d in sums],
                            math.sqrt(near * (1 - near) / (n + 4)),
                        )
                    )
            for o, e in offs:
                worst = [max(w, abs(v) / e) for w, v in zip(worst, o)]
            for (o, e), (q, f) in itertools.combinations(offs, 2):
                both = math.hypot(e, f)
                worst = [max(w, abs(a - b) / both) for w, a, b in zip(worst, o, q)]
            stats.append(found)
        c = max(1.959963984540054, quantile(worst, 0.95))
        check(f"{name}: critical", c, measure["critical"])
        for s, found in zip(measure["sets"], stats):
            all_rows = sum(f[4] for f in found)
            ok = [
                f[1] > 0 and not (opts["leave_out_small"] and f[4] / all_rows < 0.02)
                for f in found
            ]
            ok = ok if any(ok) else [f[1] > 0 for f in found]
            best = max(
                (f for f, k in zip(found, ok) if k), key=lambda f: f[0], default=None
            )
            z = [[inv(rnd.random()) for _ in found] for _ in range(B)]
            if best is None:
                continue
            pool = sum(f[0] * f[1] for f in found) / sum(f[1] for f in found)
            wide = [
                widest(
                    [
                        v * math.sqrt(pool * (1 - pool) / f[1])
                        for v, f, k in zip(one, found, ok)
                        if k
                    ]
                )
                for one in z
            ]
            check(
                f"{name}: range",
                widest([f[0] for f, k in zip(found, ok) if k]),
                s["range"],
            )
            check(f"{name}: by chance", sum(wide) / B, s["range_by_chance"])
            check(
                f"{name}: by chance, 95%", quantile(wide, 0.95), s["range_by_chance_95"]
            )
            l2, u2 = wilson(best[0], best[1], c)
            for (p, n, count, hits, whole), k, r in zip(found, ok, s["rows"]):
                where = f"{name}, {r['group']}"
                check(where, whole / all_rows, r["share"])
                check(where, count, r["n"])
                if not n:
                    continue
                l1, u1 = wilson(p, n, c)
                mine = {
                    "hits": hits,
                    "effective_n": n,
                    "rate": p,
                    "low": l1,
                    "high": u1,
                }
                if k:
                    q, j, d = best[0], best[1], p - best[0]
                    mine["difference"] = d
                    if "ratio" in r:
                        mine["ratio"] = p / q if q else None
                    if not r["is_highest"]:
                        P = (p * n + q * j) / (n + j)
                        se = math.sqrt(P * (1 - P) * (1 / n + 1 / j))
                        mine |= {
                            "difference_low": max(-1, d - math.hypot(p - l1, u2 - q)),
                            "smallest_difference": (c + 0.8416212335729143) * se,
                            "difference_high": min(1, d + math.hypot(u1 - p, q - l2)),
                        }
                        if q:
                            t = math.exp(
                                c
                                * math.sqrt(
                                    1 / (p * n + 0.5)
                                    - 1 / (n + 0.5)
                                    + 1 / (q * j + 0.5)
                                    - 1 / (j + 0.5)
                                )
                            )
                            mine |= {
                                "ratio_low": p / q / t,
                                "ratio_high": max(p / q, 0.5 / n / q) * t,
                            }
                        if se:
                            mine |= {
                                "standard_deviations": d / se,
                                "p_value": math.erfc(abs(d) / se / math.sqrt(2)),
                            }
                for key, value in mine.items():
                    check(f"{where}: {key}", value, r.get(key))

    fine = group(((c[0], c[1], c[2], c[4]), c) for c in cells)
    names, K, T = (
        sorted({k[0] for k in fine}),
        len(doc["label_names"]),
        len(doc["thresholds"]) + 1,
    )
    place = {g: i for i, g in enumerate(names)}

    def metrics(keyed):
        out, G = {}, len(names)
        said = [[[0.0] * G for _ in range(K)] for _ in range(K)]
        bins = [[[0.0] * T for _ in names] for _ in range(2)]
        for (g, k, p, b), w in keyed:
            if p >= 0:
                said[max(k, 0)][p][place[g]] += w
            if b >= 0:
                bins[max(k, 0)][place[g]][b] += w

        def share(a, b):
            return a / b if b > 0 else None

        def gap(many):
            return max((widest(r) for r in full(many)), default=0.0)

        def full(many):
            keep = [i for i in range(G) if all(r[i] is not None for r in many)]
            return [[r[i] for i in keep] for r in many]

        if cells[0][2] >= 0:
            chosen = [
                [sum(said[k][p][g] for k in range(K)) for g in range(G)]
                for p in range(K)
            ]
            out["demographic_parity"] = gap(
                [
                    [share(r[g], sum(x[g] for x in chosen)) for g in range(G)]
                    for r in chosen
                ]
            )
            if cells[0][1] >= 0:
                own = [
                    [
                        [
                            share(said[k][p][g], sum(said[k][q][g] for q in range(K)))
                            for g in range(G)
                        ]
                        for p in range(K)
                    ]
                    for k in range(K)
                ]
                pooled = [[sum(said[k][p]) for p in range(K)] for k in range(K)]
                recall = [share(pooled[k][k], sum(pooled[k])) for k in range(K)]
                out["accuracy"] = sum(pooled[k][k] for k in range(K)) / sum(
                    map(sum, pooled)
                )
                out["balanced_accuracy"] = statistics.fmean(
                    r for r in recall if r is not None
                )
                if K == 2 and fav is not None:
                    out["equal_opportunity"] = gap([own[fav][fav]])
                out["equalized_odds"] = gap([r for one in own for r in one])
                out["tpr_gap"] = math.sqrt(
                    statistics.fmean(gap([own[k][k]]) ** 2 for k in range(K))
                )
        if cells[0][4] >= 0:

            def tail(table):
                tails = [list(itertools.accumulate(reversed(r))) for r in table]
                return (
                    gap([[share(t[b], t[-1]) for t in tails] for b in range(T - 1)])
                    if T > 1
                    else 0.0
                )

            if cells[0][1] >= 0:
                no, yes = (
                    [sum(r[b] for r in bins[k]) for b in range(T)] for k in (0, 1)
                )
                below = [a - b / 2 for a, b in zip(itertools.accumulate(no), no)]
                out["auc"] = sum(a * b for a, b in zip(yes, below)) / (
                    sum(yes) * sum(no)
                )
                out["sup_tpr_gap"], out["sup_fpr_gap"] = tail(bins[1]), tail(bins[0])
            out["sup_dp_gap"] = tail(
                [[a + b for a, b in zip(x, y)] for x, y in zip(*bins)]
            )
        return out

    values, rnd, n_boot = (
        metrics([(k, v[1]) for k, v in fine.items()]),
        random.Random(opts["seed"] + 1),
        opts["n_boot"],
    )
    boot = [
        metrics(
            [(k, drawn(w, w2, inv(rnd.random()))) for k, (_, w, w2) in fine.items()]
        )
        for _ in range(n_boot)
    ]
    kinds, per = (
        group((k[1:], [0] * 5 + v) for k, v in fine.items()),
        group(((k[0], k[1]), [0] * 5 + v) for k, v in fine.items()),
    )
    tot, factor = (
        group((k[1], [0] * 5 + v) for k, v in fine.items()),
        sum(v[2] for v in fine.values()) / sum(v[1] for v in fine.values()),
    )
    alike = [
        ((g, *k), per.get((g, k[0]), [0, 0.0])[1] * v[1] / tot[k[0]][1])
        for g in names
        for k, v in kinds.items()
    ]
    null = [
        metrics([(k, drawn(w, w * factor, inv(rnd.random()))) for k, w in alike])
        for _ in range(max(1, n_boot // 2))
    ]
    for name, theirs in doc["metrics"].items():
        plain, v = name in ("accuracy", "balanced_accuracy", "auc"), values[name]
        low, high = (
            quantile([b[name] for b in boot], s)
            for s in ((0.025, 0.975) if plain else (0.005, 0.995))
        )
        if not plain:
            low, high = min(1, max(0, 2 * v - high)), min(1, max(0, 2 * v - low))
            check(
                f"{name}: by chance",
                statistics.fmean(b[name] for b in null),
                theirs["by_chance"],
            )
            check(
                f"{name}: by chance, 95%",
                quantile([b[name] for b in null], 0.95),
                theirs["by_chance_95"],
            )
        for key, mine in (("value", v), ("low", min(low, v)), ("high", max(high, v))):
            check(f"{name}: {key}", mine, theirs[key])
    print("\n".join(bad) or f"All {seen[0]} numbers agree.")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
